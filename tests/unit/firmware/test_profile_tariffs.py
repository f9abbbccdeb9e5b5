"""Parameters of the tariff use cases: every fault at once, each with its place; both forms."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from msgspec.structs import replace

from firmware.errors import ConfigurationRefused
from firmware.profile import codec
from firmware.profile.check import check
from firmware.profile.check_tariffs import BLOCKS, REQUIRED, check_tariff
from firmware.profile.model import ProfileSet
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
from tests.unit.firmware.profile_set import at, billing, household, meter_profile
from tests.unit.firmware.tariff_examples import TWO_STAGES, example_of
from tests.unit.firmware.tariff_task import profile

HALF_HOURS = LoadVariable(thresholds_w=(5,), measuring_period_s=1800)
FOR_EVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""As people write it; no delivery period can be counted beyond it."""
PURPOSES = {9: "grid", 10: "grid", 11: "grid", 13: "service", 14: "service"}


def a_set(rule, purpose="billing"):
    return ProfileSet(
        meters=(meter_profile(),),
        processing=(rule,),
        communication=(billing("out", processing=rule.id, purpose=purpose),),
    )


def limited(**limit):
    return profile(10, grid_state=GridState(send="both", limits=(Limit(**limit),)))


def well(taf: int):
    rule = example_of(taf)
    return replace(rule, billing_period_s=3600) if taf == 1 else rule


def places(rule) -> list[str]:
    return [problem.place.removeprefix("p.") for problem in check_tariff("p", rule)]


@pytest.mark.parametrize("taf", range(1, 15))
def test_each_example_is_well_and_reads_back(taf):
    profiles = a_set(well(taf), PURPOSES.get(taf, "billing"))
    assert check(profiles, small_nets_allowed=False) == []
    assert codec.from_json(codec.to_json(profiles), small_nets_allowed=False) == profiles


@pytest.mark.parametrize("taf", range(1, 15))
def test_each_use_case_has_one_purpose(taf):
    wrong = {"billing": "grid", "grid": "service", "service": "billing"}[PURPOSES.get(taf, "billing")]
    problems = check(a_set(well(taf), wrong), small_nets_allowed=False)
    assert [problem.place for problem in problems] == ["communication[0].purpose"]


@pytest.mark.parametrize("taf", sorted(REQUIRED))
def test_what_a_use_case_cannot_do_without(taf):
    block = next(name for name, number in BLOCKS.items() if number == taf)
    assert block in places(replace(well(taf), **{block: None}))


@pytest.mark.parametrize("block", sorted(BLOCKS))
def test_a_block_of_another_use_case_is_a_fault(block):
    given = (
        getattr(well(BLOCKS[block]), block)
        or {
            "on_demand": OnDemand(),
            "feed_in": FeedIn(),
        }[block]
    )
    assert places(replace(profile(7), **{block: given})) == [block]


def test_a_set_of_the_first_version_reads_and_writes_as_it_did():
    """Wire compatibility: what is absent is not written, what was never there is not needed."""
    document = json.loads(codec.to_json(household()))
    assert not set(document["processing"][0]) & (set(BLOCKS) | {"more_obis", "status_bits", "signed_values"})
    document["processing"][0] |= {"window_s": 0.0, "valid_until": None, "billing_period_s": 30 * 86400}
    assert codec.from_json(json.dumps(document).encode(), small_nets_allowed=False) == household()


def test_faults_of_form_in_a_block_are_named_at_once():
    document = json.loads(codec.to_json(a_set(well(2))))
    table = document["processing"][0]["time_variable"]
    table["days"][0]["switches"][0] = {"at": "6:00", "stage": 63}
    table["weeks"][0]["days"] = ["work"]
    table["seasons"][0]["starts"] = "13-01"
    table["surprise"] = 1
    with pytest.raises(ConfigurationRefused) as refused:
        codec.from_json(json.dumps(document).encode(), small_nets_allowed=False)
    place = "processing[0].time_variable"
    assert {fault.key for fault in refused.value.faults} == {
        f"{place}.days[0].switches[0].at",
        f"{place}.days[0].switches[0].stage",
        f"{place}.weeks[0].days",
        f"{place}.seasons[0].starts",
        f"{place}.surprise",
    }


def test_faults_of_meaning_in_a_switch_table_are_named_at_once():
    table = TimeVariable(
        days=(
            DayTable(id="a", switches=(Switch(at="01:00", stage=1), Switch(at="00:30", stage=2))),
            DayTable(id="a", switches=(Switch(at="00:00", stage=1), Switch(at="06:05", stage=2))),
        ),
        weeks=(WeekTable(id="w", days=("a",) * 6 + ("b",)),),
        seasons=(Season(starts="02-30", week="x"), Season(starts="02-30", week="w")),
        special_days=(SpecialDay(date="2026-02-29", day="c"), SpecialDay(date="02-29", day="a")),
    )
    assert sorted(places(profile(2, time_variable=table))) == sorted(
        f"time_variable.{place}"
        for place in (
            "days[1].id",
            "seasons[1].starts",
            "weeks[0].days[6]",
            "seasons[0].week",
            "seasons[0].starts",
            "seasons[1].starts",
            "special_days[0].day",
            "special_days[0].date",
            "days[0].switches",
            "days[0].switches[0].at",
            "days[1].switches[1].at",
        )
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"registration_period_s": 86400},
        {"registration_period_s": 7 * 3600},
        {"valid_from": at(60)},
    ],
)
def test_switches_must_meet_the_registration_grid_in_summer_and_winter(changes):
    assert places(profile(2, time_variable=TWO_STAGES, **changes))


