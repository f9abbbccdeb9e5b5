"""Who is in a district: the nets' rules hold for every size that may be asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from firmware.enforcement.dcnet.policy import NetRules
from firmware.profile import codec
from firmware.profile.model import NetPolicy
from tools.counterparts.pki import make_pki
from tools.demo.district.plan import EPOCH_SLOTS, FULL_SLOTS, MIN_GATEWAYS, DistrictPlan, cast
from tools.homes.household import Household
from tools.homes.peers import peer_entry

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIZES = range(MIN_GATEWAYS, 33)


@pytest.mark.parametrize("gateways", SIZES)
def test_everybody_has_a_part_and_every_net_can_be_founded(gateways: int) -> None:
    found = cast(gateways)
    assert found.homes == tuple(range(1, gateways + 1))
    assert sorted(home for one in found.administrators for home in one.homes) == list(found.homes)
    for net in found.nets:
        own = set(net.homes)
        assert all(own & one.homes for one in found.administrators)  # edges across administrators
        assert net.d_min < net.n_min <= len(own) // 2 + 2
        refused = {home for one in found.administrators for home in one.refuses & own}
        lowest = len(own) - 1
        for home in refused:
            assert home not in next(one for one in found.administrators if home in one.refuses).homes
            lowest = len(own & found.administrator_of(home).homes) - 1
        assert lowest >= net.d_min + 2
    assert [net.supplier for net in found.nets] == ["altstrom", "altstrom", "neustrom"]


def test_too_few_for_a_district() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        cast(15)


@pytest.mark.parametrize(("boot_s", "slot_s"), [(0.1, 10), (1.0, 12)])
def test_the_street_runs_towards_the_nets(boot_s: float, slot_s: int) -> None:
    plan = DistrictPlan(Path("unused"), 24, 3).starting(NOW, boot_s=boot_s)
    assert plan.slot_s == slot_s
    assert plan.t0_utc.timestamp() % (EPOCH_SLOTS * slot_s) == 0
    assert NOW + timedelta(seconds=3) <= plan.plain_from_utc < plan.flash_utc < plan.t0_utc
    assert plan.t0_utc - plan.flash_utc >= timedelta(seconds=9)
    assert plan.slots == FULL_SLOTS
    assert len(plan.all_slots) == plan.plain_slots + FULL_SLOTS


def test_what_the_administrators_order_is_a_set_of_profiles(tmp_path: Path) -> None:
    make_pki(tmp_path)
    plan = DistrictPlan(tmp_path, 16, 3).starting(NOW, boot_s=0.1)
    peer = peer_entry("altstrom", tmp_path / "emp", 9)
    for body in (plan.plain_profiles, plan.net_profiles):
        codec.from_json(msgspec.json.encode(body(Household(1), peer)), small_nets_allowed=True)
    full = DistrictPlan(tmp_path, 24, 3).starting(NOW, boot_s=0.1)
    (move,), (tenant,) = full.cast.moves, full.cast.tenants
    for one in (
        full.moving_profiles(Household(move.homes[0]), move, peer, peer | {"name": "neustrom", "port": 10}),
        full.tenant_profiles(Household(tenant.home), tenant, peer),
    ):
        codec.from_json(msgspec.json.encode(one), small_nets_allowed=True)
    for net in plan.cast.nets:
        NetRules.from_profile(msgspec.convert(plan.net_policy(net), NetPolicy)).check()
