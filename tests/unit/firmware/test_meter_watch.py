"""What the logs are told of meters (FAU_GEN.1/CON): silence, status, ends of periods; once each."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from firmware.errors import StoreCorrupt
from firmware.flow.meter_watch import KIND, MeterWatch
from firmware.flow.pipeline import RegistrationPipeline
from firmware.log.entry import Event, LogKind, Outcome
from firmware.log.journal import Journal
from firmware.metering.original import OriginalLists
from firmware.profile.model import ProfileSet
from firmware.store.partition import Partition
from lmn.model import ACTIVE_ENERGY_IMPORT, Reading
from tests.unit.firmware.fixed_module import module_of
from tests.unit.firmware.pipeline_street import Gateway, Street
from tests.unit.firmware.profile_set import METER, at, bill, billing, household, meter_profile, series
from tests.unit.firmware.tariff_task import ID, SLOT
from tests.unit.firmware.test_registry import order

TAMPERED = 1 << 2 | 1 << 9


class _Logs:
    """The system log and a consumer's, as `firmware.log.journal.Logs` has them."""

    def __init__(self, partition: Partition, clock) -> None:
        self.system = Journal(partition, LogKind.SYSTEM, clock)
        self._consumers: dict[str, Journal] = {}
        self._new = lambda name: Journal(partition, LogKind.CONSUMER, clock, consumer=name)

    def consumer(self, name: str) -> Journal:
        return self._consumers.setdefault(name, self._new(name))


class World:
    """A gateway of the pipeline's tests with a watch, one life after the other."""

    def __init__(self, path) -> None:
        self.street = Street(path)

    async def start(self, profiles: ProfileSet | None = None) -> None:
        self.gateway: Gateway = await self.street.start()
        if profiles is not None:
            assert (await self.gateway.registry.apply(order(profiles))).accepted
        clock = self.street.clock
        self.logs = _Logs(self.street.partition, clock)
        self.watch = MeterWatch(self.gateway.registry, self.logs, self.street.partition, clock)
        self.gateway.registering = RegistrationPipeline(
            self.gateway.registry,
            self.gateway.register,
            self.gateway.originals,
            self.gateway.gate,
            clock,
            announce=lambda: None,
            told=self.watch.registered,
        )
        await self.watch.step()

    async def passes(self, seconds: float) -> None:
        self.street.clock.advance(seconds)
        await self.watch.step()

    async def told(self, consumer: str = "household"):
        entries = await self.logs.consumer(consumer).entries()
        return [(one.event, one.sub_event) for one in entries]

    def hear(self, second: float, status: int = 4, value: int = 1000) -> None:
        self.gateway.register.add(
            Reading(ID, ACTIVE_ENERGY_IMPORT, Decimal(value), "Wh", at(second), status, wired=True)
        )

    async def until(self, second: float) -> None:
        self.street.clock.set_utc(at(second))
        await self.gateway.registering.step()


SILENT = (Event.METER_COMMUNICATION_FAULT, "silent")
AGAIN = (Event.METER_OK, "heard-again")


@pytest.fixture
async def world(tmp_path):
    one = World(tmp_path)
    yield one
    await one.street.partition.close()


async def test_fau_gen_1_con_a_consumer_is_told_that_his_meter_is_silent_and_heard_again(world):
    await world.start(household())
    await world.passes(1799)
    assert await world.told() == []
    await world.passes(1)
    await world.passes(5000)
    assert await world.told() == [SILENT]
    world.watch.heard(ID)
    await world.passes(60)
    assert await world.told() == [SILENT, AGAIN]
    system = [(one.event, one.subject, one.outcome) for one in await world.logs.system.entries()]
    assert system == [
        (Event.METER_COMMUNICATION_FAULT, METER, Outcome.FAILURE),
        (Event.METER_OK, METER, Outcome.SUCCESS),
    ]
    assert await world.told("neighbour") == []


async def test_a_restart_neither_repeats_nor_forgets_a_silence(world):
    await world.start(household())
    await world.passes(2000)
    await world.start()
    await world.passes(2000)
    assert await world.told() == [SILENT]
    await world.start()
    world.watch.heard(ID)
    await world.passes(1)
    assert await world.told() == [SILENT, AGAIN]


