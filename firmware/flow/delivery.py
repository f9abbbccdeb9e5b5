"""Data set and communication profile to a release in the outbox: the last step before the wide area network.

Holds no rule: the gate decides, the outbox seals, keeps and sends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from firmware.enforcement.gate import Gate
from firmware.errors import ReleaseRefused
from firmware.metering.dataset import Dataset
from firmware.profile.model import CommunicationProfile
from wan.ports import Release


class Outbox(Protocol):
    """Where releases wait until their recipient has them."""

    async def send(self, release: Release) -> None:
        """Seal and keep a release; durable on return, and once for ever by its message id."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Data of a consumer on its way, for the consumer's log; holds no value."""

    consumer: str
    recipient: str
    communication: str
    message_id: str
    from_utc: datetime
    to_utc: datetime
    entries: int
    pseudonym: str = ""
    """Under which it leaves, "" for the gateway's own name."""


class Delivery:
    """Sends data sets under communication profiles.

    Args:
        gate: decides and makes the release.
        outbox: takes it.
        note: told of everything that was handed to the outbox.
    """

    def __init__(self, gate: Gate, outbox: Outbox, note: Callable[[Sent], Awaitable[None]]) -> None:
        self._gate, self._outbox, self._note = gate, outbox, note
        self.sent = 0
        self.denied = 0

    async def deliver(self, communication: CommunicationProfile, dataset: Dataset) -> bool:
        """Send one data set; whoever calls again with the same period sends nothing new.

        Returns:
            True once it lies in the outbox, False if the gate denied it (which the gate has reported).

        Raises:
            WanError, HsmError, StoreUnavailable: it was not kept; try again.
        """
        try:
            release = await self._gate.release(
                dataset,
                communication=communication.id,
                recipient=communication.recipient,
                purpose=communication.purpose,
            )
        except ReleaseRefused:
            self.denied += 1
            return False
        await self._outbox.send(release)
        self.sent += 1
        await self._note(
            Sent(
                consumer=dataset.consumer,
                recipient=release.recipient,
                communication=communication.id,
                message_id=release.message_id,
                from_utc=dataset.from_utc,
                to_utc=dataset.to_utc,
                entries=len(dataset.entries),
                pseudonym=release.sender,
            )
        )
        return True
