"""A switch table as switches in time: days, weeks, seasons, special days. Pure; local time ends here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Final

from firmware.metering.local_time import LocalTime
from firmware.profile.tariffs import DayTable, Switch, TimeVariable

_DAY: Final = timedelta(days=1)


def local_time(table: TimeVariable) -> LocalTime:
    """Return the local time of a switch table."""
    return LocalTime(timedelta(minutes=table.utc_offset_min), table.summer_time == "eu")


def stages(table: TimeVariable) -> list[int]:
    """Return every stage that a table may switch to, in order."""
    used = {switch.stage for day in table.days for switch in day.switches}
    return sorted(used | {table.default_stage})


def switches(table: TimeVariable, from_utc: datetime, to_utc: datetime) -> Iterator[tuple[datetime, int]]:
    """Yield (instant, stage) of all local days that touch [from_utc, to_utc].

    Each day begins with a switch, so the stage at `from_utc` is always among them.
    """
    local = local_time(table)
    days = {day.id: day for day in table.days}
    day, last = local.date_of(from_utc), local.date_of(to_utc)
    while day <= last:
        plan = _plan(table, days, day)
        begin = (Switch(at="00:00", stage=table.default_stage),) if plan is None else plan.switches
        for switch in begin:
            yield local.instant(day, time.fromisoformat(switch.at)), switch.stage
        day += _DAY


def _plan(table: TimeVariable, days: dict[str, DayTable], day: date) -> DayTable | None:
    """Return the day table of a date: a special day's, else the season's week's; None for neither."""
    written = day.isoformat()
    for special in table.special_days:
        if special.date in (written, written[5:]):
            return days.get(special.day)
    if not table.seasons:
        return None
    ordered = sorted(table.seasons, key=lambda one: one.starts)
    season = next((one for one in reversed(ordered) if one.starts <= written[5:]), ordered[-1])
    week = next((one for one in table.weeks if one.id == season.week), None)
    return None if week is None else days.get(week.days[day.weekday()])
