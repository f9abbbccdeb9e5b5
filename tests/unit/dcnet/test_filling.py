"""A net that fills in batches: it begins with enough, takes in others at epochs, and says who waits."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from firmware.enforcement.dcnet.events import NetEventKind
from tests.support.virtual_time import VirtualClock, run_virtually
from tests.unit.dcnet.roster_street import Net, Street, believe_names, told

HOMES = [f"esgw0100000{number:03d}" for number in range(1, 25)]


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    believe_names(monkeypatch)


class Filled:
    """A street whose homes come to one net in batches; every slot that is the net's is handed over."""

    def __init__(self, net: Net, street: Street) -> None:
        self.net, self.street = net, street
        self.begins: dict[str, datetime] = {}
        self.slot = net.rules.slot_at(VirtualClock().now_utc())

    async def order(self, names: list[str], epochs: int) -> int:
        """The administrator orders the net for these from an epoch on; the plain profile lasts until then."""
        rules = self.net.rules
        boundary = rules.first_slot_of(rules.epoch_of(self.slot) + epochs)
        self.net.ordered |= set(names)
        self.net.emp.follow(dict.fromkeys([*self.begins, *names], "gwa"))
        for name in names:
            self.begins[name] = rules.slot_end(boundary - 1)
            self.street.join(await self.street.build(name), self.net, begins_utc=self.begins[name])
        return boundary

    async def live(self, until: int) -> None:
        """Serve slots up to one."""
        rules = self.net.rules
        while self.slot < until:
            await self.street.after(rules, self.slot)
            for name, begin in self.begins.items():
                if rules.slot_end(self.slot - 1) >= begin and name in self.street.homes:
                    member = self.street.homes[name].members[self.net.net_id]
                    await member.contribute(self.slot, 100 + HOMES.index(name))
            self.slot += 1

    def waits(self) -> list[tuple[int, int, str]]:
        """(waiting, members, why) that the operator was told."""
        seen = [event for event in self.net.seen if event["event"] == "waits"]
        return [(event["waiting"], event["members"], event["why"]) for event in seen]

    def totalled(self, slot: int) -> int:
        """How many are in the total of a slot, which is right."""
        total = self.net.totals()[slot]
        expected = sum(100 + HOMES.index(name) for name in total["members"])
        assert total["lanes"] == [10 * expected, 0, len(total["members"])]
        return len(total["members"])


def test_a_net_fills_in_batches_at_epoch_boundaries_and_nobody_loses_a_slot(cheap: None) -> None:
    run_virtually(_fills())


async def _fills() -> None:
    net = Net(None, 1, [], [], n_start=10, n_max=16, batch=4)
    rules = net.rules
    async with Street() as street, asyncio.timeout(100_000):
        street.open(net)
        filled = Filled(net, street)
        # Seven are too few. Whoever was ordered too early owes; the others stay on their plain profiles.
        await filled.order(HOMES[:7], 1)
        await filled.live(filled.slot + 20)
        assert net.emp.rosters.open.publication is None
        assert filled.waits() == [(7, 0, "too-few")]
        # Five more make twelve: the net begins.
        begin = await filled.order(HOMES[7:12], 2)
        await filled.live(begin + 4)
        assert net.emp.rosters.in_force is not None
        assert len(net.emp.rosters.in_force.members) == 12
        assert filled.totalled(begin + 1) == 12
        # Two newcomers are no batch: they wait for two more, and no roster is drafted for them.
        await filled.order(HOMES[12:14], 1)
        await filled.live(filled.slot + 12)
        assert not [event for event in net.seen if event["event"] == "in-force"]
        second = await filled.order(HOMES[14:16], 2)
        await filled.live(second + 3)
        assert [event["version"] for event in net.seen if event["event"] == "in-force"] == [2]
        assert filled.totalled(second - 1) == 12
        assert filled.totalled(second) == 16
        for name in HOMES[14:16]:  # ordered in time: not one slot of theirs is owed
            assert not await street.homes[name].members[net.net_id].owed()
        # The net is full: three more wait, and the operator is told to order another net for them.
        await filled.order(HOMES[16:19], 1)
        await filled.live(filled.slot + 12)
        assert filled.waits()[-1] == (3, 16, "full")
        assert "order a further net" in [e for e in net.seen if e["event"] == "waits"][-1]["hint"]
        assert [event["version"] for event in net.seen if event["event"] == "in-force"] == [2]
        assert filled.totalled(filled.slot - 2) == 16
        # Four go: whoever waits comes in with the next roster.
        ordered = {name: "gwa" for name in filled.begins if name not in HOMES[:4]}
        net.emp.follow(ordered)
        await filled.live(rules.first_slot_of(rules.epoch_of(filled.slot) + 2) + 3)
        now = net.emp.rosters.in_force
        assert now.roster.version == 3
        assert sorted(now.members) == HOMES[4:19]
        assert filled.totalled(filled.slot - 2) == 15
        for name in HOMES[16:19]:
            assert told(street.homes[name], NetEventKind.JOINED, net) == 1
