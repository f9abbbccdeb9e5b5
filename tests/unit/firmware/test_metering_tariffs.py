"""The tariff use cases: each one's worked example, its edges, what happens around gaps; TAF 2 stands apart.

The reference gives rules and names, no figures; the figures here are computed by hand in comments.
"""

from __future__ import annotations

from decimal import Decimal

from firmware.metering.status import GatewayStatus, gateway_half
from firmware.metering.tariff.catalogue import USE_CASES, evaluate, fired
from firmware.metering.tariff.task import TariffEvent
from firmware.profile.tariffs import (
    ConsumptionVariable,
    Control,
    Extremes,
    FeedIn,
    GridState,
    HighFrequency,
    Limit,
    LoadVariable,
    OnDemand,
    Prepaid,
    Visualisation,
)
from tests.unit.firmware.profile_set import at
from tests.unit.firmware.tariff_examples import PEAK, PREPAID
from tests.unit.firmware.tariff_task import SLOT, amounts, profile, registers_of, task, value

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
