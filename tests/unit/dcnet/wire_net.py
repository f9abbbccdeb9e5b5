"""A net of real members over real TLS on real TCP connections, each through a hostile proxy, in virtual time.

Everything is the product's or the counterpart's own: drivers, clients, CMS, the TLS of `hsm.tls` with keys in
a module on one side, aiohttp's server with the standard library's TLS on the other. Only the witness is asked
directly: its line is another one's subject.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

from aiohttp import web
from aiohttp.log import server_logger as web_log
from cryptography.hazmat.primitives.asymmetric import ec

from firmware.enforcement.dcnet.events import NetEvent, NetEventKind
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service.driver import NetMember
from firmware.enforcement.dcnet.service.signatures import CmsSignatures
from firmware.enforcement.dcnet.slot.ledger import Owed, SlotEntry
from hsm.api import CertificateUse, KeySlot
from hsm.tls import WAN, TlsContext
from hsm.x509 import Certificate
from tests.support.instant_loop import VirtualClock
from tests.support.soft_module import SoftModule
from tests.unit.dcnet.hostile_wire import Fate, HostileProxy
from tests.unit.dcnet.support import MemoryStore, policy
from tests.unit.dcnet.whole_founding import Direct
from tests.unit.dcnet.wire import RememberingModule
from tools.counterparts.net import NetCoordinator
from tools.counterparts.net_keys import CmsKeys
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.net_witness import NetWitness
from tools.counterparts.pki import EMP_SERVER_NAME, issue_gateway, make_pki
from tools.counterparts.server import gateway_of, listen, peer_common_name, server_context
from wan.client import HttpChannel
from wan.dial import Dialer
from wan.pki.enrol import make_triple
from wan.ports import Peer

GATEWAYS: Final = [f"esgw010000000{number}" for number in range(1, 6)]
SLOT_S: Final = 60
_ANSWER_S: Final = 3.0
"""How long a member waits for an answer, as it waits 40 s where slots have 900."""


@dataclass(frozen=True)
class Outage:
    """One member is off, or its line refuses connections, for a while."""

    slot: int
    """Counted from the first that is measured."""
    after_s: float
    """From so many seconds after the slot's end on; before it if negative."""
    slots: float
    """How long, in slots."""
    power: bool
    """Its power; else only its line."""


@dataclass(frozen=True)
class Plight:
    """What happens to one member."""

    founding: tuple[Fate, ...] = ()
    """Fates of its first connections,"""
    serving: tuple[Fate, ...] = ()
    """and of those since the first slot that is measured."""
    outages: tuple[Outage, ...] = ()
    """In their order; the next one waits for the end of the one before."""


@dataclass
class Exchange:
    """A request as the supplier got it, and its answer."""

    gateway: str
    request: str
    body: bytes = field(default=b"", repr=False)
    status: int = 0
    """0: no answer was made."""
    answer: bytes = field(default=b"", repr=False)


class Enrolled:
    """A PKI, and five gateways whose keys and certificates outlive a net."""

    def __init__(self, folder: Path) -> None:
        make_pki(folder)
        self.folder = folder
        self.keys: dict[str, dict[KeySlot, ec.EllipticCurvePrivateKey]] = {}
        self.certificates: dict[str, dict[CertificateUse, Certificate]] = {}

        async def enrol() -> None:
            for gateway in GATEWAYS:
                module = SoftModule()
                issued = issue_gateway(folder, gateway, await make_triple(module, gateway))
                self.keys[gateway] = module.keys
                self.certificates[gateway] = {
                    use: Certificate.from_pem(text.encode()) for use, text in issued.items()
                }

        asyncio.run(enrol())

    def certificate(self, name: str) -> Certificate:
        """One of the PKI's by its file."""
        return Certificate.from_pem((self.folder / f"{name}.pem").read_bytes())