async def test_a_meter_that_speaks_is_never_told(world):
    await world.start(household())
    for _ in range(20):
        world.watch.heard(ID)
        await world.passes(1000)
    assert await world.told() == []


async def test_what_nobody_listened_to_is_no_silence(world):
    """The operating state forbade measuring for an hour: the service was stopped and begins anew."""
    await world.start(household())
    world.watch.heard(ID)
    world.street.clock.advance(3600)
    running = asyncio.create_task(world.watch.run())
    await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.wait([running])
    assert await world.told() == []


async def test_a_set_clock_makes_no_silence(world):
    await world.start(household())
    world.street.clock.set_utc(at(10**7))
    await world.watch.step()
    assert await world.told() == []


@pytest.mark.parametrize(("period_s", "limit_s"), [(60, 600), (3600, 7200), (86400, 86400)])
async def test_how_long_a_silence_is_depends_on_the_profile(world, period_s, limit_s):
    profiles = household(processing=(series(registration_period_s=period_s),), communication=())
    await world.start(profiles)
    await world.passes(limit_s - 1)
    assert await world.told() == []
    await world.passes(1)
    assert await world.told() == [SILENT]


async def test_a_meter_without_a_profile_may_be_silent(world):
    await world.start(ProfileSet(meters=(meter_profile(),)))
    await world.passes(10**6)
    assert await world.told() == []


async def test_a_changed_status_is_told_once_and_when_it_is_over(world):
    await world.start(household(processing=(series(),), communication=()))
    for slot, status in enumerate([4, TAMPERED, TAMPERED, None, TAMPERED, 4]):
        if status is not None:
            world.hear(SLOT * slot, status)
        await world.until(SLOT * slot + 30)
    assert await world.told() == [(Event.METER_STATUS, "tamper"), (Event.METER_STATUS, "ok")]
    assert len(await world.logs.system.entries()) == 2


async def test_a_status_is_remembered_over_a_restart(world):
    await world.start(household(processing=(series(),), communication=()))
    world.hear(0, TAMPERED)
    await world.until(30)
    await world.start()
    world.hear(SLOT, TAMPERED)
    await world.until(SLOT + 30)
    assert await world.told() == [(Event.METER_STATUS, "tamper")]


async def test_a_consumer_is_told_of_each_billing_period_that_ended(world):
    profiles = household(processing=(bill(billing_period_s=1800), series()), communication=(billing(),))
    await world.start(profiles)
    for slot in range(5):
        await world.until(SLOT * slot + 30)
    await world.start()
    await world.until(7 * SLOT)
    entries = await world.logs.consumer("household").entries()
    ends = [one.evidence["until_utc"] for one in entries if one.event is Event.REGISTRATION_CLOSED]
    assert ends == [at(1800).isoformat(), at(3600).isoformat(), at(5400).isoformat()]
    assert {one.subject for one in entries if one.event is Event.REGISTRATION_CLOSED} == {"bill"}


async def test_a_kill_before_the_log_was_told_loses_no_period(world):
    await world.start(household(processing=(bill(billing_period_s=900),), communication=(billing(),)))
    await world.until(930)
    originals = OriginalLists(world.street.partition)
    await originals.add("bill", [], at(1800))  # registered, and then killed
    await world.start()
    await world.until(2730)
    told = [event for event, _ in await world.told()]
    assert told == [Event.REGISTRATION_CLOSED] * 3


async def test_what_was_said_can_be_damaged(tmp_path):
    async with await Partition.open(tmp_path / "c.db", "consumer", module_of()) as partition:
        await partition.put(KIND, METER, b"[5")
        street = Street(tmp_path / "other")
        (tmp_path / "other").mkdir()
        gateway = await street.start()
        assert (await gateway.registry.apply(order(household()))).accepted
        watch = MeterWatch(gateway.registry, _Logs(partition, street.clock), partition, street.clock)
        street.clock.advance(1)
        with pytest.raises(StoreCorrupt, match="said of a meter"):
            await watch.step()
        await street.partition.close()
