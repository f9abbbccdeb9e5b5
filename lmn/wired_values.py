"""What a wired meter told: values that passed every check of the line, or why there are none. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from lmn.errors import LmnError
from lmn.model import MeterId, Obis, Reading


class WiredValue(NamedTuple):
    """One measured value; a tuple, because a frame makes many."""

    obis: Obis
    value: Decimal
    """Exact, in `unit`."""
    unit: str
    status: int = 0
    """32-bit status word of the meter, 0 where it sends none."""
    age_s: float = 0.0
    """How much older than its transmission it is, by the meter's own clock."""

    def __repr__(self) -> str:
        return f"WiredValue({self.obis}, {self.unit})"


@dataclass(frozen=True, slots=True)
class WiredValues:
    """All that one reading or one push told."""

    meter: MeterId
    values: tuple[WiredValue, ...]
    first_byte_at: float
    """Loop time, in seconds, of the read that brought the first byte."""
    protected: bool
    """Whether they came through TLS with the meter's pinned certificate."""

    def readings(self, received_utc: datetime) -> list[Reading]:
        """Stamp them with the instant of the first byte, aware."""
        return [self._reading(one, received_utc - timedelta(seconds=one.age_s)) for one in self.values]

    def _reading(self, one: WiredValue, at_utc: datetime) -> Reading:
        return Reading(self.meter, one.obis, one.value, one.unit, at_utc, one.status, wired=True)


@dataclass(frozen=True, slots=True)
class WiredRefusal:
    """Something that came from a line and did not count."""

    meter: MeterId
    error: LmnError
