"""The eight address bytes of M-Bus and their printed form. Pure functions."""

from __future__ import annotations

from functools import lru_cache

from lmn.model import MeterId


@lru_cache(maxsize=4096)
def to_meter_id(address: bytes) -> MeterId:
    """Decode manufacturer (2), identification (4), version, device type: the order of the radio link.

    The manufacturer's top bit (address is not world-wide unique) is no part of the letters.
    Spec: EN 13757-3, 13757-4; letters: A = 1, five bits each.
    """
    code = int.from_bytes(address[:2], "little")
    letters = "".join(chr(64 + (code >> shift & 0x1F)) for shift in (10, 5, 0))
    return MeterId(letters, address[5:1:-1].hex(), address[6], address[7])


def from_meter_id(meter: MeterId) -> bytes:
    """Encode in the order of the radio link: manufacturer, identification, version, device type."""
    code = 0
    for letter in meter.manufacturer:
        code = code << 5 | ord(letter) - 64
    return (
        code.to_bytes(2, "little")
        + bytes.fromhex(meter.identification)[::-1]
        + bytes((meter.version, meter.device_type))
    )


def from_long_header(header: bytes) -> bytes:
    """Turn the long header's order (identification, manufacturer, version, type) into the link's."""
    return header[4:6] + header[:4] + header[6:8]
