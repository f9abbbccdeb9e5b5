"""Local time of tariffs: the one place of the gateway that knows daylight saving. Pure.

Everything else is UTC. The rule is that of the European Union (directive 2000/84/EC): an hour ahead from the
last Sunday of March to the last Sunday of October, both at 01:00 UTC. No table of the host is read, so that
the same profile gives the same switching on every gateway.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

_HOUR: Final = timedelta(hours=1)
_SUNDAY: Final = 6


@dataclass(frozen=True, slots=True)
class LocalTime:
    """A place's time."""

    standard: timedelta
    """Offset from UTC in winter."""
    summer_time: bool
    """Whether the hour of summer is added."""

    def date_of(self, instant_utc: datetime) -> date:
        """Return the local date at an aware instant."""
        ahead = _HOUR if self._is_summer(instant_utc) else timedelta(0)
        return (instant_utc.astimezone(UTC) + self.standard + ahead).date()

    def instant(self, day: date, at: time) -> datetime:
        """Return when a local time of a date begins, in UTC.

        A time that comes twice (autumn) is the first of the two; one that does not exist (spring) is the
        instant at which the clocks are put forward.
        """
        local = datetime.combine(day, at, UTC)
        in_summer, in_winter = local - self.standard - _HOUR, local - self.standard
        if self._is_summer(in_summer):
            return in_summer
        return _begin_of_summer(in_winter.year) if self._is_summer(in_winter) else in_winter

    def _is_summer(self, instant_utc: datetime) -> bool:
        instant = instant_utc.astimezone(UTC)
        return self.summer_time and _begin_of_summer(instant.year) <= instant < _end_of_summer(instant.year)


def _last_sunday(year: int, month: int) -> datetime:
    """Return 01:00 UTC of the last Sunday of a month of 31 days."""
    last = date(year, month, 31)
    back = timedelta(days=(last.weekday() - _SUNDAY) % 7)
    return datetime.combine(last - back, time(1), UTC)


def _begin_of_summer(year: int) -> datetime:
    return _last_sunday(year, 3)


def _end_of_summer(year: int) -> datetime:
    return _last_sunday(year, 10)
