"""A supplier that is killed at every point of a swap: it is carried through, or given up whole."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from firmware.enforcement.dcnet.machines import MemberState
from tests.support.virtual_time import run_virtually
from tests.unit.dcnet.mortal_net import Disk, Life
from tests.unit.dcnet.mortal_swap import ENDS, MortalSupplier
from tests.unit.dcnet.offices import believe_offices, swapper
from tests.unit.dcnet.roster_street import Street
from tests.unit.dcnet.test_whole_swap import IN_A, Swapping
from tools.counterparts.net_journal import Journal
from tools.counterparts.net_swap_judge import SwapSettings

EPOCH_S = 8 * 45


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    believe_offices(monkeypatch)


class KeptSwapping(Swapping):
    """Both nets, and the swapper, have journals."""

    def __init__(self, street: Street, **changes: Any) -> None:
        super().__init__(street, **changes)
        self.disks, self.swaps = (Disk(), Disk()), Disk()
        self._make()

    async def kill(self) -> None:
        """Let the supplier's process end, without a word, and another one begin."""
        for task in self.street.serving:
            task.cancel()
        await asyncio.gather(*self.street.serving, return_exceptions=True)
        self.street.serving.clear()
        await asyncio.sleep(1)
        self._make()
        for net in self.nets:
            listed = {home: by for home, by in net.of.items() if home not in self.gone}
            net.emp.follow(listed)  # what emp.toml says by now
            self.street.open(net)

    def _make(self) -> None:
        for net, disk in zip(self.nets, self.disks, strict=True):
            disk.life = Life()
            net.begin_supplier(Journal(disk, net.rules.net))
        self.supplier = swapper(self.nets, self.kept, self.a.seen, Journal(self.swaps, b"swaps\0\0\0"))


async def lone(street: Street) -> KeptSwapping:
    """Return two nets in one of which a change has waited long enough; nobody has looked for a swap yet."""
    world = KeptSwapping(street)
    await world.begin()
    await street.stop(street.homes[IN_A[4]], world.a)
    world.ends(IN_A[4], world.a)
    world.supplier.look = _nothing  # type: ignore[method-assign]
    await world.serve(lambda: world.a.emp.rosters.lone)
    world.a.of.pop(IN_A[4])
    await street.after(world.a.rules, world.slot)
    return world


async def _nothing() -> None:
    return None


async def mortal(street: Street) -> MortalSupplier:
    world = await lone(street)
    await street.__aexit__()
    return MortalSupplier(world.nets, world.disks, world.offices)


async def every_point(
    street: Street, stride: int, down_s: float, away: frozenset[str] = frozenset(), look_s: float = 1
) -> dict[str, list[str]]:
    """Die at every `stride`-th point of a swap; how it ended -> where the process had died."""
    supplier, found, point = await mortal(street), dict[str, list[str]](), 1
    supplier.look_s = look_s
    while True:
        supplier.begin()
        supplier.away = set(away)
        await supplier.live(point, down_s)
        moved = supplier.check()
        if not supplier.deaths:
            return found
        (how,) = {f"{end['event']} {end.get('code', '')}".strip() for end in supplier.of(*ENDS)}
        if how == "swap-agreed":
            assert {len(out) for out in moved.values()} == {2}, supplier.deaths
        if how == "swap-late consent":
            assert not supplier.ordered, supplier.deaths
        found.setdefault(how, []).append(supplier.deaths[0])
        point += stride


def test_a_swap_is_carried_through_wherever_the_supplier_is_killed() -> None:
    carried_through(stride=4)


@pytest.mark.nightly
def test_every_point_of_a_swap() -> None:
    places = carried_through(stride=1)
    for what in ("swap_offer", "swap", "swap_orders", "a write", "a file"):
        assert {f"before {what}", f"after {what}"} <= places
    assert "in a write" in places


def carried_through(stride: int) -> set[str]:
    async def main() -> set[str]:
        async with Street() as street:
            found = await every_point(street, stride, 1.0)
            assert set(found) == {"swap-agreed"}
            return set(found["swap-agreed"])

    return run_virtually(main())


def test_a_supplier_that_is_back_too_late_gives_it_up_whole_or_keeps_to_the_orders() -> None:
    late(stride=6)


@pytest.mark.nightly
def test_every_point_of_a_swap_with_a_supplier_that_is_back_too_late() -> None:
    late(stride=1)


def late(stride: int) -> None:
    async def main() -> None:
        async with Street() as street:
            found = await every_point(street, stride, 1.2 * EPOCH_S)
            # Before anybody was shown all consents, nobody has an order; then those that were given count.
            assert set(found) == {"swap-agreed", "swap-late consent", "swap-late carried"}
            assert "after swap" in found["swap-late consent"]
            assert "before swap_orders" in found["swap-late carried"]

    run_virtually(main())


