"""What orders tell between registrations: tariff events, and requests that wait for an answer. In the store.

No clock. An event acts from the instant under which it is kept; a request waits until it was answered, also
over a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from firmware.errors import StoreCorrupt
from firmware.metering.tariff.task import TariffEvent
from firmware.store.operations import Delete, Insert, Operation

MAX_EVENTS: Final = 10_000
"""Of one processing profile; more are refused, none is ever thrown away (a top-up is money)."""
MAX_REQUESTS: Final = 256
_REQUESTS: Final = "reading-request"


class Partition(Protocol):
    """The part of `firmware.store.partition.Partition` that is used here."""

    async def items(self, kind: str) -> list[tuple[str, bytes]]:
        """Return (key, plaintext) of a kind."""

    async def commit(self, operations: Sequence[Operation]) -> list[int]:
        """Carry out all operations or none; durable on return."""


class _Event(msgspec.Struct, frozen=True, array_like=True):
    at_utc: datetime
    id: str
    amount: int


class _Request(msgspec.Struct, frozen=True, array_like=True):
    communication: str
    asked_utc: datetime


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody entitled wants a reading now."""

    message_id: str
    """Of the order."""
    communication: str
    asked_utc: datetime


class Happenings:
    """Tariff events of all processing profiles, and waiting requests."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition

    async def tell(self, processing: str, message_id: str, event: TariffEvent) -> bool:
        """Keep an event under the id of its order; the same id again changes nothing. Durable on return.

        Returns:
            False: there are too many already, nothing was kept.
        """
        kind = f"event/{processing}"
        if len(await self._partition.items(kind)) >= MAX_EVENTS:
            return False
        kept = _Event(event.at_utc.astimezone(UTC), event.id, event.amount)
        await self._partition.commit([Insert(kind, message_id, msgspec.json.encode(kept))])
        return True

    async def events(self, processing: str) -> tuple[TariffEvent, ...]:
        """Return the events of a processing profile, in the order of time."""
        found = []
        for _, text in await self._partition.items(f"event/{processing}"):
            try:
                event = msgspec.json.decode(text, type=_Event)
            except msgspec.MsgspecError as error:
                raise StoreCorrupt("a tariff event cannot be read") from error
            found.append(TariffEvent(event.at_utc, event.id, event.amount))
        return tuple(sorted(found))

    async def ask(self, request: Request) -> bool:
        """Keep a request until it is answered; durable on return.

        Returns:
            False: too many wait already, nothing was kept.
        """
        if len(await self._partition.items(_REQUESTS)) >= MAX_REQUESTS:
            return False
        kept = _Request(request.communication, request.asked_utc.astimezone(UTC))
        await self._partition.commit([Insert(_REQUESTS, request.message_id, msgspec.json.encode(kept))])
        return True

    async def waiting(self) -> tuple[Request, ...]:
        """Return the requests that were not answered yet, oldest first."""
        found = []
        for message_id, text in await self._partition.items(_REQUESTS):
            try:
                request = msgspec.json.decode(text, type=_Request)
            except msgspec.MsgspecError as error:
                raise StoreCorrupt("a request cannot be read") from error
            found.append(Request(message_id, request.communication, request.asked_utc))
        return tuple(sorted(found, key=lambda one: (one.asked_utc, one.message_id)))

    async def answered(self, message_id: str) -> None:
        """Forget a request; durable on return."""
        await self._partition.commit([Delete(_REQUESTS, message_id)])
