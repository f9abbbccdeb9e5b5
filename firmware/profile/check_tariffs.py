"""What the parameters of a tariff use case must be together. Pure; names every problem with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date
from decimal import Decimal
from itertools import pairwise
from typing import Final

from firmware.profile.instants import INSTANT, whole
from firmware.profile.model import ProcessingProfile
from firmware.profile.tariffs import (
    ConsumptionVariable,
    Control,
    EventVariable,
    Extremes,
    FeedIn,
    GridState,
    LoadVariable,
    Prepaid,
    TimeVariable,
)
from lmn.model import Obis

DAY_S: Final = 86400
HOUR_S: Final = 3600
_MIDNIGHTS: Final = "each local midnight is one, in summer and winter"
NO_BILLING: Final = frozenset((6, 11))
"""Use cases that send on request or event alone."""
MIN_CYCLE_S: Final = 60
"""TAF 14 goes down to about one value a minute (docs/tariffs.md: own knowledge)."""
MANY_MEASURANDS: Final = frozenset((1, 6, 7, 9, 10, 11, 13, 14))
"""Use cases that are lists of values; the others count one register."""
BLOCKS: Final = {
    "time_variable": 2,
    "load_variable": 3,
    "consumption_variable": 4,
    "event_variable": 5,
    "on_demand": 6,
    "extremes": 8,
    "feed_in": 9,
    "grid_state": 10,
    "control": 11,
    "prepaid": 12,
    "visualisation": 13,
    "high_frequency": 14,
}
"""Which block of parameters belongs to which use case."""
STAGES: Final = frozenset((2, 3, 4, 5))
"""Use cases whose registers may run on over billing periods."""
REQUIRED: Final = frozenset((2, 3, 4, 5, 11, 12, 13, 14))
"""Use cases that mean nothing without their block."""
_LEAP_YEAR: Final = 2000


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a profile set."""

    place: str
    expected: str

    def __str__(self) -> str:
        return f"{self.place}: {self.expected}"


def check_tariff(place: str, profile: ProcessingProfile) -> Iterator[Problem]:
    """Find everything wrong with the tariff part of a processing profile.

    Args:
        place: where the profile stands, such as "processing[0]".
        profile: what is looked at.
    """
    for block, taf in BLOCKS.items():
        given = getattr(profile, block)
        if given is not None and taf != profile.taf:
            yield Problem(f"{place}.{block}", f"nothing: it belongs to TAF {taf}, this is TAF {profile.taf}")
        elif given is None and taf == profile.taf and taf in REQUIRED:
            yield Problem(f"{place}.{block}", f"the parameters of TAF {taf}")
    if profile.more_obis and profile.taf not in MANY_MEASURANDS:
        yield Problem(f"{place}.more_obis", f"nothing: TAF {profile.taf} counts one register")
    if len({_code(text) for text in profile.measurands}) != len(profile.measurands):
        yield Problem(f"{place}.more_obis", "each measurand once")
    if profile.registers != "period" and profile.taf not in STAGES:
        yield Problem(f"{place}.registers", f'"period": TAF {profile.taf} has no stages to count')
    yield from _billing_calendar(place, profile)
    looks = _LOOKS.get(profile.taf)
    if looks is not None:
        yield from looks(place, profile)


def _code(text: str) -> Obis | None:
    """Return the code, so that "1-0:1.8.0" and "1-0:1.8.0*255" are the same; None for none."""
    try:
        return Obis.from_text(text)
    except ValueError:
        return None


def _rising(place: str, values: Sequence[int]) -> Iterator[Problem]:
    if any(later <= earlier for earlier, later in pairwise(values)):
        yield Problem(place, "rising values, each once")


def _multiple(place: str, profile: ProcessingProfile, value_s: int | None) -> Iterator[Problem]:
    """A time of the tariff must lie on the registration grid and fit into the billing period."""
    if value_s is None:
        return
    calendar = profile.billing_calendar
    if value_s % profile.registration_period_s:
        yield Problem(place, f"a multiple of registration_period_s ({profile.registration_period_s})")
    elif calendar is not None:
        if not _meets_midnight(profile, value_s, calendar.utc_offset_min, calendar.summer_time):
            yield Problem(place, f"a time of whose multiples since valid_from {_MIDNIGHTS}")
    elif (profile.billing_period_s or DAY_S) % value_s:
        yield Problem(place, f"a divisor of the billing period ({profile.billing_period_s or DAY_S})")


def _meets_midnight(profile: ProcessingProfile, step_s: int, offset_min: int, summer_time: str) -> bool:
    """Tell whether every local midnight is a multiple of a time after `valid_from`, in summer too."""
    start_s = int(profile.valid_from.timestamp())
    offsets = [60 * offset_min, *([60 * offset_min + HOUR_S] if summer_time == "eu" else [])]
    return DAY_S % step_s == 0 and all((offset + start_s) % step_s == 0 for offset in offsets)


