"""Rosters change while their nets serve: nobody is lost or counted twice, and nobody can be made to be."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from firmware.enforcement.dcnet.events import NetEvent, NetEventKind
from firmware.enforcement.dcnet.machines import MemberState
from firmware.enforcement.dcnet.policy import NetRules
from firmware.errors import ReadingRefused
from firmware.orders.nets import WITHDRAW, net_orders
from firmware.wide_area.nets import whose
from hsm.api import KeySlot
from tests.support.virtual_time import VirtualClock, run_virtually
from tests.unit.dcnet.roster_street import Net, Street, believe_names, told
from tests.unit.dcnet.support import PowerCut
from tests.unit.firmware.profile_set import series
from tools.counterparts.net_succession import withdraw_orders
from tools.counterparts.pki import make_pki
from wan.ports import Order

HOMES = [f"esgw01000000{number:02d}" for number in range(1, 16)]
STAY, MOVE, THERE = HOMES[:6], HOMES[6:9], HOMES[9:]
"""Net A has nine members, of which a third goes to net B."""


def value(name: str, slot: int) -> int:
    return 100 * (slot % 50) + HOMES.index(name) + 1


def tenths(names: list[str], slot: int) -> int:
    return 10 * sum(value(name, slot) for name in names)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    believe_names(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_pki(tmp_path / "pki")
    return tmp_path / "pki"


@pytest.mark.nightly
def test_a_third_of_a_net_changes_its_supplier_under_real_signatures(folder: Path) -> None:
    run_virtually(_a_third_moves(folder))


def test_a_third_of_a_net_changes_its_supplier_at_one_boundary(cheap: None) -> None:
    run_virtually(_a_third_moves(None))


def test_a_third_changes_its_supplier_while_one_home_changes_its_tenant(cheap: None) -> None:
    """Degree, floors and totals hold, and the new tenant's log begins where the old one's ends."""
    run_virtually(_a_third_moves(None, tenant=STAY[1]))


def whose_logs(events: list[NetEvent], rules: NetRules, begins: datetime) -> tuple[set[int], set[int]]:
    """Slots in the log of who moves in at `begins`, and in that of who lived there before."""
    mine = replace(series(), consumer="new", valid_from=begins)
    slots: dict[bool, set[int]] = {True: set(), False: set()}
    for event in events:
        if event.slot is not None:
            slots[whose(event, mine, rules) == "new"].add(event.slot)
    return slots[True], slots[False]


def floors_hold(net: Net, street: Street, names: list[str]) -> None:
    """Everybody's roster of now has its members, and every degree of it room for two absent neighbours."""
    for name in names:
        now = street.homes[name].members[net.net_id].membership
        assert now is not None
        assert now.size == len(names) >= net.rules.n_min
        assert set(now.adjacent) == set(range(1, now.size + 1))
        assert min(map(len, now.adjacent.values())) >= net.rules.d_min + 2 == net.rules.required_degree()


