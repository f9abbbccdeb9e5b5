"""TAF 2, stages by the time of day: gaps and switches, weeks, seasons, special days, summer time."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.metering.local_time import LocalTime
from firmware.metering.status import GatewayStatus, gateway_half
from firmware.metering.tariff.catalogue import evaluate
from firmware.metering.tariff.steps import Switching
from firmware.profile.tariffs import Season, SpecialDay, TimeVariable, WeekTable
from tests.unit.firmware.profile_set import T0, at
from tests.unit.firmware.tariff_examples import BERLIN, WORK, day_table, time_variable
from tests.unit.firmware.tariff_task import GOOD, SLOT, amounts, registers_of, task, value


def test_taf_2_worked_example():
    # 1 January 2026 is a Thursday, local midnight is 23:00 UTC. From 23:00 UTC on 96 quarter hours of 100 Wh;
    # stage 2 runs from 06:00 to 22:00 local: 64 of them.
    origin = datetime(2025, 12, 31, 23, tzinfo=UTC)
    entries = registers_of([100] * 96, origin=origin)
    result = evaluate(task(time_variable(), entries, -3600, 82800))
    assert amounts(result) == {0: 1000 + 9600, 1: 3200, 2: 6400, 63: 0}
    assert {one.instant_utc for one in result} == {at(82800)}
    assert str(result[-1].obis) == "1-0:1.8.63*255"


def test_a_gap_without_a_switch_counts_for_the_stage_that_ran():
    # 08:00 to 09:00 UTC is 09:00 to 10:00 local: stage 2 all through.
    start = 8 * 3600
    entries = registers_of([100, None, None, 300], origin=at(start))
    result = evaluate(task(time_variable(), entries, start, start + 3600))
    assert amounts(result) == {0: 1400, 1: 0, 2: 400, 63: 0}
    assert GatewayStatus.WARNING in gateway_half(result[1].status)


def test_a_gap_with_a_switch_goes_to_the_error_register():
    # 04:30 to 05:30 UTC: the switch at 06:00 local is 05:00 UTC, inside the gap of the last three quarters.
    start = 4 * 3600 + 1800
    entries = registers_of([100, None, None, 300], origin=at(start))
    result = evaluate(task(time_variable(), entries, start, start + 3600))
    assert amounts(result) == {0: 1400, 1: 100, 2: 0, 63: 300}


def test_a_switch_at_the_end_of_a_gap_is_no_switch_in_it():
    start = 4 * 3600  # until 05:00 UTC, when stage 2 begins
    entries = registers_of([100, None, None, 300], origin=at(start))
    assert amounts(evaluate(task(time_variable(), entries, start, start + 3600)))[63] == 0


def test_a_gap_over_the_end_of_a_period_counts_in_the_next():
    start = 8 * 3600
    entries = registers_of([100, None, 200, 50], origin=at(start))
    first = evaluate(task(time_variable(), entries, start, start + 1800))
    second = evaluate(task(time_variable(), entries, start + 1800, start + 3600))
    assert amounts(first) == {0: None, 1: 0, 2: 100, 63: 0}
    assert amounts(second) == {0: 1350, 1: 0, 2: 250, 63: 0}


@pytest.mark.parametrize(
    "flag",
    [
        GatewayStatus.TIME_INVALID,
        GatewayStatus.FATAL,
        GatewayStatus.METER_TAMPER,
        GatewayStatus.NOT_VALIDATED,
    ],
)
def test_a_value_that_may_not_be_billed_is_a_gap(flag):
    start = 4 * 3600 + 1800
    entries = registers_of([100, 100, 100, 100], origin=at(start))
    entries[2] = value(at(start + 1800), 1200, status=GOOD | int(flag) << 32)  # at 05:00 UTC, the switch
    assert amounts(evaluate(task(time_variable(), entries, start, start + 3600))) == {
        0: 1400,
        1: 100,
        2: 100,
        63: 200,
    }


def test_without_any_value_nothing_is_claimed():
    result = evaluate(task(time_variable(), [], 0, 3600))
    assert {one.value for one in result} == {None}
    assert all(GatewayStatus.NO_VALUE in gateway_half(one.status) for one in result)


def test_a_register_that_went_back_begins_anew():
    start = 8 * 3600
    entries = registers_of([100, 100], origin=at(start))
    entries += [value(at(start + 2700), 5), value(at(start + 3600), 25)]
    assert amounts(evaluate(task(time_variable(), entries, start, start + 3600)))[2] == 220


def test_a_register_of_another_unit_begins_anew():
    start = 8 * 3600
    entries = [*registers_of([100], origin=at(start)), value(at(start + 1800), 5000, unit="m3")]
    assert amounts(evaluate(task(time_variable(), entries, start, start + 1800)))[2] == 100


def test_special_days_come_before_weeks_and_seasons_change_them():
    table = TimeVariable(
        default_stage=5,
        days=(
            day_table("one", ("00:00", 1)),
            day_table("two", ("00:00", 2)),
            day_table("three", ("00:00", 3)),
        ),
        weeks=(WeekTable(id="low", days=("one",) * 7), WeekTable(id="high", days=("two",) * 7)),
        seasons=(Season(starts="04-01", week="low"), Season(starts="10-01", week="high")),
        special_days=(SpecialDay(date="12-25", day="three"), SpecialDay(date="2026-07-01", day="three")),
    )

    def stage_on(day: date) -> int:
        noon = datetime.combine(day, time(12), UTC)
        start = (noon - T0).total_seconds()
        result = evaluate(task(time_variable(table), registers_of([100], origin=noon), start, start + SLOT))
        return next(stage for stage, amount in amounts(result).items() if stage and amount)

    days = [date(2026, 1, 15), date(2026, 3, 31), date(2026, 4, 1), date(2026, 9, 30), date(2026, 10, 1)]
    assert [stage_on(day) for day in days] == [2, 2, 1, 1, 2]
    assert [stage_on(date(2026, 12, 25)), stage_on(date(2027, 12, 25))] == [3, 3]
    assert [stage_on(date(2026, 7, 1)), stage_on(date(2027, 7, 1))] == [3, 1]


def test_a_table_without_seasons_is_its_default_stage():
    rule = time_variable(TimeVariable(default_stage=4))
    assert amounts(evaluate(task(rule, registers_of([9]), 0, 900))) == {
        0: 1009, 4: 9, 63: 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("day", "hours", "second"),
    [
        # Switch 06:00 to 22:00 local on each; the length of the local day is what changes.
        (date(2026, 3, 29), 23, 16),  # spring: 00:00 CET to 24:00 CEST
        (date(2026, 10, 25), 25, 16),  # autumn
        (date(2026, 6, 15), 24, 16),
    ],
)
def test_daylight_saving_changes_the_length_of_a_day_alone(day, hours, second):
    origin = BERLIN.instant(day, time(0))
    table = TimeVariable(days=(WORK,), weeks=(WeekTable(id="w", days=("work",) * 7),),
                         seasons=(Season(starts="01-01", week="w"),))  # fmt: skip
    entries = registers_of([100] * hours * 4, origin=origin)
    start = (origin - T0).total_seconds()
    result = amounts(evaluate(task(time_variable(table), entries, start, start + hours * 3600)))
    assert (result[2], result[1], result[63]) == (second * 400, (hours - second) * 400, 0)


def test_a_local_time_that_comes_twice_switches_once():
    table = TimeVariable(special_days=(SpecialDay(date="10-25", day="d"),),
                         days=(day_table("d", ("00:00", 1), ("02:30", 2)),))  # fmt: skip
    # 02:30 comes at 00:30 UTC and again at 01:30 UTC on 25 October 2026: the first counts, stage 2 stays.
    origin = datetime(2026, 10, 25, 0, 15, tzinfo=UTC)
    start = (origin - T0).total_seconds()
    entries = registers_of([100] * 8, origin=origin)
    assert amounts(evaluate(task(time_variable(table), entries, start, start + 7200))) == {
        0: 1800,
        1: 100,
        2: 700,
        63: 0,
    }


def test_a_local_time_that_does_not_come_switches_when_clocks_go_forward():
    assert BERLIN.instant(date(2026, 3, 29), time(2, 30)) == datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert BERLIN.instant(date(2026, 3, 29), time(3, 0)) == datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert BERLIN.instant(date(2026, 3, 29), time(1, 59)) == datetime(2026, 3, 29, 0, 59, tzinfo=UTC)


@given(st.dates(date(2000, 1, 1), date(2037, 12, 31)), st.times())
def test_the_time_zone_database_agrees_on_local_time(day, at_time):
    """The judge is the IANA database (Europe/Berlin); its fold 0 is the first of two equal local times."""
    zone = ZoneInfo("Europe/Berlin")
    there = datetime.combine(day, at_time.replace(fold=0), zone)
    exists = there.astimezone(UTC).astimezone(zone).time() == at_time
    if exists:
        assert BERLIN.instant(day, at_time) == there.astimezone(UTC)
    instant = datetime.combine(day, at_time, UTC)
    assert BERLIN.date_of(instant) == instant.astimezone(zone).date()


def test_a_place_without_summer_time():
    place = LocalTime(timedelta(hours=2), summer_time=False)
    assert place.instant(date(2026, 7, 1), time(6)) == datetime(2026, 7, 1, 4, tzinfo=UTC)


def test_of_two_switches_at_one_instant_the_last_counts():
    plan = Switching([(at(0), 2), (at(0), 1), (at(900), 3)], 1)
    assert plan.over(at(-900), at(900)) == 1
    assert plan.over(at(-900), at(901)) is None
