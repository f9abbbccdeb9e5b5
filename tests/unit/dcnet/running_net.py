"""A net that runs: real members, the real supplier, administrators, on a clock that jumps when all wait.

Everything is in one process and one event loop whose time passes only while nobody has anything to do. So a
net of seconds or months runs in an instant, and every order of events can be had again.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from aiohttp import web

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.events import NetEvent, NetEventKind
from firmware.enforcement.dcnet.founding.authorisation import PeerAuthorisation
from firmware.enforcement.dcnet.founding.beacon import BeaconCommit, BeaconReveal
from firmware.enforcement.dcnet.founding.succession import PeerWithdrawal
from firmware.enforcement.dcnet.machines import SlotState
from firmware.enforcement.dcnet.messages.documents import Document, document_hash
from firmware.enforcement.dcnet.messages.faults import (
    AuditReport,
    DisputedEdge,
    RecoveryOrder,
    TwoAccounts,
    WrongProof,
)
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, Manifest
from firmware.enforcement.dcnet.messages.roster import Attestation, Roster, RosterDraft, SignedBundle
from firmware.enforcement.dcnet.messages.witnessed import Witnessed
from firmware.enforcement.dcnet.policy import NetRules, Recovery
from firmware.enforcement.dcnet.service.committing import at_once
from firmware.enforcement.dcnet.service.driver import NetMember
from firmware.profile.model import NetPolicy
from hsm.api import Curve, KeySlot, PublicKey
from tests.support.instant_loop import VirtualClock
from tests.support.soft_module import SoftModule
from tests.unit.dcnet.support import NET, MemoryStore, NamedSignatures, attested_by, policy, signed_by
from tools.counterparts.messages import MessageRefused
from tools.counterparts.net import NetCoordinator
from tools.counterparts.net_recovery import SlotWitness
from tools.dcnet.record import PublicNet, Seen
from wan.errors import OrderRefused, PeerUnavailable, SignatureRefused


@dataclass
class Answer:
    status: int
    body: bytes


@dataclass
class _Request:
    """What the supplier's resources ask of a request; aiohttp's own double is a hundred times slower."""

    headers: Mapping[str, str]
    match_info: Mapping[str, str]
    body: bytes

    @property
    def content_length(self) -> int:
        return len(self.body)

    async def read(self) -> bytes:
        return self.body


def _pattern(path: str) -> re.Pattern[str]:
    """A route's path, as aiohttp reads it."""
    return re.compile(
        re.sub(r"\{(\w+)(?::([^}]+))?\}", lambda part: f"(?P<{part[1]}>{part[2] or '[^/]+'})", path)
    )