async def _a_third_moves(folder: Path | None, tenant: str = "") -> None:
    a, b = Net(folder, 1, STAY + MOVE, STAY + MOVE), Net(folder, 2, THERE, THERE)
    async with Street(folder) as street, asyncio.timeout(4000):
        for net in (a, b):
            street.open(net)
        for name in HOMES:
            street.join(await street.build(name), b if name in THERE else a)
        homes = street.homes
        await street.until(
            lambda: all(told(homes[name], NetEventKind.JOINED, b if name in THERE else a) for name in HOMES)
        )
        assert all(KeySlot.DCNET_1 not in home.module.keys for home in homes.values())
        # The administrator orders new profiles: from T on the movers are B's.
        first = a.rules.slot_at(VirtualClock().now_utc()) + 2
        boundary = a.rules.first_slot_of(a.rules.epoch_of(first) + 2)
        b.ordered |= set(MOVE)
        b.emp.follow(dict.fromkeys(THERE + MOVE, "gwa"))
        change = a.rules.slot_end(boundary - 1)
        for name in MOVE:
            await street.stop(homes[name], a)
            street.join(homes[name], a, ends_utc=change)
            street.join(homes[name], b, KeySlot.DCNET_2, begins_utc=change)
        last = boundary + 3
        for slot in range(first, last + 1):
            await street.after(a.rules, slot)
            for name in HOMES:
                net = b if name in THERE or (name in MOVE and slot >= boundary) else a
                if name == tenant and slot == boundary - 1:
                    with pytest.raises(ReadingRefused):
                        await homes[name].members[net.net_id].contribute(slot, value(name, slot))
                    continue
                await homes[name].members[net.net_id].contribute(slot, value(name, slot))
            if slot == boundary - 2 and tenant:  # ordered within the next slot, which so is nobody's
                floors_hold(a, street, STAY + MOVE)
                await asyncio.sleep(a.rules.open_ms / 1000)
                await street.stop(homes[tenant], a)
                street.join(homes[tenant], a, begins_utc=change)
        await street.until(lambda: last in a.totals() and last in b.totals())
        await asyncio.sleep(30)
        for slot in range(first, last + 1):
            moved = MOVE if slot >= boundary else []
            left = MOVE if slot < boundary else []
            here = [name for name in STAY + left if name != tenant or slot != boundary - 1]
            assert a.totals()[slot]["members"] == here
            assert a.totals()[slot]["lanes"] == [tenths(here, slot), 0, len(here)]
            assert sorted(b.totals()[slot]["members"]) == sorted(THERE + moved)
            assert b.totals()[slot]["lanes"] == [tenths(THERE + moved, slot), 0, len(THERE + moved)]
        floors_hold(a, street, STAY)
        floors_hold(b, street, THERE + MOVE)
        if tenant:
            mine, before = whose_logs(homes[tenant].events, a.rules, change)
            assert {boundary, boundary + 1} <= mine
            assert min(mine) >= boundary
            assert first in before
            assert max(before) < boundary
            assert not await homes[tenant].members[a.net_id].owed()
        for name in MOVE:
            assert homes[name].members[a.net_id].state is MemberState.OFF
            assert homes[name].members[b.net_id].state is MemberState.ACTIVE
            assert not {key for key in homes[name].module.keys if key.name.startswith("DCNET")}
            assert not [
                key for _, key in homes[name].store.data if "/keys-" in key and key.startswith(a.net_id)
            ]
            assert told(homes[name], NetEventKind.LEFT, a) == 1


async def _founded(street: Street, net: Net, names: list[str]) -> int:
    """Found a net of these; return the first slot that everybody can serve."""
    street.open(net)
    for name in names:
        street.join(await street.build(name), net)
    await street.until(lambda: all(told(street.homes[name], NetEventKind.JOINED, net) for name in names))
    return net.rules.slot_at(VirtualClock().now_utc()) + 2


async def _serve(street: Street, net: Net, names: list[str], slots: range) -> None:
    for slot in slots:
        await street.after(net.rules, slot)
        for name in names:
            await street.homes[name].members[net.net_id].contribute(slot, value(name, slot))
    await asyncio.sleep(net.rules.open_ms / 1000 + 15)


async def _balanced(street: Street, nets: list[Net], names: list[str], slots: range) -> dict[str, int]:
    """Each register's slot is in one total or owed in one net, never both; every total is right.

    Returns:
        How many slots each register is owed.
    """
    owed_slots = {}
    for net in nets:
        for slot, total in net.totals(slots[0]).items():
            assert total["lanes"][0] == tenths(total["members"], slot)
            assert total["lanes"][2] == len(total["members"]) >= net.rules.n_min
    for name in names:
        home = street.homes[name]
        owed = [
            (one.first_slot, one.import_wh) for member in home.members.values() for one in await member.owed()
        ]
        for slot in slots:
            places = sum(
                1 for net in nets if slot in net.totals() and name in net.totals()[slot]["members"]
            ) + sum(1 for first, wh in owed if (first, wh) == (slot, value(name, slot)))
            assert places == 1, (name, slot, places)
        owed_slots[name] = len(owed)
    return owed_slots


@pytest.mark.parametrize("writes", [3, 4, 7])
def test_i13_power_cuts_through_a_supplier_change_lose_and_double_nothing(cheap: None, writes: int) -> None:
    run_virtually(_power_cuts(writes))


