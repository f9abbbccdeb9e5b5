"""The 64-bit status word of a registered value: upper half by the gateway, lower half from the meter. No I/O.

Bits of the gateway's half: BSI TR-03109-1 v2.0 details, chapter 15 (docs/references.md). A wired meter's
32-bit word is carried as it came. A wireless meter's half holds the M-Bus status byte in its lowest eight
bits.

The trap in that half: OMS numbers the bits of a byte from the least significant one, the table of the details
from the other end. Flags are therefore always read from the byte as it was on the air, by name; how the byte
then stands in the half is the caller's choice (`BitOrder`).
"""

from __future__ import annotations

from enum import Enum, IntEnum, IntFlag
from functools import lru_cache
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


class BitOrder(Enum):
    """How the bytes of a wireless meter's status stand in the meter's half."""

    OMS = "oms"
    """Bit 0 of the byte is bit 0 of the half."""
    REVERSED = "reversed"
    """Bit 0 of the byte is bit 7 of the half."""


class PtbStatus(IntEnum):
    """What a status means for billing, in five steps (the mapping of the TRuDI transparency software)."""

    VALID = 0
    WARNING = 1
    TEMPORARY_ERROR = 2
    CRITICAL_TEMPORARY_ERROR = 3
    FATAL_ERROR = 4


_PTB: Final = (
    (GatewayStatus.FATAL, PtbStatus.FATAL_ERROR),
    (GatewayStatus.TIME_INVALID, PtbStatus.CRITICAL_TEMPORARY_ERROR),
    (GatewayStatus.METER_TAMPER, PtbStatus.CRITICAL_TEMPORARY_ERROR),
    (GatewayStatus.NO_VALUE, PtbStatus.TEMPORARY_ERROR),
    (GatewayStatus.WARNING, PtbStatus.WARNING),
)


_NOT_BILLABLE: Final = (
    int(
        GatewayStatus.NOT_VALIDATED
        | GatewayStatus.FATAL
        | GatewayStatus.TIME_INVALID
        | GatewayStatus.METER_TAMPER
        | GatewayStatus.NO_VALUE
    )
    << 32
)
"""As an integer: this is asked of every value of a year."""


def ptb(status: int) -> PtbStatus:
    """Return the gravest step that the gateway's flags of a status word stand for."""
    flags = gateway_half(status)
    return next((step for flag, step in _PTB if flag in flags), PtbStatus.VALID)


def billable(status: int) -> bool:
    """Tell whether a value may be counted: validated, and at most a warning."""
    return not status & _NOT_BILLABLE


def reversed_bits(half: int) -> int:
    """Turn round the eight bits of each of the four bytes of a meter's half; twice gives the same again."""
    return int.from_bytes(bytes(int(f"{byte:08b}"[::-1], 2) for byte in half.to_bytes(4, "big")), "big")


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


@lru_cache(maxsize=1024)
def wireless(meter_status: int, *, time_valid: bool, order: BitOrder = BitOrder.OMS) -> int:
    """Return the status word of a value that a radio meter sent.

    Args:
        meter_status: the M-Bus status byte (EN 13757-3: low power, permanent and temporary error,
            application), as it was on the air.
        time_valid: whether the gateway's clock could be trusted at the registration instant.
        order: how the byte stands in the meter's half.
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
    half = meter_status & 0xFF
    return combine(flags, reversed_bits(half) if order is BitOrder.REVERSED else half)


@lru_cache(maxsize=1024)
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


def missing(*, time_valid: bool, unreadable: bool = False, by_wire: bool = False) -> int:
    """Return the status word of a registration instant without a value in its window.

    Args:
        time_valid: whether the gateway's clock could be trusted at the registration instant.
        unreadable: there was one, of a size that no value may have.
        by_wire: whether the meter is read by wire.
    """
    flags = GatewayStatus.FIXED | GatewayStatus.NO_VALUE
    if not by_wire:
        flags |= GatewayStatus.WIRELESS
    if unreadable:
        flags |= GatewayStatus.METER_ERROR
    return combine(flags if time_valid else flags | GatewayStatus.TIME_INVALID, 0)


def gateway_half(status: int) -> GatewayStatus:
    """Return the gateway's flags of a status word."""
    return GatewayStatus(status >> 32 & 0xFFFFFFFF)


def to_text(status: int) -> str:
    """Write a status word as 16 hexadecimal digits: JSON numbers do not hold 64 bits everywhere."""
    return f"{status:016x}"
