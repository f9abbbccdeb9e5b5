"""What the wide area network needs of the gateway around it, and what it lets through. Declarations only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Peer:
    """A configured participant: address and end-entity certificates, pinned (TR-03109-1 v2.0 details, 13)."""

    name: str
    """How profiles and logs call it."""
    host: str
    port: int
    server_name: str
    """What the peer's certificate must be issued for (SNI and host name check)."""
    tls_certificate: bytes
    """DER; the certificate presented must equal it."""
    sig_certificate: bytes | None = None
    enc_certificate: bytes | None = None


class Release(ABC):
    """Something that may leave. Senders accept nothing else, and the policy gate alone makes one.

    The concrete class lives in `firmware.enforcement.release`; the architecture tests keep it the only one.
    """

    @property
    @abstractmethod
    def recipient(self) -> str:
        """Name of the one peer that may receive it."""

    @property
    @abstractmethod
    def message_id(self) -> str:
        """Identifies the message for ever: sending it twice has the effect of sending it once."""

    @property
    @abstractmethod
    def body(self) -> bytes:
        """What leaves, in plain; a sender seals it for the recipient."""

    @property
    def sender(self) -> str:
        """Under which name it leaves: a pseudonym, or "" for the gateway's own."""
        return ""

    @property
    def owner(self) -> str:
        """Whose data it is, for the consumer's log; "" for nobody's."""
        return ""

    @property
    def via(self) -> str:
        """Name of the peer that forwards it, because the recipient must see no connection of ours, or ""."""
        return ""


@dataclass(frozen=True, slots=True)
class Order:
    """One instruction of the administrator, its signature already checked."""

    message_id: str
    kind: str
    issued_utc: datetime
    version: int
    body: bytes = field(repr=False)
    """JSON text of the order's document; it may hold meter keys, so it is in no repr."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an order."""

    message_id: str
    accepted: bool
    code: str
    reason: str


class ProfileSink(Protocol):
    """Where orders go."""

    async def apply(self, order: Order) -> Receipt:
        """Carry out an order once; the same message id again returns the first receipt."""

    async def refuse(self, message_id: str, code: str, reason: str) -> Receipt:
        """Note an order that was refused before it could be applied (signature, form)."""


class OutboxStore(Protocol):
    """Durable queue of sealed messages that wait for their recipient."""

    async def put(self, message_id: str, recipient: str, sealed: bytes, owner: str = "") -> None:
        """Keep a message of `owner`; durable on return. A known id is ignored."""

    async def pending(self, recipient: str) -> Iterable[tuple[str, bytes]]:
        """Return (message id, sealed bytes) of what waits, oldest first."""

    async def delivered(self, message_id: str) -> None:
        """Forget the content and keep the id; durable on return."""


class Clock(Protocol):
    """The gateway's time."""

    def now_utc(self) -> datetime:
        """Return the current time, aware, UTC."""
