"""The demo's plan: whatever size is asked for, its profiles are ones that a gateway accepts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from firmware.enforcement.dcnet.policy import NetRules
from firmware.profile import codec
from tests.unit.firmware.profile_set import certificate
from tools.demo.plan import (
    BILLING,
    GROUP_TOTAL,
    MIN_GATEWAYS,
    STRANGER,
    SUPPLIER,
    Plan,
    published_telegrams,
)

PEM = certificate("EMP")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def peer(name: str) -> dict[str, object]:
    certificates = dict.fromkeys(("tls_certificate", "sig_certificate", "enc_certificate"), PEM)
    return {"name": name, "host": "127.0.0.1", "port": 4433, "server_name": "x.sm-pki.test", **certificates}


PEERS = {SUPPLIER: peer(SUPPLIER), STRANGER: peer(STRANGER)}


def plan(gateways: int = MIN_GATEWAYS, slots: int = 3, slot_s: int = 2) -> Plan:
    return Plan(Path("nowhere"), gateways, slots, slot_s, t0_utc=NOW)


@pytest.mark.parametrize("gateways", range(MIN_GATEWAYS, 33))
def test_profiles_of_each_size_validate(gateways: int) -> None:
    one = plan(gateways)
    for household in (*one.households[:3], one.households[-1]):  # each kind: all others are like the third
        body = json.dumps(one.profiles(household, PEERS)).encode()
        profiles = codec.from_json(body, small_nets_allowed=True)
        (net,) = [entry.net for entry in profiles.communication if entry.net is not None]
        assert NetRules.from_profile(net).admit(insecure_small_nets_allowed=True) is (net.n_min < 16)
        assert net.n_min == gateways - 1  # one may drop out


@pytest.mark.parametrize("slots", [1, 2, 3, 10, 1000])
@pytest.mark.parametrize("slot_s", [2, 5, 899, 900])
def test_profiles_of_each_length_validate(slots: int, slot_s: int) -> None:
    one = plan(slots=slots, slot_s=slot_s)
    body = one.profiles(one.households[0], PEERS)
    codec.from_json(json.dumps(body).encode(), small_nets_allowed=True)
    assert one.billing_period_s >= 2 * slot_s  # a shorter one would tell what the net hides
    assert one.end_utc - one.t0_utc == timedelta(seconds=one.billing_period_s)
    assert (one.drop_out_slot is None) is (slots == 1)


def test_who_gets_what() -> None:
    one = plan(5)
    first, second = (one.profiles(household, PEERS) for household in one.households[:2])
    assert [entry["id"] for entry in first["communication"]] == [BILLING, GROUP_TOTAL, STRANGER]
    assert [entry["id"] for entry in second["communication"]] == [BILLING, GROUP_TOTAL]
    assert all(entry["recipients"] == [SUPPLIER] for entry in first["processing"])
    assert [entry["id"] for entry in first["meters"]] == ["electricity", "v1", "v4"]
    assert [entry["mode"] for entry in second["meters"]] == ["strict", "strict", "strict"]


def test_homes_share_nothing() -> None:
    homes = plan(32).households
    for what in ("gateway_id", "name", "consumer", "meter", "meter_key"):
        assert len({getattr(home, what) for home in homes}) == 32


def test_published_telegrams_have_their_length_in_front() -> None:
    assert {one.name: one.gateway for one in published_telegrams()} == {"V1": 1, "V4": 1, "V2": 2, "V5": 2}
    assert all(one.telegram[0] == len(one.telegram) - 1 for one in published_telegrams())