def test_one_that_never_orders_is_no_reason_to_plan_otherwise_after_a_kill() -> None:
    async def main() -> None:
        async with Street() as street:
            found = await every_point(street, 16, 1.0, frozenset({"south"}), look_s=60)
            assert set(found) == {"swap-late carried"}

    run_virtually(main())


@pytest.mark.parametrize(
    "after",
    [
        "swap-ordered",
        *(pytest.param(one, marks=pytest.mark.nightly) for one in ("swap-proposed", "swap-agreed")),
    ],
)
def test_every_slot_is_in_one_net_though_the_supplier_was_killed_in_a_swap(after: str) -> None:
    run_virtually(_slots(after))


def said(world: Swapping, name: str) -> list[Any]:
    """What the supplier said of a swap, but for orders: administrators tell these."""
    seen = world.events(name) if name == "swap-ordered" else world.a.seen
    return [event for event in seen if event["event"] == name]


async def _slots(after: str) -> None:
    """Killed while operators think, between two orders, or once all were given: both rosters change."""
    async with Street() as street:
        world = KeptSwapping(street)
        south, first = world.offices["south"], world.a.asked["south"]
        if after == "swap-proposed":
            south.judge.settings = SwapSettings(answer="ask")
        for net in world.nets:
            answer = net.asked["south"].swap_orders

            async def late(warrant: bytes, answer: Any = answer) -> bytes:
                if after == "swap-ordered" and not deaths:
                    raise OSError("away")
                given: bytes = await answer(warrant)
                return given

            net.asked["south"].swap_orders = late  # type: ignore[method-assign]
        assert first.office is south
        deaths: list[int] = []
        await world.begin()
        await world.serve(lambda: world.slot >= world.first + 2)
        before, leaver = world.rosters, IN_A[4]
        await street.stop(street.homes[leaver], world.a)
        world.ends(leaver, world.a)
        await world.serve(lambda: bool(said(world, after)))
        deaths.append(world.slot)
        await world.kill()
        await world.serve(lambda: all(net.emp.rosters.in_force for net in world.nets))
        south.judge.settings = SwapSettings(answer="agree")
        await world.serve(lambda: bool(said(world, "swap-agreed")))
        assert len(world.events("swap-resumed")) == (0 if after == "swap-agreed" else 1)
        await world.kill()
        (proposed,) = world.events("swap-proposed")
        out, into = (set(proposed["leave"][net.net_id]) for net in world.nets)
        boundary = world.a.rules.first_slot_of(proposed["first_epoch"])
        await world.serve(lambda: world.slot >= boundary + 4)
        assert world.rosters == [before[0] - {leaver} - out | into, before[1] - into | out]
        assert [event["event"] for event in world.events("swapped")] == ["swapped", "swapped"]
        await world.check_slots(range(world.first, boundary + 3))
        assert set(world.a.totals()[boundary + 2]["members"]) == world.rosters[0]
        assert set(world.b.totals()[boundary + 2]["members"]) == world.rosters[1]
        for name in out | into:
            old, new = (world.a, world.b) if name in out else (world.b, world.a)
            states = [street.homes[name].members[net.net_id].state for net in (old, new)]
            assert states == [MemberState.OFF, MemberState.ACTIVE]


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(6))
def test_a_supplier_that_is_killed_again_and_again_swaps_all_the_same(seed: int) -> None:
    run_virtually(_again_and_again(random.Random(seed)))


async def _again_and_again(chance: random.Random) -> None:
    """Killed every few slots, from the lone change to the new rosters; nothing is lost or doubled."""
    async with Street() as street:
        world = KeptSwapping(street)
        await world.begin()
        await world.serve(lambda: world.slot >= world.first + 2)
        before, leaver = world.rosters, IN_A[4]
        await street.stop(street.homes[leaver], world.a)
        world.ends(leaver, world.a)
        kills = 0
        while len(world.events("swapped")) < 2:
            until = world.slot + chance.randrange(1, 6)
            await world.serve(lambda until=until: world.slot >= until)  # type: ignore[misc]
            await asyncio.sleep(chance.random() * 40)
            await world.kill()
            kills += 1
            assert kills < 60, [event for event in world.a.seen if "swap" in event["event"]]
        boundary = world.slot + 1
        await world.serve(lambda: world.slot >= boundary + 4)
        proposed = said(world, "swap-proposed")[-1]
        out, into = (set(proposed["leave"][net.net_id]) for net in world.nets)
        assert world.rosters == [before[0] - {leaver} - out | into, before[1] - into | out]
        await world.check_slots(range(world.first, boundary + 3))
