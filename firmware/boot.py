"""Configuration to parts to services: opens module, stores and profiles, then services; stops backwards.

The one place that knows every part. `smgwd`, the demo and the tests start a gateway by `open_gateway`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from firmware.chronicle import Chronicle, Counts
from firmware.clock.clock import Clock, SystemClock
from firmware.clock.time_sync import DisciplinedClock
from firmware.clock.timekeeping import Discipline
from firmware.config import GatewayConfig, StickTable, read_secret
from firmware.enforcement.gate import Gate
from firmware.enforcement.pseudonym import Pseudonyms
from firmware.enforcement.uniform import KEY_BYTES, offset
from firmware.flow.consumer_statement import ConsumerStatements
from firmware.flow.delivery import Delivery
from firmware.flow.due import DueDeliveries
from firmware.flow.evaluation import Evaluator
from firmware.flow.intake import KEEP, Intake, Statistics
from firmware.flow.meter_watch import MeterWatch
from firmware.flow.pipeline import DeliveryPipeline, IntakePipeline, RegistrationPipeline
from firmware.housekeeping import Housekeeping, Upkeep
from firmware.life import lines
from firmware.life.care import Base, Care, EndOfLife, finish_decommissioning, make_base, open_care
from firmware.life.control import Request
from firmware.life.lines import Told
from firmware.life.states import Function
from firmware.log.ending import last_end
from firmware.log.entry import Event
from firmware.metering.happenings import Happenings
from firmware.metering.original import OriginalLists
from firmware.metering.register import Register
from firmware.metering.running import RunningRegisters
from firmware.orders.tariff import TariffOrders
from firmware.parts import Parts, Tempo
from firmware.store.stores import MeterCounters, Quotas, Stores
from firmware.supervisor import Reporter, Service, run_gateway
from hsm.api import KeySlot
from hsm.session import FilePinGuard, ModuleSession, Priority
from hsm.transport import CardTransport, opener
from lmn.wmbus.driver import UnknownStick, WmbusStick
from lmn.wmbus.kinds import KINDS, Kind
from lmn.wmbus.link import StickStatistics

if TYPE_CHECKING:
    from firmware.wide_area.opening import WideArea
    from wan.client import TlsFacts

_PIN_GUARD = "refused-pins"
_SPREAD_KEY = ("enforcement", "spread-key")
"""What offsets of deliveries are made from."""
_PSEUDONYM_KEY = ("enforcement", "pseudonym-key")
"""What pseudonyms are made from."""
_PINS_TOLD = ("boot", "refused-pins")


_TEMPO = Tempo()


class _ModuleWatch:
    """A service that ends the gateway when its module refuses the PIN, whether or not anybody asks it."""

    name = "hsm.session"

    def __init__(self, module: ModuleSession) -> None:
        self._module = module

    async def run(self) -> None:
        await self._module.ended()


class Gateway:
    """A gateway whose parts are open; `run` serves until cancelled. Reading its counters is free."""

    def __init__(self, parts: Parts, originals: OriginalLists) -> None:
        self._parts = parts
        self.originals = originals
        """Registered values, for whoever owns the gateway."""
        self.telegrams = Statistics()
        self.lines: list[Told] = []
        """What is known of each stick, head and line."""
        self.wide_area: WideArea | None = None
        """None: this gateway only listens."""
        self.services: list[Service] = [parts.report, _ModuleWatch(parts.module)]
        """What runs; whoever owns the gateway may add its own before `run`."""

    @property
    def gateway_id(self) -> str:
        """Lower case, as in URLs and documents."""
        return self._parts.gateway_id

    @property
    def counts(self) -> Counts:
        """How often things happened since start."""
        return self._parts.chronicle.counts

    @property
    def module(self) -> ModuleSession:
        """The session with the security module."""
        return self._parts.module

    def tls_facts(self) -> list[TlsFacts]:
        """Return what this gateway's handshakes settled on."""
        return [] if self.wide_area is None else self.wide_area.links.tls_facts()

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            BaseExceptionGroup: something that no restart mends, a refused PIN for one; it is in the system
                log once the gateway is closed.
        """
        parts = self._parts
        try:
            await run_gateway(self.services, parts.report, min_run_s=parts.tempo.restart_s)
        except BaseExceptionGroup as stopped:
            for fault in stopped.exceptions:
                parts.report("gateway", fault)
            raise


@asynccontextmanager
async def open_gateway(
    config: GatewayConfig,
    clock: Clock | None = None,
    *,
    tempo: Tempo = _TEMPO,
    card_line: Callable[[CardTransport], CardTransport] | None = None,
) -> AsyncIterator[Gateway]:
    """Open everything that a gateway consists of; close it in reverse order.

    Args:
        config: as `firmware.config.load` read it.
        clock: the gateway's time; the operating system's if None.
        tempo: pauses after faults.
        card_line: is put between the gateway and each connection to its module; None: nothing is.

    Raises:
        ConfigurationRefused: certificates, keys or meter profiles contradict each other.
        StoreUnavailable, StoreCorrupt: the stores cannot be opened.
        HsmError: the security module cannot be reached, or refuses its PIN.
    """
    async with AsyncExitStack() as stack:
        base = await _open_base(stack, config, clock or SystemClock(), card_line)
        care = await open_care(base)
        parts = _parts(base, care, tempo)
        gateway = await _assemble(stack, parts)
        system = parts.logs.system
        await system.write(Event.BOOT, subject=gateway.gateway_id, **await last_end(system))
        await care.begin(parts)
        stack.push_async_callback(care.last_seal)
        stack.push_async_callback(system.write, Event.STOP, subject=gateway.gateway_id)
        stack.push_async_callback(parts.report.drain)
        asked = _no_nets if gateway.wide_area is None else gateway.wide_area.tell_nets
        now_s = asyncio.get_running_loop().time
        gateway.services += care.services(
            parts,
            lambda: gateway.telegrams,
            lambda: [told(now_s()) for told in gateway.lines],
            {"dcnet": asked},
        )
        yield gateway


async def _no_nets(_request: Request) -> Mapping[str, Any]:
    """What a gateway without a wide area answers when it is asked for its nets."""
    return {"nets": []}


async def _open_base(
    stack: AsyncExitStack,
    config: GatewayConfig,
    clock: Clock,
    card_line: Callable[[CardTransport], CardTransport] | None,
) -> Base:
    config.gateway.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    guard = FilePinGuard(config.gateway.state / _PIN_GUARD)
    connect = opener(config.module.way)

    def transport() -> CardTransport:
        line = connect()
        return line if card_line is None else card_line(line)

    module = ModuleSession(transport, partial(read_secret, config.module.pin_file), guard=guard)
    await finish_decommissioning(config.gateway.state, module)
    await stack.enter_async_context(module)
    end = EndOfLife(config.gateway.state, module)
    stack.push_async_callback(end.destroy)  # when the stores are closed, and the module is still there
    table = config.store
    quotas = Quotas(table.system_mb << 20, table.consumer_mb << 20, table.calibration_mb << 20)
    stores = await stack.enter_async_context(await Stores.open(config.gateway.state, module, quotas=quotas))
    own = DisciplinedClock(clock, Discipline(drift_ppm=config.time.drift_ppm))
    base = await make_base(config, own, module, stores, end, apart=asyncio.to_thread)
    if faults := stores.faults():
        for fault in faults:
            await base.chronicle.fault("stores", fault)
        raise faults[0]  # nothing is measured or sent on damaged ground; `smgw restore` looks and mends
    await _tell_refused_pins(guard, stores, base.chronicle)
    # One that is refused while the gateway runs ends it, and is logged by that.
    stack.push_async_callback(_tell_refused_pins, guard, stores, None)
    module.report = partial(base.report, _ModuleWatch.name)
    return base


def _parts(base: Base, care: Care, tempo: Tempo) -> Parts:
    return Parts(
        config=base.config,
        clock=base.clock,
        module=base.module,
        stores=base.stores,
        chronicle=base.chronicle,
        report=base.report,
        registry=base.registry,
        orders=care.orders,
        tempo=tempo,
        logs=base.logs,
        notices=base.notices,
        life=base.life,
    )


async def _tell_refused_pins(guard: FilePinGuard, stores: Stores, chronicle: Chronicle | None) -> None:
    """Log, once, the PINs that were refused while the module, and with it the log, could not be opened."""
    refused = guard.count()
    told = int.from_bytes(await stores.system.get(*_PINS_TOLD) or b"", "big")
    if refused > told:
        if chronicle is not None:
            await chronicle.refused_pins(refused - told)
        await stores.system.put(*_PINS_TOLD, refused.to_bytes(4, "big"))


async def _assemble(stack: AsyncExitStack, parts: Parts) -> Gateway:
    config, registry, stores, clock = parts.config, parts.registry, parts.stores, parts.clock
    register, originals = Register(keep=KEEP), OriginalLists(stores.consumer)
    watch = MeterWatch(registry, parts.logs, stores.consumer, clock)
    gateway = Gateway(parts, originals)
    gateway.services.append(_housekeeping(parts))
    await _reception(gateway, parts, register, watch)
    gateway.services.append(parts.gated(watch, Function.MEASURE))
    pseudonyms = None if config.wan is None else Pseudonyms(await _secret(parts, _PSEUDONYM_KEY))
    gate = Gate(
        parts.gateway_id,
        config.wan.gwa.name if config.wan is not None else "",
        lambda: registry.active,
        lambda net: None if gateway.wide_area is None else gateway.wide_area.nets.member(net),
        parts.chronicle.denial,
        pseudonyms,
    )
    deliveries: DeliveryPipeline | None = None
    if config.wan is not None:
        from firmware.wide_area.opening import open_wide_area  # a gateway that only listens loads no TLS

        happenings = Happenings(stores.consumer)
        tariffs = TariffOrders(
            registry,
            happenings,
            clock.now_utc,
            announce=lambda: None if deliveries is None else deliveries.announce(),
        )
        parts.orders.take(tariffs.carriers())
        wide_area = await open_wide_area(stack, parts, gate, config.wan, asyncio.get_running_loop())
        gateway.wide_area = wide_area
        gateway.services.append(parts.gated(wide_area.orders, Function.ADMINISTER))
        gateway.services += [parts.gated(one, Function.DELIVER) for one in wide_area.services]
        gateway.services.append(ConsumerStatements(registry, parts.logs, stores.consumer, clock, clock.valid))
        delivery = Delivery(gate, wide_area.outbox, parts.chronicle.sent)
        spread_key = await _secret(parts, _SPREAD_KEY)
        evaluator = Evaluator(
            originals,
            happenings,
            parts.gateway_id,
            partial(parts.module.sign, KeySlot.WAN_SIG),
            RunningRegisters(stores.consumer),
        )
        due = DueDeliveries(
            registry,
            originals,
            delivery,
            clock,
            happenings,
            evaluator,
            wait=partial(offset, spread_key),
            report=parts.report,
        )
        deliveries = DeliveryPipeline(due, clock)
        registry.before_each_change(deliveries.settle)
        gateway.services.append(parts.gated(deliveries, Function.DELIVER))
    registering = RegistrationPipeline(
        registry,
        register,
        originals,
        gate,
        clock,
        announce=deliveries.announce if deliveries is not None else lambda: None,
        time_valid=clock.valid,
        withdrawn=parts.chronicle.withdrawn,
        told=watch.registered,
        wired=parts.config.wired_meters(),
    )
    gateway.services.append(parts.gated(registering, Function.MEASURE))
    await registry.load()
    return gateway


async def _secret(parts: Parts, place: tuple[str, str]) -> bytes:
    """Return a secret of the gateway's own: the module's randomness, made once in its life."""
    key = await parts.stores.system.get(*place)
    if key is None:
        key = await parts.module.random(KEY_BYTES)
        await parts.stores.system.put(*place, key)
    return key


def _housekeeping(parts: Parts) -> Housekeeping:
    table = parts.config.store
    upkeep = Upkeep(
        interval_months=table.interval_months,
        consumption_months=table.consumption_months,
        checkpoint_s=3600 * table.checkpoint_hours,
        checkpoint_commits=table.checkpoint_commits,
        key_change_days=table.key_change_days,
    )
    counts = parts.chronicle.counts
    return Housekeeping(
        parts.stores,
        parts.logs,
        parts.clock,
        upkeep,
        time_valid=parts.clock.valid,
        orders=lambda: counts.orders_applied,
    )


async def _reception(gateway: Gateway, parts: Parts, register: Register, watch: MeterWatch) -> None:
    """From the sticks to the register."""
    now_s = asyncio.get_running_loop().time
    intake = Intake(
        parts.registry,
        await MeterCounters.load(parts.stores.consumer),
        register,
        now_utc=parts.clock.now_utc,
        now_s=now_s,
        report=parts.chronicle.rejection,
        heard=parts.chronicle.heard,
        each=watch.heard,
        wired=parts.config.wired_meters(),
    )
    await intake.load(parts.stores.consumer)
    pipeline = IntakePipeline(intake)
    gateway.telegrams = intake.statistics
    sticks = parts.config.lmn.stick if parts.config.lmn is not None else ()
    services: list[Service] = [pipeline]
    for table in sticks:
        seen = StickStatistics()
        gateway.lines.append(lines.of_stick(lines.Port("stick", table.port, table.kind), seen))
        services.append(_stick(table, pipeline, seen, now_s=now_s, report=parts.report))
    services += await _wired(gateway, parts, pipeline, now_s)
    gateway.services += [parts.gated(service, Function.MEASURE) for service in services]


async def _wired(
    gateway: Gateway, parts: Parts, pipeline: IntakePipeline, now_s: Callable[[], float]
) -> list[Service]:
    """Infrared heads and RS-485 lines; only with a line the gateway gets a certificate towards meters."""
    table = parts.config.lmn
    if table is None or not (table.head or table.rs485):
        return []
    from firmware.wired import lines as wired  # SML, HDLC and TLS are loaded only where something is wired

    services: list[Service] = []
    for table_of_head in table.head:
        head = wired.head(table_of_head, pipeline.put, now_s)
        named = lines.Port("head", table_of_head.port, "SML")
        gateway.lines.append(lines.of_head(named, f"{table_of_head.baudrate} bit/s", head.statistics))
        services.append(head)
    if table.rs485:
        credentials = await wired.open_credentials(
            table.rs485,
            parts.config.gateway.state,
            parts.gateway_id,
            store=parts.stores.consumer,
            keys=parts.registry,
            module=parts.module,
            now_utc=parts.clock.now_utc,
            exclusive=asyncio.Lock(),
            changed=parts.chronicle.certificate,
        )
        for table_of_line in table.rs485:
            line = wired.line(
                table_of_line,
                pipeline.put,
                now_s,
                module=parts.module.at(Priority.HANDSHAKE),
                credentials=credentials,
                now_utc=parts.clock.now_utc,
                loop=asyncio.get_running_loop(),
            )
            named = lines.Port("line", table_of_line.port, "HDLC")
            gateway.lines.append(lines.of_line(named, f"{table_of_line.baudrate} bit/s", line.statistics))
            services.append(line)
    return services


def _stick(
    table: StickTable,
    pipeline: IntakePipeline,
    seen: StickStatistics,
    *,
    now_s: Callable[[], float],
    report: Reporter,
) -> WmbusStick | UnknownStick:
    def of_kind(kind: Kind) -> WmbusStick:
        return WmbusStick.of_kind(
            kind, table.port, pipeline.put, now_s, mode=table.mode, statistics=seen, report=report
        )

    return UnknownStick(table.port, of_kind) if table.kind == "auto" else of_kind(KINDS[table.kind])
