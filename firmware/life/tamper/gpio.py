"""Requests to a Linux GPIO character device (uapi version 2, kernel 5.10 and later) as bytes. No I/O.

Only what a single input line needs: ask for it, read its level, read what happened on it meanwhile.
Layout: include/uapi/linux/gpio.h of the Linux kernel.
"""

from __future__ import annotations

import struct
from typing import Final

from firmware.errors import FirmwareError

GET_LINE: Final = 0xC250B407
"""ioctl GPIO_V2_GET_LINE_IOCTL."""
GET_VALUES: Final = 0xC010B40E
"""ioctl GPIO_V2_LINE_GET_VALUES_IOCTL."""
_OFFSETS, _CONSUMER_BYTES, _ATTRIBUTES_BYTES = 64, 32, 240
_REQUEST: Final = struct.Struct(f"={_OFFSETS}I{_CONSUMER_BYTES}sQI20x{_ATTRIBUTES_BYTES}xII20xi")
_VALUES: Final = struct.Struct("=QQ")
EVENT_BYTES: Final = 48
_ACTIVE_LOW, _INPUT, _RISING, _FALLING, _PULL_UP = 1 << 1, 1 << 2, 1 << 4, 1 << 5, 1 << 8


def line_request(line: int, *, active_low: bool, pull_up: bool) -> bytearray:
    """Return the request for one input line whose edges the kernel remembers; it is filled in by the ioctl.

    Args:
        line: offset of the line on its chip, at least 0.
        active_low: a low level means "open".
        pull_up: switch the line's own resistor on, for a bare contact to ground.
    """
    flags = _INPUT | _RISING | _FALLING
    flags |= (_ACTIVE_LOW if active_low else 0) | (_PULL_UP if pull_up else 0)
    offsets = (line, *(0,) * (_OFFSETS - 1))
    return bytearray(_REQUEST.pack(*offsets, b"smgw tamper", flags, 0, 1, 16, 0))


def line_descriptor(answer: bytes) -> int:
    """Return the descriptor that the kernel put into a request; FirmwareError if there is none."""
    if len(answer) != _REQUEST.size or (descriptor := _REQUEST.unpack(answer)[-1]) <= 0:
        raise FirmwareError("the kernel gave no GPIO line")
    return int(descriptor)


def values_request() -> bytearray:
    """Return the question for the level of the request's only line."""
    return bytearray(_VALUES.pack(0, 1))


def is_active(answer: bytes) -> bool:
    """Return the level that the kernel put into a `values_request`."""
    return bool(_VALUES.unpack(answer)[0] & 1)
