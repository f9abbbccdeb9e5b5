"""Configuration to parts to services: opens module, stores and profiles, then services; stops backwards.

The one place that knows every part. `smgwd`, the demo and the tests start a gateway by `open_gateway`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from firmware import identity as identities
from firmware.chronicle import Chronicle, Counts
from firmware.clock import Clock, SystemClock
from firmware.config import GatewayConfig, StickTable, WanTable, load_meters, read_secret
from firmware.delivery import Delivery
from firmware.enforcement.dcnet.client import Answer
from firmware.enforcement.dcnet.driver import NetMember
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.signatures import CmsSignatures
from firmware.enforcement.gate import Gate
from firmware.intake import KEEP, Intake, Statistics
from firmware.links import NET_TIMEOUT_S, Links, administrator
from firmware.log.entry import Event
from firmware.log.journal import Logs
from firmware.metering.original import OriginalLists
from firmware.metering.register import Register
from firmware.nets import Nets
from firmware.pipeline import DeliveryPipeline, IntakePipeline, RegistrationPipeline
from firmware.profile.model import CommunicationProfile
from firmware.profile.pem import to_der
from firmware.profile.registry import Registry, SealedProfiles
from firmware.store.stores import MeterCounters, SealedOutbox, Stores
from firmware.supervisor import Reporter, Service, ServiceGroup, run_gateway
from hsm.api import CertificateUse, KeySlot
from hsm.session import FilePinGuard, ModuleSession, Priority
from hsm.tls import WAN, TlsContext
from hsm.transport import opener
from hsm.x509 import Certificate
from lmn.wmbus.driver import WmbusStick
from lmn.wmbus.link import StickStatistics
from lmn.wmbus.sticks.im871a import BAUDRATE, Im871a
from wan.client import TlsFacts
from wan.emp.outbox import Outbox
from wan.gwa.client import AdministratorLink

_PIN_GUARD = "refused-pins"


@dataclass(frozen=True, slots=True)
class Parts:
    """What every other part is built on."""

    config: GatewayConfig
    clock: Clock
    module: ModuleSession
    stores: Stores
    chronicle: Chronicle
    report: Reporter
    registry: Registry

    @property
    def gateway_id(self) -> str:
        """Lower case, as in URLs and documents."""
        return self.config.gateway.id.lower()


class Gateway:
    """A gateway whose parts are open; `run` serves until cancelled. Reading its counters is free."""

    def __init__(self, parts: Parts, originals: OriginalLists) -> None:
        self._parts = parts
        self.originals = originals
        """Registered values, for whoever owns the gateway."""
        self.telegrams = Statistics()
        self.links: Links | None = None
        self.nets: Nets | None = None
        self.services: list[Service] = [parts.report]

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
        return [] if self.links is None else self.links.tls_facts()

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            BaseExceptionGroup: something that no restart mends, a refused PIN for one.
        """
        await run_gateway(self.services, self._parts.report)


@asynccontextmanager
async def open_gateway(config: GatewayConfig, clock: Clock | None = None) -> AsyncIterator[Gateway]:
    """Open everything that a gateway consists of; close it in reverse order.

    Args:
        config: as `firmware.config.load` read it.
        clock: the gateway's time; the operating system's if None.

    Raises:
        ConfigurationRefused: certificates, keys or meter profiles contradict each other.
        StoreUnavailable, StoreCorrupt: the stores cannot be opened.
        HsmError: the security module cannot be reached, or refuses its PIN.
    """
    async with AsyncExitStack() as stack:
        parts = await _open_parts(stack, config, clock or SystemClock())
        gateway = await _assemble(stack, parts)
        system = Logs(parts.stores, parts.clock).system
        await system.write(Event.BOOT, subject=gateway.gateway_id)
        stack.push_async_callback(system.write, Event.STOP, subject=gateway.gateway_id)
        stack.push_async_callback(parts.report.drain)
        yield gateway


async def _open_parts(stack: AsyncExitStack, config: GatewayConfig, clock: Clock) -> Parts:
    config.gateway.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    module = await stack.enter_async_context(
        ModuleSession(
            opener(config.module.way),
            partial(read_secret, config.module.pin_file),
            guard=FilePinGuard(config.gateway.state / _PIN_GUARD),
        )
    )
    stores = await stack.enter_async_context(await Stores.open(config.gateway.state, module))
    chronicle = Chronicle(Logs(stores, clock), clock)
    meters = config.lmn.meters if config.lmn is not None else None
    registry = Registry(
        SealedProfiles(stores.system),
        clock.now_utc,
        small_nets_allowed=config.dcnet.insecure_small_nets,
        report=chronicle.receipt,
        local_meters=() if meters is None else load_meters(meters),
    )
    return Parts(config, clock, module, stores, chronicle, Reporter(chronicle.fault), registry)


async def _assemble(stack: AsyncExitStack, parts: Parts) -> Gateway:
    config, registry, stores, clock = parts.config, parts.registry, parts.stores, parts.clock
    register, originals = Register(keep=KEEP), OriginalLists(stores.consumer)
    gateway = Gateway(parts, originals)
    await _reception(gateway, parts, register)
    gate = Gate(
        parts.gateway_id,
        config.wan.gwa.name if config.wan is not None else "",
        lambda: registry.active,
        lambda net: None if gateway.nets is None else gateway.nets.member(net),
        parts.chronicle.denial,
    )
    deliveries: DeliveryPipeline | None = None
    if config.wan is not None:
        outbox = await _wide_area(stack, gateway, parts, gate, config.wan)
        delivery = Delivery(gate, outbox, parts.chronicle.sent)
        deliveries = DeliveryPipeline(registry, originals, delivery, clock)
        gateway.services.append(deliveries)
    gateway.services.append(
        RegistrationPipeline(
            registry,
            register,
            originals,
            gate,
            clock,
            announce=deliveries.announce if deliveries is not None else lambda: None,
        )
    )
    await registry.load()
    return gateway


