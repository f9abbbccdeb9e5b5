"""Registration: which received value counts at an instant, and the original list. No I/O, no clock.

A value counts if it was received inside the acceptance window around the instant; of several the nearest one,
of two equally near the earlier. Nothing is ever interpolated: no value in the window is an entry of its own,
with status bit 13 (BSI TR-03109-1 v2.0 details, chapters 9, 10 and 15). A value of more than 13 + 6 digits is
no value either, and bit 15 says so.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Final

from firmware.metering.quantity import QuantityRefused, scaled
from firmware.metering.status import BitOrder, missing, wired, wireless
from lmn.model import MeterId, Obis, Reading

_WINDOW_SHARE: Final = 100
"""The window reaches 1/100 of the registration period to both sides."""
_DISORDER: Final = timedelta(minutes=1)
"""Readings arrive this much out of order at most; what claims to be later was stamped by a wrong clock."""


@dataclass(frozen=True, slots=True)
class RegisteredValue:
    """One entry of an original list: the value of a measurand at an instant, or that there was none."""

    meter: MeterId
    obis: Obis
    instant_utc: datetime
    """The nominal registration instant."""
    value: Decimal | None
    unit: str
    status: int
    """64 bits, `firmware.metering.status`."""

    def __repr__(self) -> str:
        return f"RegisteredValue({self.meter}, {self.obis}, {self.instant_utc.isoformat()})"


def half_window(period_s: int, window_s: float = 0.0) -> timedelta:
    """Return how far a value may lie from its instant: 1 % of the period, or `window_s` if that is more.

    Args:
        period_s: registration period, at least 1.
        window_s: wider window of a short (demonstration) period; must stay below half the period.
    """
    return max(timedelta(seconds=period_s) / _WINDOW_SHARE, timedelta(seconds=window_s))


def choose(readings: Iterable[Reading], instant_utc: datetime, reach: timedelta) -> Reading | None:
    """Return the reading that counts at `instant_utc`, None if there is none within `reach` of it.

    A reading without a value (the meter says that it has none) never counts, nor does one that is out of
    range.
    """
    inside = [
        reading
        for reading in readings
        if abs(reading.received_utc - instant_utc) <= reach and _in_range(reading.value)
    ]
    if not inside:
        return None
    # The value itself comes last: two values of one instant must not be told apart by the order of arrival.
    return min(
        inside,
        key=lambda one: (abs(one.received_utc - instant_utc), one.received_utc, one.value or Decimal(0)),
    )


def _in_range(value: Decimal | None) -> bool:
    if value is None:
        return False
    try:
        scaled(value)
    except QuantityRefused:
        return False
    return True


def register_value(
    meter: MeterId,
    obis: Obis,
    readings: Iterable[Reading],
    instant_utc: datetime,
    reach: timedelta,
    *,
    time_valid: bool = True,
    status_bits: BitOrder = BitOrder.OMS,
    by_wire: bool = False,
) -> RegisteredValue:
    """Make the entry of one registration instant; the same readings give the same entry, in any order.

    Args:
        meter: whose value.
        obis: of which measurand.
        readings: what was received; of other meters and measurands too.
        instant_utc: the nominal instant.
        reach: `half_window` of the profile.
        time_valid: whether the gateway's clock can be trusted.
        status_bits: how a radio meter's status stands in the status word.
        by_wire: whether the meter is read by wire; counts where no reading says it.
    """
    own = [one for one in readings if one.meter == meter and one.obis == obis]
    reading = choose(own, instant_utc, reach)
    if reading is None:
        unreadable = any(
            one.value is not None and abs(one.received_utc - instant_utc) <= reach for one in own
        )
        status = missing(time_valid=time_valid, unreadable=unreadable, by_wire=by_wire)
        return RegisteredValue(meter, obis, instant_utc, None, "", status)
    if reading.wired:
        status = wired(reading.meter_status, time_valid=time_valid)
    else:
        status = wireless(reading.meter_status, time_valid=time_valid, order=status_bits)
    return RegisteredValue(meter, obis, instant_utc, reading.value, reading.unit, status)


def whole_wh(value: RegisteredValue) -> int | None:
    """Return a registered energy in whole Wh, rounded down; None if there is none or it is no energy.

    Rounding the *register* and not the difference keeps the sum over many slots exact.
    """
    if value.value is None or value.unit != "Wh":
        return None
    return int(value.value.to_integral_value(rounding=ROUND_FLOOR))


def energy_between(before: RegisteredValue | None, after: RegisteredValue | None) -> int | None:
    """Return the Wh between two values of one measurand, None if one is missing or the register went back."""
    if before is None or after is None or (before.meter, before.obis) != (after.meter, after.obis):
        return None
    start, end = whole_wh(before), whole_wh(after)
    if start is None or end is None or end < start:
        return None
    return end - start


class Register:
    """The recent readings of every measurand, as far back as a window may still reach.

    Bounded: `keep` limits how long a reading stays, `per_measurand` how many of one measurand stay, so that a
        meter that babbles pushes out its own oldest readings and nobody else's.
    """

    def __init__(self, keep: timedelta, per_measurand: int = 4096) -> None:
        self._keep, self._limit = keep, per_measurand
        self._readings: dict[tuple[MeterId, Obis], list[Reading]] = {}

    def add(self, reading: Reading) -> None:
        """Take in one reading; the order of arrival does not matter within a minute.

        Readings from farther in the future than that are dropped: the clock has been put back since. They
        would push out every true one, and count a second time when the clock comes by again.
        """
        kept = self._readings.setdefault((reading.meter, reading.obis), [])
        del kept[bisect_right(kept, reading.received_utc + _DISORDER, key=_received) :]
        insort(kept, reading, key=_received)
        newest = kept[-1].received_utc
        del kept[: max(bisect_left(kept, newest - self._keep, key=_received), len(kept) - self._limit)]

    def around(
        self, meter: MeterId, obis: Obis, instant_utc: datetime, reach: timedelta
    ) -> Sequence[Reading]:
        """Return the readings of one measurand within `reach` of an instant, oldest first."""
        kept = self._readings.get((meter, obis), [])
        first = bisect_left(kept, instant_utc - reach, key=_received)
        return kept[first : bisect_right(kept, instant_utc + reach, key=_received)]


def _received(reading: Reading) -> datetime:
    return reading.received_utc