async def _power_cuts(writes: int) -> None:
    """Two homes, one that stays and one that moves, lose their power at every so many writes."""
    a, b = Net(None, 1, STAY + MOVE, STAY + MOVE), Net(None, 2, THERE, THERE)
    async with Street() as street, asyncio.timeout(4000):
        await _founded(street, b, THERE)
        first = await _founded(street, a, STAY + MOVE)
        homes, terms = street.homes, {}
        boundary = a.rules.first_slot_of(a.rules.epoch_of(first) + 2)
        change = a.rules.slot_end(boundary - 1)
        b.ordered |= set(MOVE)
        b.emp.follow(dict.fromkeys(THERE + MOVE, "gwa"))
        for name in MOVE:
            await street.stop(homes[name], a)
            terms[name, a.net_id] = {"ends_utc": change}
            terms[name, b.net_id] = {"begins_utc": change, "slot": KeySlot.DCNET_2}
            for net in (a, b):
                street.join(homes[name], net, **terms[name, net.net_id])  # type: ignore[arg-type]  # mixed

        cuts = 0

        async def torment(name: str) -> None:
            nonlocal cuts
            home = homes[name]
            while True:
                home.store.fail_after = writes
                await street.until_dead(home)
                home.store.fail_after = None
                cuts += 1
                for net in (a, b):
                    if net.net_id in home.members:
                        await street.stop(home, net)
                        street.join(home, net, **terms.get((name, net.net_id), {}))  # type: ignore[arg-type]  # mixed
                await asyncio.sleep(1)

        tormented = [STAY[0], MOVE[0]]
        tasks = [asyncio.ensure_future(torment(name)) for name in tormented]
        slots = range(first, boundary + 4)
        for slot in slots:
            await street.after(a.rules, slot)
            for name in HOMES:
                net = b if name in THERE or (name in MOVE and slot >= boundary) else a
                while True:
                    try:
                        await homes[name].members[net.net_id].contribute(slot, value(name, slot))
                    except PowerCut:
                        await asyncio.sleep(2)
                    else:
                        break
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for name in tormented:
            homes[name].store.fail_after = None
            for net in (a, b):
                if net.net_id in homes[name].members:
                    await street.stop(homes[name], net)
                    street.join(homes[name], net, **terms.get((name, net.net_id), {}))  # type: ignore[arg-type]  # mixed
        await asyncio.sleep(3 * a.rules.slot_s)
        assert cuts > 4
        owed = await _balanced(street, [a, b], HOMES, slots)
        assert homes[STAY[1]].members[a.net_id].membership.roster.version == 2  # type: ignore[union-attr]
        assert min(owed.values()) < len(slots) // 2
        assert homes[MOVE[0]].members[a.net_id].state is MemberState.OFF


def test_whoever_keeps_silent_at_the_reveal_is_left_out_of_the_next_draft(cheap: None) -> None:
    run_virtually(_silent())


async def _silent() -> None:
    net = Net(None, 1, HOMES[:10], HOMES[:10])
    net.emp.follow(dict.fromkeys(HOMES[:6], "gwa"))
    async with Street() as street, asyncio.timeout(6000):
        await _founded(street, net, HOMES[:6])
        net.emp.follow(dict.fromkeys(HOMES[:10], "gwa"))
        for name in HOMES[6:10]:
            home = await street.build(name)
            home.cut = {"/reveal/"} if name == HOMES[6] else set()
            street.join(home, net)
        await street.until(lambda: any(event["event"] == "redrawn" for event in net.seen))
        assert net.emp.rosters.in_force.roster.version == 1  # type: ignore[union-attr]  # serves on meanwhile
        await street.until(lambda: net.emp.rosters.in_force.roster.version == 3)  # type: ignore[union-attr]
        assert net.emp.rosters.in_force is not None
        assert HOMES[6] not in net.emp.rosters.in_force.members
        assert len(net.emp.rosters.in_force.members) == 9
        redrawn = [e for e in net.seen if e["event"] == "redrawn"]
        assert [(e["version"], e["silent"]) for e in redrawn] == [(2, [HOMES[6]])]
        first = net.rules.slot_at(VirtualClock().now_utc()) + 2
        await _serve(street, net, HOMES[:6], range(first, first + 1))
        assert told(street.homes[HOMES[0]], NetEventKind.REDRAWN, net) == 1  # his log says so
        assert told(street.homes[HOMES[0]], NetEventKind.SWITCHED, net) == 1


def test_a_change_of_fewer_than_churn_min_waits(cheap: None) -> None:
    run_virtually(_lone_change())


