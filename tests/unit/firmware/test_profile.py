"""Profiles: one definition for TOML and JSON, every fault at once with its place, floors of nets."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from firmware.errors import ConfigurationRefused
from firmware.profile import codec, pem
from firmware.profile.check import check, warnings
from firmware.profile.model import MeterProfile, ProfileSet
from tests.unit.firmware.profile_set import (
    EMP_TLS,
    NET_ID,
    OTHER_TLS,
    T0,
    at,
    bill,
    billing,
    group_total,
    household,
    meter_profile,
    net,
    peer,
    series,
)


def places(profiles: ProfileSet, *, small: bool = False) -> set[str]:
    return {problem.place for problem in check(profiles, small_nets_allowed=small)}


def faults(text: bytes, *, small: bool = False) -> dict[str, str]:
    with pytest.raises(ConfigurationRefused) as refused:
        codec.from_json(text, small_nets_allowed=small)
    return {fault.key: fault.expected for fault in refused.value.faults}


def test_a_household_is_well():
    assert check(household(), small_nets_allowed=False) == []
    assert warnings(household()) == []


def test_json_gives_the_same_set_again():
    assert codec.from_json(codec.to_json(household()), small_nets_allowed=False) == household()


def test_an_empty_set_is_a_set():
    assert codec.from_json(b"{}", small_nets_allowed=False) == ProfileSet()


def test_every_fault_of_form_is_named_at_once():
    document = json.loads(codec.to_json(household()))
    document["meters"][0]["meter"] = "ELS"
    document["meters"][0]["key_hex"] = "zz"
    del document["processing"][0]["consumer"]
    document["processing"][1]["taf"] = 15
    document["communication"][1]["net"]["net_id"] = "xyz"
    document["communication"][1]["surprise"] = 1
    found = faults(json.dumps(document).encode())
    assert found.keys() == {
        "meters[0].meter",
        "meters[0].key_hex",
        "processing[0].consumer",
        "processing[1].taf",
        "communication[1].net.net_id",
        "communication[1].surprise",
    }


def test_every_fault_of_meaning_is_named_at_once():
    broken = household(
        processing=(bill(consumer="neighbour"), series(meter="ABC-00000000-01-02")),
        communication=(billing(processing="nothing"), group_total(net=net(n_min=5))),
    )
    found = faults(codec.to_json(broken))
    assert found.keys() >= {
        "processing[0].consumer",
        "processing[1].meter",
        "communication[0].processing",
        "communication[1].net.n_min",
    }


@given(st.binary(max_size=200))
def test_any_bytes_are_a_set_or_refused(text):
    with suppress(ConfigurationRefused):
        assert isinstance(codec.from_json(text, small_nets_allowed=True), ProfileSet)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["meters", "processing", "communication", "net", "peer", "id", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_document_is_a_set_or_refused(document):
    with suppress(ConfigurationRefused):
        codec.from_json(json.dumps(document).encode(), small_nets_allowed=True)


def test_a_key_shows_in_no_text():
    profile = meter_profile(key_hex="5a" * 16)
    assert "5a5a" not in repr(profile) + str(profile)
    document = {"meters": [{**msgspec.to_builtins(profile), "key_hex": "5a" * 15 + "zz"}]}
    assert "5a5a" not in str(faults(json.dumps(document).encode()))


@pytest.mark.parametrize(
    ("profiles", "place"),
    [
        (household(meters=(meter_profile(), meter_profile())), "meters[1].id"),
        (household(meters=(meter_profile(), meter_profile(id="again"))), "meters[1].meter"),
        (household(processing=(bill(), series(), series())), "processing[2].id"),
        (household(communication=(billing(), billing())), "communication[1].id"),
        (household(processing=(bill(obis="1-0:1.8.256"), series())), "processing[0].obis"),
        (household(processing=(bill(valid_from=at(0.5)), series())), "processing[0].valid_from"),
        (household(processing=(bill(valid_until=T0), series())), "processing[0].valid_until"),
        (household(processing=(bill(valid_until=at(1e6 + 0.5)), series())), "processing[0].valid_until"),
        (household(processing=(bill(billing_period_s=None), series())), "processing[0].billing_period_s"),
        (household(processing=(bill(billing_period_s=1000), series())), "processing[0].billing_period_s"),
        (household(processing=(bill(window_s=10), series())), "processing[0].window_s"),
        (
            household(processing=(bill(registration_period_s=10, window_s=5), series())),
            "processing[0].window_s",
        ),
        (household(processing=(bill(recipients=("emp", "emp")), series())), "processing[0].recipients"),
        (household(communication=(billing(recipient="other"),)), "communication[0].peer.name"),
        (
            household(communication=(billing(peer=peer(tls_certificate="no")),)),
            "communication[0].peer.tls_certificate",
        ),
        (
            household(communication=(billing(peer=peer(enc_certificate=None)),)),
            "communication[0].peer.enc_certificate",
        ),
        (
            household(communication=(billing(), billing("second", peer=peer(port=1)))),
            "communication[1].peer",
        ),
        (
            household(communication=(billing(concealment="dc-net", net=net()),)),
            "communication[0].concealment",
        ),
        (
            household(communication=(group_total(concealment="none", net=None),)),
            "communication[0].concealment",
        ),
        (household(communication=(group_total(net=None),)), "communication[0].net"),
        (household(communication=(billing(net=net()),)), "communication[0].net"),
        (household(communication=(group_total(net=net(n_min=15)),)), "communication[0].net.n_min"),
        (household(communication=(group_total(net=net(n_max=100)),)), "communication[0].net.n_max"),
        (
            household(communication=(group_total(net=net(n_max=1_000_000, max_wh=2**48)),)),
            "communication[0].net.max_wh",
        ),
        (household(communication=(group_total(net=net(d_min=128)),)), "communication[0].net.d_min"),
        (household(communication=(group_total(net=net(submit_s=300)),)), "communication[0].net.submit_s"),
        (household(communication=(group_total(net=net(poll_s=119)),)), "communication[0].net.poll_s"),
        (
            household(communication=(group_total(net=net(reconcile_slots=1)),)),
            "communication[0].net.reconcile_slots",
        ),
        (household(communication=(group_total(net=net(n_start=100)),)), "communication[0].net.n_start"),
        (household(communication=(group_total(net=net(open_s=901)),)), "communication[0].net.submit_s"),
        (
            household(communication=(group_total(net=net(recovery="witness", recover_s=360)),)),
            "communication[0].net.recover_s",
        ),
        (
            household(communication=(group_total(net=net(recovery="witness", recover_s=901)),)),
            "communication[0].net.recover_s",
        ),
        (
            household(communication=(group_total(net=net(max_wh=2**38, reconcile_slots=4000)),)),
            "communication[0].net.max_wh",
        ),
        (household(communication=(group_total(net=net(submit_s=9)),)), "communication[0].net.submit_s"),
        (household(communication=(group_total(net=net(lanes=("import",))),)), "communication[0].net.lanes"),
        (household(communication=(group_total(net=net(t0_utc=at(0.5))),)), "communication[0].net.t0_utc"),
        (household(communication=(group_total(net=net(t0_utc=at(1))),)), "communication[0].net.t0_utc"),
        (household(communication=(group_total(net=net(slot_s=1800)),)), "communication[0].net.slot_s"),
        (household(communication=(group_total(processing="bill"),)), "communication[0].net.slot_s"),
        (
            household(processing=(bill(), series(obis="1-0:2.8.0"))),
            "communication[1].net.lanes",
        ),
        (household(communication=(group_total(), group_total("twin"))), "communication[1].net.net_id"),
        (
            household(communication=(group_total(), group_total("twin", net=net(net_id="ff" * 8)))),
            "communication[1].processing",
        ),
    ],
)
def test_each_check_refuses(profiles, place):
    assert place in places(profiles)


@pytest.mark.parametrize(("policy", "gateway"), [(False, False), (False, True), (True, False)])
def test_a_small_net_needs_both_flags(policy, gateway):
    small = household(communication=(group_total(net=net(n_min=3, d_min=2, insecure_small_nets=policy)),))
    assert "communication[0].net.n_min" in places(small, small=gateway)


def test_a_small_net_with_both_flags_is_well():
    small = household(communication=(group_total(net=net(n_min=3, d_min=2, insecure_small_nets=True)),))
    assert places(small, small=True) == set()
    assert places(household(communication=(group_total(net=net(n_min=16)),))) == set()


def test_a_register_may_change_its_net_at_one_instant():
    """The old membership ends where the new one begins; a slot in both would be told twice."""
    until, since = series(valid_until=at(9000)), series("next", valid_from=at(9000))
    then = group_total("then", processing="next", net=net(net_id="ff" * 8))
    moving = household(processing=(bill(), until, since), communication=(group_total(), then))
    assert places(moving) == set()
    for overlap in (replace(until, valid_until=at(9900)), replace(until, valid_until=None)):
        assert places(replace(moving, processing=(bill(), overlap, since))) == {"communication[1].processing"}
    swapped = replace(moving, communication=(then, group_total()))
    assert places(swapped) == set()


def test_a_recipient_without_right_is_a_warning():
    profiles = household(communication=(billing(recipient="other", peer=peer("other")),))
    assert places(profiles) == set()
    assert [one.place for one in warnings(profiles)] == ["communication[0].recipient"]


TOML = """
[[meters]]
id = "meter"
meter = "ELS-12345678-33-02"
consumer = "household"
mode = "open"

