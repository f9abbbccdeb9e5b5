"""Messages that wait in the consumer partition for their recipient, and the ids of those that arrived."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from firmware.errors import StoreCorrupt
from firmware.store.operations import Delete, Insert, KeepNewest, Operation, Put
from firmware.store.partition import Partition

_KIND: Final = "outbox"
_KEPT_DELIVERED: Final = 20_000
"""Ids of delivered messages that are remembered; an id names a slot, and none that old is sent again."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that waits; not what is in it."""

    message_id: str
    recipient: str
    """Or, of what is forwarded, the queue (`wan.emp.forward.queue`)."""
    owner: str
    """The consumer it is about; "" if nobody, or nobody any more."""


class _Message(msgspec.Struct, frozen=True, array_like=True):
    recipient: str
    sealed: bytes
    owner: str = ""


Arrived = Callable[[str, str, str], Sequence[Operation]]
"""(owner, recipient, message id) of what arrived -> what its owner's log is told, in the same commit."""


class SealedOutbox:
    """`wan.ports.OutboxStore` in a partition: messages that wait, and the ids of those that arrived.

    Args:
        partition: the consumer partition.
        arrived: asked for what is logged of a message with an owner that arrived; None: nothing is.
    """

    def __init__(self, partition: Partition, arrived: Arrived | None = None) -> None:
        self._partition, self._arrived = partition, arrived

    async def put(self, message_id: str, recipient: str, sealed: bytes, owner: str = "") -> None:
        """Keep a message; durable on return. An id that waits or was delivered is ignored."""
        await self._partition.commit((self.operation(message_id, recipient, sealed, owner),))

    def operation(self, message_id: str, recipient: str, sealed: bytes, owner: str = "") -> Operation:
        """Return what `put` would do, for a commit of the caller's own."""
        waiting = msgspec.msgpack.encode(_Message(recipient, sealed, owner))
        return Insert(_KIND, message_id, waiting, unless="outbox.delivered")

    async def pending(self, recipient: str) -> Iterable[tuple[str, bytes]]:
        """Return (message id, sealed bytes) of what waits for `recipient`, oldest first."""
        waiting = [
            (message_id, _decoded(plaintext)) for message_id, plaintext in await self._partition.items(_KIND)
        ]
        return [
            (message_id, message.sealed) for message_id, message in waiting if message.recipient == recipient
        ]

    async def waiting(self) -> list[Waiting]:
        """Return everything that waits, oldest first; StoreCorrupt if one cannot be read."""
        found = [
            (message_id, _decoded(plaintext)) for message_id, plaintext in await self._partition.items(_KIND)
        ]
        return [Waiting(message_id, message.recipient, message.owner) for message_id, message in found]

    def withdrawn(self, message_id: str) -> Operation:
        """Return what takes a message back that will not arrive; its id may come again."""
        return Delete(_KIND, message_id)

    async def disown(self, owner: str) -> list[Operation]:
        """Return what lets messages of an owner go on waiting without his name."""
        found: list[Operation] = []
        for message_id, plaintext in await self._partition.items(_KIND):
            waiting = _decoded(plaintext)
            if waiting.owner == owner:
                nameless = msgspec.msgpack.encode(_Message(waiting.recipient, waiting.sealed))
                found.append(Put(_KIND, message_id, nameless))
        return found

    async def delivered(self, message_id: str) -> None:
        """Forget the content and keep the id; durable on return."""
        text = await self._partition.get(_KIND, message_id)
        waiting = None if text is None else _decoded(text)
        logged: Sequence[Operation] = ()
        if waiting is not None and waiting.owner and self._arrived is not None:
            logged = self._arrived(waiting.owner, waiting.recipient, message_id)
        await self._partition.commit(
            (
                *logged,
                Delete(_KIND, message_id),
                Insert("outbox.delivered", message_id, b""),
                KeepNewest("outbox.delivered", _KEPT_DELIVERED),
            )
        )


def _decoded(plaintext: bytes) -> _Message:
    try:
        return msgspec.msgpack.decode(plaintext, type=_Message)
    except msgspec.DecodeError as error:
        raise StoreCorrupt("outbox: a sealed value has another form than this firmware writes") from error