async def _lone_change() -> None:
    net = Net(None, 1, HOMES[:6], HOMES[:8])
    async with Street() as street, asyncio.timeout(6000):
        await _founded(street, net, HOMES[:6])
        net.emp.follow(dict.fromkeys(HOMES[:8], "gwa"))
        for name in HOMES[6:8]:
            street.join(await street.build(name), net)
        await street.until(lambda: any(event["event"] == "change-waits" for event in net.seen))
        assert net.emp.rosters.open.version == 2
        assert net.emp.rosters.open.publication is None
        assert not told(street.homes[HOMES[7]], NetEventKind.JOINED, net)


def test_a_withdrawn_peer_is_parked_without_the_supplier_and_left_out_with_it(cheap: None) -> None:
    run_virtually(_withdrawn())


async def _withdrawn() -> None:
    net = Net(None, 1, HOMES[:9], HOMES[:9])
    names, gone = HOMES[:9], HOMES[4]
    async with Street() as street, asyncio.timeout(6000):
        first = await _founded(street, net, names)
        await _serve(street, net, names, range(first, first + 1))
        assert net.totals()[first]["members"] == names
        ask, net.emp.rosters.ask_withdrawals = net.emp.rosters.ask_withdrawals, _no_question  # type: ignore[method-assign]
        orders = withdraw_orders(net.kept, net.net_id, names, [gone])
        rest = [name for name in names if name != gone]
        for name in rest:  # whoever is withdrawn may be another administrator's, and go on
            _, body = orders[name]
            carrier = net_orders(street.homes[name].members.get)[WITHDRAW]
            order = Order("1", WITHDRAW, VirtualClock().now_utc(), 1, json.dumps(body).encode())
            assert (await carrier(order)).code == "ok"
        slots = range(first + 1, first + 4)
        await _serve(street, net, names, slots)
        assert not net.totals(first + 1)  # a supplier that goes on as before gets nothing
        for name in rest:
            home = street.homes[name]
            assert told(home, NetEventKind.REVOKED, net) == 1
            reasons = {one.reason for one in await home.members[net.net_id].owed()}
            assert any(reason.startswith("revoked") for reason in reasons), (name, reasons)
            assert [one.first_slot for one in await home.members[net.net_id].owed()] == [*slots]
        net.emp.rosters.ask_withdrawals = ask  # type: ignore[method-assign]
        await asyncio.sleep(net.rules.slot_s)
        again = net.rules.slot_at(VirtualClock().now_utc()) + 3
        for name in names[:2]:  # what was withdrawn outlives a restart
            await street.stop(street.homes[name], net)
            street.join(street.homes[name], net)
        await _serve(street, net, names, range(again, again + 3))
        assert net.totals()[again + 2]["members"] == rest
        assert any(e["event"] == "withdrawn" and e["gateways"] == [gone] for e in net.seen)
        older = net_orders(street.homes[rest[0]].members.get)[WITHDRAW]
        stale = json.dumps({"net": net.net_id, "serial": 1, "certificates": []}).encode()
        assert (await older(Order("2", WITHDRAW, VirtualClock().now_utc(), 2, stale))).code == "serial"


async def _no_question() -> None:
    return None


def test_a_confirmed_roster_ends_the_one_before_even_if_it_is_never_begun(cheap: None) -> None:
    run_virtually(_never_begun())


async def _never_begun() -> None:
    net = Net(None, 1, HOMES[:9], HOMES[:9])
    net.emp.follow(dict.fromkeys(HOMES[:6], "gwa"))
    async with Street() as street, asyncio.timeout(6000):
        await _founded(street, net, HOMES[:6])
        net.emp.follow(dict.fromkeys(HOMES[:9], "gwa"))
        for name in HOMES[6:9]:
            street.join(await street.build(name), net)
        net.emp.rosters.due = lambda _epoch: None  # type: ignore[method-assign]  # goes on with the old one
        await street.until(
            lambda: net.emp.rosters.ready is not None and len(net.emp.rosters.ready.present) == 9
        )
        assert net.emp.rosters.ready is not None
        begin = net.rules.first_slot_of(net.emp.rosters.ready.roster.first_epoch)
        now = net.rules.slot_at(VirtualClock().now_utc()) + 1
        await _serve(street, net, HOMES[:6], range(now, begin + 2))
        assert begin - 1 in net.totals()
        assert not net.totals(begin)
        for name in HOMES[:6]:
            owed = await street.homes[name].members[net.net_id].owed()
            assert {begin, begin + 1} <= {one.first_slot for one in owed}
