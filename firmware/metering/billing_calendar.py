"""Billing periods of calendar months: where they begin, in UTC, for any year. Pure.

A period begins at 00:00 local time, so one that holds a change of the clocks is an hour longer or shorter and
February has a day more in leap years. The pattern repeats after 400 years, weekdays and changes included, so
that whoever must see every distance that ever occurs sees it in that time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final

from firmware.metering.local_time import LocalTime
from firmware.profile.tariffs import BillingCalendar

REPEATS_S: Final = 146_097 * 86_400
"""400 years of the Gregorian calendar, a whole number of weeks."""
LONGEST_MONTH_S: Final = 31 * 86_400 + 3600
SHORTEST_MONTH_S: Final = 28 * 86_400 - 3600
_YEARS: Final = 400
_FIRST_YEAR: Final = 2000
_MONTHS: Final = 12


def local_time(calendar: BillingCalendar) -> LocalTime:
    """Return the local time in which a calendar's months begin."""
    return LocalTime(timedelta(minutes=calendar.utc_offset_min), calendar.summer_time == "eu")


def begins(calendar: BillingCalendar, after_s: int) -> Iterator[int]:
    """Yield the beginnings of periods after an instant, in seconds since 1970, without an end."""
    table = _cycle(calendar)
    rounds, rest = divmod(after_s - table[0], REPEATS_S)
    place = bisect_right(table, table[0] + rest)
    while True:
        if place == len(table):
            rounds, place = rounds + 1, 0
        yield table[place] + rounds * REPEATS_S
        place += 1


def begins_between(calendar: BillingCalendar, after_utc: datetime, until_utc: datetime) -> list[datetime]:
    """Return the beginnings of periods in (after_utc, until_utc], oldest first."""
    found: list[datetime] = []
    for instant_s in begins(calendar, _floor_s(after_utc)):
        if instant_s > until_utc.timestamp():
            return found
        found.append(datetime.fromtimestamp(instant_s, UTC))
    raise AssertionError("beginnings never end")


def begin_before(calendar: BillingCalendar, instant_utc: datetime) -> datetime:
    """Return the last beginning of a period before an instant, not at it."""
    table = _cycle(calendar)
    whole_s = _floor_s(instant_utc)
    before_s = whole_s if datetime.fromtimestamp(whole_s, UTC) < instant_utc else whole_s - 1
    rounds, rest = divmod(before_s - table[0], REPEATS_S)
    place = bisect_left(table, table[0] + rest + 1) - 1
    return datetime.fromtimestamp(table[place] + rounds * REPEATS_S, UTC)


def _floor_s(instant_utc: datetime) -> int:
    return (instant_utc - datetime.fromtimestamp(0, UTC)) // timedelta(seconds=1)


@lru_cache(maxsize=16)
def _cycle(calendar: BillingCalendar) -> list[int]:
    """Return the beginnings of 400 years, rising."""
    local, (month, day) = local_time(calendar), map(int, calendar.starts.split("-"))
    return sorted(
        int(local.instant(date(year, 1 + (month - 1 + number) % _MONTHS, day), time()).timestamp())
        for year in range(_FIRST_YEAR, _FIRST_YEAR + _YEARS)
        for number in range(0, _MONTHS, calendar.months)
    )