[[processing]]
id = "bill"
taf = 1
meter = "ELS-12345678-33-02"
obis = "1-0:1.8.0"
consumer = "household"
registration_period_s = 900
billing_period_s = 2592000
recipients = ["emp"]
valid_from = 2026-01-01T00:00:00Z

[[communication]]
id = "billing"
processing = "bill"
recipient = "emp"
purpose = "billing"

[communication.peer]
name = "emp"
host = "h"
port = 443
server_name = "s"
tls_certificate = "tls.pem"
enc_certificate = "tls.pem"
"""


def test_toml_takes_certificates_from_files(tmp_path):
    (tmp_path / "tls.pem").write_text(EMP_TLS)
    (tmp_path / "profiles.toml").write_text(TOML)
    profiles = codec.from_toml(tmp_path / "profiles.toml", small_nets_allowed=False)
    assert profiles.communication[0].peer.tls_certificate == EMP_TLS
    assert profiles.processing == (bill(),)
    assert codec.from_json(codec.to_json(profiles), small_nets_allowed=False) == profiles


def test_toml_faults_have_lines(tmp_path):
    (tmp_path / "tls.pem").write_text(EMP_TLS)
    path = tmp_path / "profiles.toml"
    path.write_text(TOML.replace('consumer = "household"\nreg', 'consumer = "other"\nreg'))
    with pytest.raises(ConfigurationRefused) as refused:
        codec.from_toml(path, small_nets_allowed=False)
    assert [(fault.line, fault.key) for fault in refused.value.faults] == [(13, "processing[0].consumer")]


@pytest.mark.parametrize("content", [None, b"\xff\xff"])
def test_toml_names_a_certificate_file_that_cannot_be_read(tmp_path, content):
    if content is not None:
        (tmp_path / "tls.pem").write_bytes(content)
    (tmp_path / "profiles.toml").write_text(TOML)
    with pytest.raises(ConfigurationRefused) as refused:
        codec.from_toml(tmp_path / "profiles.toml", small_nets_allowed=False)
    assert {fault.key for fault in refused.value.faults} == {
        "communication[0].peer.tls_certificate",
        "communication[0].peer.enc_certificate",
    }


def test_key_path():
    assert codec.key_path("communication[1].net.n_min") == ("communication", 1, "net", "n_min")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        EMP_TLS + OTHER_TLS,
        EMP_TLS.replace("CERTIFICATE", "PRIVATE KEY"),
        EMP_TLS.replace("\nMII", "\nMIJ", 1),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ],
)
def test_pem_refuses(text):
    with pytest.raises(ValueError, match="PEM"):
        pem.to_der(text)


def test_fingerprints_are_of_the_key_and_not_of_the_text():
    assert pem.key_fingerprint(EMP_TLS) == pem.key_fingerprint(EMP_TLS.replace("\n", "\r\n"))
    assert pem.key_fingerprint(EMP_TLS) != pem.key_fingerprint(OTHER_TLS)
    assert pem.key_fingerprint("no") != pem.key_fingerprint("neither")


def test_a_net_whose_manifests_nobody_could_check_is_refused():
    """It would be taken, stored, and then stop the gateway at this and at every later start."""
    unsigned = peer(sig_certificate=None)
    profiles = household(communication=(billing(peer=unsigned), group_total(peer=unsigned)))
    places = [problem.place for problem in check(profiles, small_nets_allowed=False)]
    assert places == ["communication[1].peer.sig_certificate"]


@pytest.mark.parametrize("year", [1, 1969, 2200, 9999])
def test_instants_at_the_end_of_time_are_refused(year):
    """Counting on from there overflows: such a set, once taken, would stop the gateway at every start."""
    far = datetime(year, 12, 31, 23, 45, tzinfo=UTC)
    profiles = household(
        processing=(bill(valid_from=far), series(valid_until=far)),
        communication=(group_total(net=net(t0_utc=far)),),
    )
    assert {
        "processing[0].valid_from",
        "processing[1].valid_until",
        "communication[0].net.t0_utc",
    } <= places(profiles)


def test_profiles_do_not_change():
    with pytest.raises(AttributeError):
        MeterProfile(id="a", meter="ELS-12345678-33-02", consumer="c").id = "b"  # type: ignore[misc]  # the point
    assert replace(household(), meters=()).meters == ()
    assert household().communication[1].net.net_id == NET_ID
