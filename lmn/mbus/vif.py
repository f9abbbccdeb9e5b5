"""Value information: which quantity, unit and power of ten a VIF means. Tables, no code.

Spec: EN 13757-3, primary table. What the table has and the command contract has no name for is left out:
such a record stays raw.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Kind(Enum):
    """How the number of a record is to be understood."""

    NUMBER = "number"
    """Signed; the lowest integer means "no value"."""
    COUNT = "count"
    """Cannot be negative: a negative integer means "no value"."""
    UNSIGNED = "unsigned"
    """All bits count."""
    IDENTITY = "identity"
    """Digits or text that name something; unsigned, no calculation."""
    DATE = "date"
    """A point in time, in the meter's own local time."""
    NO_VALUE = "no value"
    """The meter says that it has none."""
    RAW = "raw"
    """Not understood; the bytes are kept."""


RAW_QUANTITY: Final = "manufacturer specific"


@dataclass(frozen=True, slots=True)
class Measurand:
    """What a value information block says."""

    quantity: str
    unit: str
    kind: Kind
    exponent: int = 0
    """Power of ten that leads to the base unit."""
    factor: int = 1
    """Whole factor besides, e.g. 60 where the meter counts per minute."""


RAW: Final = Measurand(RAW_QUANTITY, "", Kind.RAW)

Table = dict[int, Measurand]


def scale(
    table: Table, first: int, count: int, quantity: str, unit: str, exponent: int, factor: int = 1
) -> None:
    """Enter `count` codes from `first` on, each ten times the one before."""
    for step in range(count):
        table[first + step] = Measurand(quantity, unit, Kind.NUMBER, exponent + step, factor)


def durations(table: Table, first: int, quantity: str, units: tuple[str, ...]) -> None:
    """Enter one code for each unit of time, as transmitted."""
    for step, unit in enumerate(units):
        table[first + step] = Measurand(quantity, unit, Kind.COUNT)


TIME_UNITS: Final = ("s", "min", "h", "d")


def _primary() -> Table:
    table: Table = {}
    scale(table, 0x00, 8, "energy", "Wh", -3)
    scale(table, 0x08, 8, "energy", "J", 0)
    scale(table, 0x10, 8, "volume", "m3", -6)
    scale(table, 0x18, 8, "mass", "kg", -3)
    durations(table, 0x20, "on time", TIME_UNITS)
    durations(table, 0x24, "operating time", TIME_UNITS)
    scale(table, 0x28, 8, "power", "W", -3)
    scale(table, 0x30, 8, "power", "J/h", 0)
    scale(table, 0x38, 8, "volume flow", "m3/h", -6)
    scale(table, 0x40, 8, "volume flow", "m3/h", -7, 60)  # sent per minute
    scale(table, 0x48, 8, "volume flow", "m3/h", -9, 3600)  # sent per second
    scale(table, 0x50, 8, "mass flow", "kg/h", -3)
    scale(table, 0x58, 4, "flow temperature", "C", -3)
    scale(table, 0x5C, 4, "return temperature", "C", -3)
    scale(table, 0x60, 4, "temperature difference", "K", -3)
    scale(table, 0x64, 4, "external temperature", "C", -3)
    scale(table, 0x68, 4, "pressure", "bar", -3)
    table[0x6C] = Measurand("date", "", Kind.DATE)
    table[0x6D] = Measurand("datetime", "", Kind.DATE)
    table[0x6E] = Measurand("hca units", "", Kind.COUNT)
    durations(table, 0x70, "averaging duration", TIME_UNITS)
    durations(table, 0x74, "actuality duration", TIME_UNITS)
    table[0x78] = Measurand("fabrication no", "", Kind.IDENTITY)
    table[0x79] = Measurand("identification", "", Kind.IDENTITY)
    return table


PRIMARY: Final = _primary()
"""VIF without its extension bit -> measurand."""

EXTENSION_FB: Final = 0xFB
EXTENSION_FD: Final = 0xFD
PLAIN_TEXT: Final = 0x7C
"""The unit follows as text."""
