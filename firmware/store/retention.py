"""How long what is kept, by the names of kinds: pure functions.

Values are kept in one kind a day, `<class>/<profile>/<YYYYMMDD>`. A day goes as a whole, once its last
value is older than its class is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Final

_DAILY: Final = re.compile(r"([a-z]+)/(.+)/([0-9]{4})([0-9]{2})([0-9]{2})\Z", re.DOTALL)
INTERVALS, CONSUMPTION = "original", "derived"
"""Classes: registered values of each interval; registers and values derived from them."""


def expired(kinds: Iterable[str], today: date, months: Mapping[str, int]) -> list[str]:
    """Return the kinds that are older than their class is kept, oldest first.

    Args:
        kinds: names; what is no kind of a day is left alone.
        today: UTC.
        months: class -> months, at least 1; a class that is not named is kept for ever.
    """
    limits = {each: months_before(today, count) for each, count in months.items()}
    found = []
    for kind in kinds:
        day = day_of(kind)
        if day is not None and (limit := limits.get(day[0])) is not None and day[2] < limit:
            found.append((day[2], kind))
    return [kind for _, kind in sorted(found)]


def day_of(kind: str) -> tuple[str, str, date] | None:
    """Return (class, profile, day) of a kind of a day, None for any other kind."""
    match = _DAILY.match(kind)
    if match is None:
        return None
    try:
        return match[1], match[2], date(int(match[3]), int(match[4]), int(match[5]))
    except ValueError:
        return None


def months_before(day: date, months: int) -> date:
    """Return the day so many calendar months earlier; the last of the month where it lacks that day."""
    number = day.year * 12 + day.month - 1 - months
    year, month = divmod(number, 12)
    if year < date.min.year:
        return date.min
    for last in (day.day, 30, 29, 28):
        try:
            return date(year, month + 1, min(day.day, last))
        except ValueError:
            continue
    raise AssertionError("every month has 28 days")
