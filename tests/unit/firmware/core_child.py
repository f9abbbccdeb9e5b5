"""Child processes of the core's kill tests: the parts of a gateway at work, until they are killed.

usage: python -m tests.unit.firmware.core_child, then a line "LIFE FOLDER" on standard input for each life
Each life is a fork of this process, which has loaded everything already; "born PID" and "died" frame it.
Does at once what a gateway's core does, with the parts that it does it with: telegrams through the intake,
orders through desk, registry and chronicle, registration and delivery into the sealed outbox, logs that
rotate and are sealed by the module, changes of keys, checkpoints. LIFE counts the lives: each is an hour
later, so that old readings go. Prints one line per acknowledged thing; nonces go into a file, as in
`stores_child`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

from msgspec.structs import replace

from firmware.chronicle import Chronicle
from firmware.clock.clock import AdjustableClock
from firmware.enforcement.gate import Gate
from firmware.flow.delivery import Delivery
from firmware.flow.due import DueDeliveries
from firmware.flow.evaluation import Evaluator
from firmware.flow.intake import KEEP, Intake
from firmware.flow.pipeline import DeliveryPipeline, RegistrationPipeline
from firmware.housekeeping import Housekeeping, Upkeep
from firmware.log.entry import Event, LogKind
from firmware.log.journal import Logs
from firmware.log.sealer import Sealer
from firmware.metering.happenings import Happenings
from firmware.metering.original import OriginalLists
from firmware.metering.register import Register
from firmware.orders.desk import OrderDesk
from firmware.profile import codec
from firmware.profile.registry import Registry, SealedProfiles
from firmware.store.outbox import SealedOutbox
from firmware.store.stores import MeterCounters, Stores
from hsm.api import Curve, KeySlot
from hsm.emulator import load_card
from hsm.emulator.transport import EmulatorTransport
from hsm.errors import CommandRefused
from hsm.session import ModuleSession
from lmn.wmbus.link import ReceivedFrame
from tests.unit.firmware.profile_set import at, plain_series
from tests.unit.firmware.stores_child import PIN, acknowledge, record_nonces
from tests.unit.firmware.telegrams import plain_telegram
from wan.ports import Order

GATEWAY = "esgw0100000001"
CAPACITY = 60
CONSUMER = "household"


KINDS = ("profiles", "profiles.stage", "profiles.activate", "profiles.rollback")
"""In turns, so version N is of kind (N - 1) modulo 4."""


def spread_of(version: int) -> int:
    """What tells the set of one version from its neighbours'."""
    return version % 5


class SealedLater:
    """In the place of the sender: what is released lies in the sealed outbox."""

    def __init__(self, outbox: SealedOutbox) -> None:
        self._outbox = outbox

    async def send(self, release) -> None:
        await self._outbox.put(release.message_id, release.recipient, release.body)
        acknowledge("released", release.message_id)


