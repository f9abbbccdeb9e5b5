"""Gateways, suppliers and administrators whose nets change: real parts and CMS, no sockets, virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from firmware.enforcement.dcnet.events import NetEvent, NetEventKind
from firmware.enforcement.dcnet.founding.roster import Signatures
from firmware.enforcement.dcnet.messages.roster import Attestation, SignedBundle
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service.driver import NetMember
from firmware.enforcement.dcnet.service.signatures import CmsSignatures
from firmware.profile.model import NetPolicy
from hsm.api import CertificateUse, KeySlot
from hsm.x509 import Certificate
from tests.support.soft_module import SoftModule, public_of
from tests.support.virtual_time import BEGIN, VirtualClock
from tests.unit.dcnet.support import MemoryStore, NamedSignatures, PowerCut, policy, signed_by
from tools.counterparts.messages import MessageRefused
from tools.counterparts.net import NetCoordinator
from tools.counterparts.net_keys import CmsKeys
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.net_witness import NetWitness
from tools.counterparts.pki import issue_gateway
from wan.errors import PeerUnavailable
from wan.pki.enrol import make_triple


class CheapKeys:
    """A counterpart's keys without cryptography, but for key agreement: see `NamedSignatures`."""

    def __init__(self, name: str) -> None:
        self._name, self.trust = name, None
        self.certificate = f"certificate of {name}".encode()
        self._enc = ec.generate_private_key(ec.SECP256R1())
        self.public = public_of(self._enc)

    async def sign(self, content: bytes) -> bytes:
        return signed_by(self._name, content)

    async def agree(self, point: bytes) -> bytes:
        peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        return self._enc.exchange(ec.ECDH(), peer)

    async def open_bundle(self, bundle: SignedBundle) -> tuple[str, bytes]:
        return await cheap_open(None, bundle)

    async def open_attestation(self, attestation: Attestation) -> bytes:
        return (await cheap_open(None, attestation))[1]


async def cheap_open(_trust: object, item: SignedBundle | Attestation) -> tuple[str, bytes]:
    name, _, content = item.signed.partition(b"|")
    if item.certificate != b"certificate of " + name:
        raise MessageRefused("signature", "another signer")
    return name.decode(), content


@dataclass
class Checked:
    content: bytes
    signer: bytes


async def cheap_check(signed: bytes, _trust: object) -> Checked:
    name, _, content = signed.partition(b"|")
    return Checked(content, b"certificate of " + name)


