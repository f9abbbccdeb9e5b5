"""The 64-bit status word of a registered value: upper half by the gateway, lower half from the meter. No I/O.

Bits of the gateway's half: BSI TR-03109-1 v2.0 details, chapter 15 (docs/references.md). The wireless meter
half is carried as the M-Bus status byte in its lowest eight bits; a wired meter's 32-bit word as it came.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final

_MBUS_LOW_POWER: Final = 0x04
_MBUS_PERMANENT_ERROR: Final = 0x08
_MBUS_TEMPORARY_ERROR: Final = 0x10
_MBUS_APPLICATION: Final = 0x03
_MBUS_APPLICATION_ERROR: Final = 0x02

_FNN_FIXED: Final = 1 << 2
_FNN_TAMPER: Final = 1 << 9 | 1 << 10
"""Magnetic and mechanical, of a wired basic meter."""


class GatewayStatus(IntFlag):
    """The gateway's 32 bits."""

    FIXED = 0x00000005
    """Bits 0 and 2 are always 1."""
    NOT_VALIDATED = 1 << 1
    FATAL = 1 << 8
    TIME_INVALID = 1 << 9
    WARNING = 1 << 12
    NO_VALUE = 1 << 13
    METER_TAMPER = 1 << 14
    METER_ERROR = 1 << 15
    TRIGGERED = 1 << 16
    WIRELESS = 1 << 17


def combine(gateway: GatewayStatus, meter_status: int) -> int:
    """Build the status word from both halves.

    Args:
        gateway: the gateway's flags; the fixed bits are set in any case.
        meter_status: the meter's half, 0 <= meter_status < 2**32.

    Returns:
        The word in [0, 2**64), gateway half first.
    """
    if not 0 <= meter_status < 1 << 32:
        raise ValueError("the meter's half of the status word has 32 bits")
    return (int(gateway | GatewayStatus.FIXED) << 32) | meter_status


def wireless(meter_status: int, *, time_valid: bool) -> int:
    """Return the status word of a value that a radio meter sent.

    Args:
        meter_status: the M-Bus status byte (EN 13757-3: low power, permanent and temporary error,
            application).
        time_valid: whether the gateway's clock could be trusted at the registration instant.
    """
    flags = GatewayStatus.WIRELESS
    if not time_valid:
        flags |= GatewayStatus.TIME_INVALID
    if meter_status & (_MBUS_PERMANENT_ERROR | _MBUS_TEMPORARY_ERROR):
        flags |= GatewayStatus.METER_ERROR
    if meter_status & _MBUS_LOW_POWER:
        flags |= GatewayStatus.WARNING
    if meter_status & _MBUS_APPLICATION == _MBUS_APPLICATION_ERROR:
        flags |= GatewayStatus.METER_ERROR
    return combine(flags, meter_status & 0xFF)


def wired(meter_status: int, *, time_valid: bool) -> int:
    """Return the status word of a value that came over a wire.

    Args:
        meter_status: the meter's 32-bit word; tamper bits are only believed where its fixed bit says that it
            is one of that form.
        time_valid: whether the gateway's clock could be trusted at the registration instant.
    """
    flags = GatewayStatus.FIXED
    if not time_valid:
        flags |= GatewayStatus.TIME_INVALID
    if meter_status & _FNN_FIXED and meter_status & _FNN_TAMPER:
        flags |= GatewayStatus.METER_TAMPER
    return combine(flags, meter_status)


def missing(*, time_valid: bool) -> int:
    """Return the status word of a registration instant without a value in its window."""
    flags = GatewayStatus.WIRELESS | GatewayStatus.NO_VALUE
    return combine(flags if time_valid else flags | GatewayStatus.TIME_INVALID, 0)


def gateway_half(status: int) -> GatewayStatus:
    """Return the gateway's flags of a status word."""
    return GatewayStatus(status >> 32 & 0xFFFFFFFF)


def to_text(status: int) -> str:
    """Write a status word as 16 hexadecimal digits: JSON numbers do not hold 64 bits everywhere."""
    return f"{status:016x}"
