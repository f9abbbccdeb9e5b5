"""What looks after a running gateway: operating state, time, self-test, seals, tamper contact, control.

`firmware.boot` opens it between the stores and everything that works with data. No I/O of its own.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from firmware.chronicle import Chronicle
from firmware.clock.time_sync import DisciplinedClock, HostTime, TimeSync
from firmware.config import GatewayConfig, TamperTable, load_meters, read_optional_secret
from firmware.enforcement.roles import Role
from firmware.errors import (
    AccessRefused,
    ConfigurationRefused,
    Decommissioned,
    StoreCorrupt,
    StoreUnavailable,
)
from firmware.flow.intake import Statistics
from firmware.life import decommission, manifest
from firmware.life.callers import CODES, Callers
from firmware.life.control import SOCKET, Control, Operation, Request
from firmware.life.decommission import Decommissioning
from firmware.life.health import Health
from firmware.life.lifecycle import LifeCycle
from firmware.life.selftest import SelfTest, free_bytes
from firmware.life.states import Cause, End
from firmware.life.status import Sources, status
from firmware.life.suspicion import SuspicionWatch
from firmware.life.tamper.driver import Contact, FileContact, GpioContact, TamperWatch
from firmware.log.entry import Event, Level, LogKind, Outcome
from firmware.log.journal import Logs
from firmware.log.notices import Notices
from firmware.log.reading import LogReader
from firmware.log.sealer import Sealer
from firmware.orders.desk import OrderDesk
from firmware.orders.life import life_orders
from firmware.orders.stores import store_orders
from firmware.parts import Parts
from firmware.profile.registry import Apart, Registry, SealedProfiles
from firmware.store.memory import MemoryWatch
from firmware.store.operations import Delete, Put
from firmware.store.stores import Stores
from firmware.store.wiping import Belongings, wipe_consumer
from firmware.supervisor import Reporter, Service
from hsm.errors import HsmError
from hsm.session import ModuleSession, Priority
from lmn.model import MeterId

_LOG = logging.getLogger("smgw.firmware")
_LAST_SEAL_S: Final = 2.0
_RECEIPT_S: Final = 3.0
"""Time for the administrator's receipt to leave before keys and data go."""
_OPERATION_CHARS: Final = 40
_DIGEST_CHARS: Final = 64
_MANIFEST: Final = ("program", "manifest")
_BEFORE_MANIFESTS: Final = ("program", "sha256")
"""Where a firmware that knew no manifests kept one digest, of what it took for the program."""


class EndOfLife:
    """Ends the gateway once it was decommissioned, and destroys what it holds. A service."""

    name = "firmware.life.end"

    def __init__(self, state: Path, module: ModuleSession) -> None:
        self._state, self._module = state, module
        self._clock: DisciplinedClock | None = None
        self._life: LifeCycle | None = None
        self._ordered = False

    def after(self, clock: DisciplinedClock, life: LifeCycle) -> None:
        """Say by which clock it waits, and whose state it sets."""
        self._clock, self._life = clock, life

    def order(self) -> None:
        """Keys and data are to go; the marker is durable."""
        self._ordered = True

    async def run(self) -> None:
        """Wait for the order.

        Raises:
            Decommissioned: it came, and there was time for its receipt.
        """
        assert self._clock is not None
        assert self._life is not None
        while not self._ordered:
            await self._clock.sleep(_RECEIPT_S)
        await self._clock.sleep(_RECEIPT_S)
        await self._life.enter(Cause.DECOMMISSIONED, "ordered")
        raise Decommissioned("keys and data are destroyed as ordered")

    async def destroy(self) -> None:
        """Delete keys and wipe the stores' folder if that was ordered; the stores must be closed."""
        if self._ordered:
            gone = await decommission.keys_are_gone(self._module)
            decommission.wipe(self._state, keys_left=not gone)


