"""The gate's second line for each use case: nothing leaves but what the profile yields (FDP_IFF.1)."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta

import pytest
from msgspec.structs import replace

from firmware.enforcement.content import longest_occasion, unfit
from firmware.enforcement.determination import conflicts, grids
from firmware.enforcement.gate import Allow, Deny, Request, decide
from firmware.metering.dataset import Dataset, to_document
from firmware.metering.tariff.catalogue import USE_CASES, evaluate
from firmware.profile.model import ProfileSet
from firmware.profile.tariffs import Extremes
from tests.unit.firmware.profile_set import at, billing, group_total, household, meter_profile, series
from tests.unit.firmware.tariff_examples import example_of
from tests.unit.firmware.tariff_task import SLOT, profile, registers_of, task, value

PERIOD = 3600
USAGE_POINT = "DE00056266802AO6G56M11SN51G21M24S"


def rule_of(taf: int):
    """An example that has a cycle of an hour, where its use case has one."""
    rule = example_of(taf)
    return rule if taf in (6, 9, 11) else replace(rule, billing_period_s=PERIOD)


def dataset(rule, entries, occasion="", from_s=0, to_s=PERIOD, **changes) -> Dataset:
    return Dataset(
        processing=changes.get("processing", rule.id),
        taf=changes.get("taf", rule.taf),
        consumer="household",
        from_utc=at(from_s),
        to_utc=at(to_s),
        entries=tuple(entries),
        occasion=occasion,
    )


def made(taf: int):
    rule = rule_of(taf)
    return rule, evaluate(task(rule, registers_of([100, 200, 300, 400]), 0, PERIOD))


CYCLIC = [1, 2, 3, 4, 5, 7, 8, 10, 12, 13, 14]


@pytest.mark.parametrize("taf", CYCLIC)
def test_what_a_use_case_yields_is_fit(taf):
    rule, entries = made(taf)
    assert entries
    assert unfit(rule, dataset(rule, entries)) is None


@pytest.mark.parametrize("taf", CYCLIC)
def test_a_registered_value_from_inside_is_fit_for_lists_alone(taf):
    rule, _ = made(taf)
    inside = dataset(rule, [value(at(SLOT), 5)])
    assert (unfit(rule, inside) is None) == (taf in (7, 10, 13, 14))


@pytest.mark.parametrize("taf", CYCLIC)
@pytest.mark.parametrize(
    "wrong",
    [
        {"to_s": PERIOD - SLOT},
        {"from_s": -SLOT},
        {"processing": "other"},
        {"taf": 15},
    ],
)
def test_a_period_or_profile_that_is_not_this_one(taf, wrong):
    rule, entries = made(taf)
    assert unfit(rule, dataset(rule, entries, **wrong)) is not None


def test_the_usage_point_and_the_tariff_are_the_profiles():
    rule, entries = made(7)
    named = replace(rule, usage_point=USAGE_POINT, tariff="Night and day")
    right = dataclasses.replace(dataset(rule, entries), usage_point=USAGE_POINT, tariff="Night and day")
    assert unfit(named, right) is None
    assert unfit(named, dataset(rule, entries)) == unfit(rule, right) == "another usage point or tariff"
    names = {"identity": "m", "gateway": "g", "communication": "c"}
    document = json.loads(to_document(right, **names))
    assert (document["usage_point"], document["tariff"]) == (USAGE_POINT, "Night and day")
    assert "usage_point" not in json.loads(to_document(dataset(rule, entries), **names))


@pytest.mark.parametrize("taf", CYCLIC)
def test_another_measurand_another_time_and_another_instant(taf):
    rule, entries = made(taf)
    other = value(at(PERIOD), 1, "1-0:99.8.0")
    late = value(at(PERIOD + SLOT), 1)
    off = value(at(PERIOD - 1), 1, str(entries[0].obis))
    for wrong in (other, late, off):
        assert unfit(rule, dataset(rule, [wrong])) is not None


@pytest.mark.parametrize("taf", sorted(set(CYCLIC) - {8}))
def test_an_entry_twice(taf):
    rule, entries = made(taf)
    assert unfit(rule, dataset(rule, [entries[0], entries[0]])) is not None


def test_more_extremes_than_the_profile_names():
    rule = replace(rule_of(8), extremes=Extremes(count=1))
    entries = evaluate(task(rule_of(8), registers_of([1, 2, 3, 4]), 0, PERIOD))
    assert "more than 1" in unfit(rule, dataset(rule, entries))


@pytest.mark.parametrize("taf", sorted(USE_CASES))
def test_outside_the_cycle_only_some_use_cases_send(taf):
    rule = rule_of(taf)
    entry = [] if taf == 12 else [value(at(SLOT), 1)]
    sending = dataset(rule, entry, "limit", 0, SLOT)
    assert (unfit(rule, sending) is None) == (taf in (6, 9, 10, 11, 12))


@pytest.mark.parametrize("taf", [9, 10, 12])
def test_an_occasion_covers_one_registration(taf):
    rule = rule_of(taf)
    assert longest_occasion(rule) == timedelta(seconds=SLOT)
    assert unfit(rule, dataset(rule, [], "limit", 0, 2 * SLOT)) is not None
    assert unfit(rule, dataset(rule, [], "limit", 0, SLOT - 1)) is not None


def test_a_request_reaches_as_far_back_as_snapshots_are_kept():
    rule = profile(6, registration_period_s=86400)
    days = [value(at(86400 * day), day) for day in range(1, 44)]
    assert unfit(rule, dataset(rule, days[1:], "request-1", 86400, 86400 * 43)) is None
    assert unfit(rule, dataset(rule, days, "request-1", 0, 86400 * 43)) is not None


@pytest.mark.parametrize("taf", [6, 11])
def test_what_has_no_cycle_leaves_in_none(taf):
    rule = rule_of(taf)
    assert unfit(rule, dataset(rule, [value(at(86400), 1)], "", 0, 86400)) is not None


@pytest.mark.parametrize("taf", [13, 14])
def test_after_the_consent_nothing_leaves(taf):
    rule = rule_of(taf)
    profiles = ProfileSet(
        meters=(meter_profile(),),
        processing=(rule,),
        communication=(billing("out", processing=rule.id, purpose="service"),),
    )

    def asked(to_s: int):
        return decide(profiles, Request("out", "emp", "household", at(to_s - 60), at(to_s), "service"))

    assert isinstance(asked(86400), Allow)
    assert isinstance(asked(86460), Deny)


@pytest.mark.parametrize("taf", sorted(set(USE_CASES) - {1}))
def test_every_tariff_but_the_first_is_refused_beside_a_concealed_value(taf):
    """Stages can single out one slot, requests and events too: the recipient would know the hidden energy."""
    plain = rule_of(taf)
    profiles = household(
        processing=(series(), plain),
        communication=(group_total(), billing("out", processing=plain.id)),
    )
    assert conflicts(grids(profiles))
