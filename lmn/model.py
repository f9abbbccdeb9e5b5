"""Quantities of the metering world: meters, OBIS codes, units, readings. No I/O, no clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Self

_OBIS = re.compile(r"(\d+)-(\d+):(\d+)\.(\d+)\.(\d+)(?:\*(\d+))?")


@dataclass(frozen=True, slots=True, order=True)
class MeterId:
    """The eight address bytes of a radio meter, decoded (EN 13757-3; reference: OMS, M-Bus long header)."""

    manufacturer: str
    """Three letters."""
    identification: str
    """Eight characters, as printed on the meter; hexadecimal digits, where it has them, in lower case."""
    version: int
    device_type: int

    def __str__(self) -> str:
        return f"{self.manufacturer}-{self.identification}-{self.version:02x}-{self.device_type:02x}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the form that `str` writes, e.g. "ELS-12345678-33-03".

        Raises:
            ValueError: the text has another form.
        """
        match = re.fullmatch(r"([A-Z]{3})-([0-9A-Fa-f]{8})-([0-9a-f]{2})-([0-9a-f]{2})", text)
        if match is None:
            raise ValueError(f"no meter id: {text!r} (expected e.g. ELS-12345678-33-03)")
        return cls(match[1], match[2].lower(), int(match[3], 16), int(match[4], 16))


@dataclass(frozen=True, slots=True, order=True)
class Obis:
    """An OBIS code (IEC 62056-61), groups A-B:C.D.E*F."""

    groups: bytes
    """Six bytes, A to F."""

    def __post_init__(self) -> None:
        if len(self.groups) != 6:
            raise ValueError(f"an OBIS code has six groups, not {len(self.groups)}")

    def __str__(self) -> str:
        a, b, c, d, e, f = self.groups
        return f"{a}-{b}:{c}.{d}.{e}*{f}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read "1-0:1.8.0" or "1-0:1.8.0*255"; without group F it is 255.

        Raises:
            ValueError: the text has another form or a group is above 255.
        """
        match = _OBIS.fullmatch(text)
        if match is None:
            raise ValueError(f"no OBIS code: {text!r} (expected e.g. 1-0:1.8.0*255)")
        return cls(bytes(int(group) if group is not None else 255 for group in match.groups()))


ACTIVE_ENERGY_IMPORT = Obis.from_text("1-0:1.8.0*255")
ACTIVE_ENERGY_EXPORT = Obis.from_text("1-0:2.8.0*255")


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one measurand as it reached the gateway, authenticated and time-stamped."""

    meter: MeterId
    obis: Obis
    value: Decimal | None
    """In `unit`, never rounded; None where the meter says that it has no value."""
    unit: str
    """Base unit as in the command contract, e.g. "Wh", "m3"."""
    received_utc: datetime
    """Aware; at most 500 ms after the first byte of the telegram."""
    meter_status: int = 0
    """Status as the meter sent it (M-Bus STS byte; wired: its 32-bit word), 0 for fault-free."""
    wired: bool = False
    """Whether it came over a wire; tells what `meter_status` means."""