def test_a_daily_grid_meets_switches_where_no_clock_is_changed():
    table = replace(TWO_STAGES, days=(DayTable(id="work", switches=(Switch(at="00:00", stage=1),)),
                                      DayTable(id="rest", switches=(Switch(at="00:00", stage=2),))),
                    summer_time="none")  # fmt: skip
    local_midnight = at(-3600)
    assert (
        places(profile(2, registration_period_s=86400, valid_from=local_midnight, time_variable=table)) == []
    )


@pytest.mark.parametrize(
    ("rule", "place"),
    [
        (profile(3, load_variable=LoadVariable(thresholds_w=(5, 5))), "load_variable.thresholds_w"),
        (
            profile(3, load_variable=LoadVariable(thresholds_w=(5,), measuring_period_s=1000)),
            "load_variable.measuring_period_s",
        ),
        (
            profile(
                3,
                billing_period_s=2700,
                load_variable=LoadVariable(thresholds_w=(5,), measuring_period_s=1800),
            ),
            "load_variable.measuring_period_s",
        ),
        (
            profile(4, consumption_variable=ConsumptionVariable(thresholds_wh=(5, 4))),
            "consumption_variable.thresholds_wh",
        ),
        (
            profile(4, consumption_variable=ConsumptionVariable(thresholds_wh=(5,), reset_s=7 * 900)),
            "consumption_variable.reset_s",
        ),
        (
            profile(5, event_variable=EventVariable(events=(EventStage(id="a", stage=1),) * 2)),
            "event_variable.events[1].id",
        ),
        (profile(6, billing_period_s=86400), "billing_period_s"),
        (profile(8, extremes=Extremes(interval_s=1000)), "extremes.interval_s"),
        (profile(9, feed_in=FeedIn(send="change")), "feed_in.change_w"),
        (profile(9, feed_in=FeedIn(send="cycle", change_w=5)), "feed_in.change_w"),
        (profile(9, billing_period_s=3600), "billing_period_s"),
        (profile(10, grid_state=GridState(send="event")), "grid_state.limits"),
        (limited(obis="1-0:1.8.0"), "grid_state.limits[0]"),
        (limited(obis="1-0:9.8.0", above="5"), "grid_state.limits[0].obis"),
        (limited(obis="1-0:1.8.0*255", below="5.0", above="5"), "grid_state.limits[0].above"),
        (profile(12, prepaid=Prepaid(credit=1, prices=(1, 2))), "prepaid.prices"),
        (profile(12, prepaid=Prepaid(credit=1, thresholds_wh=(1,))), "prepaid.thresholds_wh"),
        (profile(12, prepaid=Prepaid(credit=1, warn_at=(0,))), "prepaid.warn_at"),
        (profile(12, prepaid=Prepaid(credit=1, credit_obis="1-0:1.8.300")), "prepaid.credit_obis"),
        (profile(13, visualisation=Visualisation(consent_until=at(0))), "visualisation.consent_until"),
        (profile(13, visualisation=Visualisation(consent_until=FOR_EVER)), "visualisation.consent_until"),
        (profile(14, high_frequency=HighFrequency(consent_until=FOR_EVER)), "high_frequency.consent_until"),
        (
            profile(14, high_frequency=HighFrequency(consent_until=at(9) + timedelta(microseconds=1))),
            "high_frequency.consent_until",
        ),
        (
            profile(14, registration_period_s=59, high_frequency=HighFrequency(consent_until=at(999))),
            "registration_period_s",
        ),
        (profile(8, more_obis=("1-0:2.8.0",)), "more_obis"),
        (profile(7, more_obis=("1-0:1.8.0",)), "more_obis"),
        (profile(7, more_obis=("1-0:1.8.0*255",)), "more_obis"),
        (
            profile(11, control=Control(cls_device="a", events=("e", "e"))),
            "control.events",
        ),
    ],
)
def test_one_fault_of_meaning_is_one_problem_with_its_place(rule, place):
    assert places(rule) == [place]


@pytest.mark.parametrize(
    "instant",
    [
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-14))),
    ],
)
@pytest.mark.parametrize("taf", range(1, 15))
def test_an_instant_that_has_no_utc_is_a_fault_and_no_error(taf, instant):
    """An order that raised here would stop the gateway, and again at every start."""
    problems = check(a_set(replace(well(taf), valid_from=instant)), small_nets_allowed=False)
    assert "processing[0].valid_from" in [problem.place for problem in problems]


def test_a_code_with_a_group_above_255_is_named():
    problems = check(a_set(replace(well(7), more_obis=("1-0:1.8.300",))), small_nets_allowed=False)
    assert [problem.place for problem in problems] == ["processing[0].more_obis[0]"]


def test_toml_reads_what_json_does(tmp_path):
    file = tmp_path / "tariff.toml"
    file.write_text(
        """
[[processing]]
id = "tariff"
taf = 2
meter = "ELS-12345678-33-02"
obis = "1-0:1.8.0"
consumer = "household"
registration_period_s = 900
recipients = ["emp"]
valid_from = 2026-01-01T00:00:00Z
[processing.time_variable]
default_stage = 1
[[processing.time_variable.days]]
id = "work"
switches = [{ at = "00:00", stage = 1 }, { at = "06:00", stage = 2 }, { at = "22:00", stage = 1 }]
[[processing.time_variable.days]]
id = "rest"
switches = [{ at = "00:00", stage = 1 }]
[[processing.time_variable.weeks]]
id = "week"
days = ["work", "work", "work", "work", "work", "rest", "rest"]
[[processing.time_variable.seasons]]
starts = "01-01"
week = "week"
[[meters]]
id = "meter"
meter = "ELS-12345678-33-02"
mode = "open"
consumer = "household"
""",
        encoding="utf-8",
    )
    (rule,) = codec.from_toml(file, small_nets_allowed=False).processing
    assert rule.time_variable == TWO_STAGES
