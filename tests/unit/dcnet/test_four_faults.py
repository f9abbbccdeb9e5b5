"""Gateway off, line down, meter silent, a whole street gone: four faults that look different."""

from __future__ import annotations

from pathlib import Path

import pytest

from firmware.enforcement.dcnet.events import NetEventKind
from tests.unit.dcnet.conducted_net import GATEWAYS, running
from tools.counterparts.net_oversight import Outage

ALL = sum(range(1, 7)) * 100  # tenths of Wh
pytestmark = [pytest.mark.punctual, pytest.mark.timeout(300)]


async def test_fault_1_a_gateway_is_off(tmp_path: Path) -> None:
    async with running(tmp_path / "pki") as (net, first):
        await net.homes[2].stop()
        for slot in (first, first + 1):
            await net.over(slot)
            await net.measure(slot, 3)
            total = await net.total(slot)
            assert (total["verdict"], total["lanes"][0]) == ("totalled", ALL - 300)
            assert total["left_out"] == [GATEWAYS[2]]
        net.homes[2].start()
        await net.over(first + 3)
        await net.measure(first + 3, 3)
        await net.total(first + 3)
        # It says hello in the first slot it is there for, and counts from then on.
        await net.over(first + 4)
        await net.measure(first + 4)
        total = await net.total(first + 4)
        assert (total["verdict"], total["lanes"][0]) == ("totalled", ALL)
        # Nothing was measured while it was off: what its meter counted is owed as one span by the metering.
        assert (await net.homes[2].reasons()).keys() == {first + 4}


async def test_fault_2_a_line_is_down(tmp_path: Path) -> None:
    async with running(tmp_path / "pki") as (net, first):
        net.homes[2].line.cut = {"/"}
        await net.over(first)
        await net.measure(first)
        total = await net.total(first)
        assert (total["verdict"], total["lanes"][0]) == ("totalled", ALL - 300)
        net.homes[2].line.cut = set()
        for slot in (first + 1, first + 2, first + 3):
            await net.over(slot)
            await net.measure(slot)
            total = await net.total(slot)
        assert (total["verdict"], total["lanes"][0]) == ("totalled", ALL)
        # The value was known and could not leave: it is owed, and sent in no other slot.
        states = await net.homes[2].reasons()
        assert states[first][0] == "OWED"
        assert states[first + 3][0] == "TOTALLED"
        owed = await net.homes[2].member.owed()
        assert (owed[0].first_slot, owed[0].import_wh) == (first, 30)


async def test_fault_3_a_meter_is_silent(tmp_path: Path) -> None:
    async with running(tmp_path / "pki") as (net, first):
        await net.over(first)
        await net.measure(first, 3)
        await net.homes[2].member.contribute(first, None)
        total = await net.total(first)
        assert (total["verdict"], total["lanes"][0]) == ("totalled", ALL - 300)
        # The gateway itself is there and has said so: the next slot counts on it without a pause.
        await net.over(first + 1)
        await net.measure(first + 1)
        total = await net.total(first + 1)
        assert (total["verdict"], total["lanes"][0]) == ("totalled", ALL)
        assert (await net.homes[2].reasons()).keys() == {first + 1}
        assert not await net.homes[2].member.owed()


async def test_fault_4_a_whole_street_is_gone(tmp_path: Path) -> None:
    async with running(tmp_path / "pki") as (net, first):
        for home in net.homes[3:]:
            await home.stop()
        await net.over(first)
        await net.measure(first, 4, 5, 6)
        assert (await net.total(first))["verdict"] == "aborted"
        await net.over(first + 1)
        await net.measure(first + 1, 4, 5, 6)
        await net.total(first + 1)
        for home in net.homes[:3]:
            assert (await home.reasons())[first] == ("OWED", "too-many-excluded: 3 of 6 members accepted")
            (owed,) = [one for one in await home.member.owed() if one.first_slot == first]
            assert owed.import_wh == 10 * home.number
        assert {one["code"] for one in net.told("refusal")} == {"too-many-excluded"}
        assert {one["index"] for one in net.told("refusal")} == {1, 2, 3}
        assert not net.told("outage")


async def test_fault_4_with_a_notice_of_the_administrator_the_rest_is_summed(tmp_path: Path) -> None:
    async with running(tmp_path / "pki", lambda _rules: {"report_slots": 2}) as (net, first):
        net.oversight.announce(net.policy.net_id, Outage(first, first + 1, (4, 5, 6)))
        for home in net.homes[3:]:
            await home.stop()
        await net.over(first)
        await net.measure(first, 4, 5, 6)
        total = await net.total(first)
        assert (total["verdict"], total["lanes"]) == ("totalled", [600, 0, 3])
        for home in net.homes[:3]:
            assert (await home.reasons())[first][0] == "TOTALLED"
            assert NetEventKind.REFUSED not in {event.kind for event in home.events}
        await net.over(first + 1)
        await net.measure(first + 1, 4, 5, 6)
        await net.total(first + 1)
        assert {one["slot"] for one in net.told("outage")} == {first}
        assert net.told("rates"), net.told("refused")
