"""Whole nets of more than 64 members, whose key graph is no longer complete, as members play them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.machines import Mode, SlotState
from tests.support.instant_loop import run
from tests.unit.dcnet.running_net import Home, RunningNet, energies
from tools.homes.liar import Lie, corrupt


def cut(home: Home, *resources: str) -> None:
    home.cut = lambda resource: any(f"/{one}/" in resource for one in resources)


def names(homes: list[Home]) -> tuple[str, ...]:
    return tuple(home.name for home in homes)


def key_graph(net: RunningNet) -> Mapping[int, frozenset[int]]:
    """As the first member has drawn it."""
    member = net.homes[0].member
    assert member is not None
    assert member.membership is not None
    return member.membership.adjacent


async def slot_after_slot(net: RunningNet, slot: int, done: Callable[[], bool]) -> int:
    """Serve slots, each totalled exactly over whoever is in it, until something is done; the next slot."""
    for one in range(slot, slot + 30):
        await net.contribute(one)
        await net.until(one, 58)
        total = net.totals()[one]
        assert total["verdict"] == "totalled", (one, net.events[-5:])
        out = [home.name for home in net.homes if home.name not in total["members"]]
        assert total["lanes"] == [energies(net, one, tuple(out)) * 10, 0, len(total["members"])]
        if done():
            return one + 1
    raise AssertionError("it was never done")


async def drop_outs(net: RunningNet, slot: int) -> int:
    """Two members are away before the manifest and two after it; these are recovered; the next slot."""
    adjacent = key_graph(net)
    absent = (1, len(net.homes) // 2)
    near = set(absent).union(*(adjacent[one] for one in absent))
    far = sorted(adjacent.keys() - near)
    lost = (far[0], next(one for one in far if one not in adjacent[far[0]] and one != far[0]))
    for one in absent:
        cut(net.homes[one - 1], "submit")
    for one in lost:
        cut(net.homes[one - 1], "open")
    await net.contribute(slot)
    await net.until(slot, 59)
    total = net.totals()[slot]
    away = names([net.homes[one - 1] for one in absent])
    assert total["verdict"] == "totalled", net.events[-5:]
    assert total["lanes"] == [energies(net, slot, away) * 10, 0, len(net.homes) - 2]
    assert [event["lost"] for event in net.of("recovery ordered")] == [sorted(lost)]
    for index, home in enumerate(net.homes, 1):
        state = (await home.states())[slot]
        assert state is (SlotState.OWED if index in absent else SlotState.TOTALLED), home.name
        home.cut = lambda _resource: False
    # Who was left out is back by its hello; a third slot has everybody again.
    back = slot + 1
    await net.contribute(back)
    await net.until(back, 59)
    assert len(net.totals()[back]["members"]) == len(net.homes) - 2
    await net.contribute(back + 1)
    await net.until(back + 1, 59)
    assert net.totals()[back + 1]["lanes"] == [energies(net, back + 1) * 10, 0, len(net.homes)]
    return back + 2


async def audited(net: RunningNet, slot: int, liar: int) -> int:
    """One member lies on the canary lane: it is named, left out, and no reading is opened; the next slot."""
    corrupt(net.homes[liar - 1].member, Lie.CONTRADICTION)
    await net.contribute(slot)
    await net.until(slot, 60.5)
    assert net.totals()[slot]["verdict"] == "aborted"
    (found,) = net.of("audit")
    assert (found["members"], found["edges"], found["silent"]) == ([liar], [], [])
    for home in net.homes:
        assert len(home.bodies("/canary/")) == 1
        assert home.member is not None
        await home.member.contribute(slot + 1, 1000)
    await net.until(slot + 1, 59)
    assert net.totals()[slot + 1]["lanes"] == [(len(net.homes) - 1) * 10_000, 0, len(net.homes) - 1]
    assert net.coordinator.slots.mode is Mode.A
    return slot + 2


def test_a_net_of_80_lives_on_an_h_graph_through_drop_outs_a_second_roster_and_an_audit() -> None:
    """With k = 20 the default d_min of 12 has a graph at 80 members; n_min 64 is more than a complete net."""

    async def main() -> None:
        net = RunningNet(
            80,
            n_min=65,
            d_min=12,
            k=20,
            delta=0.05,
            poll_s=4.0,
            recovery="witness",
            churn_min=4,
            epoch_s=6 * 60,
            roster_pause_s=0,
        )
        async with net:
            adjacent = key_graph(net)
            assert all(14 <= len(adjacent[one]) <= 20 for one in range(1, 81))
            slot = await drop_outs(net, net.first)
            gone, stay = net.homes[:6], net.homes[6:]
            come = [Home(f"gw{number}", f"gwa{1 + number % 2}") for number in range(81, 85)]
            net.coordinator.follow({home.name: home.administrator for home in [*stay, *come]})
            for home in come:
                net.start(home)
            slot = await slot_after_slot(net, slot, lambda: bool(net.of("in-force")))
            for home in gone:
                await net.kill(home)
            net.homes[:] = [*stay, *come]
            assert net.of("in-force")[0]["version"] == 2
            assert all(NetEventKind.JOINED in home.kinds() for home in net.homes)
            now = net.coordinator.rosters.in_force
            assert now is not None
            assert sorted(now.members) == sorted(names(net.homes))
            net.homes.sort(key=lambda home: now.members.index(home.name))
            slot = await slot_after_slot(net, slot, lambda: True)
            await audited(net, slot, 7)
            for home in gone:  # none of them has any part in the second roster
                assert not [one for one, _ in home.sent if "/reveal/2/" in one or "/confirm/2/" in one]

    run(main())


@pytest.mark.nightly
def test_a_net_of_256_with_the_default_floors_lives_through_drop_outs_and_an_audit() -> None:
    async def main() -> None:
        net = RunningNet(256, n_min=128, d_min=12, delta=0.05, poll_s=4.0, recovery="witness")
        async with net:
            adjacent = key_graph(net)
            assert all(14 <= len(adjacent[one]) <= 16 for one in range(1, 257))
            slot = await drop_outs(net, net.first)
            await audited(net, slot, 200)

    run(main())


@pytest.mark.nightly
def test_a_net_begins_with_192_and_takes_in_a_batch_of_16_at_an_epoch_boundary() -> None:
    async def main() -> None:
        changes: dict[str, object] = {"churn_min": 4, "epoch_s": 6 * 60, "roster_pause_s": 0}
        net = RunningNet(192, n_min=128, d_min=12, delta=0.05, poll_s=4.0, **changes)
        assert net.rules.starts_with() == 192
        async with net:
            come = [Home(f"gw{number}", f"gwa{1 + number % 2}") for number in range(193, 209)]
            net.coordinator.follow({home.name: home.administrator for home in [*net.homes, *come]})
            for home in come:
                net.start(home)
            old = [*net.homes]
            slot = await slot_after_slot(net, net.first, lambda: bool(net.of("in-force")))
            assert len(net.totals()[slot - 2]["members"]) == 192
            net.homes[:] = [*old, *come]
            await slot_after_slot(net, slot, lambda: True)
            assert len(net.totals()[slot]["members"]) == 208

    run(main())
