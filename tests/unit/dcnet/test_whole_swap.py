"""Two nets of one supplier: a lone change is paired with a swap, and every slot is in exactly one net."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.machines import MemberState
from tests.support.virtual_time import VirtualClock, run_virtually
from tests.unit.dcnet.offices import Offices, OfficesNet, believe_offices, swapper
from tests.unit.dcnet.roster_street import Street, told
from tools.counterparts.net_swap_judge import SwapSettings
from tools.counterparts.net_swapping import Swapper

HOMES = [f"esgw01000000{number:02d}" for number in range(1, 21)]
IN_A, IN_B = HOMES[:9], HOMES[9:18]
OF = {name: "north" if number % 2 else "south" for number, name in enumerate(HOMES)}
OF[IN_A[8]] = "east"
"""An administrator that is in the first net alone."""
AGREE = SwapSettings(answer="agree")


def value(name: str, slot: int) -> int:
    return 100 * (slot % 50) + HOMES.index(name) + 1


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    believe_offices(monkeypatch)


class Swapping:
    """Two nets of one supplier with two administrators, and the slots of all homes."""

    def __init__(self, street: Street, swaps: SwapSettings = AGREE, **changes: Any) -> None:
        self.street, self.offices = street, Offices("north", "south", "east", swaps=swaps)
        terms = {"churn_min": 4, "patience_s": 90.0} | changes
        self.a, self.b = (
            OfficesNet(number, {name: OF[name] for name in homes}, self.offices, **terms)
            for number, homes in ((1, IN_A), (2, IN_B))
        )
        self.nets = (self.a, self.b)
        self.kept: dict[str, bytes] = {}
        self.supplier: Swapper = swapper(self.nets, self.kept, self.a.seen)
        self.gone: set[str] = set()
        self.first = 0

    async def begin(self) -> None:
        for net in self.nets:
            await net.founded(self.street)
        self.first = self.slot + 1

    @property
    def slot(self) -> int:
        return self.a.rules.slot_at(VirtualClock().now_utc())

    @property
    def epoch(self) -> int:
        return self.a.rules.epoch_of(self.slot)

    def ends(self, name: str, net: OfficesNet) -> None:
        """Its contract is over and its gateway is off."""
        self.gone.add(name)
        listed = {home: by for home, by in net.of.items() if home not in self.gone}
        net.emp.follow(listed)

    def place_of(self, name: str, slot: int) -> OfficesNet | None:
        """In which net a home's profiles have a slot."""
        profiles = self.offices[OF[name]].profiles[name]
        for one in profiles.communication:
            processing = profiles.processing_of(one)
            assert processing is not None
            assert one.net is not None
            begin, end = self.a.rules.slot_end(slot - 1), self.a.rules.slot_end(slot)
            if processing.valid_from <= begin and (processing.valid_until or end) >= end:
                return self.a if one.net.net_id == self.a.net_id else self.b
        return None

    async def serve(self, until: Callable[[], bool], most: int = 80) -> None:
        """Serve slot after slot; between two the supplier looks and gateways carry orders out."""
        for _ in range(most):
            if until():
                return
            await self.supplier.look()
            await self.offices.carry(self.street)
            slot = self.slot
            await self.street.after(self.a.rules, slot)
            for name in HOMES[:18]:
                if name not in self.gone:
                    net = self.place_of(name, slot)
                    assert net is not None, (name, slot)
                    await self.street.homes[name].members[net.net_id].contribute(slot, value(name, slot))
            await asyncio.sleep(0)
        raise AssertionError("it never came")

    def events(self, name: str) -> list[Mapping[str, Any]]:
        return [event for event in (*self.a.seen, *self.b.seen, *self.offices.seen) if event["event"] == name]

    async def check_slots(self, slots: range) -> int:
        """Each slot of each home is in one total or owed once, totals are right; returns what is owed."""
        await VirtualClock().sleep_until(self.a.rules.slot_end(slots[-1] + 1))
        for net in self.nets:
            for slot, total in net.totals(slots[0]).items():
                members = total["members"]
                lanes = [10 * sum(value(name, slot) for name in members), 0, len(members)]
                assert total["lanes"] == lanes
                assert len(members) >= net.rules.n_min
        owing = 0
        for name in HOMES[:18]:
            if name in self.gone:
                continue
            owed = [
                one.first_slot
                for member in self.street.homes[name].members.values()
                for one in await member.owed()
            ]
            for slot in slots:
                totals = sum(name in net.totals().get(slot, {"members": ()})["members"] for net in self.nets)
                assert totals + owed.count(slot) == 1, (name, slot, totals, owed)
            owing += sum(slot in slots for slot in owed)
        return owing

    @property
    def rosters(self) -> list[set[str]]:
        return [set(net.emp.rosters.in_force.members) for net in self.nets]  # type: ignore[union-attr]


