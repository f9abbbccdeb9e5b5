"""V-mode when the supplier is killed in the middle of it: what was committed is checked after all."""

from __future__ import annotations

import pytest

from tests.support.instant_loop import run
from tests.unit.dcnet.mortal_net import MortalNet

SIZE = 8
SLOT_S = 60
pytestmark = pytest.mark.usefixtures("unproven")


async def demanded(net: MortalNet, slot: int, slots: int) -> None:
    """Demand commitments; kept, so that no kill undoes it."""
    net.coordinator.slots.commitments.demand(slot, slots=slots)
    await net.coordinator._journal.sync()


async def verified(net: MortalNet, slot: int, lose: str = "", die_in: int | None = None) -> bool:
    """Play a slot in which commitments are demanded; whether the supplier died in it."""
    await net.until(slot - 1, SLOT_S - 0.5)
    deaths, net.life.die_in = len(net.deaths), die_in
    net.homes[2].cut = lambda resource: bool(lose) and lose in resource
    await net.contribute(slot)
    await net.until(slot, SLOT_S - 1)
    net.homes[2].cut = lambda _resource: False
    net.life.die_in = None
    assert await net.judged(slot) == "totalled", net.deaths
    checks = [event for event in net.of("v-check") if event["slot"] == slot]
    assert checks, net.deaths
    members = len(net.said[net.rules.net.hex(), slot]["members"])
    assert all(event["fits"] and event["members"] == members for event in checks), net.deaths
    return len(net.deaths) > deaths


@pytest.mark.parametrize(("recovery", "lose", "stride"), [("none", "", 7), ("witness", "/open", 19)])
def test_commitments_outlive_a_supplier_that_is_killed(recovery: str, lose: str, stride: int) -> None:
    """At each point of the slot: members do not say it again, and the sum is checked against all of them."""

    async def main() -> None:
        async with MortalNet(SIZE, recovery=recovery, poll_s=2.0, v_slots=64) as net:
            slot, point = net.first, 1
            await demanded(net, slot, 64)
            while True:
                died = await verified(net, slot, lose, point)
                if not died:
                    break
                slot, point = slot + 1, point + stride
            assert len(net.deaths) > 6, net.deaths

    run(main())


def test_an_order_for_several_slots_is_the_same_order_after_a_restart() -> None:
    async def main() -> None:
        async with MortalNet(SIZE, poll_s=2.0, v_slots=8) as net:
            slot = net.first
            await demanded(net, slot, 3)
            net.life.die_at = ("answer to commitv", 4)
            assert await verified(net, slot)
            await verified(net, slot + 1)
            await verified(net, slot + 2)
            await net.contribute(slot + 3)
            await net.until(slot + 3, SLOT_S - 1)
            assert {event["slot"] for event in net.of("v-check")} == {slot, slot + 1, slot + 2}

    run(main())
