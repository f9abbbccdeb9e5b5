"""Recovery under witnesses in running members, supplier and administrators."""

from __future__ import annotations

from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.machines import SlotState
from tests.unit.dcnet.running_net import RunningNet, energies, run


def witnessed(**changes: object) -> RunningNet:
    return RunningNet(8, recovery="witness", **changes)


def test_a_member_lost_after_the_manifest_is_recovered_and_the_total_is_right() -> None:
    async def main() -> None:
        async with witnessed() as net:
            slot, lost = net.first, net.homes[2]
            lost.cut = lambda resource: "/open/" in resource
            await net.contribute(slot)
            await net.until(slot, 59)
            total = net.totals()[slot]
            assert total["verdict"] == "totalled", net.events
            assert total["lanes"] == [energies(net, slot) * 10, 0, 8]
            assert [event["lost"] for event in net.of("recovery ordered")] == [[3]]
            for home in net.homes:
                states = {entry.slot: entry.state for entry in await home.member.slots()}  # type: ignore[union-attr]
                assert states[slot] is SlotState.TOTALLED
            assert sum(NetEventKind.RECOVERED in home.kinds() for home in net.homes) == 7
            shown = await net.homes[0].member.faults()  # type: ignore[union-attr]
            assert shown["recovered"] == [{"slot": slot, "shares": 1}]
            lost.cut = lambda resource: False
            await net.contribute(slot + 1)
            await net.until(slot + 1, 59)
            assert net.totals()[slot + 1]["lanes"] == [energies(net, slot + 1) * 10, 0, 8]

    run(main())
