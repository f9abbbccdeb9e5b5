"""A reconcile slot is played by the roster before its period, however many came since, whoever is killed."""

from __future__ import annotations

from tests.support.instant_loop import run
from tests.unit.dcnet.mortal_net import MortalNet
from tests.unit.dcnet.running_net import Home
from tests.unit.dcnet.support import NET
from tools.counterparts.net_versions import Version

SIZE, SLOT_S, PERIOD = 8, 60, 60  # 61 at most: a single slot is a lot
COMERS = 2


def of(version: Version | None) -> int:
    return 0 if version is None else version.roster.version


async def joined_by_two(net: MortalNet, slot: int) -> int:
    """Two more come; play until the roster with them is in force. Returns the next slot."""
    size, wanted = len(net.homes), of(net.coordinator.rosters.in_force) + 1
    for number in range(size + 1, size + 1 + COMERS):
        home = Home(f"gw{number}", f"gwa{1 + number % 2}")
        net.homes.append(home)
        net.start(home)
    net.coordinator.follow({home.name: home.administrator for home in net.homes})
    while of(net.coordinator.rosters.in_force) < wanted:
        for home in net.homes[:size]:
            await net.until(slot, 0)
            await home.member.contribute(slot, 100)  # type: ignore[union-attr]
        await net.until(slot, SLOT_S - 1)
        slot += 1
    return slot


def test_the_roster_of_a_period_outlives_five_later_ones_and_its_supplier() -> None:
    async def main() -> None:
        changes = {"epoch_s": 480, "roster_pause_s": 0, "churn_min": 2, "poll_s": 4.0, "delta": 0.4}
        async with MortalNet(SIZE, recovery="none", reconcile_slots=PERIOD, **changes) as net:
            slot = net.first
            lost = slot  # a member that never opens: the slot is aborted, and owed by all
            net.homes[2].cut = lambda resource: "/open/" in resource
            await net.contribute(slot)
            await net.until(slot, SLOT_S - 1)
            net.homes[2].cut = lambda _resource: False
            assert net.totals()[lost]["verdict"] == "aborted"
            slot += 1
            for _ in range(5):
                slot = await joined_by_two(net, slot)
            end = lost + PERIOD - lost % PERIOD - 1
            assert slot < end, "all within one period"
            while slot <= end + 2:
                if slot == end:
                    net.life.die_in = 1
                for home in net.homes:
                    await net.until(slot, 0)
                    await home.member.contribute(slot, 100)  # type: ignore[union-attr]
                await net.until(slot, SLOT_S - 1)
                net.life.die_in = None
                slot += 1
            assert net.deaths
            (total,) = [one for (name, _), one in net.said.items() if name != NET.hex()]
            assert total["verdict"] == "totalled", net.deaths
            assert len(total["members"]) == SIZE
            assert total["lanes"][2] == SIZE
            assert total["lanes"][0] >= sum(range(SIZE))

    run(main())
