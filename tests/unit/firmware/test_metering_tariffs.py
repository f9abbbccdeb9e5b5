"""The tariff use cases: each one's worked example, its edges, and what happens around gaps.

The reference gives rules and names, no figures; the figures here are computed by hand in comments.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from firmware.metering.local_time import LocalTime
from firmware.metering.status import GatewayStatus, gateway_half, wireless
from firmware.metering.tariff.catalogue import USE_CASES, evaluate, fired
from firmware.metering.tariff.steps import Switching
from firmware.metering.tariff.task import TariffEvent
from firmware.profile.model import ProcessingProfile
from firmware.profile.tariffs import (
    ConsumptionVariable,
    Control,
    DayTable,
    EventStage,
    EventVariable,
    Extremes,
    FeedIn,
    GridState,
    HighFrequency,
    Limit,
    LoadVariable,
    OnDemand,
    Prepaid,
    Season,
    SpecialDay,
    Switch,
    TimeVariable,
    Visualisation,
    WeekTable,
)
from tests.unit.firmware.profile_set import IMPORT, T0, at
from tests.unit.firmware.tariff_task import GOOD, SLOT, amounts, profile, registers_of, task, value

BERLIN = LocalTime(timedelta(hours=1), summer_time=True)


def day_table(name: str, *switches: tuple[str, int]) -> DayTable:
    return DayTable(id=name, switches=tuple(Switch(at=when, stage=stage) for when, stage in switches))


WORK = day_table("work", ("00:00", 1), ("06:00", 2), ("22:00", 1))
REST = day_table("rest", ("00:00", 1))
WEEK = WeekTable(id="week", days=("work",) * 5 + ("rest",) * 2)
TWO_STAGES = TimeVariable(days=(WORK, REST), weeks=(WEEK,), seasons=(Season(starts="01-01", week="week"),))


def time_variable(table: TimeVariable = TWO_STAGES, **changes) -> ProcessingProfile:
    return profile(2, time_variable=table, **changes)


# ------------------------------------------------------------------ TAF 1, 6, 7, 13, 14: lists


def test_taf_1_worked_example():
    entries = registers_of([10, 20, 30, 40])
    assert evaluate(task(profile(1), entries, 0, 2700)) == (value(at(2700), 1060),)


def test_taf_1_without_a_value_at_the_end_says_so():
    entries = registers_of([10, 20, None])
    assert evaluate(task(profile(1), entries, 0, 2700)) == (value(at(2700), None),)
    assert evaluate(task(profile(1), entries[:2], 0, 2700)) == ()


def test_taf_1_gives_each_measurand_once():
    both = profile(1, more_obis=("1-0:2.8.0",))
    entries = [*registers_of([10]), value(at(900), 7, "1-0:2.8.0"), value(at(0), 6, "1-0:2.8.0")]
    assert [one.value for one in evaluate(task(both, entries, 0, 900))] == [1010, 7]


def test_taf_7_worked_example():
    result = evaluate(task(profile(7), registers_of([1] * 8), 0, 3600))
    assert [one.instant_utc for one in result] == [at(900), at(1800), at(2700), at(3600)]


def test_taf_7_keeps_missing_values():
    entries = registers_of([None, 5])
    assert evaluate(task(profile(7), reversed(entries), 0, 1800)) == tuple(entries[1:])


def test_taf_6_worked_example():
    day = 86400
    snapshots = registers_of([100] * 100, step=day)
    daily = profile(6, registration_period_s=day)
    result = evaluate(task(daily, snapshots, 0, 100 * day))
    assert [one.instant_utc for one in result] == [at(day * number) for number in range(59, 101)]
    short = profile(6, registration_period_s=day, on_demand=OnDemand(retention_days=1))
    assert len(evaluate(task(short, snapshots, 0, 100 * day))) == 1


def test_taf_13_worked_example():
    portal = profile(13, visualisation=Visualisation(consent_until=at(7200)), billing_period_s=3600)
    assert len(evaluate(task(portal, registers_of([1] * 8), 3600, 7200))) == 4


def test_taf_14_worked_example():
    quick = profile(14, registration_period_s=60, high_frequency=HighFrequency(consent_until=at(600)))
    assert evaluate(task(quick, registers_of([1, 2], step=60), 60, 120)) == (value(at(120), 1003),)
    assert USE_CASES[14].transient


# ------------------------------------------------------------------ TAF 2


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


# ------------------------------------------------------------------ TAF 3


def test_taf_3_worked_example():
    # 400, 500 and 600 Wh in 900 s: 1600, 2000 and 2400 W; at the threshold the higher stage.
    rule = profile(3, load_variable=LoadVariable(thresholds_w=(2000,)))
    assert amounts(evaluate(task(rule, registers_of([400, 500, 600]), 0, 2700))) == {
        0: 2500,
        1: 400,
        2: 1100,
        63: 0,
    }


def test_taf_3_power_over_a_gap_is_not_known():
    rule = profile(3, load_variable=LoadVariable(thresholds_w=(2000,)))
    assert amounts(evaluate(task(rule, registers_of([400, None, 600]), 0, 2700))) == {
        0: 2000,
        1: 400,
        2: 0,
        63: 600,
    }


def test_taf_3_measuring_period_of_several_registrations():
    # Half hours: 1000 Wh = 2000 W, 800 Wh = 1600 W. The missing value lies inside the first one, unused.
    rule = profile(3, load_variable=LoadVariable(thresholds_w=(1000, 2000), measuring_period_s=1800))
    entries = registers_of([None, 1000, 300, 500])
    assert amounts(evaluate(task(rule, entries, 0, 3600))) == {0: 2800, 1: 0, 2: 800, 3: 1000, 63: 0}


# ------------------------------------------------------------------ TAF 4


def test_taf_4_worked_example():
    rule = profile(4, consumption_variable=ConsumptionVariable(thresholds_wh=(1000,)))
    assert amounts(evaluate(task(rule, registers_of([400, 500, 300]), 0, 2700))) == {
        0: 2200,
        1: 1000,
        2: 200,
        63: 0,
    }


def test_taf_4_a_gap_without_reset_changes_nothing():
    rule = profile(4, consumption_variable=ConsumptionVariable(thresholds_wh=(1000,)))
    assert amounts(evaluate(task(rule, registers_of([400, None, 800]), 0, 2700))) == {
        0: 2200,
        1: 1000,
        2: 200,
        63: 0,
    }


def test_taf_4_starts_from_nothing_at_each_reset():
    # Two half hours: 700 Wh and 1100 Wh; 500 Wh of each in stage 1, the rest in stage 2.
    rule = profile(4, consumption_variable=ConsumptionVariable(thresholds_wh=(500,), reset_s=1800))
    assert amounts(evaluate(task(rule, registers_of([300, 400, 600, 500]), 0, 3600))) == {
        0: 2800,
        1: 1000,
        2: 800,
        63: 0,
    }


def test_taf_4_a_gap_over_a_reset_goes_to_the_error_register():
    rule = profile(4, consumption_variable=ConsumptionVariable(thresholds_wh=(500,), reset_s=1800))
    assert amounts(evaluate(task(rule, registers_of([300, None, 600, 500]), 0, 3600))) == {
        0: 2400,
        1: 800,
        2: 0,
        63: 600,
    }


# ------------------------------------------------------------------ TAF 5


PEAK = EventVariable(
    events=(EventStage(id="peak", stage=2, timeout_s=1800), EventStage(id="night", stage=3)), default_stage=1
)


def test_taf_5_worked_example():
    rule = profile(5, event_variable=PEAK)
    events = [TariffEvent(at(1200), "peak")]
    assert amounts(evaluate(task(rule, registers_of([100] * 8), 0, 7200, events))) == {
        0: 1800,
        1: 600,
        2: 200,
        3: 0,
        63: 0,
    }


def test_taf_5_the_next_event_ends_the_stage_before():
    # night from 00:15 on, peak from 00:30 to 01:00 (timeout), then the default.
    rule = profile(5, event_variable=PEAK)
    events = [TariffEvent(at(900), "night"), TariffEvent(at(1800), "peak"), TariffEvent(at(1), "unknown")]
    assert amounts(evaluate(task(rule, registers_of([100] * 8), 0, 7200, events))) == {
        0: 1800,
        1: 500,
        2: 200,
        3: 100,
        63: 0,
    }


def test_taf_5_an_event_renewed_in_time_goes_on():
    rule = profile(5, event_variable=PEAK)
    events = [TariffEvent(at(0), "peak"), TariffEvent(at(1700), "peak")]
    # 0 to 1700 + 1800 = 3500, which acts at 3600: four quarters.
    assert amounts(evaluate(task(rule, registers_of([100] * 8), 0, 7200, events)))[2] == 400


def test_taf_5_an_event_inside_a_gap():
    rule = profile(5, event_variable=PEAK)
    entries = registers_of([100, None, None, 300])
    assert amounts(evaluate(task(rule, entries, 0, 3600, [TariffEvent(at(1000), "night")])))[63] == 300


# ------------------------------------------------------------------ TAF 8


def test_taf_8_worked_example():
    rule = profile(8, extremes=Extremes(count=2))
    result = evaluate(task(rule, registers_of([100, 400, 250, 50]), 0, 3600))
    assert [(str(one.obis), one.value, one.unit, one.instant_utc) for one in result] == [
        ("1-0:1.6.0*255", 1600, "W", at(1800)),
        ("1-0:1.6.0*255", 1000, "W", at(2700)),
        ("1-0:1.3.0*255", 200, "W", at(3600)),
        ("1-0:1.3.0*255", 400, "W", at(900)),
    ]


def test_taf_8_equal_extremes_are_told_by_the_earlier():
    rule = profile(8, extremes=Extremes(which="highest"))
    (only,) = evaluate(task(rule, registers_of([100, 300, 300]), 0, 2700))
    assert only.instant_utc == at(1800)


def test_taf_8_intervals_with_a_gap_take_no_part():
    rule = profile(8, extremes=Extremes(which="lowest", interval_s=1800))
    # The half hour to 01:00 has no value at its end; that to 01:30 none at its beginning.
    result = evaluate(task(rule, registers_of([500, 500, 1, None, 1, 1]), 0, 5400))
    assert [(one.value, one.instant_utc) for one in result] == [(2000, at(1800))]


def test_taf_8_a_mean_that_has_no_end_is_rounded_to_six_digits():
    # 1 Wh in 7 s: 3600 / 7 = 514.285714... W
    rule = profile(8, registration_period_s=7, extremes=Extremes(which="highest"))
    (only,) = evaluate(task(rule, registers_of([1], step=7), 0, 7))
    assert only.value == Decimal("514.285714")


# ------------------------------------------------------------------ TAF 9, 10, 11


def powers(obis: str, values, unit: str = "W", step: int = SLOT):
    return [value(at(step * slot), one, obis, unit=unit) for slot, one in enumerate(values, start=1)]


def test_taf_9_worked_example():
    rule = profile(9, obis="1-0:2.7.0", feed_in=FeedIn(send="change", change_w=500))
    found = fired(task(rule, powers("1-0:2.7.0", [1000, 1200, 1700, 1100]), 0, 3600))
    assert [(one.from_utc, one.to_utc) for one in found] == [(at(1800), at(2700)), (at(2700), at(3600))]
    assert fired(task(profile(9, obis="1-0:2.7.0"), powers("1-0:2.7.0", [1000, 5000]), 0, 3600)) == ()


def test_taf_9_a_missing_value_is_no_change():
    rule = profile(9, obis="1-0:2.7.0", feed_in=FeedIn(send="change", change_w=500))
    found = fired(task(rule, powers("1-0:2.7.0", [1000, None, 1700]), 0, 3600))
    assert [one.to_utc for one in found] == [at(2700)]


GRID = profile(
    10,
    obis="1-0:32.7.0",
    more_obis=("1-0:14.7.0",),
    grid_state=GridState(send="event", limits=(Limit(obis="1-0:32.7.0", below="207", above="253"),)),
)


def test_taf_10_worked_example():
    found = fired(task(GRID, powers("1-0:32.7.0", [230, 206, 205, 231], "V"), 0, 3600))
    assert [one.to_utc for one in found] == [at(1800), at(3600)]
    bounds = fired(task(GRID, powers("1-0:32.7.0", [207, 253, "253.1"], "V"), 0, 3600))
    assert [one.to_utc for one in bounds] == [at(2700)]


def test_taf_10_gives_all_measurands_in_their_order():
    entries = [*powers("1-0:14.7.0", ["49.98"], "Hz"), *powers("1-0:32.7.0", [230], "V")]
    assert [one.unit for one in evaluate(task(GRID, entries, 0, 900))] == ["V", "Hz"]


def test_taf_10_what_was_out_of_bounds_before_is_not_told_again():
    entries = powers("1-0:32.7.0", [206, None, 205], "V")
    assert fired(task(GRID, entries, 900, 3600)) == ()


def test_taf_11_worked_example():
    rule = profile(11, control=Control(cls_device="heat-pump", events=("dim",), after_s=900))
    event = TariffEvent(at(1200), "dim")
    entries = registers_of([1] * 8)
    assert fired(task(rule, entries, 0, 1800, [event])) == ()
    (occasion,) = fired(task(rule, entries, 1800, 2700, [event]))
    result = evaluate(task(rule, entries, 0, 2700, [event]))
    assert (occasion.from_utc, occasion.to_utc, occasion.why) == (at(0), at(2700), "event-20260101T002000Z")
    assert [one.instant_utc for one in result] == [at(900), at(1800), at(2700)]


# ------------------------------------------------------------------ TAF 12


PREPAID = profile(12, prepaid=Prepaid(credit=2000, warn_at=(500,)))
USE = registers_of([800, 800, 500], start=100)
TOP_UP = TariffEvent(at(2000), "top-up", 1000)


def left(rule, entries, to_s, events=()):
    (entry,) = evaluate(task(rule, entries, to_s - SLOT, to_s, events))
    return entry


def test_taf_12_worked_example():
    assert [left(PREPAID, USE, SLOT * slot).value for slot in range(4)] == [2000, 1200, 400, -100]
    assert [(one.to_utc, one.why) for one in fired(task(PREPAID, USE, 0, 2700))] == [
        (at(1800), "warning"),
        (at(2700), "cut-off"),
    ]
    assert GatewayStatus.WARNING in gateway_half(left(PREPAID, USE, 2700).status)
    assert GatewayStatus.WARNING not in gateway_half(left(PREPAID, USE, 900).status)


def test_taf_12_a_top_up_adds():
    assert left(PREPAID, USE, 2700, [TOP_UP]).value == 900
    assert [one.why for one in fired(task(PREPAID, USE, 0, 2700, [TOP_UP]))] == ["warning"]


def test_taf_12_price_stages():
    # 2100 Wh: 1500 Wh at 0.30 and 600 Wh at 0.40 a kWh = 0.45 + 0.24 = 0.69; of 1.00 there is 0.31 left.
    rule = profile(12, prepaid=Prepaid(credit=1_000_000, prices=(300_000, 400_000), thresholds_wh=(1500,)))
    entry = left(rule, USE, 2700)
    assert (entry.value, entry.unit) == (Decimal("0.31"), "currency")


def test_taf_12_nobody_knows_what_is_left_if_the_register_went_back():
    assert left(PREPAID, [*USE, value(at(3600), 1)], 3600).value is None
    assert left(PREPAID, [], 3600).value is None


def test_taf_12_a_register_that_went_back_and_rose_again_is_no_credit_left():
    rolled = [*USE, value(at(3600), 1), value(at(4500), 10**6)]
    assert left(PREPAID, rolled, 4500).value is None
    another = [*USE, value(at(3600), 3000, unit="varh")]
    assert left(PREPAID, another, 3600).value is None
    assert fired(task(PREPAID, rolled, 2700, 4500)) == ()


# ------------------------------------------------------------------ all of them


def example_of(taf: int) -> ProcessingProfile:
    return {
        2: time_variable(),
        3: profile(3, load_variable=LoadVariable(thresholds_w=(500, 2000))),
        4: profile(4, consumption_variable=ConsumptionVariable(thresholds_wh=(300, 2000), reset_s=3600)),
        5: profile(5, event_variable=PEAK),
        8: profile(8, extremes=Extremes(count=3)),
        10: profile(10, grid_state=GridState(send="both", limits=(Limit(obis=IMPORT, above="5000"),))),
        11: profile(11, control=Control(cls_device="pump", events=("peak",))),
        12: PREPAID,
        13: profile(13, visualisation=Visualisation(consent_until=at(86400))),
        14: profile(14, high_frequency=HighFrequency(consent_until=at(86400))),
    }.get(taf, profile(taf))


def test_every_use_case_is_there():
    assert sorted(USE_CASES) == list(range(1, 15))


quantities = st.lists(st.none() | st.integers(0, 1500), min_size=1, max_size=60)
happenings = st.lists(
    st.builds(
        lambda second, name: TariffEvent(at(second), name),
        st.integers(0, 50000),
        st.sampled_from(["peak", "night"]),
    ),
    max_size=5,
)


@given(st.sampled_from(sorted(USE_CASES)), quantities, happenings, st.randoms(use_true_random=False))
def test_the_same_list_in_any_order_gives_the_same(taf, used, events, shuffler):
    entries = registers_of(used)
    given_task = task(example_of(taf), entries, 0, SLOT * len(used), events)
    shuffler.shuffle(entries)
    shuffler.shuffle(events)
    again = task(example_of(taf), entries, 0, SLOT * len(used), events)
    assert evaluate(given_task) == evaluate(again)
    assert fired(given_task) == fired(again)


@given(st.sampled_from([2, 3, 4, 5]), quantities, happenings, st.integers(1, 12))
def test_no_energy_is_lost_or_made(taf, used, events, cut):
    """Over any division into periods: stages and error registers add up to the difference of the total."""
    entries = registers_of(used)
    rule, end = example_of(taf), SLOT * len(used)
    length = SLOT * 4 * cut
    counted = 0
    for begin in range(0, end, length):
        result = amounts(evaluate(task(rule, entries, begin, min(begin + length, end), events)))
        counted += sum(amount or 0 for stage, amount in result.items() if stage)
    known = [entry.value for entry in entries if entry.value is not None]
    assert counted == known[-1] - known[0]


@given(quantities, st.integers(0, 50))
def test_a_missing_value_loses_nothing(used, gap):
    """A list without one inner value counts the same in sum; nothing was guessed for where it stood."""
    entries = registers_of([quantity or 0 for quantity in used])
    place = gap % len(entries)
    assume(0 < place < len(entries) - 1)
    without = [*entries[:place], *entries[place + 1 :]]
    whole, holed = (
        amounts(evaluate(task(time_variable(), given_list, 0, SLOT * len(used))))
        for given_list in (entries, without)
    )
    assert sum(whole[stage] for stage in (1, 2, 63)) == sum(holed[stage] for stage in (1, 2, 63))
    assert whole[63] == 0


def test_a_meter_s_fault_shows_in_the_registers():
    start = 8 * 3600
    entries = registers_of([100, 100], origin=at(start))
    entries[1] = value(at(start + 900), 1100, status=wireless(0x08, time_valid=True))
    result = evaluate(task(time_variable(), entries, start, start + 1800))
    assert all(GatewayStatus.METER_ERROR in gateway_half(one.status) for one in result[1:])