def believe_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Administrators believe signatures that are a name in front of the content."""
    monkeypatch.setattr("tools.counterparts.net_witness.check_signed", cheap_check)
    monkeypatch.setattr("tools.counterparts.net_blame.check_signed", cheap_check)
    monkeypatch.setattr("tools.counterparts.net_witness.open_bundle", cheap_open)
    monkeypatch.setattr("tools.counterparts.net_cosigning.check_signed", cheap_check)


SLOT_S = 45
"""Eight are an epoch of six minutes; ten of those an hour."""


@dataclass
class Answer:
    status: int
    body: bytes


class Asked:
    """A `Countersigner` in the same process; `away` makes it silent."""

    def __init__(self, witness: NetWitness, net: str) -> None:
        self.witness, self.net, self.away = witness, net, False

    async def _ask(self, answer: Any) -> bytes:
        if self.away:
            answer.close()
            raise OSError("away")
        return bytes(await answer)

    async def commit(self, version: int) -> bytes:
        return await self._ask(self.witness.commit(self.net, version))

    async def countersign(self, draft: bytes) -> bytes:
        return await self._ask(self.witness.countersign(self.net, draft))

    async def authorise(self, version: int) -> bytes:
        return await self._ask(self.witness.authorise(self.net, version))

    async def reveal(self, version: int) -> bytes:
        return await self._ask(self.witness.reveal(self.net, version))

    async def cosign(self, signed: bytes) -> bytes:
        return await self._ask(self.witness.cosign(self.net, signed))

    async def faults(self, report: bytes) -> bytes:
        return await self._ask(self.witness.faults(self.net, report))

    async def revoked(self) -> bytes:
        return await self._ask(self.witness.revoked(self.net))


@dataclass
class Home:
    """One gateway: its module, its store, its certificate; a member object for each net it is in."""

    name: str
    module: SoftModule
    signatures: Signatures
    store: MemoryStore = field(default_factory=MemoryStore)
    events: list[NetEvent] = field(default_factory=list)
    cut: set[str] = field(default_factory=set)
    members: dict[str, NetMember] = field(default_factory=dict)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)


class Net:
    """One net: policy, supplier, administrator, who has a contract."""

    def __init__(
        self,
        folder: Path | None,
        number: int,
        contracts: Iterable[str],
        ordered: Iterable[str],
        patience_s: float = 3 * SLOT_S,
        batch: int = 0,
        **changes: object,
    ) -> None:
        self.seen = list[Mapping[str, Any]]()
        fields: dict[str, object] = {
            "net_id": f"{number:016x}",
            "t0_utc": BEGIN - timedelta(seconds=8 * SLOT_S),
            "slot_s": SLOT_S,
            "submit_s": 20,
            "manifest_s": 36,
            "open_s": 42,
            "poll_s": 4,
            "churn_min": 3,
            "epoch_s": 8 * SLOT_S,
            "roster_pause_s": 0,
        }
        self.policy: NetPolicy = policy(**(fields | changes))
        self.rules = NetRules.from_profile(self.policy)
        self.ordered = set(ordered)
        self.refused: set[str] = set()
        keys: Any = CheapKeys("gwa") if folder is None else CmsKeys(folder / "gwa")
        emp_keys: Any = CheapKeys("emp") if folder is None else CmsKeys(folder / "emp")
        if folder is None:
            emp, self.enc = b"certificate of emp", emp_keys.public
        else:
            emp = Certificate.from_pem((folder / "emp/sig.pem").read_bytes()).der
            self.enc = Certificate.from_pem((folder / "emp/enc.pem").read_bytes()).public_key
        self.kept: dict[str, bytes] = {}
        self.witness = NetWitness(
            "gwa",
            keys.certificate,
            lambda _net: OrderedNet(self.policy, emp, frozenset(self.ordered)),
            keys.trust,
            keys.sign,
            self.seen.append,
            kept=self.kept,
            now_utc=VirtualClock().now_utc,
        )
        self.gwa = Asked(self.witness, self.policy.net_id)
        self.emp = NetCoordinator(
            self.policy,
            contracts,
            emp_keys,
            self.seen.append,
            administrators={"gwa": self.gwa},
            identity=lambda request: request.headers["X-Gateway"],
            now_utc=VirtualClock().now_utc,
            patience_s=patience_s,
            batch=batch,
        )

    @property
    def net_id(self) -> str:
        return self.policy.net_id

    def totals(self, first: int = 0) -> dict[int, Mapping[str, Any]]:
        return {
            event["slot"]: event
            for event in self.seen
            if event["event"] == "total" and event["slot"] >= first and event["verdict"] == "totalled"
        }


class Request:
    """As much of a request as the supplier's handlers look at."""

    def __init__(self, match_info: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> None:
        self.match_info, self.headers, self._body = match_info, headers, body
        self.content_length = len(body)

    async def read(self) -> bytes:
        return self._body


def _group(match: re.Match[str]) -> str:
    return f"(?P<{match[1]}>{match[2] or '[^/]+'})"


class Street:
    """Use `async with`: everything is stopped at its end."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder, self.homes = folder, dict[str, Home]()
        self.serving = list[asyncio.Task[None]]()
        """The suppliers that run."""
        self._routes: dict[str, list[tuple[str, re.Pattern[str], Any]]] = {}

    async def __aenter__(self) -> Street:
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self.serving, *(task for home in self.homes.values() for task in home.tasks.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def open(self, net: Net) -> asyncio.Task[None]:
        """Start a supplier, or the process after one that was cancelled."""
        self._routes[net.net_id] = [
            (route.method, re.compile(re.sub(r"{(\w+)(?::([^}]+))?}", _group, route.path)), route.handler)
            for route in net.emp.routes()
        ]
        self.serving.append(serving := asyncio.ensure_future(net.emp.run()))
        return serving

    async def ask(self, net: Net, gateway: str, method: str, resource: str, body: bytes) -> Answer:
        """What a server would do with a request."""
        for of, path, handler in self._routes[net.net_id]:
            if of == method and (match := path.fullmatch(resource)):
                try:
                    answer = await handler(Request(match.groupdict(), {"X-Gateway": gateway}, body))
                except web.HTTPException as error:
                    return Answer(error.status, b"")
                return Answer(answer.status, bytes(answer.body or b""))
        return Answer(404, b"")

    async def build(self, name: str) -> Home:
        module = SoftModule()
        if self.folder is None:
            home = self.homes[name] = Home(name, module, NamedSignatures(name))
            return home
        issued = issue_gateway(self.folder, name, await make_triple(module, name))
        home = self.homes[name] = Home(name, module, self._signatures(module, issued[CertificateUse.SIG]))
        return home

    def _signatures(self, module: SoftModule, issued: str) -> CmsSignatures:
        def certificate(path: str) -> Certificate:
            assert self.folder is not None
            return Certificate.from_pem((self.folder / path).read_bytes())

        return CmsSignatures(
            module=module,
            slot=KeySlot.WAN_SIG,
            certificate=Certificate.from_pem(issued.encode()),
            emp=certificate("emp/sig.pem"),
            gwa=certificate("gwa/sig.pem"),
            intermediates=[certificate("sub-ca.pem")],
            anchors=[certificate("root.pem")],
            now_utc=VirtualClock().now_utc,
        )

    def join(
        self,
        home: Home,
        net: Net,
        slot: KeySlot = KeySlot.DCNET_1,
        begins_utc: datetime | None = None,
        ends_utc: datetime | None = None,
    ) -> NetMember:
        """Make a member of a net, as after an order with new profiles, and start it."""

        async def exchange(method: str, resource: str, body: bytes) -> Answer:
            if any(part in resource for part in home.cut):
                raise PeerUnavailable("the line is down")
            await asyncio.sleep(0)
            return await self.ask(net, home.name, method, resource, body)

        async def report(event: NetEvent) -> None:
            home.events.append(event)

        member = home.members[net.net_id] = NetMember(
            net.rules,
            home.name,
            signatures=home.signatures,
            module=home.module,
            key_slot=slot,
            emp_key=net.enc,
            exchange=exchange,
            store=home.store,
            clock=VirtualClock(),
            report=report,
            insecure_small_nets_allowed=True,
            begins_utc=begins_utc,
            ends_utc=ends_utc,
        )
        home.tasks[net.net_id] = asyncio.ensure_future(member.run())
        return member

    async def stop(self, home: Home, net: Net) -> None:
        """Kill a member wherever it is."""
        task = home.tasks.pop(net.net_id)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, PowerCut):
            await task

    async def until_dead(self, home: Home) -> None:
        """Wait for a power cut in one of a gateway's members."""
        while not any(task.done() for task in home.tasks.values()) and home.store.fail_after != 0:  # noqa: ASYNC110 - what is seen is no event
            await asyncio.sleep(0.5)

    async def until(self, done: Callable[[], bool]) -> None:
        while not done():
            for task in [*self.serving, *(t for h in self.homes.values() for t in h.tasks.values())]:
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    raise error
            await asyncio.sleep(1)

    async def after(self, rules: NetRules, slot: int) -> None:
        await VirtualClock().sleep_until(rules.slot_end(slot))


def told(home: Home, kind: NetEventKind, net: Net) -> int:
    return sum(1 for event in home.events if event.kind is kind and event.net == net.net_id)