def test_a_lone_leaver_is_paired_with_a_swap_after_three_epochs() -> None:
    run_virtually(_lone_leaver())


async def _lone_leaver() -> None:
    async with Street() as street:
        world = Swapping(street)
        await world.begin()
        await world.serve(lambda: world.slot >= world.first + 2)
        before, leaver, since = world.rosters, IN_A[4], world.epoch
        for net in (world.a,):
            await street.stop(street.homes[leaver], net)
        world.ends(leaver, world.a)
        await world.serve(lambda: bool(world.events("swap-ordered")))
        assert world.epoch >= since + 3
        assert world.rosters == before  # so long it waited
        (waits,) = world.events("change-waits")
        assert (waits["changed"], waits["needed"]) == (1, 4)
        (proposed,) = world.events("swap-proposed")
        epoch = proposed["first_epoch"]
        out, into = (set(proposed["leave"][net.net_id]) for net in world.nets)
        assert len(out) == len(into) == 2
        assert IN_A[8] not in out  # its administrator knows the other net by the supplier's word alone
        ordered = {g: to for event in world.events("swap-ordered") for g, to in event["gateways"].items()}
        assert ordered == dict.fromkeys(out, world.b.net_id) | dict.fromkeys(into, world.a.net_id)
        boundary = world.a.rules.first_slot_of(epoch)
        await world.serve(lambda: world.slot >= boundary + 4)
        # Both change together, each by as many as the rules between rosters want.
        assert world.rosters == [before[0] - {leaver} - out | into, before[1] - into | out]
        for net, was in zip(world.nets, before, strict=True):
            now = net.emp.rosters.in_force
            assert now is not None
            assert (now.roster.version, now.roster.first_epoch) == (2, epoch)
            assert len(was ^ set(now.members)) >= net.rules.churn_min
        assert [event["event"] for event in world.events("swapped")] == ["swapped", "swapped"]
        # Up to the boundary in the one net, from it on in the other, every total right, nothing twice.
        assert await world.check_slots(range(world.first, boundary + 3)) == 0
        assert set(world.a.totals()[boundary + 2]["members"]) == world.rosters[0]
        assert set(world.b.totals()[boundary + 2]["members"]) == world.rosters[1]
        assert set(world.a.totals()[boundary - 1]["members"]) == before[0] - {leaver}
        assert set(world.b.totals()[boundary - 1]["members"]) == before[1]
        for name in out | into:
            old, new = (world.a, world.b) if name in out else (world.b, world.a)
            assert street.homes[name].members[old.net_id].state is MemberState.OFF
            assert street.homes[name].members[new.net_id].state is MemberState.ACTIVE
            assert told(street.homes[name], NetEventKind.LEFT, old) == 1
        # The next lone change finds those who were swapped resting.
        second = next(name for name in IN_B if name not in into)
        await street.stop(street.homes[second], world.b)
        world.ends(second, world.b)
        await world.serve(lambda: len(world.events("swap-proposed")) == 2)
        again = world.events("swap-proposed")[1]
        assert not {name for names in again["leave"].values() for name in names} & (out | into)


def test_a_lone_newcomer_too_and_the_operator_is_asked() -> None:
    run_virtually(_lone_newcomer())