class House:
    """One gateway: what outlives its process, its line, and what it measured."""

    def __init__(self, net: WireNet, number: int, plight: Plight) -> None:
        self._net, self.number, self.name = net, number, GATEWAYS[number - 1]
        self.plight = plight
        self.module, self.store = RememberingModule(), MemoryStore()
        self.module.keys.update(net.enrolled.keys[self.name])
        self.events: list[NetEvent] = []
        self.measured: dict[int, int] = {}
        """Slot -> Wh, of all slots."""
        self.member: NetMember | None = None
        self.entries: list[SlotEntry] = []
        self.owed: list[Owed] = []

    async def open_line(self, port: int) -> None:
        self.line = HostileProxy(port, self.plight.founding, self._net.met)
        await self.line.open()

    def start(self) -> None:
        """Switch it on."""
        enrolled, certificates = self._net.enrolled, self._net.enrolled.certificates[self.name]
        self.channel = HttpChannel(self._dialer(certificates), "emp", timeout_s=_ANSWER_S)

        async def report(event: NetEvent) -> None:
            self.events.append(event)

        self.member = NetMember(
            self._net.rules,
            self.name,
            signatures=CmsSignatures(
                module=self.module,
                slot=KeySlot.WAN_SIG,
                certificate=certificates[CertificateUse.SIG],
                emp=enrolled.certificate("emp/sig"),
                gwa=enrolled.certificate("gwa/sig"),
                intermediates=[enrolled.certificate("sub-ca")],
                anchors=[enrolled.certificate("root")],
                now_utc=self._net.clock.now_utc,
            ),
            module=self.module,
            key_slot=KeySlot.DCNET_1,
            emp_key=enrolled.certificate("emp/enc").public_key,
            exchange=self.channel.exchange,
            store=self.store,
            clock=self._net.clock,
            report=report,
            insecure_small_nets_allowed=True,
        )
        self.task = asyncio.ensure_future(self.member.run())

    def _dialer(self, certificates: Mapping[CertificateUse, Certificate]) -> Dialer:
        enrolled = self._net.enrolled
        context = TlsContext(
            WAN,
            self.module,
            asyncio.get_running_loop(),
            slot=KeySlot.WAN_TLS,
            chain=[certificates[CertificateUse.TLS], enrolled.certificate("sub-ca")],
            anchors=[enrolled.certificate("root")],
        )

        async def factory() -> TlsContext:
            return context

        pinned = enrolled.certificate("emp/tls").der
        peer = Peer("emp", "127.0.0.1", self.line.port, EMP_SERVER_NAME, pinned)
        return Dialer(factory, lambda: {"emp": peer}, timeout_s=_ANSWER_S)

    async def stop(self) -> None:
        """Take its power away; it must have lived until now."""
        if self.member is not None:
            died = self.task.done()
            self.task.cancel()
            await asyncio.wait([self.task])
            await self.channel.close()
            self.member = None
            if died:
                self.task.result()
                raise AssertionError(f"{self.name} ended by itself")

    async def meter(self, first: int) -> None:
        """Hand over slot after slot; what was measured while the gateway was off is one span."""
        slot, missed = first, list[int]()
        while True:
            await self._net.clock.sleep_until(self._net.rules.slot_end(slot))
            self.measured[slot] = self._net.reading(slot, self.number)
            if self.member is None:
                missed.append(slot)
            elif missed:
                missed.append(slot)
                await self.member.owe(missed[0], slot, sum(self.measured[one] for one in missed))
                missed.clear()
            else:
                await self.member.contribute(slot, self.measured[slot])
            slot += 1

    async def suffer(self, first: int) -> None:
        """Go through the outages."""
        for outage in self.plight.outages:
            await self._suffer(first, outage)

    async def _suffer(self, first: int, outage: Outage) -> None:
        net = self._net
        begin = net.rules.slot_end(first + outage.slot) + timedelta(seconds=outage.after_s)
        await net.clock.sleep_until(begin)
        await (self.stop() if outage.power else self.line.shut())
        await asyncio.sleep(outage.slots * SLOT_S)
        net.met["power cut" if outage.power else "line down"] += 1
        if outage.power:
            self.start()
        else:
            await self.line.open()


class _Unexpected(logging.Handler):
    """Whatever is worth a warning to the supplier's server is worth a failure here."""

    def __init__(self, kept: list[Mapping[str, Any]]) -> None:
        super().__init__(logging.WARNING)
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append({"message": self.format(record)})


