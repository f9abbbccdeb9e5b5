"""The wide area network of a gateway: administrator, suppliers, outbox and DC-nets, put together.

`firmware.boot` imports it only where gateway.toml has a table [wan]: it brings TLS, CMS and HTTP along.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from firmware.config import WanTable
from firmware.enforcement.dcnet.events import NetEvent
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service.client import Answer
from firmware.enforcement.dcnet.service.driver import NetMember
from firmware.enforcement.dcnet.service.signatures import CmsSignatures
from firmware.enforcement.dcnet.service.versions import forget_net
from firmware.enforcement.dcnet.slot.ledger import Ledger
from firmware.enforcement.gate import Gate
from firmware.flow.undelivered import Patience, Undelivered
from firmware.life.control import Operation
from firmware.orders.nets import net_orders
from firmware.parts import Parts
from firmware.profile.model import CommunicationProfile
from firmware.profile.pem import to_der
from firmware.store.outbox import SealedOutbox
from firmware.supervisor import Service, ServiceGroup
from firmware.wide_area import identity as identities
from firmware.wide_area.links import Links, administrator
from firmware.wide_area.net_status import NetStatus
from firmware.wide_area.nets import Nets, whose
from hsm.api import CertificateUse, KeySlot
from hsm.session import Priority
from hsm.tls import WAN, TlsContext
from hsm.tls.driver import EventLoop
from hsm.x509 import Certificate
from wan.emp.client import EmpClient
from wan.emp.outbox import Outbox
from wan.gwa.client import AdministratorLink
from wan.ports import Release


class _Notices:
    """`wan.gwa.client.Notices`: alarms as the gate lets them out."""

    def __init__(self, parts: Parts, gate: Gate) -> None:
        self._notices, self._gate = parts.notices, gate

    async def waiting(self) -> list[tuple[int, Release]]:
        return [(one.number, self._gate.release_notice(one)) for one in await self._notices.waiting()]

    async def taken(self, number: int) -> None:
        await self._notices.taken(number)


@dataclass(frozen=True, slots=True)
class WideArea:
    """The gateway's side of the wide area network."""

    links: Links
    nets: Nets
    outbox: Outbox
    """Where releases go."""
    orders: Service
    """The administrator's link."""
    services: tuple[Service, ...]
    """What brings data to market participants."""
    tell_nets: Operation
    """Answers `smgw dcnet show`."""


async def open_wide_area(
    stack: AsyncExitStack, parts: Parts, gate: Gate, table: WanTable, loop: EventLoop
) -> WideArea:
    """Open the way to administrator, suppliers and their nets; what must be closed again goes on `stack`.

    Raises:
        ConfigurationRefused: certificates or keys contradict each other.
        HsmError: the module cannot tell which keys it holds.
    """
    identity = identities.load(parts.config.gateway.id, table)
    await identity.check_module(parts.module)
    gwa = administrator(table.gwa)
    links = Links(identity, gwa, parts.registry, _tls_context(parts, identity, loop), parts.clock)
    stack.push_async_callback(links.close)
    gwa_sig = Certificate.from_pem(table.gwa.sig_certificate.read_bytes())
    orders = AdministratorLink(
        links.channel(gwa.name),
        parts.orders,
        sig_certificate=lambda: gwa_sig,
        gateway=parts.gateway_id,
        poll_s=table.gwa.poll_s,
        clock=parts.clock,
        report=parts.report,
        check_signer=partial(links.check, use=CertificateUse.SIG),
        release=gate.release_control,
        notices=_Notices(parts, gate),
    )
    kept = SealedOutbox(parts.stores.consumer, parts.chronicle.arrived)
    outbox = Outbox(
        kept,
        links.suppliers,
        links.recipients,
        module=parts.module,
        keys=links.sealing_keys,
        check_recipient=links.check_recipient,
        gateway=parts.gateway_id,
        report=parts.report,
        pace=parts.tempo.delivery,
    )
    undelivered = Undelivered(
        kept,
        parts.stores.consumer,
        parts.logs,
        parts.notices,
        links.suppliers,
        parts.clock,
        parts.clock.valid,
        Patience(timedelta(hours=table.alarm_after_hours), timedelta(days=table.give_up_after_days)),
    )
    group = ServiceGroup("enforcement.nets", parts.report)
    nets = Nets(
        partial(_net_member, parts, links, gate, gwa_sig),
        await Nets.remembered(parts.stores.system),
        parts.stores.system,
        group,
        forget=partial(_forget_net, parts),
    )
    parts.orders.take(net_orders(nets.member))
    parts.registry.watch(nets.follow)
    parts.registry.watch(lambda _profiles: outbox.wake())
    parts.registry.watch(lambda _profiles: undelivered.look_again())
    net_status = NetStatus(nets.member, parts.registry, parts.logs.system)
    return WideArea(links, nets, outbox, orders, (outbox, undelivered, group), net_status.tell)


def _tls_context(
    parts: Parts, identity: identities.Identity, loop: EventLoop
) -> Callable[[], Awaitable[TlsContext]]:
    """Return what makes the context at the first connection: a gateway that only listens needs none."""
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
    rules = NetRules.from_profile(profile.net)
    processing = parts.registry.active.processing_of(profile)
    begins_utc = None if processing is None else processing.valid_from
    ends_utc = None if processing is None else processing.valid_until
    emp_sig, emp_enc = (
        Certificate.from_der(to_der(text))
        for text in (profile.peer.sig_certificate or "", profile.peer.enc_certificate or "")
    )
    links.check(emp_enc, CertificateUse.ENC)
    client = links.supplier(profile.recipient, for_nets=True)

    def owner(event: NetEvent) -> str:
        return whose(event, processing, rules)

    async def exchange(method: str, resource: str, body: bytes) -> Answer:
        release = await gate.release_frame(profile.id, resource, body)  # also where nothing but a name leaves
        return await client.exchange(method, resource, release if body else None)

    administrator = EmpClient(
        links.channel(links.administrator.name, for_nets=True),
        links.administrator.name,
        parts.gateway_id,
    )

    async def to_administrator(method: str, resource: str, body: bytes) -> Answer:
        release = await gate.release_to_administrator(profile.id, resource, body)
        return await administrator.exchange(method, resource, release if body else None)

    return NetMember(
        rules,
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
            breathe=partial(parts.clock.sleep, 0.0),
        ),
        module=parts.module,
        key_slot=slot,
        emp_key=emp_enc.public_key,
        exchange=exchange,
        administrator=to_administrator,
        store=parts.stores.consumer,
        clock=parts.clock,
        report=lambda event: parts.chronicle.net(owner(event), event),
        entries=lambda event: parts.chronicle.total_entries(owner(event), event),
        insecure_small_nets_allowed=parts.config.dcnet.insecure_small_nets,
        begins_utc=begins_utc,
        ends_utc=ends_utc,
    )


async def _forget_net(parts: Parts, net: str, slot: KeySlot | None) -> None:
    """Erase what is left of a net that the administrator took away."""
    slots = () if slot is None else (slot, slot.pending)
    await forget_net(Ledger(parts.stores.consumer, bytes.fromhex(net)), parts.module, slots)