async def _lone_newcomer() -> None:
    async with Street() as street:
        world = Swapping(street, SwapSettings(answer="ask"))
        await world.begin()
        before, newcomer = world.rosters, HOMES[18]
        world.b.emp.follow(world.b.of | {newcomer: OF[newcomer]})
        world.b.of[newcomer] = OF[newcomer]
        home = await street.build(newcomer)
        home.signatures = type(home.signatures)(newcomer, gwa=OF[newcomer])  # type: ignore[call-arg]
        office = world.offices[OF[newcomer]]
        office.profiles[newcomer] = office.profiles[next(g for g in IN_B if OF[g] == OF[newcomer])]
        street.join(home, world.b)
        await world.serve(
            lambda: len({e["administrator"] for e in world.events("swap-asked") if "administrator" in e}) == 3
        )
        assert not world.events("swap-ordered")
        assert world.rosters == before
        # Nobody answers: it is late, and asked again for a later epoch.
        await world.serve(lambda: bool(world.events("swap-late")))
        await world.serve(lambda: len(world.events("swap-proposed")) == 2)
        proposal = world.events("swap-proposed")[-1]["proposal"]
        for name in world.offices:
            record = f"swap-asked-{proposal}"
            said = world.offices[name].kept[record]
            world.offices[name].kept[record] = said.replace(b'"answer": ""', b'"answer": "agree"')
        await world.serve(lambda: len(world.events("swapped")) == 2)
        assert newcomer in world.rosters[1]
        assert len(world.rosters[1] ^ before[1]) == 5
        assert len(world.rosters[0] ^ before[0]) == 4
        boundary = world.a.rules.first_slot_of(world.events("swapped")[0]["epoch"])
        await world.serve(lambda: world.slot >= boundary + 3)
        await world.check_slots(range(world.first, boundary + 2))


def test_nothing_possible_is_named_and_the_change_waits_on() -> None:
    run_virtually(_impossible())


async def _impossible() -> None:
    async with Street() as street:
        world = Swapping(street, SwapSettings(answer="refuse"))
        await world.begin()
        before = world.rosters
        await street.stop(street.homes[IN_A[4]], world.a)
        world.ends(IN_A[4], world.a)
        await world.serve(lambda: len(world.events("change-waits")) == 2)
        assert {event["code"] for event in world.events("swap-impossible")} == {"offer"}
        assert world.rosters == before
        # Everybody rests: nobody may go.
        for office in world.offices.values():
            office.judge.settings = SwapSettings(answer="agree", most_a_year=0)
        await world.serve(lambda: world.events("swap-impossible")[-1]["code"] == "candidates")
        # The other net has other rules by now, or is not there.
        lonely = swapper([world.a], {}, world.a.seen)
        await lonely.look()
        assert world.events("swap-impossible")[-1]["code"] == "partner"
        assert world.rosters == before
        assert world.a.emp.rosters.open.publication is None


def test_one_administrator_that_does_not_order_leaves_its_homes_where_they_are() -> None:
    run_virtually(_half())


async def _half() -> None:
    """South never gives its orders: only north's homes go, and no roster is drafted that tells of too few."""
    async with Street() as street:
        world = Swapping(street)
        await world.begin()
        before = world.rosters
        for net in world.nets:
            asked = net.asked["south"]

            async def nothing(_warrant: bytes) -> bytes:
                raise OSError("away")

            asked.swap_orders = nothing  # type: ignore[method-assign]
        await street.stop(street.homes[IN_A[4]], world.a)
        world.ends(IN_A[4], world.a)
        await world.serve(lambda: bool(world.events("swap-late")))
        late = world.events("swap-late")[0]
        assert (late["code"], late["missing"]) == ("carried", ["south"])
        ordered = {g for event in world.events("swap-ordered") for g in event["gateways"]}
        assert {OF[name] for name in ordered} <= {"north"}
        boundary = world.a.rules.first_slot_of(late["first_epoch"])
        await world.serve(lambda: world.slot >= boundary + 4)
        for net, was, now in zip(world.nets, before, world.rosters, strict=True):
            changed = len(was ^ now)
            assert not 0 < changed < net.rules.churn_min
            assert {name for name in was if OF[name] == "south" and name not in world.gone} <= now
        await world.check_slots(range(world.first, boundary + 3))


def test_a_roster_that_comes_in_between_ends_a_proposal() -> None:
    run_virtually(_in_between())


async def _in_between() -> None:
    """While operators think, more homes leave: the change is large enough, and the swap is not needed."""
    async with Street() as street:
        world = Swapping(street, SwapSettings(answer="ask"), n_min=3)
        await world.begin()
        before = world.rosters
        for number in (4, 5, 6, 7):
            if number == 5:
                await world.serve(lambda: bool(world.events("swap-asked")))
            await street.stop(street.homes[IN_A[number]], world.a)
            world.ends(IN_A[number], world.a)
        await world.serve(lambda: world.rosters[0] != before[0])
        assert [event["code"] for event in world.events("swap-late")] == ["roster"]
        assert world.rosters == [before[0] - set(IN_A[4:8]), before[1]]
        assert not world.events("swap-ordered")
        assert world.a.emp.rosters.swap is None