async def finish_decommissioning(state: Path, module: ModuleSession) -> None:
    """Go on with what a kill interrupted, and refuse to start a gateway whose life is over.

    Raises:
        Decommissioned: it is.
    """
    if not decommission.is_marked(state):
        return
    if decommission.is_unfinished(state):
        gone = False
        try:
            async with module:
                gone = await decommission.keys_are_gone(module)
        except HsmError as fault:
            _LOG.error("the module's keys could not be deleted, the next start tries again: %s", fault)
        decommission.wipe(state, keys_left=not gone)
    decommission.require_alive(state)


@dataclass(frozen=True, slots=True)
class Base:
    """What is there before the parts that work with data."""

    config: GatewayConfig
    clock: DisciplinedClock
    module: ModuleSession
    stores: Stores
    logs: Logs
    notices: Notices
    life: LifeCycle
    chronicle: Chronicle
    report: Reporter
    registry: Registry
    end: EndOfLife


async def make_base(
    config: GatewayConfig,
    clock: DisciplinedClock,
    module: ModuleSession,
    stores: Stores,
    end: EndOfLife,
    *,
    apart: Apart,
) -> Base:
    """Put logs, operating state and profiles together over open stores; long orders are judged `apart`."""
    notices = Notices(stores.system, clock)
    lives: list[LifeCycle] = []

    async def overflow(log: str, event: Event, text: str) -> None:
        await notices.put(event, f"log {log}", text)
        if event is Event.LOG_FULL:
            for life in lives:
                await life.enter(Cause.CALIBRATION_LOG_FULL, text)

    table = config.log
    logs = Logs(
        stores,
        clock,
        capacity={
            LogKind.SYSTEM: table.system_entries,
            LogKind.CONSUMER: table.consumer_entries,
            LogKind.CALIBRATION: table.calibration_entries,
        },
        guaranteed={LogKind.CONSUMER: timedelta(days=table.consumer_days)},
        overflow=overflow,
    )
    life = LifeCycle(logs, notices, stores.system)
    lives.append(life)
    end.after(clock, life)
    chronicle = Chronicle(logs, clock, stores.system)
    meters = config.lmn.meters if config.lmn is not None else None
    registry = Registry(
        SealedProfiles(stores.system, chronicle.receipt_entries),
        clock.now_utc,
        small_nets_allowed=config.dcnet.insecure_small_nets,
        report=chronicle.receipt,
        local_meters=() if meters is None else load_meters(meters),
        apart=apart,
    )
    report = Reporter(chronicle.fault)
    return Base(config, clock, module, stores, logs, notices, life, chronicle, report, registry, end)


