"""Who comes, goes or changes its supplier within a period: what is owed comes into one sum, once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.machines import MemberState
from hsm.api import KeySlot
from tests.support.virtual_time import VirtualClock, run_virtually
from tests.unit.dcnet.roster_street import Home, Net, Street, believe_names, told

HOMES = [f"esgw01000000{number:02d}" for number in range(1, 12)]
STAY, MOVE, THERE = HOMES[:4], HOMES[4:7], HOMES[7:]
"""Net A has seven members, of which three go to net B."""


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    believe_names(monkeypatch)


def value(name: str, slot: int) -> int:
    return 100 * (slot % 50) + HOMES.index(name) + 1


def sums(net: Net, *, reconcile: bool) -> dict[int, tuple[int, list[str]]]:
    """Slot -> (import in Wh, members) of what was totalled."""
    return {
        event["slot"]: (event["lanes"][0] // 10, event["members"])
        for event in net.seen
        if event["event"] == "total"
        and event["verdict"] == "totalled"
        and ("reconciles" in event) == reconcile
    }


class Town:
    """Two nets that run; three of A go to B at an epoch's beginning."""

    def __init__(self, street: Street, a: Net, b: Net) -> None:
        self.street, self.a, self.b = street, a, b
        self.first = self.boundary = 0
        self.measured = {a.net_id: 0, b.net_id: 0}

    async def open(self) -> None:
        street, homes = self.street, self.street.homes
        for net in (self.a, self.b):
            street.open(net)
        for name in HOMES:
            street.join(await street.build(name), self.net_of(name, -1))
        await street.until(
            lambda: all(told(homes[name], NetEventKind.JOINED, self.net_of(name, -1)) for name in HOMES)
        )
        self.first = self.a.rules.slot_at(VirtualClock().now_utc()) + 2

    def net_of(self, name: str, slot: int) -> Net:
        moved = name in MOVE and self.boundary and slot >= self.boundary
        return self.b if name in THERE or moved else self.a

    async def order(self, boundary: int) -> None:
        """The administrator orders new profiles: from `boundary` on the movers are B's."""
        self.boundary = boundary
        change = self.a.rules.slot_end(boundary - 1)
        self.b.ordered |= set(MOVE)
        self.b.emp.follow(dict.fromkeys(THERE + MOVE, "gwa"))
        for name in MOVE:
            home = self.street.homes[name]
            await self.street.stop(home, self.a)
            self.street.join(home, self.a, ends_utc=change)
            self.street.join(home, self.b, KeySlot.DCNET_2, begins_utc=change)

    async def serve(self, slots: Iterable[int], lost: Iterable[int] = ()) -> None:
        """Everybody contributes; in `lost` slots one member of each net does not open, and all is owed."""
        rules, gone = self.a.rules, set(lost)
        for slot in slots:
            await self.street.after(rules, slot)
            for name in (STAY[0], THERE[0]):
                self.street.homes[name].cut = (
                    {f"{self.net_of(name, slot).net_id}/open/"} if slot in gone else set()
                )
            for name in HOMES:
                net = self.net_of(name, slot)
                self.measured[net.net_id] += value(name, slot)
                await self.street.homes[name].members[net.net_id].contribute(slot, value(name, slot))

    async def over(self, period: int) -> None:
        """A slot of the reconcile nets is over."""
        await self.street.after(self.a.rules.reconciled(), period)
        await asyncio.sleep(44)

    async def balance(self, net: Net) -> int:
        """What is in no total; fails if something is in two."""
        arrived = sum(energy for one in (True, False) for energy, _ in sums(net, reconcile=one).values())
        owed = 0
        for home in self.street.homes.values():
            if net.net_id in home.members:
                owed += sum(one.import_wh for one in await home.members[net.net_id].owed())
        assert arrived + owed == self.measured[net.net_id]
        return owed


def town(period: int, **changes: object) -> tuple[Net, Net]:
    fields: dict[str, object] = {"reconcile_slots": period, "poll_s": 7, **changes}
    return Net(None, 1, STAY + MOVE, STAY + MOVE, **fields), Net(None, 2, THERE, THERE, **fields)  # type: ignore[arg-type]


def kept_keys(home: Home, net: Net) -> list[str]:
    return [key for _, key in home.store.data if "keys-" in key and key.startswith(net.net_id)]


def ring_epochs(home: Home, net: Net) -> tuple[int, ...]:
    member = home.members[net.net_id]
    return tuple(one.ring.epoch for one in member._versions.aside.memberships)


async def moved(period: int, boundary_at_end: bool, restart: bool) -> None:
    a, b = town(period)
    async with Street() as street, asyncio.timeout(6000):
        here = Town(street, a, b)
        await here.open()
        boundary = a.rules.first_slot_of(a.rules.epoch_of(here.first) + 2)
        while (boundary % period == 0) is not boundary_at_end:
            boundary += 8
        await here.order(boundary)
        ends = boundary // period  # the period whose slot still has the movers
        # Lost: one early, the movers' last one, and one after they went.
        lost = {here.first + 1, boundary - 1, boundary + 1}
        await here.serve(range(here.first, boundary + 3), lost)
        homes = street.homes
        for name in MOVE:
            member = homes[name].members[a.net_id]
            assert member.state is MemberState.LEAVING
            assert (await member.owed())[-1].first_slot == boundary - 1
            assert kept_keys(homes[name], a)
            assert homes[name].members[b.net_id].state is MemberState.ACTIVE
        assert ring_epochs(homes[STAY[1]], a) == (a.rules.epoch_of(boundary),)
        if restart:
            for name in (*MOVE[:2], *STAY[1:3]):
                await street.stop(homes[name], a)
                ends_utc = a.rules.slot_end(boundary - 1) if name in MOVE else None
                street.join(homes[name], a, ends_utc=ends_utc)
        await here.serve(range(boundary + 3, (ends + 1) * period))
        await here.over(ends)
        joined = sums(a, reconcile=True)[ends][1]
        assert joined == STAY + MOVE  # nobody learns who has left, or what they owed
        for name in MOVE:
            assert await homes[name].members[a.net_id].owed() == []
        await street.until(lambda: all(not kept_keys(homes[name], a) for name in MOVE))
        for name in MOVE:
            assert homes[name].members[a.net_id].state is MemberState.OFF
            assert told(homes[name], NetEventKind.LEFT, a) == 1
        # One more period: what those who stay owe arrives as well, and what the movers owe in B.
        await here.serve(range((ends + 1) * period, (ends + 2) * period))
        await here.over(ends + 1)
        await here.serve(range((ends + 2) * period, (ends + 3) * period))
        await here.over(ends + 2)
        assert sums(a, reconcile=True)[ends + 1][1] == STAY
        assert sorted(sums(b, reconcile=True)[ends + 2][1]) == sorted(THERE + MOVE)
        assert (await here.balance(a), await here.balance(b)) == (0, 0)
        for name in STAY:
            assert len({key.rsplit("-", 1)[1] for key in kept_keys(homes[name], a)}) == 1  # none is left over


@pytest.mark.parametrize(("period", "at_end", "restart"), [(20, False, True), (16, True, False)])
def test_i12_through_a_supplier_change_within_a_period_and_at_its_end(
    period: int, at_end: bool, restart: bool
) -> None:
    run_virtually(moved(period, at_end, restart))


@pytest.mark.nightly
@pytest.mark.parametrize(("period", "at_end", "restart"), [(20, False, False), (16, True, True)])
def test_i12_through_a_supplier_change_the_other_way_round(period: int, at_end: bool, restart: bool) -> None:
    run_virtually(moved(period, at_end, restart))