class Administrator:
    """Signs what it is asked to, as a witness only once; can be away."""

    def __init__(self, name: str) -> None:
        self.name, self.away = name, False
        self.kept: dict[str, bytes] = {}
        self.roster: Roster | None = None
        self.reports: list[AuditReport] = []
        self.accounts: list[TwoAccounts] = []
        self.proofs: list[WrongProof] = []
        self.disputes: list[DisputedEdge] = []
        self.refused = 0

    def _reveal(self, version: int) -> BeaconReveal:
        return BeaconReveal(NET, version, self.name.encode().ljust(32, b"!"))

    async def commit(self, version: int) -> bytes:
        commit = BeaconCommit(NET, version, self._reveal(version).commitment)
        return attested_by(self.name, commit.to_bytes()).to_bytes()

    async def countersign(self, draft: bytes) -> bytes:
        content = RosterDraft.from_bytes(draft).signed.partition(b"|")[2]
        roster = Roster.from_bytes(content)
        if self.roster is not None and self.roster.version == roster.version and self.roster != roster:
            self.refused += 1
            raise OrderRefused("version", "another roster of this version was countersigned before")
        self.roster = roster
        return attested_by(self.name, content).to_bytes()

    async def reveal(self, version: int) -> bytes:
        return self._reveal(version).to_bytes()

    async def authorise(self, version: int) -> bytes:
        assert self.roster is not None
        peers = tuple((entry.index, entry.certificate_hash) for entry in self.roster.entries)
        until = self.roster.first_epoch + 400
        given = PeerAuthorisation(NET, version, document_hash(self.roster), until, peers)
        return attested_by(self.name, given.to_bytes()).to_bytes()

    async def revoked(self) -> bytes:
        return attested_by(self.name, PeerWithdrawal(NET, 1, ()).to_bytes()).to_bytes()

    async def cosign(self, signed: bytes) -> bytes:
        if self.away:
            raise PeerUnavailable("the administrator is away")
        content = signed.partition(b"|")[2]
        if not self._first(content):
            self.refused += 1
            raise OrderRefused("second", "another one was signed before")
        return attested_by(self.name, content).to_bytes()

    def _first(self, content: bytes) -> bool:
        for kind in (Manifest, EpochManifest, RecoveryOrder):
            with contextlib.suppress(Exception):
                document: Any = kind.from_bytes(content)
                break
        witness = SlotWitness(self.kept, document.net.hex())
        if isinstance(document, Manifest):
            return witness.manifest(document.slot, document_hash(document))
        return witness.order(document) if isinstance(document, RecoveryOrder) else True

    async def faults(self, report: bytes) -> bytes:
        if self.away:
            raise PeerUnavailable("the administrator is away")
        if report.startswith((b"emp|", b"emp#")):  # signed by the supplier
            self.reports.append(AuditReport.from_bytes(report.partition(b"|")[2]))
            return b""
        with contextlib.suppress(MalformedObject):
            self.proofs.append(WrongProof.from_bytes(report))
            return b""
        try:
            self.disputes.append(DisputedEdge.from_bytes(report))
        except MalformedObject:
            self.accounts.append(TwoAccounts.from_bytes(report))
        return b""


class SupplierKeys:
    """`CoordinatorKeys` without certificates."""

    def __init__(self) -> None:
        self.module = SoftModule()

    async def prepare(self) -> PublicKey:
        return await self.module.generate_key_pair(KeySlot.WAN_ENC, Curve.P256)

    async def sign(self, content: bytes) -> bytes:
        return signed_by("emp", content)

    async def agree(self, point: bytes) -> bytes:
        return await self.module.agree(KeySlot.WAN_ENC, point)

    async def open_bundle(self, bundle: SignedBundle) -> tuple[str, bytes]:
        name = bundle.certificate.decode().removeprefix("certificate of ")
        try:
            return name, await NamedSignatures(name).by_member(bundle.signed, bundle.certificate)
        except SignatureRefused as error:
            raise MessageRefused("signature", str(error)) from error

    async def open_attestation(self, attestation: Attestation) -> bytes:
        name = attestation.certificate.decode().removeprefix("certificate of ")
        return await NamedSignatures(name).by_administrator(attestation.signed, attestation.certificate)


@dataclass
class Home:
    """One gateway: what outlives it, its line, and the member that runs now."""

    name: str
    administrator: str
    store: MemoryStore = field(default_factory=MemoryStore)
    module: SoftModule = field(default_factory=SoftModule)
    events: list[NetEvent] = field(default_factory=list)
    cut: Callable[[str], bool] = lambda _resource: False
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    alter: Callable[[str, bytes], bytes] = lambda _resource, body: body
    """What an answer is turned into on its way."""
    forge: Callable[[str, bytes], bytes] = lambda _resource, body: body
    """What a request's body is turned into on its way."""
    delay_s: Callable[[str], float] = lambda _resource: 0.01
    """How long an answer takes."""
    member: NetMember | None = None
    task: asyncio.Task[None] | None = None

    def bodies(self, part: str) -> list[bytes]:
        """What was sent to resources with this in their names."""
        return [body for request, body in self.sent if part in request]

    async def states(self) -> dict[int, SlotState]:
        assert self.member is not None
        return {entry.slot: entry.state for entry in await self.member.slots()}

    async def owed(self) -> dict[int, int]:
        """First slot -> import in Wh of what is owed."""
        assert self.member is not None
        return {one.first_slot: one.import_wh for one in await self.member.owed()}

    def kinds(self) -> list[NetEventKind]:
        return [event.kind for event in self.events]