class Care:
    """The services that look after a gateway, and the desk of the administrator's orders."""

    def __init__(self, base: Base) -> None:
        """Use `open_care`."""
        self._base, config, clock = base, base.config, base.clock
        background = base.module.at(Priority.BULK)
        gateway = config.gateway.id.lower()
        memory = MemoryWatch(
            base.stores,
            critical_percent=config.memory.critical_percent,
            critical_bytes=config.memory.critical_bytes,
            free=partial(free_bytes, config.gateway.state),
        )
        self.program = manifest.take()
        self._sealer = Sealer(base.logs, background, clock, gateway, interval_s=config.log.seal_s)
        self._self_test = SelfTest(
            background,
            base.stores,
            base.logs,
            clock,
            base.life,
            time_state=lambda: clock.state.value,
            memory=memory.critical,
            program=self.program,
        )
        self._health = Health(
            base.module.at(Priority.NORMAL),
            base.stores,
            base.logs,
            clock,
            base.life,
            memory=memory.critical,
            sessions=lambda: base.module.statistics.sessions,
        )
        self._time = TimeSync(
            clock,
            HostTime(clock.inner, config.time.host_error_s),
            base.logs,
            base.life,
            period_s=self._shortest_period_s,
            poll_s=config.time.poll_s,
            stop_on_deviation=config.time.stop_on_deviation,
        )
        self._reader = LogReader(
            base.logs, clock, gateway, signer=self._sealer, certificates=_certificates(config)
        )
        self._decommissioning = Decommissioning(gateway, background, clock, self._begin_end)
        self.orders = OrderDesk(
            base.registry,
            base.stores.system,
            entries=base.chronicle.instruction_entries,
            report=base.chronicle.instruction,
        )

        async def set_limit(percent: int) -> None:
            await memory.set_limit(percent)
            await self._health.look_at_memory()

        self.orders.take(
            store_orders(
                active=lambda: base.registry.active,
                belongings=base.registry.belongings,
                wipe=self._wipe,
                set_limit=set_limit,
            )
        )
        self.orders.take(
            life_orders(
                acknowledge=partial(base.life.leave, Cause.TAMPERED, End.ORDER),
                self_test=self._test,
                decommission=self._decommissioning.ask,
            )
        )

    async def begin(self, parts: Parts) -> None:
        """Take the time, test what can be tested quickly, and note another program than last time."""
        await self._time.once()
        await self._compare_program(parts)
        if await parts.logs.calibration.is_full():
            await parts.life.enter(Cause.CALIBRATION_LOG_FULL, "it takes no more entries")
        await self._self_test.test(quick=True)

    async def _compare_program(self, parts: Parts) -> None:
        """Hold the program against the sealed manifest, which the first start made.

        A program that differs is logged, with the files, and becomes the known one; where `[gateway] program`
        is "pinned" it does not, and nothing but the control socket runs.
        """
        system = parts.stores.system
        kept = await system.get(*_MANIFEST)
        found = "" if kept is None else str(manifest.changes(manifest.decode(kept), self.program))
        if kept is not None and not found:
            return
        if kept is None and (old := await system.get(*_BEFORE_MANIFESTS)) is not None:
            found = f"no manifest to compare with; known by one digest so far, {old.decode()[:_DIGEST_CHARS]}"
        refused = kept is not None and parts.config.gateway.program == "pinned"
        if found:
            outcome = Outcome.FAILURE if refused else Outcome.SUCCESS
            for journal in (parts.logs.system, parts.logs.calibration):
                if not await journal.is_full():
                    await journal.write(
                        Event.FIRMWARE_UPDATE,
                        outcome,
                        level=Level.ERROR if refused else None,
                        subject="program",
                        text=found,
                        sha256=manifest.digest(self.program),
                    )
            if kept is None:  # nobody can say by what the files differ, so the administrator is to look
                await parts.notices.put(Event.FIRMWARE_UPDATE, "program", found)
        if refused:
            await parts.life.enter(Cause.CODE_CHANGED, f"not what was pinned: {found}")
            return
        known = Put(*_MANIFEST, manifest.encode(self.program))
        await system.commit((known, Delete(*_BEFORE_MANIFESTS)))

    def services(
        self,
        parts: Parts,
        telegrams: Callable[[], Statistics],
        lines: Callable[[], list[dict[str, Any]]],
        more: Mapping[str, Operation],
    ) -> list[Service]:
        """Return what runs whatever the operating state is.

        Args:
            parts: the gateway's.
            telegrams: counts of the intake, for `smgw status`.
            lines: what is told of each stick, head and line.
            more: what else can be asked for at the control socket.
        """
        sources = Sources(
            parts,
            self._sealer,
            self._self_test,
            manifest.digest(self.program),
            telegrams,
            lines,
            lambda: parts.module.statistics,
        )

        async def tell_status(_request: Request) -> Mapping[str, Any]:
            return {"status": await status(sources)}

        operations = {
            "status": tell_status,
            "self-test": self._test_by_hand,
            "decommission": self._decommission_by_hand,
            **more,
        }
        state = parts.config.gateway.state
        found: list[Service] = [
            self._sealer,
            self._self_test,
            self._health,
            self._time,
            SuspicionWatch(parts.logs.system, parts.notices, parts.stores.system, parts.clock),
            self._base.end,
            Control(
                state / SOCKET,
                self._reader,
                operations,
                callers=callers(parts.config, parts.clock.monotonic),
                refused=self._refused,
            ),
        ]
        if parts.config.tamper is not None:
            found.append(TamperWatch(_contact(parts.config.tamper), parts.clock, self._tampered))
        return found

    async def last_seal(self) -> None:
        """Seal the logs at the orderly stop; a module that is away does not hold it up for long."""
        base = self._base
        module = base.module.at(Priority.HANDSHAKE, deadline_s=_LAST_SEAL_S)
        gateway = base.config.gateway.id.lower()
        try:
            for partition in base.stores.partitions:
                await partition.commit(())  # behind whatever the sealer had handed in when it was cancelled
            await Sealer(base.logs, module, base.clock, gateway).seal()
        except (HsmError, StoreUnavailable, StoreCorrupt) as fault:
            _LOG.warning("the logs are not sealed at the stop: %s", fault)

    async def _wipe(self, consumer: str, belongings: Belongings) -> int:
        meters = {str(MeterId.from_text(name)): spans for name, spans in belongings.meters.items()}
        return await wipe_consumer(  # meters as readings name them
            self._base.stores, consumer, Belongings(belongings.processing, meters)
        )

    async def _tampered(self, seen: str) -> None:
        await self._base.life.enter(Cause.TAMPERED, seen)

    async def _refused(self, operation: str, uid: int, refused: AccessRefused) -> None:
        try:
            await self._base.logs.system.write(
                Event.ACCESS_DENIED,
                Outcome.FAILURE,
                level=Level.WARNING,
                subject=f"control socket: {operation[:_OPERATION_CHARS]}",
                user=f"user-{uid}",
                text=str(refused),
            )
        except StoreUnavailable as fault:  # refused all the same
            _LOG.warning("a refusal is not in the log: %s", fault)

    async def _test(self) -> str:
        checks = await self._self_test.test()
        failed = ", ".join(check.name for check in checks if not check.ok)
        return f"failed: {failed}" if failed else "every check passed"

    async def _test_by_hand(self, _request: Request) -> Mapping[str, Any]:
        await self._self_test.test()
        checks = self._self_test.last
        return {"checks": [{"name": one.name, "ok": one.ok, "detail": one.detail} for one in checks]}

    async def _decommission_by_hand(self, request: Request) -> Mapping[str, Any]:
        return {"said": await self._decommissioning.ask(request.gateway, request.code)}

    async def _begin_end(self) -> None:
        for journal in await self._base.logs.all():
            if not await journal.is_full():
                await journal.write(Event.DECOMMISSIONED, level=Level.WARNING, subject="gateway", user="gwa")
        state = self._base.config.gateway.state
        decommission.mark(state, f"decommissioned {self._base.clock.now_utc().isoformat()}")
        self._base.end.order()

    def _shortest_period_s(self) -> float | None:
        active = self._base.registry.active.processing
        return min((float(one.registration_period_s) for one in active), default=None)


def callers(config: GatewayConfig, now_s: Callable[[], float]) -> Callers:
    """Return who is answered at the control socket, and as whom."""

    def codes() -> bytes | None:
        try:
            return read_optional_secret(config.gateway.state / CODES)
        except ConfigurationRefused as refused:
            raise AccessRefused(f"the file of consumers' codes cannot be used: {refused}") from refused

    return Callers(os.geteuid(), [Role(name) for name in config.control.roles], codes, now_s)


async def open_care(base: Base) -> Care:
    """Take up what outlasted the last life, and make the services."""
    await base.life.load()
    await base.chronicle.recover()
    return Care(base)


def _contact(table: TamperTable) -> Contact:
    if table.line is None:
        return FileContact(table.input)
    return GpioContact(table.input, table.line, active_low=table.active_low, pull_up=table.pull_up)


def _certificates(config: GatewayConfig) -> tuple[str, ...]:
    if config.wan is None:
        return ()
    return tuple(path.read_text(encoding="ascii") for path in (config.wan.sig, config.wan.sub_ca))
