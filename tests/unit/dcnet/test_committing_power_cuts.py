"""A power cut at any message or write of V-mode: the same bytes again, and no opening more."""

from __future__ import annotations

import asyncio

import pytest

from firmware.enforcement.dcnet.machines import SlotState
from tests.support.instant_loop import run
from tests.unit.dcnet.committing_net import SIZE, energies, shrunk, slot_of
from tests.unit.dcnet.running_net import Answer, Home, RunningNet

POINTS = ["/orderv/", "/commitv/", "/submit/", "/manifest/", "/openv/", "/open/", "/result/"]


class PowerCut:
    """Takes a home's power away in one slot while one of its awaits is going on, and gives it back."""

    def __init__(self, net: RunningNet, home: Home) -> None:
        self._net, self._home, self.times = net, home, 0

    async def __call__(self) -> None:
        """Called by what the home waits for; never comes back, since the home is gone."""
        self.times += 1
        self._again = asyncio.ensure_future(self._net.restart(self._home))
        await asyncio.sleep(10**6)


@pytest.mark.usefixtures("unproven")
@pytest.mark.parametrize("arrived", [False, True])
@pytest.mark.parametrize("point", POINTS)
def test_a_power_cut_at_any_message_of_v_mode_sends_the_same_bytes_again(point: str, arrived: bool) -> None:
    """I3 and I6: the power goes before or after the supplier has the message."""

    async def main() -> None:
        async with shrunk() as net:
            slot, victim, give = net.first, net.homes[5], net.ask
            net.coordinator.slots.commitments.demand(slot)
            power = PowerCut(net, victim)

            async def ask(gateway: str, method: str, resource: str, body: bytes) -> Answer:
                if gateway == victim.name and f"{point}{slot}" in resource and power.times < 2:
                    if arrived:
                        await give(gateway, method, resource, body)
                    await power()
                return await give(gateway, method, resource, body)

            net.ask = ask  # type: ignore[method-assign]
            await went_through(net, slot, victim)
            assert power.times == 2

    run(main())


@pytest.mark.usefixtures("unproven")
@pytest.mark.parametrize("durable", [pytest.param(False, marks=pytest.mark.nightly), True])
@pytest.mark.parametrize("write", range(9))
def test_a_power_cut_at_any_write_of_v_mode_sends_the_same_bytes_again(write: int, durable: bool) -> None:
    async def main() -> None:
        async with shrunk() as net:
            slot, victim = net.first, net.homes[5]
            net.coordinator.slots.commitments.demand(slot)
            power, put, count = PowerCut(net, victim), victim.store.put, 0

            async def cut(kind: str, key: str, plaintext: bytes) -> None:
                nonlocal count
                count += 1
                here = count == write + 2 and not power.times  # the first is the value itself
                if not here or durable:
                    await put(kind, key, plaintext)
                if here:
                    await power()

            await net.until(slot, 0)
            victim.store.put = cut  # type: ignore[method-assign]
            await went_through(net, slot, victim, closed=True)
            assert power.times == 1

    run(main())


async def went_through(net: RunningNet, slot: int, victim: Home, *, closed: bool = False) -> None:
    """The victim has never said two things; its slot is totalled with everybody, or closed for good and owed.

    It is owed if the power went between the manifest and the opening: then nothing was opened.
    """
    total = await slot_of(net, slot)
    for part in ("/commitv/", "/submit/", "/openv/", "/open/"):
        assert len(set(victim.bodies(f"{part}{slot}/"))) <= 1, part
    await net.until(slot + 1, 1)
    state = (await victim.states())[slot]
    if total["verdict"] == "totalled":
        assert total["lanes"] == [energies(net, slot) * 10, 0, SIZE]
        assert [one["fits"] for one in net.of("v-check")] == [True]
        assert state is SlotState.TOTALLED
        assert all(victim.bodies(f"{part}{slot}/") for part in ("/commitv/", "/openv/"))
    else:
        assert closed
        assert not victim.bodies(f"/openv/{slot}/") + victim.bodies(f"/open/{slot}/")
        assert state is SlotState.OWED
