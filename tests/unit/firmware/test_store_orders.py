"""FDP_RIP.2, FMT_SMF.1: orders that wipe one consumer and set the memory limit; once, logged, kill-safe."""

from __future__ import annotations

from datetime import timedelta

import pytest

from firmware.chronicle import Chronicle
from firmware.clock.clock import AdjustableClock
from firmware.errors import StoreUnavailable
from firmware.log.entry import Event
from firmware.log.journal import Logs
from firmware.log.sealer import Sealer
from firmware.metering.happenings import Happenings
from firmware.metering.original import OriginalLists
from firmware.metering.register import RegisteredValue
from firmware.metering.tariff.task import TariffEvent
from firmware.orders.desk import OrderDesk
from firmware.orders.stores import store_orders
from firmware.profile.model import ProfileSet
from firmware.profile.registry import Registry, SealedProfiles
from firmware.store.memory import MemoryWatch
from firmware.store.stores import Stores
from firmware.store.wiping import wipe_consumer
from hsm.api import Curve, KeySlot
from lmn.model import MeterId, Obis
from tests.support.soft_module import SoftModule
from tests.unit.firmware.profile_set import IMPORT, METER, at, household
from tests.unit.firmware.test_registry import order

BODY = b'{"consumer": "household"}'


class Killed(Exception):
    pass


class World:
    """The desk over real stores, as `firmware.life.care` puts it together."""

    def __init__(self, stores, module):
        self.stores, self.clock = stores, AdjustableClock(at(0))
        self.logs = Logs(stores, self.clock)
        self.chronicle = Chronicle(self.logs, self.clock, stores.system)
        self.registry = Registry(
            SealedProfiles(stores.system, self.chronicle.receipt_entries),
            self.clock.now_utc,
            small_nets_allowed=False,
            report=self.chronicle.receipt,
        )
        self.sealer = Sealer(self.logs, module, self.clock, "esgw0100000001")
        self.memory = MemoryWatch(stores, critical_percent=90, critical_bytes=0)
        self.lists, self.wiped, self.killed_after = OriginalLists(stores.consumer), 0, False
        self.desk = OrderDesk(
            self.registry,
            stores.system,
            entries=self.chronicle.instruction_entries,
            report=self.chronicle.instruction,
        )
        self.desk.take(
            store_orders(
                active=lambda: self.registry.active,
                belongings=self.registry.belongings,
                wipe=self._wipe,
                set_limit=self.memory.set_limit,
            )
        )

    async def _wipe(self, consumer, belongings):
        gone = await wipe_consumer(self.stores, consumer, belongings)
        self.wiped += 1
        if self.killed_after:
            raise Killed
        return gone

    async def fill(self):
        assert (await self.registry.apply(order(household()))).accepted
        for hour in range(5):
            instant = at(3600 * hour)
            value = RegisteredValue(MeterId.from_text(METER), Obis.from_text(IMPORT), instant, None, "Wh", 0)
            await self.lists.add("series", [value], instant)
        event = TariffEvent(at(0) + timedelta(seconds=1), "top-up", 5)
        await Happenings(self.stores.consumer).tell("series", "o-0", event)
        await self.sealer.seal()

    async def applied(self, kind):
        return [
            entry.text
            for entry in await self.logs.system.entries()
            if entry.event is Event.ORDER_APPLIED and kind in entry.text
        ]


@pytest.fixture
async def module():
    one = SoftModule()
    await one.generate_key_pair(KeySlot.WAN_SIG, Curve.BRAINPOOL_P256)
    return one


@pytest.fixture
async def world(tmp_path, module):
    async with await Stores.open(tmp_path, module) as stores:
        yield World(stores, module)


def wipe(identity="w-1", body=BODY):
    return order(body, identity=identity, kind="wipe-consumer")


async def test_fdp_rip_2_who_is_measured_is_not_wiped(world):
    await world.fill()
    receipt = await world.desk.apply(wipe())
    assert (receipt.accepted, receipt.code) == (False, "active")
    assert world.wiped == 0
    assert await world.lists.at("series", at(0)) is not None


async def test_fdp_rip_2_the_administrator_wipes_a_consumer_once_and_it_is_logged(world):
    await world.fill()
    assert (await world.registry.apply(order(ProfileSet(), version=2))).accepted
    receipt = await world.desk.apply(wipe())
    assert receipt.accepted
    assert await world.desk.apply(wipe()) == receipt
    assert world.wiped == 1
    assert await world.lists.at("series", at(0)) is None
    assert await Happenings(world.stores.consumer).events("series") == ()
    assert not any("series" in kind for kind in await world.stores.consumer.kinds())
    assert len(await world.applied("what was kept of household is gone")) == 1
    (entry,) = await world.logs.consumer("household").entries()
    assert (entry.event, entry.number, entry.user) == (Event.CONTRACT_CHANGE, 1, "gwa")
    await world.sealer.seal()  # a chain that begins anew is sealed anew
    assert (await world.logs.consumer("household").verify()).number == 1
    assert [number for number, _ in await world.logs.consumer("household").seals()] == [1]


async def test_fdp_rip_2_a_kill_before_the_receipt_has_it_carried_out_again(world, module):
    await world.fill()
    await world.registry.apply(order(ProfileSet(), version=2))
    world.killed_after = True
    with pytest.raises(Killed):
        await world.desk.apply(wipe())
    again = World(world.stores, module)
    await again.registry.load()
    await again.chronicle.recover()
    receipt = await again.desk.apply(wipe())
    assert receipt.accepted
    assert again.wiped == 1
    assert len(await again.applied("household is gone")) == 1
    assert len(await again.logs.consumer("household").entries()) == 1


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("wipe-consumer", b"{}"),
        ("wipe-consumer", b'{"consumer": "../x"}'),
        ("wipe-consumer", b'{"consumer": "household", "meters": []}'),
        ("memory-limit", b'{"percent": 0}'),
        ("memory-limit", b'{"percent": 101}'),
        ("memory-limit", b'{"percent": "80"}'),
        ("memory-limit", b"[]"),
    ],
)
async def test_another_form_is_refused_and_changes_nothing(world, kind, body):
    await world.fill()
    receipt = await world.desk.apply(order(body, identity="x", kind=kind))
    assert (receipt.accepted, receipt.code) == (False, "invalid")
    assert world.wiped == 0
    assert await world.memory.limit_percent() == 90


async def test_fmt_smf_1_the_administrator_sets_the_memory_limit(world):
    first = order(b'{"percent": 40}', identity="m-1", kind="memory-limit")
    receipt = await world.desk.apply(first)
    assert receipt.accepted
    assert await world.memory.limit_percent() == 40
    second = order(b'{"percent": 70}', identity="m-2", kind="memory-limit")
    assert (await world.desk.apply(second)).accepted
    assert await world.desk.apply(first) == receipt
    assert await world.memory.limit_percent() == 70
    assert len(await world.applied("memory is critical from")) == 2


async def test_a_store_that_takes_nothing_gives_no_receipt(world):
    commit = world.stores.system.commit

    async def full(_operations):
        raise StoreUnavailable("full")

    world.stores.system.commit = full
    with pytest.raises(StoreUnavailable):
        await world.desk.apply(order(b'{"percent": 40}', identity="m-1", kind="memory-limit"))
    world.stores.system.commit = commit
    assert (await world.desk.apply(order(b'{"percent": 40}', identity="m-1", kind="memory-limit"))).accepted