class RunningNet:
    """A net of `size` gateways of two administrators that runs inside `async with`."""

    def __init__(self, size: int = 8, **changes: object) -> None:
        fields: dict[str, object] = {
            "slot_s": 60,
            "n_min": 6,
            "d_min": 5,
            "delta": 0.3,
            "submit_s": 10.0,
            "manifest_s": 20.0,
            "open_s": 30.0,
            "recover_s": 45.0,
            "poll_s": 1.0,
        }
        self.policy: NetPolicy = policy(**(fields | changes))
        self.rules = NetRules.from_profile(self.policy)
        self.clock = VirtualClock(self.rules.t0_utc)
        self.administrators = {name: Administrator(name) for name in ("gwa1", "gwa2")}
        self.homes = [Home(f"gw{number}", f"gwa{1 + number % 2}") for number in range(1, size + 1)]
        self.events: list[Mapping[str, Any]] = []
        self.keys = SupplierKeys()
        self.patience_s = 3600.0
        self._lock_step: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Switch everything on; who joins is not waited for."""
        self._enc = await self.keys.prepare()
        self.start_supplier()
        for home in self.homes:
            self.start(home)
        try:
            yield
        finally:
            await self.__aexit__()

    async def __aenter__(self) -> RunningNet:
        self._enc = await self.keys.prepare()
        self.start_supplier()
        for home in self.homes:
            self.start(home)
        while any(NetEventKind.JOINED not in home.kinds() for home in self.homes):
            self._alive()
            await asyncio.sleep(0.5)
        self.first = self.rules.slot_at(self.clock.now_utc()) + 1
        return self

    def start_supplier(self) -> None:
        """Switch the supplier on."""
        self.coordinator = NetCoordinator(
            self.policy,
            [home.name for home in self.homes],
            self.keys,
            **self.supplied(),
            administrator_of={home.name: home.administrator for home in self.homes},
            identity=lambda request: request.headers["X-Gateway"],
            now_utc=self.clock.now_utc,
            patience_s=self.patience_s,
        )
        self._resources = [
            (route.method, _pattern(route.path), route.handler) for route in self.coordinator.routes()
        ]
        self._supplier = asyncio.ensure_future(self.coordinator.run())

    def supplied(self) -> dict[str, Any]:
        """What the supplier is given that a net of another kind gives otherwise."""
        return {"emit": self.events.append, "administrators": self.administrators}

    async def __aexit__(self, *_error: object) -> None:
        for home in self.homes:
            await self.kill(home)
        self._supplier.cancel()
        await asyncio.gather(self._supplier, return_exceptions=True)

    def start(self, home: Home) -> None:
        """Switch a gateway on."""

        async def report(event: NetEvent) -> None:
            home.events.append(event)

        home.member = NetMember(
            self.rules,
            home.name,
            signatures=NamedSignatures(home.name, gwa=home.administrator),
            module=home.module,
            key_slot=KeySlot.DCNET_1,
            emp_key=self._enc,
            exchange=self._line(home),
            store=home.store,
            clock=self.clock,
            report=report,
            insecure_small_nets_allowed=True,
            apart=at_once,
        )
        home.task = asyncio.ensure_future(home.member.run())

    async def restart(self, home: Home) -> None:
        """Take the power away and give it back at once."""
        await self.kill(home)
        self.start(home)

    async def kill(self, home: Home) -> None:
        """Take a gateway's power away."""
        if home.task is not None:
            home.task.cancel()
            await asyncio.gather(home.task, return_exceptions=True)
        home.task = None

    def _line(self, home: Home) -> Callable[[str, str, bytes], Awaitable[Answer]]:
        async def exchange(method: str, resource: str, body: bytes) -> Answer:
            if home.cut(resource):
                raise PeerUnavailable("the line is down")
            body = home.forge(resource, body)
            home.sent.append((f"{method} {resource}", body))
            answer = await self.ask(home.name, method, resource, body)
            await asyncio.sleep(home.delay_s(resource))
            return Answer(answer.status, home.alter(resource, answer.body))

        return exchange

    async def ask(self, gateway: str, method: str, resource: str, body: bytes) -> Answer:
        """Ask the supplier's real resources as a gateway."""
        for of, pattern, handler in self._resources:
            if of == method and (found := pattern.fullmatch(resource)) is not None:
                request: Any = _Request({"X-Gateway": gateway}, found.groupdict(), body)
                try:
                    response = await handler(request)
                except web.HTTPException as refused:
                    return Answer(refused.status, b"")
                content = getattr(response, "body", None)
                return Answer(response.status, content if isinstance(content, bytes) else b"")
        return Answer(404, b"")

    def _alive(self) -> None:
        if self._supplier.done():
            self._supplier.result()

    # -- time ----------------------------------------------------------------------------------------

    async def until(self, slot: int, after_s: float) -> None:
        """Go on to so many seconds after the end of a slot."""
        await self.clock.sleep_until(self.rules.slot_end(slot) + timedelta(seconds=after_s))
        self._alive()

    async def contribute(self, slot: int, readings: Mapping[str, int] | None = None) -> None:
        """At the end of a slot every home that is on gives its value: 1000 * slot + its number."""
        await self.until(slot, 0)
        for home in self.homes:
            energy = energy_of(home, slot) if readings is None else readings.get(home.name)
            if home.member is not None and home.task is not None and energy is not None:
                await home.member.contribute(slot, energy)

    def cosigned(self, document: Document) -> bytes:
        """A document with every signature a member asks for: supplier and administrators work together."""
        content = document.to_bytes()
        signed = tuple(attested_by(name, content) for name in sorted(self.administrators))
        return Witnessed(signed_by("emp", content), signed).to_bytes()

    # -- what is seen ------------------------------------------------------------------------------------

    def totals(self, *, reconcile: bool = False) -> dict[int, Mapping[str, Any]]:
        return {
            event["slot"]: event
            for event in self.events
            if event["event"] == "total" and ("reconciles" in event) == reconcile
        }

    def record(self) -> list[Seen]:
        """Everything the supplier has seen of the regular net's slots, as `smgw dcnet leak` reads it."""
        rules, adjacent = self.rules, self.coordinator.slots.adjacent
        edges = tuple(sorted((a, b) for a in adjacent for b in adjacent[a] if a < b))
        threshold = rules.threshold if rules.recovery is Recovery.WITNESS else 0
        public = PublicNet(rules.net, rules.n_min, rules.d_min, threshold, len(self.homes), edges)
        seen = [Seen("emp", "all", "net", public.to_bytes())]
        envelopes = [*self.coordinator.slots.epochs.values()]
        seen += [Seen("emp", "all", "epoch", content_of(one)) for one in envelopes]
        seen += [
            Seen("emp", "all", "manifest", content_of(one))
            for _, one, _ in self.coordinator.slots.manifests.values()
        ]
        for home in self.homes:
            for request, body in home.sent:
                resource = request.partition(f"/{rules.net.hex()}/")[2].partition("/")[0]
                if request.startswith("PUT") and resource in ("submit", "open", "share", "openv"):
                    seen.append(Seen(home.name, "emp", resource, body))
                elif request.startswith("PUT") and resource == "commitv":
                    seen.append(Seen(home.name, "emp", resource, body.partition(b"|")[2]))
        return seen

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        return [event for event in self.events if event["event"] == kind]


def content_of(envelope: bytes) -> bytes:
    """What a document's envelope holds, with co-signatures or without."""
    with contextlib.suppress(MalformedObject):
        envelope = Witnessed.from_bytes(envelope).signed
    return envelope.partition(b"|")[2]


def energy_of(home: Home, slot: int) -> int:
    return 1000 + 10 * (slot % 50) + int(home.name.removeprefix("gw"))


def energies(net: RunningNet, slot: int, without: Iterator[str] | tuple[str, ...] = ()) -> int:
    left = set(without)
    return sum(energy_of(home, slot) for home in net.homes if home.name not in left)
