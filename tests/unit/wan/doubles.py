"""What the gateway around `wan` would be: stores in memory, a sink, a release, a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from hsm.api import KeySlot
from hsm.tls import WAN, TlsContext
from hsm.x509 import Certificate
from tests.support.soft_module import SoftModule
from tests.unit.wan.conftest import Party, Pki
from wan.client import HttpChannel, Reply
from wan.dial import Dialer
from wan.ports import Order, Peer, Receipt, Release


class TestRelease(Release):
    """Tests play the policy gate."""

    __test__ = False

    def __init__(self, recipient: str, message_id: str, body: bytes) -> None:
        self._parts = recipient, message_id, body

    @property
    def recipient(self) -> str:
        return self._parts[0]

    @property
    def message_id(self) -> str:
        return self._parts[1]

    @property
    def body(self) -> bytes:
        return self._parts[2]


def receipt_release(receipt: Receipt) -> TestRelease:
    """Make of a receipt what the policy gate would."""
    return TestRelease("gwa", f"receipt-{receipt.message_id}", msgspec.json.encode(receipt))


class MemoryStore:
    """Implements `OutboxStore`."""

    def __init__(self) -> None:
        self.waiting: dict[str, tuple[str, bytes]] = {}
        self.done: list[str] = []
        self.changed = asyncio.Event()

    async def put(self, message_id: str, recipient: str, sealed: bytes, owner: str = "") -> None:
        if message_id not in self.done:
            self.waiting.setdefault(message_id, (recipient, sealed))

    async def pending(self, recipient: str) -> Iterable[tuple[str, bytes]]:
        return [(name, sealed) for name, (whom, sealed) in self.waiting.items() if whom == recipient]

    async def delivered(self, message_id: str) -> None:
        del self.waiting[message_id]
        self.done.append(message_id)
        self.changed.set()


class Sink:
    """Implements `ProfileSink`: once per message id."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.receipts: dict[str, Receipt] = {}

    async def apply(self, order: Order) -> Receipt:
        if order.message_id not in self.receipts:
            self.orders.append(order)
            self.receipts[order.message_id] = Receipt(order.message_id, True, "ok", "")
        return self.receipts[order.message_id]

    async def refuse(self, message_id: str, code: str, reason: str) -> Receipt:
        return self.receipts.setdefault(message_id, Receipt(message_id, False, code, reason))


class FixedClock:
    def __init__(self, now_utc: datetime | None = None) -> None:
        self.now = now_utc if now_utc is not None else datetime.now(UTC)

    def now_utc(self) -> datetime:
        return self.now


class FakeChannel:
    """Answers from a list; an exception in it is raised."""

    def __init__(self, *answers: Reply | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, str, bytes]] = []

    async def exchange(
        self, method: str, resource: str, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()
    ) -> Reply:
        self.requests.append((method, resource, body))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Reports(list[tuple[str, BaseException]]):
    """Implements `Report`."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = asyncio.Event()

    def __call__(self, service: str, fault: BaseException) -> None:
        self.append((service, fault))
        self.changed.set()

    @property
    def kinds(self) -> list[str]:
        return [type(fault).__name__ for _, fault in self]


class Events(list[dict[str, Any]]):
    """Implements `Emit`."""

    def __call__(self, event: Any) -> None:
        self.append(dict(event))

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self if event["event"] == name]


def fresh_module(party: Party) -> SoftModule:
    """The party's keys in a module of the running loop."""
    module = SoftModule()
    module.keys.update(party.module.keys)
    return module


def peer_of(pki: Pki, party: str, port: int, **changes: Any) -> Peer:
    """The counterpart in the PKI's folder `party`, as a profile would describe it."""
    folder = pki.folder / party
    certificates = {
        f"{use}_certificate": Certificate.from_pem((folder / f"{use}.pem").read_bytes()).der
        for use in ("tls", "sig", "enc")
    }
    facts: dict[str, Any] = {
        "name": party,
        "host": "127.0.0.1",
        "port": port,
        "server_name": f"{party}.sm-pki.test",
        **certificates,
    }
    return Peer(**(facts | changes))


def dialer_for(pki: Pki, party: Party, *peers: Peer, **options: Any) -> Dialer:
    """A dialer with TLS whose keys are in a module."""
    assert party.tls is not None
    context = TlsContext(
        WAN,
        options.pop("module", None) or fresh_module(party),
        asyncio.get_running_loop(),
        slot=KeySlot.WAN_TLS,
        chain=[party.tls, pki.sub_ca],
        anchors=options.pop("anchors", [pki.root]),
        **options,
    )

    async def factory() -> TlsContext:
        return context

    return Dialer(factory, lambda: {peer.name: peer for peer in peers}, timeout_s=5.0)


def channel_for(pki: Pki, party: Party, peer: Peer, **options: Any) -> HttpChannel:
    return HttpChannel(dialer_for(pki, party, peer, **options), peer.name, timeout_s=10.0)