def _billing_calendar(place: str, profile: ProcessingProfile) -> Iterator[Problem]:
    calendar = profile.billing_calendar
    if calendar is None:
        return
    place = f"{place}.billing_calendar"
    if profile.billing_period_s is not None:
        yield Problem(place, "nothing beside billing_period_s: one of the two says where periods end")
    if profile.taf in NO_BILLING or (profile.feed_in is not None and profile.feed_in.send != "cycle"):
        yield Problem(place, f"nothing: this TAF {profile.taf} has no cycle")
    if profile.taf != 1 and not _meets_midnight(
        profile, profile.registration_period_s, calendar.utc_offset_min, calendar.summer_time
    ):
        yield Problem(place, f"a registration period and a valid_from of whose instants {_MIDNIGHTS}")
    table = profile.time_variable
    here = (calendar.utc_offset_min, calendar.summer_time)
    if table is not None and (table.utc_offset_min, table.summer_time) != here:
        yield Problem(place, "the utc_offset_min and summer_time of time_variable")
    rule = profile.consumption_variable
    if rule is not None and rule.reset_s is not None:
        yield Problem(place, "nothing beside reset_s: months have no common length")


def _dates(text: str) -> bool:
    try:
        date.fromisoformat(text if len(text) > len("12-25") else f"{_LEAP_YEAR}-{text}")
    except ValueError:
        return False
    return True


def _unique(place: str, field: str, values: Sequence[str]) -> Iterator[Problem]:
    for index, value in enumerate(values):
        if value in values[:index]:
            yield Problem(
                f"{place}[{index}].{field}", f"a value that no other entry has, not {value!r} again"
            )


def _time_variable(place: str, profile: ProcessingProfile) -> Iterator[Problem]:
    table = profile.time_variable
    if table is None:
        return
    place = f"{place}.time_variable"
    yield from _unique(f"{place}.days", "id", [day.id for day in table.days])
    yield from _unique(f"{place}.weeks", "id", [week.id for week in table.weeks])
    yield from _unique(f"{place}.seasons", "starts", [season.starts for season in table.seasons])
    yield from _unique(f"{place}.special_days", "date", [special.date for special in table.special_days])
    days, weeks = {day.id for day in table.days}, {week.id for week in table.weeks}
    for index, week in enumerate(table.weeks):
        for weekday, name in enumerate(week.days):
            if name not in days:
                yield Problem(
                    f"{place}.weeks[{index}].days[{weekday}]", f"the id of a day table, not {name!r}"
                )
    for index, season in enumerate(table.seasons):
        if season.week not in weeks:
            yield Problem(f"{place}.seasons[{index}].week", f"the id of a week table, not {season.week!r}")
        if not _dates(season.starts):
            yield Problem(f"{place}.seasons[{index}].starts", "a day that the calendar has")
    for index, special in enumerate(table.special_days):
        if special.day not in days:
            yield Problem(f"{place}.special_days[{index}].day", f"the id of a day table, not {special.day!r}")
        if not _dates(special.date):
            yield Problem(f"{place}.special_days[{index}].date", "a day that the calendar has")
    yield from _day_tables(f"{place}.days", profile, table)


def _day_tables(place: str, profile: ProcessingProfile, table: TimeVariable) -> Iterator[Problem]:
    if not whole(profile.valid_from):
        return  # a fault of its own; nothing can be counted from there
    offsets = {table.utc_offset_min, table.utc_offset_min + (60 if table.summer_time == "eu" else 0)}
    start = profile.valid_from.astimezone(UTC)
    start_min = start.hour * 60 + start.minute + start.second / 60
    period_min = profile.registration_period_s / 60
    for index, day in enumerate(table.days):
        times = [int(one.at[:2]) * 60 + int(one.at[3:]) for one in day.switches]
        yield from _rising(f"{place}[{index}].switches", times)
        if times[0] != 0:
            yield Problem(f"{place}[{index}].switches[0].at", "00:00, so that every day begins with a stage")
        for position, minutes in enumerate(times):
            if any((minutes - offset - start_min) % period_min for offset in offsets):
                yield Problem(
                    f"{place}[{index}].switches[{position}].at",
                    f"a registration instant of {profile.id} in summer and winter",
                )
    if DAY_S % profile.registration_period_s:
        yield Problem(f"{place}", "a registration period that divides a day, so that switches meet it daily")


def _load_variable(place: str, profile: ProcessingProfile) -> Iterator[Problem]:
    rule: LoadVariable | None = profile.load_variable
    if rule is not None:
        yield from _rising(f"{place}.load_variable.thresholds_w", rule.thresholds_w)
        yield from _multiple(f"{place}.load_variable.measuring_period_s", profile, rule.measuring_period_s)