class WireNet:
    """The net; lives inside `async with`.

    Args:
        enrolled: keys and certificates of all.
        plights: of the members, by number; those not listed are left in peace.
        reading: (slot, member) -> Wh.
        changes: to the policy.
    """

    def __init__(
        self,
        enrolled: Enrolled,
        plights: Mapping[int, Plight] | None = None,
        *,
        reading: Callable[[int, int], int],
        **changes: object,
    ) -> None:
        self.enrolled, self.reading = enrolled, reading
        start = datetime.now(UTC).replace(microsecond=0)
        epoch_s = 4 * SLOT_S
        begin = start - timedelta(seconds=start.timestamp() % epoch_s)
        fields: dict[str, object] = {
            "slot_s": SLOT_S,
            "t0_utc": begin,
            "epoch_s": epoch_s,
            "n_min": 3,
            "d_min": 1,
            "delta": 0.4,
            "submit_s": 15.0,
            "manifest_s": 30.0,
            "open_s": 45.0,
            "poll_s": 1.5,
        }
        self.policy = policy(**(fields | changes))
        self.rules = NetRules.from_profile(self.policy)
        self.clock = VirtualClock(start)
        self.met: Counter[str] = Counter()
        """What the network really did."""
        self.emitted: list[Mapping[str, Any]] = []
        self.exchanges: list[Exchange] = []
        """All that reached the supplier, in order."""
        self.unexpected: list[Mapping[str, Any]] = []
        """What nobody else was there to be told: by the event loop, and by the supplier's server."""
        self._log = _Unexpected(self.unexpected)
        self.houses = [
            House(self, number, (plights or {}).get(number, Plight()))
            for number in range(1, len(GATEWAYS) + 1)
        ]

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, told: self.unexpected.append(told))
        web_log.addHandler(self._log)
        async with AsyncExitStack() as stack:
            folder = self.enrolled.folder
            app = web.Application(middlewares=[self._noting()])
            self._coordinator = self._supplier()
            app.add_routes(self._coordinator.routes())
            server = await listen(app, server_context(folder / "emp"), "127.0.0.1", 0, self.emitted.append)
            stack.push_async_callback(server.close)
            self._services = [asyncio.ensure_future(self._coordinator.run())]
            stack.push_async_callback(self._stop_services)
            for house in self.houses:
                await house.open_line(server.port)
                stack.push_async_callback(house.line.shut)
                stack.push_async_callback(house.stop)
                house.start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        web_log.removeHandler(self._log)
        await self._stack.aclose()

    async def _stop_services(self) -> None:
        for task in self._services:
            task.cancel()
        for end in await asyncio.gather(*self._services, return_exceptions=True):
            if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
                raise end

    def _supplier(self) -> NetCoordinator:
        folder = self.enrolled.folder
        keys = CmsKeys(folder / "gwa")
        emp = self.enrolled.certificate("emp/sig").der
        witness = NetWitness(
            "gwa",
            keys.certificate,
            {self.policy.net_id: OrderedNet(self.policy, emp, frozenset(GATEWAYS))}.get,
            keys.trust,
            keys.sign,
            self.emitted.append,
            kept={},
            now_utc=self.clock.now_utc,
        )
        return NetCoordinator(
            self.policy,
            GATEWAYS,
            CmsKeys(folder / "emp"),
            self.emitted.append,
            administrators={"gwa": Direct(witness)},
            identity=lambda request: gateway_of(peer_common_name(request)) or "",
            now_utc=self.clock.now_utc,
        )

    def _noting(self) -> Any:
        @web.middleware
        async def note(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.Response]]
        ) -> web.StreamResponse:
            gateway = gateway_of(peer_common_name(request)) or ""
            seen = Exchange(gateway, f"{request.method} {request.path}")
            self.exchanges.append(seen)
            try:
                response = await handler(request)
            except web.HTTPException as refused:
                seen.status = refused.status
                raise
            else:
                seen.status, seen.answer = response.status, bytes(response.body or b"")  # type: ignore[arg-type]  # no stream is answered here
            finally:
                with contextlib.suppress(ConnectionError):  # broken off before all of it had come
                    seen.body = await request.read()
            return response

        return note

    async def live(self, slots: int, calm: int) -> range:
        """Found the net and live through slots with trouble, then without; return all of them.

        The last one of the calm ones has its result when this returns.
        """
        while not all(any(e.kind is NetEventKind.JOINED for e in one.events) for one in self.houses):
            self._alive()
            await asyncio.sleep(1)
        first = self.rules.slot_at(self.clock.now_utc()) + 1
        for house in self.houses:
            if house.plight.serving:
                await house.line.fated(house.plight.serving)
        self._services += [asyncio.ensure_future(one.meter(first)) for one in self.houses]
        self._services += [asyncio.ensure_future(one.suffer(first)) for one in self.houses]
        await self.clock.sleep_until(self.rules.slot_end(first + slots - 1))
        self._alive()
        for house in self.houses:
            await house.line.fated()
        last = first + slots + calm - 1
        await self.clock.sleep_until(self.rules.open_until(last) + timedelta(seconds=SLOT_S / 5))
        self._alive()
        for house in self.houses:
            assert house.member is not None
            house.entries, house.owed = await house.member.slots(), await house.member.owed()
        return range(first, last + 1)

    def _alive(self) -> None:
        for task in (*self._services, *(one.task for one in self.houses if one.member is not None)):
            if task.done():
                task.result()

    @property
    def totals(self) -> dict[int, Mapping[str, Any]]:
        """Slot -> what the supplier says of it."""
        return {one["slot"]: one for one in self.emitted if one["event"] == "total"}
