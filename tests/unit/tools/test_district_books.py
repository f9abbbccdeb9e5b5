"""Where slots went by the suppliers' books, and what a cast's happenings excuse."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.demo.district import knowledge
from tools.demo.district.expected import Expected
from tools.demo.district.plan import EPOCH_SLOTS, DistrictPlan, cast
from tools.demo.district.whereabouts import Place, books
from tools.homes.household import Household

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLAN = replace(DistrictPlan(Path("unused"), 16, 3, 4), plain_slots=3, t0_utc=T0)
FULL = replace(DistrictPlan(Path("unused"), 24, 13, 4), plain_slots=3, t0_utc=T0)
ONE = Household(1).name


def delivery(slot: int, value: str | None = "1000") -> dict[str, Any]:
    """The register at the end of a slot."""
    begin, end = (PLAN.slot_start(one).isoformat() for one in (slot, slot + 1))
    document = {"period": {"from": begin, "to": end}, "entries": [{"time_utc": end, "value": value}]}
    return {"event": "delivery", "gateway": ONE, "document": document}


def total(slot: int, **more: Any) -> dict[str, Any]:
    return {
        "event": "total",
        "net": "a1",
        "slot": slot,
        "members": [ONE],
        "verdict": "totalled",
        "lanes": [1, 0, 1],
    } | more


def own(*events: dict[str, Any]) -> dict[int, list[Place]]:
    found = books(PLAN, {"altstrom": events})
    return {slot: places for (gateway, slot), places in found.items() if gateway == ONE}


def test_each_slot_is_in_one_place() -> None:
    plain, net = [Place("plain", "altstrom")], [Place("total", "altstrom", "a1")]
    found = own(delivery(-3), delivery(-2), delivery(-1), total(0), total(1), total(2))
    assert found == {-3: plain, -2: plain, -1: plain, 0: net, 1: net, 2: net}


def test_a_value_that_was_missing_in_the_air_costs_no_energy() -> None:
    found = own(delivery(-3), delivery(-2, None), delivery(-1))
    assert [len(found[slot]) for slot in (-3, -2, -1)] == [1, 1, 1]
    found = own(delivery(-3), delivery(-2, None))
    assert [len(found[slot]) for slot in (-3, -2, -1)] == [1, 0, 0]


def test_what_is_told_twice_is_found_twice() -> None:
    assert len(own(delivery(-2), delivery(-2))[-2]) == 2
    assert len(own(total(1), total(1, net="b1"))[1]) == 2
    assert own(total(1, verdict="aborted"))[1] == []
    assert own(total(1, reconciles="a1"))[1] == []


def test_who_may_be_missing_in_a_full_district() -> None:
    happening = cast(24)
    (drop_out,), (liar,), (move,), (tenant,), (revocation,) = (
        happening.drop_outs,
        happening.liars,
        happening.moves,
        happening.tenants,
        happening.revocations,
    )
    expected = Expected(FULL, {("altstrom-1", 2): Household(5).name})
    name = Household(drop_out.home).name
    assert [expected.must_miss(name, slot) for slot in (0, 1, 2)] == [False, True, False]
    assert [expected.may_miss(name, slot) for slot in (0, 1, 2, 3)] == [False, True, True, False]
    assert [expected.may_miss(Household(5).name, slot) for slot in (2, 3, 4)] == [False, True, False]
    name = Household(liar.home).name
    assert not expected.may_miss(name, liar.slot)
    assert expected.may_miss(name, EPOCH_SLOTS)
    name = Household(tenant.home).name
    assert expected.nobodys(name, tenant.slot - 1)
    assert not expected.must_miss(name, tenant.slot)
    name = Household(revocation.home).name
    assert not expected.may_miss(name, revocation.slot - 2)
    assert expected.must_miss(name, FULL.slots - 1)
    old, new = happening.net(move.origin), happening.net(move.target)
    for number in move.homes:
        name = Household(number).name
        assert (expected.net_of(name, move.slot - 1), expected.net_of(name, move.slot)) == (old, new)
    assert expected.may_abort(old, liar.slot)
    assert not expected.may_abort(new, liar.slot)
    assert not expected.may_abort(old, liar.slot - 1)
    # A third of the honest ones goes; who stays has the neighbours that recovery needs, without the liar.
    assert 3 * len(move.homes) == len(old.homes) - 1
    assert len(happening.members(old, move.slot)) - 2 >= old.d_min + 2 >= 7


def test_a_member_that_is_told_totals_knows_the_others_sums() -> None:
    told = [(0, ["a", "b", "c", "d"]), (1, ["a", "b", "c", "d"])]
    found = knowledge.member("a", "a", told, n_min=4)
    assert (found.singles, found.sums, found.smallest, found.too_small) == (0, 2, 3, 0)
    assert found.nothing_small
    small = knowledge.member("a", "a", [(0, ["a", "b"])], n_min=4)
    assert (small.singles, small.too_small) == (1, 1)
    assert not small.nothing_small
