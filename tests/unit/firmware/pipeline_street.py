"""The parts between register and outbox as boot puts them together, started again and again."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from decimal import Decimal
from functools import partial

from cryptography.hazmat.primitives.asymmetric import ec

from firmware.clock.clock import AdjustableClock
from firmware.enforcement.gate import Gate
from firmware.flow.delivery import Delivery
from firmware.flow.due import DueDeliveries
from firmware.flow.evaluation import Evaluator
from firmware.flow.pipeline import DeliveryPipeline, RegistrationPipeline
from firmware.metering.happenings import Happenings
from firmware.metering.original import OriginalLists
from firmware.metering.register import Register
from firmware.metering.running import RunningRegisters
from firmware.orders.desk import OrderDesk
from firmware.orders.tariff import TariffOrders
from firmware.profile.model import ProfileSet
from firmware.profile.registry import Registry
from firmware.store.partition import Partition
from hsm.api import KeySlot
from lmn.model import ACTIVE_ENERGY_IMPORT, MeterId, Reading
from tests.support.soft_module import SoftModule
from tests.unit.firmware.fixed_module import module_of
from tests.unit.firmware.profile_set import METER, NET_ID, at, bill, household, series
from tests.unit.firmware.test_delivery import Outbox
from tests.unit.firmware.test_gate import Stage
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
