"""DER-TLV for cards and keys. Pure functions.

TR-03110-3 v2.2 D.1 asks for DER, so a length in more bytes than it needs is refused.
"""

from __future__ import annotations

from hsm.errors import MalformedTlv

_MAX_LENGTH_BYTES = 3


def encode_length(length: int) -> bytes:
    """DER length octets for 0 <= length < 2**24."""
    if length < 0x80:
        return bytes((length,))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    if len(octets) > _MAX_LENGTH_BYTES:
        raise ValueError("too long for a data object")
    return bytes((0x80 | len(octets),)) + octets


def encode_tag(tag: int) -> bytes:
    """The octets of a tag written as a number, e.g. 0x7F49."""
    return tag.to_bytes((tag.bit_length() + 7) // 8 or 1, "big")


def encode(tag: int, value: bytes) -> bytes:
    """One data object."""
    return encode_tag(tag) + encode_length(len(value)) + value


def read(data: bytes, start: int = 0) -> tuple[int, bytes, int]:
    """Read the data object at `start`; return tag, value and the offset behind it.

    Raises:
        MalformedTlv: cut off, indefinite or non-minimal length, tag of more than three octets.
    """
    size = len(data)
    if start >= size:
        raise MalformedTlv("no data object")
    tag = data[start]
    at = start + 1
    if tag & 0x1F == 0x1F:
        first = True
        while True:
            if at >= size or at - start > 2:
                raise MalformedTlv("bad tag")
            octet = data[at]
            if first and (octet & 0x7F < 0x1F and not (octet & 0x80 and octet & 0x7F)):
                raise MalformedTlv("tag longer than it needs to be")
            tag, at, first = tag << 8 | octet, at + 1, False
            if not octet & 0x80:
                break
    if at >= size:
        raise MalformedTlv("no length")
    length = data[at]
    at += 1
    if length >= 0x80:
        count = length & 0x7F
        if not 1 <= count <= _MAX_LENGTH_BYTES or at + count > size:
            raise MalformedTlv("bad length")
        length = int.from_bytes(data[at : at + count], "big")
        if length < 0x80 or length >> 8 * (count - 1) == 0:
            raise MalformedTlv("length not minimal")
        at += count
    end = at + length
    if end > size:
        raise MalformedTlv("value cut off")
    return tag, data[at:end], end


def parse(data: bytes) -> list[tuple[int, bytes]]:
    """Split a whole string of data objects.

    Raises:
        MalformedTlv: as `read`, also for bytes left over.
    """
    objects = []
    at = 0
    while at < len(data):
        tag, value, at = read(data, at)
        objects.append((tag, value))
    return objects


def parse_unique(data: bytes) -> dict[int, bytes]:
    """Split a string of data objects none of which may occur twice.

    Raises:
        MalformedTlv: as `parse`, also for a repeated tag.
    """
    objects = parse(data)
    unique = dict(objects)
    if len(unique) != len(objects):
        raise MalformedTlv("a data object occurs twice")
    return unique


def unwrap(tag: int, data: bytes) -> bytes:
    """Return the value of the one data object that `data` must consist of.

    Raises:
        MalformedTlv: another tag, more than one object, or as `read`.
    """
    found, value, end = read(data)
    if found != tag or end != len(data):
        raise MalformedTlv(f"expected one data object {tag:X}")
    return value
