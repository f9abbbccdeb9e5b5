"""Net policies whose fields can never work together are refused by name, and told what is needed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from firmware.enforcement.dcnet.errors import NetRefused
from firmware.enforcement.dcnet.founding.keyring import MAX_EPOCHS_AHEAD
from firmware.enforcement.dcnet.founding.roster import MAX_ROSTER_EPOCHS
from firmware.enforcement.dcnet.policy import NetRules
from firmware.profile.model import NetPolicy
from firmware.profile.net_terms import (
    ROSTER_EPOCHS,
    THRESHOLD,
    contradictions,
)
from tests.unit.dcnet.support import rules
from tests.unit.firmware.profile_set import T0
from tools.counterparts import net_mount
from tools.counterparts.emp import read_settings
from tools.counterparts.net_mount import NetSettings, check_settings

MAY = "insecure_small_nets"


def net(**changes: object) -> NetPolicy:
    """The defaults: quarter hours, 128 members."""
    fields: dict[str, object] = {"net_id": "6e65742d30303031", "slot_s": 900, "t0_utc": T0}
    return NetPolicy(**(fields | changes))  # type: ignore[arg-type]


def test_the_defaults_work_and_the_constants_are_the_cores() -> None:
    for recovery in ("none", "witness"):
        assert not list(contradictions(net(recovery=recovery)))
        NetRules.from_profile(net(recovery=recovery))
    assert rules().threshold == THRESHOLD
    assert {ROSTER_EPOCHS} == {MAX_EPOCHS_AHEAD, MAX_ROSTER_EPOCHS}


def test_recovery_is_as_the_administrator_orders_it_and_members_must_agree_on_it() -> None:
    made = NetRules.from_profile(net(recovery="witness", m=10, t=6, f_max=3))
    assert (made.holders, made.threshold, made.f_max) == (10, 6, 3)
    default = NetRules.from_profile(net(recovery="witness"))
    assert (default.holders, default.threshold, default.f_max) == (8, 5, 2)
    hashes = {
        NetRules.from_profile(net(recovery="witness", **changes)).policy_hash()
        for changes in ({}, {"m": 9}, {"t": 6}, {"f_max": 1})
    }
    assert len(hashes) == 4


BAD = [
    ("poll_s", {"poll_s": 90.0}, {"poll_s": 89.0}),
    ("poll_s", {"poll_s": 30.0, "manifest_s": 150.0}, {"poll_s": 29.0, "manifest_s": 150.0}),
    (
        "poll_s",
        {"recovery": "witness", "open_s": 460.0, "poll_s": 20.0},
        {"recovery": "witness", "open_s": 460.0, "poll_s": 19.0},
    ),
    ("d_min", {"recovery": "witness", "d_min": 4}, {"recovery": "witness", "d_min": 5}),
    ("d_min", {"recovery": "witness", "d_min": 5, "t": 6}, {"recovery": "witness", "d_min": 6, "t": 6}),
    ("t", {"recovery": "witness", "m": 7, "t": 8}, {"recovery": "witness", "m": 8, "t": 8}),
    ("t", {"recovery": "witness", "t": 4}, {"recovery": "witness", "t": 4, MAY: True}),
    ("n_start", {"n_start": 127}, {"n_start": 192}),
    ("n_start", {"n_start": 4097}, {"n_start": 4096}),
    ("n_start", {"n_min": 32, "n_max": 150, "n_start": 100}, {"n_min": 32, "n_max": 200, "n_start": 192}),
    ("churn_min", {"n_min": 32, "n_max": 60, "churn_min": 121}, {"n_min": 32, "n_max": 60, "churn_min": 120}),
    (
        "epoch_s",
        {"epoch_s": 899, MAY: True, "roster_pause_s": 0, "reconcile_slots": 0},
        {"epoch_s": 900, MAY: True, "roster_pause_s": 0, "reconcile_slots": 0},
    ),
    (
        "roster_pause_s",
        {"roster_pause_s": 400 * 86400, MAY: True},
        {"roster_pause_s": 399 * 86400, MAY: True},
    ),
    (
        "reconcile_slots",
        {"reconcile_slots": 400, "slot_s": 86400, "max_wh": 1000},
        {"reconcile_slots": 399, "slot_s": 86400, "max_wh": 1000},
    ),
    ("reconcile_slots", {"reconcile_slots": 95}, {"reconcile_slots": 96}),
    ("reconcile_slots", {"reconcile_slots": 1}, {"reconcile_slots": 0}),
    ("reconcile_slots", {"reconcile_slots": 1}, {"reconcile_slots": 1, MAY: True}),
]


@pytest.mark.parametrize(("field", "bad", "good"), BAD)
def test_what_can_never_work_is_named_with_what_is_needed(
    field: str, bad: dict[str, object], good: dict[str, object]
) -> None:
    found = list(contradictions(net(**bad)))
    assert {name for name, _ in found} == {field}
    assert all(len(needed) > 5 for _, needed in found)
    assert not list(contradictions(net(**good)))


@pytest.mark.parametrize(("field", "bad", "good"), BAD)
def test_gateway_and_administrator_refuse_it_and_take_what_is_next_to_it(
    field: str, bad: dict[str, object], good: dict[str, object]
) -> None:
    with pytest.raises(NetRefused):
        NetRules.from_profile(net(**bad))
    NetRules.from_profile(net(**good))


@pytest.mark.parametrize(
    "changes",
    [
        {"submit_s": 240.0},
        {"manifest_s": 361.0},
        {"open_s": 901.0},
        {"recovery": "witness", "recover_s": 360.0},
        {"recovery": "witness", "recover_s": 901.0},
        {"d_min": 128},
        {"n_max": 127},
    ],
)
def test_the_order_of_deadlines_and_sizes_is_refused_as_well(changes: dict[str, object]) -> None:
    with pytest.raises(NetRefused):
        NetRules.from_profile(net(**changes))


def settings(patience_s: float, **changes: object) -> NetSettings:
    members = ["esgw0100000001"]
    policy = net(**changes)
    return NetSettings(policy=policy, members=members, gwa="h:1", gwa_server_name="x", patience_s=patience_s)


def test_a_supplier_is_not_less_patient_than_its_members_can_be(tmp_path: Path) -> None:
    assert NetRules.from_profile(net()).least_patience_s() == 900
    for good in (settings(900.0), settings(3600.0)):
        check_settings(good)
    with pytest.raises(ValueError, match=r"6e65742d30303031: patience_s: at least slot_s, 900 s: .*in 899 s"):
        check_settings(settings(899.0))
    with pytest.raises(ValueError, match=r"policy: poll_s: less than 0.75 \* submit_s"):
        check_settings(settings(3600.0, poll_s=100.0))
    with pytest.raises(ValueError, match=r"policy: .*D1 < D2"):
        check_settings(settings(3600.0, submit_s=250.0))
    text = 'name = "emp"\nserver_name = "emp.test"\n' + net_mount.to_toml(settings(10.0))
    (tmp_path / "emp.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="patience_s: at least slot_s, 900 s"):
        read_settings(tmp_path)
    (tmp_path / "emp.toml").write_text(
        text.replace("patience_s = 10.0", "patience_s = 900.0"), encoding="utf-8"
    )
    assert msgspec.to_builtins(read_settings(tmp_path).net[0])["patience_s"] == 900.0
