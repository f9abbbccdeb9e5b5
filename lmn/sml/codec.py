"""SML's type-length fields, both ways. No I/O.

A field begins with a byte of continuation bit, three bits of type and four of length. The length counts the
field's own first bytes except for lists, where it counts members. Integers may be sent in fewer bytes than
their type has. 01 is an absent field, 00 the end of a message.
Spec: SML 1.04; known here through public captures (docs/references.md).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, TypeAlias

from lmn.errors import MalformedRecords

MAX_DEPTH: Final = 16
"""Lists in lists; messages need less than ten."""
_LENGTH_BYTES_MAX: Final = 4
_INTEGER_MAX: Final = 8
ABSENT: Final = b"\x01"
END_OF_MESSAGE: Final = b"\x00"
_MORE, _TYPE = 0x80, 0x70


class Kind(IntEnum):
    """Type bits of a field."""

    OCTETS = 0x00
    BOOLEAN = 0x40
    SIGNED = 0x50
    UNSIGNED = 0x60
    LIST = 0x70


_OCTETS, _BOOLEAN, _SIGNED, _UNSIGNED, _LIST = (int(kind) for kind in Kind)
_INTEGERS: Final = (_SIGNED, _UNSIGNED)
_number = int.from_bytes

Field: TypeAlias = "bytes | bool | int | list[Field] | None"
"""A decoded field; None is an absent one. Which integer type it was is not kept, see `header`."""


def header(data: bytes, place: int) -> tuple[int, int, int]:
    """Read the first bytes of a field.

    Returns:
        Type bits, length as it is counted (bytes of data, or members of a list), place behind the header.

    Raises:
        MalformedRecords: there is none, or its length is impossible.
    """
    try:
        byte = data[place]
        kind, length, first = byte & _TYPE, byte & 0x0F, place
        place += 1
        while byte & _MORE:
            if place - first >= _LENGTH_BYTES_MAX:
                raise MalformedRecords("a length of too many bytes")
            byte = data[place]
            if byte & _TYPE:
                raise MalformedRecords("a length that goes on as another type")
            length = length << 4 | byte & 0x0F
            place += 1
    except IndexError:
        raise MalformedRecords("a field is cut off") from None
    if kind != _LIST:
        length -= place - first
        if length < 0:
            raise MalformedRecords("a field shorter than its own header")
        if place + length > len(data):
            raise MalformedRecords("a field is cut off")
    return kind, length, place


def decode(data: bytes, place: int = 0, depth: int = MAX_DEPTH) -> tuple[Field, int]:
    """Decode the field at `place`.

    Returns:
        Its value and the place behind it.

    Raises:
        MalformedRecords: it is none, or lists are nested deeper than `depth`.
    """
    if place >= len(data):
        raise MalformedRecords("a field is cut off")
    byte = data[place]
    if byte == 0x01:
        return None, place + 1
    # Short fields, no lists, are the common case, and a frame has a hundred: no calls, no enums.
    kind = byte & _TYPE
    if byte < _LIST:
        end = place + (byte & 0x0F)
        start = place + 1
    else:
        kind, length, start = header(data, place)
        if kind == _LIST:
            return _members(data, start, length, depth)
        end = start + length
    if start <= end <= len(data):
        if kind in _INTEGERS:
            if start < end <= start + _INTEGER_MAX:
                return _number(data[start:end], "big", signed=kind == _SIGNED), end
            raise MalformedRecords("an integer of an impossible width")
        if kind == _OCTETS:
            return data[start:end], end
        if kind == _BOOLEAN and end - start == 1:
            return data[start] != 0, end
        raise MalformedRecords(f"a field of unknown type {kind:02x}")
    raise MalformedRecords("a field is cut off" if end > len(data) else "an end where a field is due")


def _members(data: bytes, place: int, count: int, depth: int) -> tuple[Field, int]:
    if depth <= 0:
        raise MalformedRecords("lists nested too deeply")
    if count > len(data) - place:  # each member takes a byte at least
        raise MalformedRecords("a list longer than its message")
    members: list[Field] = []
    for _ in range(count):
        member, place = decode(data, place, depth - 1)
        members.append(member)
    return members, place


def _header_of(kind: int, length: int) -> bytes:
    """Make first bytes; `length` is counted as `header` returns it."""
    if length < 0:
        raise ValueError("a length below zero")
    for count in range(1, _LENGTH_BYTES_MAX + 1):
        total = length if kind == Kind.LIST else length + count
        if total < 1 << 4 * count:
            nibbles = [total >> 4 * (count - 1 - index) & 0x0F for index in range(count)]
            more = [_MORE] * (count - 1) + [0]
            types = [kind] + [0] * (count - 1)
            return bytes(a | b | c for a, b, c in zip(nibbles, more, types, strict=True))
    raise ValueError("a field longer than its length can say")


def octets(value: bytes | None) -> bytes:
    """Encode an octet string; None and an empty one are the same on the wire."""
    return _header_of(Kind.OCTETS, len(value)) + value if value else ABSENT


def boolean(value: bool) -> bytes:
    """Encode a boolean."""
    return bytes((Kind.BOOLEAN | 2, int(value)))


def unsigned(value: int | None, width: int) -> bytes:
    """Encode an unsigned integer in exactly `width` bytes; None is absent.

    Raises:
        OverflowError: it does not fit.
    """
    if value is None:
        return ABSENT
    return bytes((Kind.UNSIGNED | width + 1,)) + value.to_bytes(width, "big")


def signed(value: int | None, width: int) -> bytes:
    """Encode a signed integer in exactly `width` bytes; None is absent.

    Raises:
        OverflowError: it does not fit.
    """
    if value is None:
        return ABSENT
    return bytes((Kind.SIGNED | width + 1,)) + value.to_bytes(width, "big", signed=True)


def sequence(*members: bytes) -> bytes:
    """Encode a list of encoded members."""
    return _header_of(Kind.LIST, len(members)) + b"".join(members)