class Core:
    """The parts, as `firmware.boot` puts them together."""

    def __init__(self, stores: Stores, module, clock: AdjustableClock) -> None:
        self.stores, self.module, self.clock = stores, module, clock
        self.logs = Logs(
            stores,
            clock,
            capacity={LogKind.SYSTEM: CAPACITY, LogKind.CONSUMER: CAPACITY},
            guaranteed={LogKind.CONSUMER: timedelta()},
        )
        self.chronicle = Chronicle(self.logs, clock, stores.system)
        self.registry = Registry(
            SealedProfiles(stores.system, self.chronicle.receipt_entries),
            clock.now_utc,
            small_nets_allowed=False,
            report=self.chronicle.receipt,
        )
        self.desk = OrderDesk(
            self.registry,
            stores.system,
            entries=self.chronicle.instruction_entries,
            report=self.chronicle.instruction,
        )
        self.register, self.originals = Register(KEEP), OriginalLists(stores.consumer)
        gate = Gate(GATEWAY, "gwa", lambda: self.registry.active, lambda _net: None, self.chronicle.denial)
        happenings = Happenings(stores.consumer)
        due = DueDeliveries(
            self.registry,
            self.originals,
            Delivery(gate, SealedLater(SealedOutbox(stores.consumer)), self.chronicle.sent),
            clock,
            happenings,
            Evaluator(self.originals, happenings, GATEWAY),
        )
        self.deliveries = DeliveryPipeline(due, clock)
        self.registering = RegistrationPipeline(
            self.registry, self.register, self.originals, gate, clock, announce=self.deliveries.announce
        )
        self.registry.before_each_change(self.deliveries.settle)
        self.sealer = Sealer(self.logs, module, clock, GATEWAY)
        self.keeper = Housekeeping(stores, self.logs, clock, Upkeep())

    async def begin(self) -> None:
        await self.chronicle.recover()
        self.intake = Intake(
            self.registry,
            await MeterCounters.load(self.stores.consumer),
            self.register,
            now_utc=self.clock.now_utc,
            now_s=self.clock.monotonic,
            report=self.chronicle.rejection,
        )
        await self.intake.load(self.stores.consumer)
        await self.registry.load()

    def newest(self) -> int:
        """The version of the last order that was carried out."""
        return self.registry._record.newest

    # --- what goes on at once -------------------------------------------------------------------------------

    async def hears(self, first: int) -> None:
        energy = first
        while True:
            for _ in range(5):
                energy += 1
                self.intake.receive(ReceivedFrame(plain_telegram(energy), self.clock.monotonic()))
            before = self.intake.statistics.accepted
            await self.intake.commit()
            if self.intake.statistics.accepted == before + 5:  # none before the first order
                acknowledge("heard", energy)
            self.clock.advance(1)
            await asyncio.sleep(0.001)

    async def registers(self) -> None:
        while True:
            await self.registering.step()
            await self.deliveries.step()
            await asyncio.sleep(0.002)

    async def is_ordered(self) -> None:
        while True:
            version = self.newest() + 1
            kind = KINDS[(version - 1) % len(KINDS)]
            body = b"{}"
            if kind == "profiles.activate":
                body = b'{"version":%d}' % (version - 1)
            elif kind != "profiles.rollback":
                profiles = plain_series(60, window_s=20)
                (communication,) = profiles.communication
                spread_s = spread_of(version)
                profiles = replace(profiles, communication=(replace(communication, spread_s=spread_s),))
                body = codec.to_json(profiles)
            receipt = await self.desk.apply(Order(f"order-{version}", kind, at(0), version, body))
            assert receipt.accepted, receipt
            acknowledge("ordered", version)
            await asyncio.sleep(0.01)

    async def seals(self) -> None:
        while True:
            await self.sealer.seal()
            acknowledge("sealed")
            await asyncio.sleep(0.02)

    async def changes_keys(self) -> None:
        while True:
            acknowledge("keys", await self.keeper.change_keys())
            await asyncio.sleep(0.02)

    async def logs_much(self) -> None:
        while True:
            number = await self.logs.system.write(Event.METER_OK, text="x" * 40)
            acknowledge("entry", "system", number)
            acknowledge("entry", CONSUMER, await self.logs.consumer(CONSUMER).write(Event.METER_OK))


async def main(folder: Path, life: int) -> None:
    card = load_card(folder / "module")
    async with (
        ModuleSession(lambda: EmulatorTransport(card), lambda: PIN) as module,
        await Stores.open(folder / "state", module) as stores,
    ):
        try:
            await module.public_key(KeySlot.WAN_SIG)
        except CommandRefused:
            await module.generate_key_pair(KeySlot.WAN_SIG, Curve.BRAINPOOL_P256)
        core = Core(stores, module, AdjustableClock(at(3600 * life)))
        await core.begin()
        acknowledge("begun")
        async with asyncio.TaskGroup() as group:
            for task in (
                core.hears(life * 100_000),
                core.registers(),
                core.is_ordered(),
                core.seals(),
                core.changes_keys(),
                core.logs_much(),
            ):
                group.create_task(task)


def bear(folder: Path, life: int) -> None:
    """Live one life in a process of its own, and see it die."""
    child = os.fork()
    if not child:
        record_nonces(folder / "nonces")
        asyncio.run(main(folder, life))
        os._exit(0)
    acknowledge("born", child)
    os.waitpid(child, 0)
    acknowledge("died")


if __name__ == "__main__":
    for request in sys.stdin:
        number, _, place = request.rstrip("\n").partition(" ")
        bear(Path(place), int(number))