def _consumption_variable(place: str, profile: ProcessingProfile) -> Iterator[Problem]:
    rule: ConsumptionVariable | None = profile.consumption_variable
    if rule is not None:
        yield from _rising(f"{place}.consumption_variable.thresholds_wh", rule.thresholds_wh)
        yield from _multiple(f"{place}.consumption_variable.reset_s", profile, rule.reset_s)


def _event_variable(place: str, profile: ProcessingProfile) -> Iterator[Problem]:
    rule: EventVariable | None = profile.event_variable
    if rule is not None:
        yield from _unique(f"{place}.event_variable.events", "id", [event.id for event in rule.events])


def _on_demand(place: str, profile: ProcessingProfile) -> Iterator[Problem]:
    if profile.billing_period_s is not None:
        yield Problem(f"{place}.billing_period_s", "nothing: TAF 6 delivers on request alone")


def _extremes(place: str, profile: ProcessingProfile) -> Iterator[Problem]:
    rule: Extremes | None = profile.extremes
    if rule is not None:
        yield from _multiple(f"{place}.extremes.interval_s", profile, rule.interval_s)


def _feed_in(place: str, profile: ProcessingProfile) -> Iterator[Problem]:
    rule = profile.feed_in or FeedIn()
    if (rule.send == "change") != (rule.change_w is not None):
        yield Problem(f"{place}.feed_in.change_w", 'a change if and only if send is "change"')
    if rule.send != "cycle" and profile.billing_period_s is not None:
        yield Problem(f"{place}.billing_period_s", f'nothing: send is "{rule.send}", so there is no cycle')


def _grid_state(place: str, profile: ProcessingProfile) -> Iterator[Problem]:
    rule = profile.grid_state or GridState()
    place = f"{place}.grid_state"
    if (rule.send == "cycle") != (not rule.limits):
        yield Problem(f"{place}.limits", 'limits unless send is "cycle", and none then')
    for index, limit in enumerate(rule.limits):
        if _code(limit.obis) not in {_code(text) for text in profile.measurands}:
            yield Problem(f"{place}.limits[{index}].obis", f"a measurand of the profile, not {limit.obis}")
        if limit.below is None and limit.above is None:
            yield Problem(f"{place}.limits[{index}]", "below, above or both")
        elif limit.below is not None and limit.above is not None and not _ordered(limit.below, limit.above):
            yield Problem(f"{place}.limits[{index}].above", f"more than below ({limit.below})")


def _ordered(below: str, above: str) -> bool:
    return Decimal(below) < Decimal(above)


def _control(place: str, profile: ProcessingProfile) -> Iterator[Problem]:
    rule: Control | None = profile.control
    if rule is not None and len(set(rule.events)) != len(rule.events):
        yield Problem(f"{place}.control.events", "each event once")


def _prepaid(place: str, profile: ProcessingProfile) -> Iterator[Problem]:
    rule: Prepaid | None = profile.prepaid
    if rule is None:
        return
    yield from _rising(f"{place}.prepaid.thresholds_wh", rule.thresholds_wh)
    if _code(rule.credit_obis) is None:
        yield Problem(f"{place}.prepaid.credit_obis", "an OBIS code with groups up to 255")
    if rule.prices and len(rule.prices) != len(rule.thresholds_wh) + 1:
        yield Problem(f"{place}.prepaid.prices", "one price more than thresholds")
    if rule.thresholds_wh and not rule.prices:
        yield Problem(f"{place}.prepaid.thresholds_wh", "nothing: without prices there are no price stages")
    if 0 in rule.warn_at or len(set(rule.warn_at)) != len(rule.warn_at):
        yield Problem(f"{place}.prepaid.warn_at", "levels above 0, each once")


def _consent(place: str, profile: ProcessingProfile) -> Iterator[Problem]:
    for name, block in (("visualisation", profile.visualisation), ("high_frequency", profile.high_frequency)):
        if block is None:
            continue
        if block.consent_until <= profile.valid_from:
            yield Problem(f"{place}.{name}.consent_until", "an instant after valid_from")
        if not whole(block.consent_until):
            yield Problem(f"{place}.{name}.consent_until", INSTANT)
    if profile.taf == 14 and profile.registration_period_s < MIN_CYCLE_S:
        yield Problem(f"{place}.registration_period_s", f"at least {MIN_CYCLE_S} s for TAF 14")


_LOOKS: Final[dict[int, Callable[[str, ProcessingProfile], Iterator[Problem]]]] = {
    2: _time_variable,
    3: _load_variable,
    4: _consumption_variable,
    5: _event_variable,
    6: _on_demand,
    8: _extremes,
    9: _feed_in,
    10: _grid_state,
    11: _control,
    12: _prepaid,
    13: _consent,
    14: _consent,
}
