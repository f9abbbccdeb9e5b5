"""FPR_CON.1: bounds, padding and offsets, for any value and any profile."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from firmware import boot
from firmware.enforcement.uniform import entries_at_most, offset, padded_document
from firmware.metering.dataset import Dataset
from firmware.metering.register import RegisteredValue
from firmware.metering.tariff.steps import tariff_obis
from firmware.profile.check import check
from firmware.profile.tariffs import ERROR_STAGE, LAST_STAGE, Extremes
from firmware.store.stores import Stores
from lmn.model import MeterId, Obis
from tests.support.soft_module import SoftModule
from tests.unit.firmware.profile_set import IMPORT, METER, at, bill, billing, household, plain_series, series

DAY = 86400
NAMES = {"identity": "esgw0100000001-billing-20260102T000000Z", "gateway": "g", "communication": "billing"}
LARGEST = Decimal("-9999999999999.999999")

values = st.none() | st.decimals(-(10**12), 10**12, places=6) | st.sampled_from([Decimal(0), LARGEST])
entries = st.lists(
    st.tuples(st.integers(1, 96), values, st.sampled_from(["", "Wh", "m3"]), st.integers(0, 2**64 - 1)),
    max_size=96,
    unique_by=lambda one: one[0],
)


def entry(number, value, unit="Wh", status=0, obis=IMPORT):
    return RegisteredValue(
        MeterId.from_text(METER), Obis.from_text(obis), at(900 * number), value, unit, status
    )


def dataset(found, **changes):
    fields = {
        "processing": "series", "taf": 7, "consumer": "household", "from_utc": at(0), "to_utc": at(DAY),
        "entries": tuple(found),
    }  # fmt: skip
    return Dataset(**{**fields, **changes})


def size(profile, data):
    text = padded_document(profile, data, **NAMES)
    document = json.loads(text)
    assert set(document.pop("padding")) <= {"0"}
    assert len(document["entries"]) == len(data.entries)
    return len(text)


FULL = size(series(), dataset([entry(number, LARGEST, status=2**64 - 1) for number in range(1, 97)]))


@given(entries)
def test_fpr_con_1_one_size_whatever_the_values(found):
    assert size(series(), dataset(entry(*one) for one in found)) == FULL


@given(entries, st.binary(min_size=64, max_size=64))
def test_fpr_con_1_signed_values_have_one_size_too(found, signature):
    profile = series(signed_values=True)
    made = dataset((entry(*one) for one in found), signatures=(signature,) * len(found))
    assert size(profile, made) == size(profile, dataset(()))


@given(st.integers(0, LAST_STAGE), values)
def test_fpr_con_1_how_many_stages_ran_is_not_seen(stages, value):
    profile = series("bill", taf=2, billing_period_s=DAY)
    obis = Obis.from_text(IMPORT)
    codes = [tariff_obis(obis, stage) for stage in (*range(1, stages + 1), ERROR_STAGE)]
    made = dataset([entry(96, value, obis=str(code)) for code in (obis, *codes)], taf=2, processing="bill")
    assert size(profile, made) == size(profile, dataset((), taf=2, processing="bill"))


@pytest.mark.parametrize(
    ("profile", "count"),
    [
        (series(), 96),
        (series(more_obis=("1-0:2.8.0",)), 192),
        (series(registration_period_s=7000), 13),
        (bill(), 1),
        (series(taf=12), 1),
        (series(taf=8), 2 * Extremes().count),
        (series(taf=2), 64),
    ],
)
def test_the_bound_follows_from_the_profile_alone(profile, count):
    assert entries_at_most(profile, at(0), at(DAY)) == count


def test_a_unit_that_no_meter_sends_costs_a_block_and_no_error():
    made = [entry(number, LARGEST, unit="x" * 200) for number in range(1, 97)]
    assert size(series(), dataset(made)) == 2 * FULL


@given(st.integers(0, 10**6), st.integers(1, DAY), st.binary(min_size=32, max_size=32))
def test_fpr_con_1_an_offset_is_stable_and_inside_the_spread(period, spread, key):
    profile, end = billing(spread_s=spread), at(900 * period)
    found = offset(key, profile, end)
    assert timedelta() <= found < timedelta(seconds=spread)
    assert found == offset(key, profile, end)


def test_fpr_con_1_offsets_differ_between_gateways_profiles_and_periods():
    profile, other = billing(spread_s=DAY), billing("other", spread_s=DAY)
    ends = [at(DAY * number) for number in range(50)]
    found = [
        offset(key, one, end) for key in (b"a" * 32, b"b" * 32) for one in (profile, other) for end in ends
    ]
    assert len(set(found)) > 190
    assert offset(b"a" * 32, billing(), ends[0]) == timedelta()


async def test_fpr_con_1_the_key_is_the_modules_and_outlives_a_restart(tmp_path):
    keys = []
    module = SoftModule()
    for _ in range(2):
        async with await Stores.open(tmp_path, module) as stores:
            keys.append(await boot._secret(SimpleNamespace(stores=stores, module=module), boot._SPREAD_KEY))
    assert keys[0] == keys[1]
    assert len(keys[0]) == 32


def test_no_delivery_waits_beyond_the_next_one():
    profiles = plain_series(900)  # a delivery an hour, an acceptance window of 9 s
    for spread, places in ((0, []), (3590, []), (3591, ["communication[0].spread_s"])):
        changed = replace(profiles.communication[0], spread_s=spread)
        found = check(replace(profiles, communication=(changed,)), small_nets_allowed=False)
        assert [one.place for one in found] == places


def test_a_net_has_no_spread():
    concealed = replace(household().communication[1], spread_s=1)
    found = check(household(communication=(concealed,)), small_nets_allowed=False)
    assert [one.place for one in found] == ["communication[0].spread_s"]
