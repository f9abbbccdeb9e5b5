"""Which net has which key slot of the module, through changes of profiles and restarts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from firmware.enforcement.dcnet.events import NetEvent, NetEventKind
from firmware.enforcement.dcnet.policy import NetRules
from firmware.profile.model import ProfileSet
from firmware.store.partition import Partition
from firmware.supervisor import ServiceGroup
from firmware.wide_area.nets import Nets, whose
from hsm.api import KeySlot
from tests.unit.firmware.fixed_module import module_of
from tests.unit.firmware.profile_set import NET_ID, at, group_total, net, series


@dataclass
class Member:
    net: str
    slot: KeySlot
    name: str = "dcnet"
    insecure: bool = False

    async def run(self):
        return None


class World:
    def __init__(self, partition, remembered):
        self.made: list[Member] = []
        self.group = Group("nets", lambda name, fault: None)
        self.nets = Nets(self._make, remembered, partition, self.group)

    def _make(self, profile, slot):
        self.made.append(Member(profile.net.net_id, slot))
        return self.made[-1]

    async def follow(self, *names):
        """Activate a set with these nets, start what is new; return who has which slot."""
        profiles = tuple(group_total(f"total-{n}", net=net(net_id=f"{n:016x}")) for n in names)
        self.nets.follow(ProfileSet(communication=profiles))
        for service in self.group.members.values():
            await service.run()
        return {int(member.net, 16): member.slot for member in self.nets.members()}


class Group(ServiceGroup):
    def replace(self, members):
        self.members = dict(members)


@pytest.fixture
async def partition(tmp_path):
    async with await Partition.open(tmp_path / "system.db", "system", module_of()) as opened:
        yield opened


async def test_each_net_keeps_its_slot(partition):
    world = World(partition, {})
    first = await world.follow(1, 2)
    assert len(set(first.values())) == 2
    again = World(partition, await Nets.remembered(partition))
    assert await again.follow(2, 1) == first


async def test_a_net_that_comes_back_finds_its_key_if_there_is_room(partition):
    world = World(partition, {})
    first = await world.follow(1)
    await world.follow(2)
    assert (await world.follow(1, 2))[1] is first[1]


async def test_two_nets_never_share_a_slot(partition):
    """Net 1 goes, others take all slots, net 1 comes back when one of them goes."""
    world = World(partition, {})
    await world.follow(1)
    full = await world.follow(2, 3, 4, 5)
    assert len(set(full.values())) == 4
    back = await world.follow(1, 2, 3, 4)
    assert len(set(back.values())) == 4
    both = await world.follow(1, 2, 3, 5)
    assert len(set(both.values())) == 4
    remembered = await Nets.remembered(partition)
    assert len(set(remembered.values())) == len(remembered)
    restarted = await World(partition, remembered).follow(1, 2, 3, 5)
    assert restarted == both


async def test_a_fifth_net_is_not_served(partition):
    world = World(partition, {})
    assert len(await world.follow(1, 2, 3, 4, 5)) == 4


async def test_the_slot_is_durable_before_the_member_runs(partition):
    world = World(partition, {})
    world.nets.follow(ProfileSet(communication=(replace(group_total(), net=net()),)))
    assert await Nets.remembered(partition) == {}
    await world.group.members[net().net_id].run()
    assert await Nets.remembered(partition) == {net().net_id: KeySlot.DCNET_1}


async def test_a_net_that_is_taken_away_is_forgotten_and_a_slot_that_is_anothers_spared(partition):
    forgotten = []

    async def forget(gone, slot):
        forgotten.append((int(gone, 16), slot))

    world = World(partition, {})
    world.nets = Nets(world._make, {f"{9:016x}": KeySlot.DCNET_2}, partition, world.group, forget=forget)
    for names in ((1,), (1, 2, 3, 4)):
        profiles = tuple(group_total(f"total-{n}", net=net(net_id=f"{n:016x}")) for n in names)
        world.nets.follow(ProfileSet(communication=profiles))
        for key, service in world.group.members.items():
            if key.startswith("forget."):
                task = asyncio.ensure_future(service.run())
                await asyncio.sleep(0)
                assert not task.done()  # a service that returned would be started again
                task.cancel()
    assert forgotten == [(9, KeySlot.DCNET_2), (9, None)]


WHOSE = NetRules.from_profile(net(reconcile_slots=96))


@pytest.mark.parametrize(
    ("kind", "slot", "reason", "told"),
    [
        (NetEventKind.TOTALLED, 671, "", False),
        (NetEventKind.TOTALLED, 672, "", True),
        (NetEventKind.OWED, 671, "aborted", False),
        # A week of days: the eighth period, 7, is the first one that is all this consumer's.
        (NetEventKind.RECONCILED, 6, "3 entries", False),
        (NetEventKind.RECONCILED, 7, "3 entries", True),
        (NetEventKind.RECOVERED, 7, "reconcile: shares for lost members were given", True),
        (NetEventKind.RECOVERED, 7, "shares for lost members were given", False),
        # A supplier that lied, in whatever slot and net, lies to who lives here now.
        (NetEventKind.QUARANTINE, 3, "two manifests", True),
        (NetEventKind.QUARANTINE, -1, "two beginnings", True),
        (NetEventKind.SWITCHED, 3, "roster 2", True),
        (NetEventKind.JOINED, None, "", True),
    ],
)
def test_whose_log_is_told_what(kind, slot, reason, told):
    """The register is this consumer's since a week after the grid began."""
    event = NetEvent(NET_ID, kind, slot, 128, reason, False)
    begun = series(valid_from=at(7 * 86400))
    assert whose(event, begun, WHOSE) == ("household" if told else "")
    assert whose(event, series(), WHOSE) == "household"
    assert whose(event, None, WHOSE) == ""


async def test_a_member_is_made_anew_when_the_time_of_its_register_changes(partition):
    world = World(partition, {})
    concealed = group_total("total-1", net=net(net_id=f"{1:016x}"))
    there = series(concealed.processing)
    for processing in (there, there, replace(there, valid_until=datetime(2030, 1, 1, tzinfo=UTC))):
        world.nets.follow(ProfileSet(processing=(processing,), communication=(concealed,)))
    assert len(world.made) == 2
