"""I12 and I13 with recovery: the power goes at any write of a slot that others may recover."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.instant_loop import run
from tests.unit.dcnet.running_net import RunningNet, energies
from tests.unit.dcnet.support import PowerCut

WRITES = 9
"""Of a member in one slot, from its value to its result."""


@pytest.mark.parametrize("away_s", [0.0, 12.0])
def test_a_power_cut_at_any_write_loses_no_energy_and_counts_none_twice(away_s: float) -> None:
    """Others may recover the mask of who has submitted: whatever its ledger knows, a total may have it."""

    async def main() -> None:
        async with RunningNet(8, recovery="witness") as net:
            home = net.homes[2]
            for writes in range(WRITES):
                slot = net.first + 3 * writes
                await net.contribute(slot)
                home.store.fail_after = writes
                assert home.task is not None
                with pytest.raises(PowerCut):
                    await home.task
                home.store.fail_after = None
                await asyncio.sleep(away_s)
                net.start(home)
                for later in (slot + 1, slot + 2):
                    await net.contribute(later)
                await net.until(slot + 2, 58)
                totals = {one: total["lanes"][0] // 10 for one, total in net.totals().items()}
                owed = sum([energy for one in net.homes for energy in (await one.owed()).values()])
                measured = sum(energies(net, one) for one in range(net.first, slot + 3))
                assert sum(totals.values()) + owed == measured, f"after write {writes}"

    run(main())
