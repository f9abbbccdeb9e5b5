"""Checksums of the metering world, named by the standards that use them. Pure functions."""

from __future__ import annotations

import binascii
from typing import Final


def _table(polynomial: int) -> tuple[int, ...]:
    """Remainders of all single bytes, most significant bit first."""
    remainders = []
    for byte in range(256):
        value = byte << 8
        for _ in range(8):
            value = (value << 1 ^ polynomial) & 0xFFFF if value & 0x8000 else value << 1
        remainders.append(value)
    return tuple(remainders)


_EN13757: Final = _table(0x3D65)
_MIRRORED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""Each byte with its bits in reverse order."""


def crc16_en13757(data: bytes) -> int:
    """Checksum of wM-Bus frames, link-layer payloads and frame formats.

    Polynomial 3D65, start 0, not reflected, complemented; "123456789" gives C2B7. On the air it is sent
    high byte first (frames) or low byte first (payload CRC of the extended link layer).
    Spec: EN 13757-4.
    """
    value = 0
    table = _EN13757
    for byte in data:
        value = (value << 8 & 0xFF00) ^ table[value >> 8 ^ byte]
    return value ^ 0xFFFF


def crc16_kermit(data: bytes) -> int:
    """Checksum of SML frames of some firmware, in place of CRC-16/X-25.

    Polynomial 1021 reflected, start 0, not complemented; "123456789" gives 2189; there sent high byte first.
    Source: a public frame of a real meter (docs/lmn.md 3.1).
    """
    value = binascii.crc_hqx(data.translate(_MIRRORED), 0)
    return _MIRRORED[value & 0xFF] << 8 | _MIRRORED[value >> 8]


def crc16_x25(data: bytes) -> int:
    """Checksum of HDLC, SML and of IMST's host interface.

    Polynomial 1021 reflected, start FFFF, complemented; "123456789" gives 906E; sent low byte first.
    Spec: ISO/IEC 13239.
    """
    # binascii has the unreflected form in C; mirroring the bits of input and result makes it this one.
    value = binascii.crc_hqx(data.translate(_MIRRORED), 0xFFFF)
    return (_MIRRORED[value & 0xFF] << 8 | _MIRRORED[value >> 8]) ^ 0xFFFF
