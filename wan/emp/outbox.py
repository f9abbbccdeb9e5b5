"""The durable queue between a released document and its supplier: nothing is lost, nothing arrives twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from hsm.api import KeySlot, SecurityModule
from hsm.x509 import Certificate
from wan.emp import payload
from wan.emp.client import check_release
from wan.emp.forward import queue
from wan.errors import DestinationRefused, MalformedMessage, PeerUnavailable, UnexpectedReply
from wan.pace import DEFAULT_PACE, Pace
from wan.ports import OutboxStore, Peer, Release

Report = Callable[[str, BaseException], None]
"""Told of each fault: name of the service, what happened. Must not raise."""


@dataclass(frozen=True, slots=True)
class SealingKeys:
    """What sealing needs of our own: the signature key's slot and certificates."""

    sig_slot: KeySlot
    sig_certificate: Certificate
    extra: tuple[Certificate, ...] = ()
    """Sent along, so that the recipient can build the path: the sub-CA's certificate."""


class Deliverer(Protocol):
    """Whoever brings messages to a recipient: `wan.emp.client.EmpClient`, `wan.emp.forward.Forwarder`."""

    async def deliver(self, message_id: str, sealed: bytes) -> None:
        """Hand over one message; doing so twice has the effect of doing it once."""


class Outbox:
    """Seals releases, keeps them until their recipient has acknowledged them, and tries again, paced.

    A service: `run` delivers. `send` may be called whether or not it runs.
    """

    name = "wan.emp.outbox"

    def __init__(
        self,
        store: OutboxStore,
        clients: Callable[[], Mapping[str, Deliverer]],
        peers: Callable[[], Mapping[str, Peer]],
        *,
        module: SecurityModule,
        keys: Callable[[], SealingKeys],
        check_recipient: Callable[[Certificate], None],
        gateway: str,
        report: Report,
        pace: Pace = DEFAULT_PACE,
    ) -> None:
        """Take `clients` and `peers` as callables, because profiles change; `gateway` is in lower case.

        `clients` are by recipient or, of what is forwarded, by `wan.emp.forward.queue`.

        `check_recipient` checks path and validity of an encryption certificate now (CertificateRefused).
        """
        self._store, self._clients, self._peers = store, clients, peers
        self._module, self._keys, self._gateway = module, keys, gateway
        self._check_recipient = check_recipient
        self._report, self._pace = report, pace
        self._wake: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Event()

    async def send(self, release: Release) -> None:
        """Seal a release for its recipient and keep it; durable on return, delivered later by `run`.

        Raises:
            DestinationRefused: the recipient is not a configured peer with an encryption certificate.
            CertificateRefused: the recipient's certificate is out of date, or leads to another root.
            MalformedMessage: the body is not JSON.
            TypeError: `release` was not made by the policy gate.
            HsmError, OSError: not sealed or not kept; nothing was sent.
        """
        check_release(release, release.recipient)
        peer = self._peers().get(release.recipient)
        if peer is None or peer.enc_certificate is None:
            raise DestinationRefused(f"{release.recipient!r} is no peer that a message can be sealed for")
        recipient = Certificate.from_der(peer.enc_certificate)
        self._check_recipient(recipient)
        # Not at module level: CMS is needed when there is something to send, not to hear the first meter.
        from wan.cms import message

        keys = self._keys()
        sender = release.sender or self._gateway
        document = payload.encode(release.message_id, sender, release.recipient, release.body)
        sealed = await message.to_recipient(
            document,
            recipient=recipient,
            module=self._module,
            sig_slot=keys.sig_slot,
            sig_certificate=keys.sig_certificate,
            extra=keys.extra,
        )
        way = queue(release.via, release.recipient) if release.via else release.recipient
        await self._store.put(release.message_id, way, sealed, release.owner)
        self._event(way).set()
        self._changed.set()

    def _event(self, recipient: str) -> asyncio.Event:
        return self._wake.setdefault(recipient, asyncio.Event())

    def wake(self) -> None:
        """Look again who can be delivered to; for when the configured peers have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Deliver what waits, each recipient at its own pace, until cancelled.

        Raises:
            BaseExceptionGroup: the store or the security module failed; what waits is still kept.
        """
        serving: set[str] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                for recipient in self._clients().keys() - serving:
                    serving.add(recipient)
                    group.create_task(self._serve(recipient), name=f"{self.name}.{recipient}")
                await self._changed.wait()

    async def _serve(self, recipient: str) -> None:
        """Deliver to one recipient; while it is away, new messages do not shorten the pause."""
        failures, wake = 0, self._event(recipient)
        while True:
            wake.clear()
            match await self._drain(recipient):
                case _Outcome.CLEAN:
                    failures = 0
                    await wake.wait()
                case _Outcome.REFUSED:
                    # What it refused is tried again at the pace, what is new at once.
                    failures += 1
                    await _wait(wake, self._pace.after(failures))
                case _Outcome.AWAY:
                    failures += 1
                    await asyncio.sleep(self._pace.after(failures))

    async def _drain(self, recipient: str) -> _Outcome:
        """Try each waiting message once, oldest first."""
        outcome = _Outcome.CLEAN
        for message_id, sealed in await self._store.pending(recipient):
            client = self._clients().get(recipient)
            if client is None:  # its profile is gone; what waits stays
                return _Outcome.AWAY
            try:
                await client.deliver(message_id, sealed)
            except (PeerUnavailable, DestinationRefused) as fault:
                self._report(self.name, fault)
                return _Outcome.AWAY
            except (UnexpectedReply, MalformedMessage) as fault:
                # One message that the supplier does not take must not hold up those behind it.
                self._report(self.name, fault)
                outcome = _Outcome.REFUSED
                continue
            await self._store.delivered(message_id)
        return outcome


class _Outcome(Enum):
    """How a round through the waiting messages of one recipient ended."""

    CLEAN = "nothing waits"
    REFUSED = "the recipient answers, and did not take everything"
    AWAY = "the recipient cannot be reached"


async def _wait(event: asyncio.Event, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return
