"""The road inside the gateway: queues, registration on the grid, concealment, delivery, restarts."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import timedelta
from decimal import Decimal
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from firmware.clock.clock import AdjustableClock
from firmware.enforcement.gate import Gate
from firmware.errors import StoreUnavailable
from firmware.flow.delivery import Delivery
from firmware.flow.due import DueDeliveries
from firmware.flow.evaluation import Evaluator
from firmware.flow.intake import Intake
from firmware.flow.pipeline import DELIVERIES_WAITING, DeliveryPipeline, IntakePipeline, RegistrationPipeline
from firmware.metering.happenings import Happenings
from firmware.metering.original import OriginalLists
from firmware.metering.register import Register
from firmware.metering.running import RunningRegisters
from firmware.metering.status import GatewayStatus, gateway_half
from firmware.orders.desk import OrderDesk
from firmware.orders.tariff import TariffOrders
from firmware.profile.model import ProfileSet
from firmware.profile.registry import Registry
from firmware.store.partition import Partition
from hsm.api import KeySlot
from lmn.model import ACTIVE_ENERGY_IMPORT, MeterId, Reading
from lmn.ports import MeterAccess, ReceptionMode
from lmn.wmbus.link import ReceivedFrame
from tests.support.soft_module import SoftModule
from tests.unit.firmware.fixed_module import module_of
from tests.unit.firmware.profile_set import (
    METER,
    NET_ID,
    at,
    bill,
    billing,
    group_total,
    household,
    meter_profile,
    peer,
    plain_series,
    series,
)
from tests.unit.firmware.test_delivery import Outbox
from tests.unit.firmware.test_gate import Stage
from tests.unit.firmware.test_intake import Meters, Store, plain_telegram
from tests.unit.firmware.test_registry import MemoryProfiles, order

ID = MeterId.from_text(METER)
GATEWAY = "esgw0100000001"
SIGNER = SoftModule()
SIGNER.keys[KeySlot.WAN_SIG] = ec.generate_private_key(ec.BrainpoolP256R1())


def demo_profiles(**changes) -> ProfileSet:
    """Bill over three slots, group total per slot: what the demonstration does, with quarter hours."""
    return household(processing=(bill(billing_period_s=2700), series()), **changes)


class Gateway:
    """The parts between register and outbox, as boot puts them together, on a real partition."""

    def __init__(self, partition, clock, profile_store, stage):
        self.clock, self.stage, self.outbox = clock, stage, Outbox()
        self.denials, self.notes, self.told = [], [], []
        self.registry = Registry(profile_store, clock.now_utc, small_nets_allowed=False, report=self._ignore)
        self.register = Register(timedelta(hours=8))
        self.originals = OriginalLists(partition)
        nets = {NET_ID: stage}
        self.gate = Gate(GATEWAY, "gwa", lambda: self.registry.active, nets.get, self._denied)
        delivery = Delivery(self.gate, self.outbox, self._sent)
        self.happenings = Happenings(partition)
        sign = partial(SIGNER.sign, KeySlot.WAN_SIG)
        running = RunningRegisters(partition)
        evaluator = Evaluator(self.originals, self.happenings, GATEWAY, sign, running)
        due = DueDeliveries(self.registry, self.originals, delivery, clock, self.happenings, evaluator)
        self.deliver = DeliveryPipeline(due, clock)
        self.registry.before_each_change(self.deliver.settle)
        tariffs = TariffOrders(self.registry, self.happenings, clock.now_utc, announce=self.deliver.announce)
        self.orders = OrderDesk(
            self.registry, partition, entries=lambda _receipt, _consumer: (), report=self._told
        )
        self.orders.take(tariffs.carriers())
        self.registering = RegistrationPipeline(
            self.registry, self.register, self.originals, self.gate, clock, announce=self.deliver.announce
        )

    async def _ignore(self, _receipt):
        return None

    async def _told(self, receipt, consumer):
        self.told.append((receipt.code, consumer))

    async def _denied(self, denial):
        self.denials.append(denial)

    async def _sent(self, sent):
        self.notes.append(sent)

    def hear(self, second, value, obis=ACTIVE_ENERGY_IMPORT, unit="Wh"):
        self.hear_of(ID, second, value, obis, unit)

    def hear_of(self, meter, second, value, obis=ACTIVE_ENERGY_IMPORT, unit="Wh"):
        self.register.add(Reading(meter, obis, Decimal(value), unit, at(second)))

    async def until(self, second):
        self.clock.set_utc(at(second))
        await self.registering.step()
        await self.deliver.step()

    def documents(self):
        return [json.loads(release.body) for release in self.outbox.sent]


class Street:
    """Starts the same gateway again and again."""

    def __init__(self, path):
        self.path, self.clock = path, AdjustableClock(at(-60))
        self.profiles, self.stage = MemoryProfiles(), Stage()
        self.partition = None

    async def start(self):
        if self.partition is not None:
            await self.partition.close()
        self.partition = await Partition.open(self.path / "consumer.db", "consumer", module_of())
        gateway = Gateway(self.partition, self.clock, self.profiles, self.stage)
        await gateway.registry.load()
        return gateway


@pytest.fixture
async def street(tmp_path):
    one = Street(tmp_path)
    yield one
    await one.partition.close()


async def started(street, profiles):
    gateway = await street.start()
    assert (await gateway.registry.apply(order(profiles))).accepted
    return gateway


async def reached(condition):
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0.0005)
    raise AssertionError("never reached")


async def registered(gateway, second):
    for _ in range(20_000):
        if await gateway.originals.at("series", at(second)) is not None:
            return
    raise AssertionError("never registered")


async def test_slots_are_concealed_and_one_bill_leaves(street):
    gateway = await started(street, demo_profiles())
    for slot in range(4):
        gateway.hear(900 * slot + 3, 1000 + 100 * slot * slot)
        await gateway.until(900 * slot + 30)
    assert gateway.stage.taken == [(0, 100), (1, 300), (2, 500)]
    (document,) = gateway.documents()
    assert document["taf"] == 1
    assert [(one["time_utc"], one["value"]) for one in document["entries"]] == [
        ("2026-01-01T00:45:00Z", "1900")
    ]
    assert (gateway.denials, len(gateway.notes)) == ([], 1)


async def test_nothing_is_registered_before_its_window_has_closed(street):
    gateway = await started(street, demo_profiles())
    gateway.hear(-5, 10)
    await gateway.until(9)
    assert gateway.registering.registered == 0
    gateway.hear(1, 11)
    await gateway.until(9.3)
    assert (await gateway.originals.at("series", at(0))).value == 11


async def test_a_missing_value_is_an_entry_and_its_energy_is_owed(street):
    gateway = await started(street, demo_profiles())
    for second, value in ((0, 100), (900, 150), (3600, 400), (4500, 450)):
        gateway.hear(second, value)
    await gateway.until(4600)
    assert gateway.stage.taken == [(0, 50), (1, None), (2, None), (3, None), (4, 50)]
    assert gateway.stage.owed == [(1, 3, 250)]
    missing = await gateway.originals.at("series", at(1800))
    assert missing.value is None
    assert GatewayStatus.NO_VALUE in gateway_half(missing.status)
    (document,) = gateway.documents()
    assert document["entries"][0]["value"] is None


async def test_an_interval_series_is_delivered_with_its_gaps(street):
    gateway = await started(street, plain_series())
    for second in (0, 900, 2700, 3600):
        gateway.hear(second, second)
    await gateway.until(3700)
    (document,) = gateway.documents()
    assert [one["value"] for one in document["entries"]] == ["900", None, "2700", "3600"]
    assert document["period"] == {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T01:00:00Z"}


async def test_a_profile_without_right_is_denied_once_a_period(street):
    wrong = billing("wrong", recipient="other", peer=peer("other"))
    gateway = await started(street, demo_profiles(communication=(billing(), group_total(), wrong)))
    gateway.hear(2700, 5)
    await gateway.until(2800)
    await gateway.until(2900)
    assert [denial.reason.value for denial in gateway.denials] == ["recipient"]
    assert [release.recipient for release in gateway.outbox.sent] == ["emp"]


async def test_a_concealed_value_is_in_no_release(street):
    gateway = await started(street, demo_profiles(communication=(group_total(),)))
    for slot in range(5):
        gateway.hear(900 * slot, 1000 + slot)
    await gateway.until(86400 + 100)
    assert (gateway.outbox.sent, gateway.denials) == ([], [])
    assert gateway.stage.taken[:4] == [(0, 1), (1, 1), (2, 1), (3, 1)]


async def test_a_slot_from_before_the_profile_is_passed_over(street):
    later = household(processing=(bill(billing_period_s=2700), series(valid_from=at(1800))))
    gateway = await started(street, later)
    for slot in range(5):
        gateway.hear(900 * slot, 10 * slot)
    await gateway.until(3700)
    assert (gateway.stage.taken, gateway.denials) == ([(2, 10), (3, 10)], [])


async def test_a_restart_registers_nothing_twice_and_delivers_nothing_twice(street):
    gateway = await started(street, demo_profiles())
    for second in (0, 900, 1800, 2700):
        gateway.hear(second, second)
    await gateway.until(2800)
    assert (gateway.registering.registered, len(gateway.outbox.sent)) == (5, 1)
    again = await street.start()
    again.hear(1800, 99999)
    again.hear(3600, 3600)
    await again.until(3700)
    assert (again.registering.registered, again.outbox.sent) == (1, [])
    assert (await again.originals.at("series", at(1800))).value == 1800
    # The last slot before the stop is offered once more: the net itself takes it once.
    assert street.stage.taken == [(0, 900), (1, 900), (2, 900), (2, 900), (3, 900)]


async def test_what_fell_into_a_stop_is_registered_afterwards(street):
    gateway = await started(street, demo_profiles())
    gateway.hear(0, 0)
    await gateway.until(60)
    again = await street.start()
    for second in (900, 2700):
        again.hear(second, second)
    await again.until(3000)
    assert street.stage.taken[-3:] == [(0, 900), (1, None), (2, None)]
    assert [one["entries"][0]["value"] for one in again.documents()] == ["2700"]


async def test_an_outbox_that_fails_is_tried_again(street):
    gateway = await started(street, demo_profiles())
    gateway.hear(2700, 7)
    gateway.outbox.fail = True
    with pytest.raises(StoreUnavailable):
        await gateway.until(2800)
    gateway.outbox.fail = False
    await gateway.until(2900)
    await gateway.until(3000)
    assert len(gateway.outbox.sent) == 1


async def test_values_from_before_a_change_are_not_sent_under_it(street):
    """FDP_IFF.1/MTR: a concealed series does not become a plain one afterwards."""
    gateway = await started(street, demo_profiles())
    for slot in range(12):
        gateway.hear(900 * slot, slot)
    await gateway.until(4550)
    plain = plain_series()
    street.clock.set_utc(at(2 * 3600 + 3000))
    assert (await gateway.registry.apply(order(plain, version=2))).accepted
    await gateway.until(4 * 3600)
    sent = [one["time_utc"] for document in gateway.documents()[1:] for one in document["entries"]]
    assert min(sent) == "2026-01-01T03:00:00Z"


async def test_a_profile_that_takes_another_meter_conceals_no_difference_of_two_meters(street):
    gateway = await started(street, demo_profiles())
    gateway.hear(0, 1000)
    gateway.hear(900, 1010)
    await gateway.until(1000)
    other = "ELS-87654321-33-02"
    profiles = household(
        meters=(meter_profile(meter=other),),
        processing=(bill(billing_period_s=2700, meter=other), series(meter=other)),
    )
    assert (await gateway.registry.apply(order(profiles, version=2))).accepted
    for second, value in ((1800, 1500), (2700, 1507)):
        reading = Reading(MeterId.from_text(other), ACTIVE_ENERGY_IMPORT, Decimal(value), "Wh", at(second))
        gateway.register.add(reading)
        await gateway.until(second + 20)
    assert gateway.stage.taken == [(0, 10), (1, None), (2, 7)]
    assert gateway.stage.owed == []


async def test_a_clock_that_goes_back_registers_nothing_again(street):
    gateway = await started(street, demo_profiles())
    gateway.hear(0, 1)
    gateway.hear(900, 2)
    await gateway.until(1000)
    before = gateway.registering.registered
    await gateway.until(-50)
    await gateway.until(1000)
    assert gateway.registering.registered == before
    assert gateway.stage.taken == [(0, 1)]


async def test_a_clock_put_back_bills_no_value_of_its_first_pass(street):
    """Put back by 40 minutes just before the end of a period: what was heard then is no value of that end."""
    gateway = await started(street, demo_profiles())
    gateway.hear(0, 0)
    await gateway.until(20)
    gateway.hear(2699, 100)  # the bill's instant is 2700, its window has not closed yet
    gateway.hear(300, 101)  # the clock was put back
    await gateway.until(320)
    gateway.hear(2701, 190)
    await gateway.until(2800)
    [bill] = gateway.documents()
    assert [entry["value"] for entry in bill["entries"]] == ["190"]


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_the_clock_does_nothing_counts_twice(street, seed):
    """Steps in both directions and restarts: slots and bills once, never more energy than flowed."""
    source = random.Random(seed)
    gateway = await started(street, demo_profiles())
    register = second = 0
    for _ in range(60):
        second += 300
        register += source.randrange(50)
        match source.randrange(12):
            case 0:
                second = max(0, second - source.randrange(7200))
            case 1:
                second += source.randrange(7200)
            case 2:
                stage = gateway.stage
                gateway = await street.start()
                assert gateway.stage is stage
                continue
        second -= second % 100
        gateway.hear(second, register)
        await gateway.until(second + 20)
    slots = [slot for slot, _ in gateway.stage.taken]
    again = {(slot, energy) for slot, energy in gateway.stage.taken}
    assert len(again) == len(set(slots))  # offered again after a restart, but never with another value
    spent = sum(energy for _, energy in again if energy is not None)
    spent += sum(energy for *_, energy in set(gateway.stage.owed))
    assert spent <= register
    identities = [release.message_id for release in gateway.outbox.sent]
    assert len(set(identities)) == len(identities)
    bills = [int(entry["value"]) for one in gateway.documents() for entry in one["entries"] if entry["value"]]
    assert bills == sorted(bills)


async def test_services_run_on_time_alone(street):
    gateway = await started(street, demo_profiles())
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(service.run()) for service in (gateway.registering, gateway.deliver)]
        for slot in range(4):
            gateway.hear(900 * slot, 10 * slot)
            street.clock.set_utc(at(900 * slot + 20))
            await registered(gateway, 900 * slot)
        await reached(lambda: gateway.outbox.sent)
        for task in tasks:
            task.cancel()
    assert [slot for slot, _ in gateway.stage.taken] == [0, 1, 2]


async def test_new_profiles_wake_the_service(street):
    gateway = await street.start()
    task = asyncio.create_task(gateway.registering.run())
    await asyncio.sleep(0)
    await gateway.registry.apply(order(demo_profiles()))
    gateway.hear(0, 5)
    street.clock.set_utc(at(20))
    await registered(gateway, 0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_announcements_never_wait(street):
    gateway = await street.start()
    for _ in range(DELIVERIES_WAITING * 3):
        gateway.deliver.announce()


class Radio:
    def __init__(self, waiting=1024):
        self.store, self.register = Store(), Register(timedelta(hours=1))
        self.intake = Intake(
            Meters(MeterAccess(ID, None, ReceptionMode.OPEN)),
            self.store,
            self.register,
            now_utc=lambda: at(0),
            now_s=lambda: 0.0,
            report=self._ignore,
        )
        self.pipeline = IntakePipeline(self.intake, waiting=waiting)

    async def _ignore(self, _rejection):
        return None

    async def run_until(self, condition):
        task = asyncio.create_task(self.pipeline.run())
        await reached(lambda: condition() or task.done())
        if task.done():
            return await task
        task.cancel()
        return await asyncio.gather(task, return_exceptions=True)


async def test_telegrams_that_wait_share_a_commit():
    radio = Radio()
    for energy in range(300):
        radio.pipeline.put(ReceivedFrame(plain_telegram(energy), 0.0))
    await radio.run_until(lambda: radio.intake.statistics.accepted == 300)
    assert [len(commit) for commit in radio.store.commits] == [256, 44]


async def test_a_full_queue_drops_and_counts():
    radio = Radio(waiting=10)
    for energy in range(25):
        radio.pipeline.put(ReceivedFrame(plain_telegram(energy), 0.0))
    await radio.run_until(lambda: radio.intake.statistics.accepted == 10)
    assert radio.intake.statistics.dropped == 15


async def test_a_store_that_fails_stops_the_service_and_loses_nothing():
    radio = Radio()
    radio.store.fail = True
    radio.pipeline.put(ReceivedFrame(plain_telegram(1), 0.0))
    with pytest.raises(StoreUnavailable):
        await radio.run_until(lambda: False)
    radio.store.fail = False
    await radio.run_until(lambda: radio.intake.statistics.accepted == 1)
    assert len(radio.register.around(ID, ACTIVE_ENERGY_IMPORT, at(0), timedelta(hours=1))) == 1


async def test_a_clock_that_was_far_ahead_does_not_stop_registration_until_then(street):
    """What was registered at the false time is taken back; then it goes on as if nothing was."""
    withdrawn = []

    async def note(processing, count):
        withdrawn.append((processing, count))

    gateway = await started(street, demo_profiles())
    gateway.registering._withdrawn = note
    gateway.hear(0, 100)
    await gateway.until(20)
    far = 900 * 200  # a little more than two days
    await gateway.until(far + 20)
    assert await gateway.originals.registered_through("series") == at(far)
    gateway.hear(900, 140)
    await gateway.until(920)
    assert dict(withdrawn).keys() == {"series", "bill"}
    assert dict(withdrawn)["series"] == 199  # the instants that are still to come
    assert await gateway.originals.registered_through("series") == at(920)
    for slot in range(2, 5):
        gateway.hear(900 * slot, 100 + 40 * slot)
        await gateway.until(900 * slot + 20)
    values = await gateway.originals.between("series", at(900), at(3600))
    assert [int(value.value) for value in values] == [180, 220, 260]


async def test_a_clock_that_was_a_little_ahead_registers_nothing_twice(street):
    gateway = await started(street, demo_profiles())
    gateway.hear(0, 100)
    await gateway.until(20)
    await gateway.until(3620)
    before = await gateway.originals.between("series", at(0), at(3600))
    gateway.hear(900, 140)
    await gateway.until(920)
    assert await gateway.originals.between("series", at(0), at(3600)) == before


async def test_fpt_stm_1_values_of_an_invalid_time_bear_status_bit_9(street):
    gateway = await started(street, demo_profiles())
    valid = [False]
    gateway.registering._time_valid = lambda: valid[0]
    for slot in range(3):
        gateway.hear(900 * slot, 100 + slot)
        valid[0] = slot == 1
        await gateway.until(900 * slot + 20)
    values = await gateway.originals.between("series", at(-1), at(1800))
    assert [bool(gateway_half(one.status) & GatewayStatus.TIME_INVALID) for one in values] == [
        True,
        False,
        True,
    ]
    assert [int(one.value) for one in values] == [100, 101, 102]  # marked, not lost
