"""Frame formats A and B of wM-Bus and the bare form without checksums. Pure functions, never guessing.

Which form the bytes have is known from the stick that delivered them. All three become the bare form:
the L field, then all bytes that it counts, without checksums.
Spec: EN 13757-4 (data link layer); numbers: docs/lmn.md 1.3.
"""

from __future__ import annotations

from typing import Final

from lmn.crc import crc16_en13757
from lmn.errors import ChecksumMismatch, LengthMismatch, MalformedFrame

MIN_LENGTH: Final = 9
"""C, M and A are always there; the L field counts them."""

_FIRST_BLOCK: Final = 10
_BLOCK: Final = 16
_B_FIRST_PART: Final = 126
"""Format B: bytes under the first of two checksums, L field included."""
_B_ONE_CRC: Final = 128
"""Format B: longest frame, L field and checksum included, that has one checksum only."""


def _check(data: bytes, crc: bytes, place: str) -> None:
    if crc16_en13757(data) != int.from_bytes(crc, "big"):
        raise ChecksumMismatch(f"wrong link CRC over {place}")


def check_bare(telegram: bytes) -> bytes:
    """Return a frame without checksums if its L field says the truth.

    Raises:
        MalformedFrame: too short for a link header.
        LengthMismatch: the L field counts other than the bytes that follow.
    """
    if not telegram:
        raise MalformedFrame("empty frame")
    if telegram[0] != len(telegram) - 1:
        raise LengthMismatch(f"L field says {telegram[0]} bytes, {len(telegram) - 1} follow")
    if telegram[0] < MIN_LENGTH:
        raise LengthMismatch(f"L field {telegram[0]} is too short for a link header")
    return telegram


def size_of_format_a(length: int) -> int:
    """How many bytes a frame of format A has whose L field is `length`, L and checksums included."""
    return 1 + length + 2 * (1 - (-(length - MIN_LENGTH) // _BLOCK))


def from_format_a(frame: bytes) -> bytes:
    """Check and remove the checksums of format A: one after 10 bytes, one after each further 16.

    Raises:
        MalformedFrame: no frame at all.
        LengthMismatch: bytes are missing or left over.
        ChecksumMismatch: a block is damaged.
    """
    if not frame:
        raise MalformedFrame("empty frame")
    first = _FIRST_BLOCK + 2
    if len(frame) >= first:  # before anything is believed that the L field says: it is covered too
        _check(frame[:_FIRST_BLOCK], frame[_FIRST_BLOCK:first], "the first block")
    length = frame[0]
    if length < MIN_LENGTH:
        raise LengthMismatch(f"L field {length} is too short for a link header")
    if len(frame) != (size := size_of_format_a(length)):
        raise LengthMismatch(f"format A: L field {length} means {size} bytes, not {len(frame)}")
    bare = bytearray(frame[:_FIRST_BLOCK])
    position, size = first, _BLOCK
    while position < len(frame):
        end = min(position + size, len(frame) - 2)
        _check(frame[position:end], frame[end : end + 2], f"bytes {position} to {end - 1}")
        bare += frame[position:end]
        position = end + 2
    return bytes(bare)


def to_format_a(telegram: bytes) -> bytes:
    """Put the checksums of format A into a bare telegram."""
    check_bare(telegram)
    frame = bytearray()
    position, size = 0, _FIRST_BLOCK
    while position < len(telegram):
        block = telegram[position : position + size]
        frame += block + crc16_en13757(block).to_bytes(2, "big")
        position, size = position + size, _BLOCK
    return bytes(frame)


def from_format_b(frame: bytes) -> bytes:
    """Check and remove the one or two checksums of format B, whose L field counts them.

    The L field of the result counts no checksum, as in the other forms.

    Raises:
        MalformedFrame: no frame at all.
        LengthMismatch: bytes are missing or left over.
        ChecksumMismatch: a part is damaged.
    """
    if not frame:
        raise MalformedFrame("empty frame")
    if frame[0] != len(frame) - 1:
        raise LengthMismatch(f"format B: L field says {frame[0]} bytes, {len(frame) - 1} follow")
    if len(frame) <= _B_ONE_CRC:
        parts = [(0, len(frame) - 2)]
    else:
        parts = [(0, _B_FIRST_PART), (_B_FIRST_PART + 2, len(frame) - 2)]
    bare = bytearray()
    for start, end in parts:
        if end <= start:
            raise LengthMismatch(f"format B: {len(frame)} bytes leave nothing under the last checksum")
        _check(frame[start:end], frame[end : end + 2], f"bytes {start} to {end - 1}")
        bare += frame[start:end]
    bare[0] = len(bare) - 1
    return check_bare(bytes(bare))


def to_format_b(telegram: bytes) -> bytes:
    """Put the checksums of format B into a bare telegram.

    Raises:
        ValueError: with its checksums the frame would be longer than an L field can say.
    """
    check_bare(telegram)
    total = len(telegram) + 2
    if total > _B_ONE_CRC:
        total += 2
    if total > 256:
        raise ValueError(f"{len(telegram)} bytes do not fit into format B")
    counted = bytes((total - 1,)) + telegram[1:]
    if total <= _B_ONE_CRC:
        return counted + crc16_en13757(counted).to_bytes(2, "big")
    first, last = counted[:_B_FIRST_PART], counted[_B_FIRST_PART:]
    return first + crc16_en13757(first).to_bytes(2, "big") + last + crc16_en13757(last).to_bytes(2, "big")