async def _reception(gateway: Gateway, parts: Parts, register: Register) -> None:
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
    )
    await intake.load(parts.stores.consumer)
    pipeline = IntakePipeline(intake)
    gateway.telegrams = intake.statistics
    gateway.services.append(pipeline)
    sticks = parts.config.lmn.stick if parts.config.lmn is not None else ()
    gateway.services += [_stick(table, pipeline, now_s=now_s) for table in sticks]


def _stick(table: StickTable, pipeline: IntakePipeline, *, now_s: Callable[[], float]) -> WmbusStick:
    from lmn.serial_port import open_port  # pyserial is loaded only where there is a stick

    statistics = StickStatistics()
    return WmbusStick(
        partial(open_port, table.port, BAUDRATE),
        partial(Im871a, statistics),
        pipeline.put,
        now_s,
        name=f"lmn.wmbus {table.port}",
    )


async def _wide_area(
    stack: AsyncExitStack, gateway: Gateway, parts: Parts, gate: Gate, table: WanTable
) -> Outbox:
    """Administrator, suppliers and their nets; returns where releases go."""
    identity = identities.load(parts.config.gateway.id, table)
    await identity.check_module(parts.module)
    gwa = administrator(table.gwa)
    links = Links(identity, gwa, parts.registry, _tls_context(parts, identity), parts.clock)
    stack.push_async_callback(links.close)
    gateway.links = links
    gwa_sig = Certificate.from_pem(table.gwa.sig_certificate.read_bytes())
    orders = AdministratorLink(
        links.channel(gwa.name),
        parts.registry,
        sig_certificate=lambda: gwa_sig,
        gateway=parts.gateway_id,
        poll_s=table.gwa.poll_s,
        clock=parts.clock,
        report=parts.report,
        check_signer=partial(links.check, use=CertificateUse.SIG),
        release=gate.release_control,
    )
    outbox = Outbox(
        SealedOutbox(parts.stores.consumer),
        links.suppliers,
        links.peers,
        module=parts.module,
        keys=links.sealing_keys,
        check_recipient=links.check_recipient,
        gateway=parts.gateway_id,
        report=parts.report,
    )
    group = ServiceGroup("enforcement.nets", parts.report)
    gateway.nets = Nets(
        partial(_net_member, parts, links, gate, gwa_sig),
        await Nets.remembered(parts.stores.system),
        parts.stores.system,
        group,
    )
    parts.registry.watch(gateway.nets.follow)
    parts.registry.watch(lambda _profiles: outbox.wake())
    gateway.services += [orders, outbox, group]
    return outbox


def _tls_context(parts: Parts, identity: identities.Identity) -> Callable[[], Awaitable[TlsContext]]:
    """Return what makes the context at the first connection: a gateway that only listens needs none."""
    loop = asyncio.get_running_loop()
    made: list[TlsContext] = []

    async def context() -> TlsContext:
        if not made:
            made.append(
                TlsContext(
                    WAN,
                    parts.module.at(Priority.HANDSHAKE),
                    loop,
                    slot=KeySlot.WAN_TLS,
                    chain=identity.chain(CertificateUse.TLS),
                    anchors=identity.anchors,
                    now_utc=parts.clock.now_utc,
                )
            )
        return made[0]

    return context


def _net_member(
    parts: Parts, links: Links, gate: Gate, gwa_sig: Certificate, profile: CommunicationProfile, slot: KeySlot
) -> NetMember:
    """Make this gateway's member of the net that conceals `profile`."""
    assert profile.net is not None, "only concealed profiles have a net"
    processing = parts.registry.active.processing_of(profile)
    consumer = "" if processing is None else processing.consumer
    emp_sig, emp_enc = (
        Certificate.from_der(to_der(text))
        for text in (profile.peer.sig_certificate or "", profile.peer.enc_certificate or "")
    )
    links.check(emp_enc, CertificateUse.ENC)
    client = links.supplier(profile.recipient, timeout_s=NET_TIMEOUT_S)

    async def exchange(method: str, resource: str, body: bytes) -> Answer:
        release = await gate.release_frame(profile.id, resource, body) if body else None
        return await client.exchange(method, resource, release)

    return NetMember(
        NetRules.from_profile(profile.net),
        parts.gateway_id,
        signatures=CmsSignatures(
            module=parts.module,
            slot=KeySlot.WAN_SIG,
            certificate=links.identity.triple[CertificateUse.SIG],
            emp=emp_sig,
            gwa=gwa_sig,
            intermediates=links.identity.sub_ca,
            anchors=links.identity.anchors,
            now_utc=parts.clock.now_utc,
        ),
        module=parts.module,
        key_slot=slot,
        emp_key=emp_enc.public_key,
        exchange=exchange,
        store=parts.stores.consumer,
        clock=parts.clock,
        report=partial(parts.chronicle.net, consumer),
        insecure_small_nets_allowed=parts.config.dcnet.insecure_small_nets,
    )
