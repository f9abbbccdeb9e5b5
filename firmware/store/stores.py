"""The gateway's three partitions, and what each part keeps in them, typed. No I/O of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Self, TypeVar

import msgspec

from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.store.operations import Delete, Insert, KeepNewest, Operation, Put
from firmware.store.partition import Partition
from hsm.api import Curve, KeySlot, SecurityModule
from hsm.errors import CommandRefused
from lmn.ports import MeterAccess
from wan.ports import Receipt

_T = TypeVar("_T")

PARTITIONS: Final = ("system", "consumer", "calibration")
STORE_CURVE: Final = Curve.BRAINPOOL_P256
_NO_SUCH_KEY: Final = 0x6A88
_KEPT_DELIVERED: Final = 20_000
"""Ids of delivered messages that are remembered; an id names a slot, and none that old is sent again."""


class Stores:
    """The three partitions of one gateway, open. Use `async with await Stores.open(...)`."""

    def __init__(self, system: Partition, consumer: Partition, calibration: Partition) -> None:
        """Use `open`."""
        self.system = system
        """Profiles, replay memory, system log."""
        self.consumer = consumer
        """Readings, counters, outbox, ledger, consumer logs."""
        self.calibration = calibration
        """Calibration log."""

    @classmethod
    async def open(cls, folder: Path, module: SecurityModule, *, quota_bytes: int | None = None) -> Self:
        """Open the partitions in `folder`; made, like the STORE key, at the very first start.

        Raises:
            StoreUnavailable: open in another process, not writable, or of another security module,
                also one that has no STORE key.
            StoreCorrupt: damaged, or one of them is missing although all had been there.
            HsmError: the module cannot open the partition keys.
        """
        paths = _paths(folder)
        used = [_is_used(path) for path in paths]
        if any(used) and not used[0]:  # the system partition is made first
            raise StoreCorrupt(f"partition {PARTITIONS[0]} is missing")
        try:
            await module.public_key(KeySlot.STORE)
        except CommandRefused as refused:
            if refused.sw != _NO_SUCH_KEY:
                raise
            if any(used):
                raise StoreUnavailable(
                    "the security module has no STORE key, yet there are partitions"
                ) from refused
            await module.generate_key_pair(KeySlot.STORE, STORE_CURVE)
        async with AsyncExitStack() as stack:
            opened: list[Partition] = []
            for path, name in zip(paths, PARTITIONS, strict=True):
                partition = await Partition.open(path, name, module, quota_bytes=quota_bytes)
                opened.append(await stack.enter_async_context(partition))
                if (
                    len(opened) == 1
                    and not all(used)
                    and await partition.get("stores", "complete") is not None
                ):
                    missing = PARTITIONS[used.index(False)]
                    raise StoreCorrupt(f"partition {missing} is missing")
            if not all(used):
                await opened[0].put("stores", "complete", b"")
            stack.pop_all()
        return cls(*opened)

    async def close(self) -> None:
        """Close all three, each even if another one fails."""
        async with AsyncExitStack() as stack:
            for partition in (self.system, self.consumer, self.calibration):
                stack.push_async_callback(partition.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _paths(folder: Path) -> list[Path]:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"store: {error.strerror}") from error
    return [folder / f"{name}.db" for name in PARTITIONS]


def _is_used(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


class _Waiting(msgspec.Struct, frozen=True, array_like=True):
    recipient: str
    sealed: bytes


class SealedOutbox:
    """`wan.ports.OutboxStore` in a partition: messages that wait, and the ids of those that arrived."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition

    async def put(self, message_id: str, recipient: str, sealed: bytes) -> None:
        """Keep a message; durable on return. An id that waits or was delivered is ignored."""
        await self._partition.commit((self.operation(message_id, recipient, sealed),))

    def operation(self, message_id: str, recipient: str, sealed: bytes) -> Operation:
        """Return what `put` would do, for a commit of the caller's own."""
        waiting = msgspec.msgpack.encode(_Waiting(recipient, sealed))
        return Insert("outbox", message_id, waiting, unless="outbox.delivered")

    async def pending(self, recipient: str) -> Iterable[tuple[str, bytes]]:
        """Return (message id, sealed bytes) of what waits for `recipient`, oldest first."""
        waiting = [
            (message_id, _decoded(plaintext, _Waiting, "outbox"))
            for message_id, plaintext in await self._partition.items("outbox")
        ]
        return [
            (message_id, message.sealed) for message_id, message in waiting if message.recipient == recipient
        ]

    async def delivered(self, message_id: str) -> None:
        """Forget the content and keep the id; durable on return."""
        await self._partition.commit(
            (
                Delete("outbox", message_id),
                Insert("outbox.delivered", message_id, b""),
                KeepNewest("outbox.delivered", _KEPT_DELIVERED),
            )
        )


class MeterCounters:
    """`lmn.ports.CounterStore`: the last accepted counter per meter and key, in memory and in a partition.

    `advance` notes a counter at once; `commit` makes it durable together with the reading that came with
    it. After a crash between the two, neither was acknowledged and the telegram may come again.
    """

    def __init__(self, partition: Partition, counters: dict[str, int]) -> None:
        """Use `load`."""
        self._partition, self._counters = partition, counters
        self._marked: dict[str, int] = {}

    @classmethod
    async def load(cls, partition: Partition) -> Self:
        """Read all counters; StoreCorrupt if one is damaged."""
        items = await partition.items("counter")
        return cls(partition, {key: int.from_bytes(counter, "big") for key, counter in items})

    def last(self, access: MeterAccess) -> int | None:
        """Return the last accepted counter, None if there was none under this key."""
        return self._counters.get(_counter_key(access))

    def advance(self, access: MeterAccess, counter: int) -> None:
        """Note an accepted counter.

        Raises:
            ValueError: it did not rise, or is negative; the caller should have seen that.
        """
        key = _counter_key(access)
        if counter <= self._counters.get(key, -1):
            raise ValueError("a counter only rises")
        self._counters[key] = self._marked[key] = counter

    def operations(self) -> list[Operation]:
        """Return what makes all counters durable that were noted since the last `commit`."""
        return _counter_puts(self._marked)

    async def commit(self, operations: Sequence[Operation] = ()) -> list[int]:
        """Carry out `operations` and make the noted counters durable, in one transaction.

        Returns:
            The results of `operations`.

        Raises:
            StoreUnavailable, StoreCorrupt: nothing is durable; the counters stay noted for the next commit.
        """
        marked = dict(self._marked)
        results = await self._partition.commit([*operations, *_counter_puts(marked)])
        for key, counter in marked.items():
            if self._marked.get(key) == counter:
                del self._marked[key]
        return results[: len(operations)]


def _counter_puts(counters: dict[str, int]) -> list[Operation]:
    return [Put("counter", key, counter.to_bytes(8, "big")) for key, counter in counters.items()]


def _counter_key(access: MeterAccess) -> str:
    """Name meter and key without telling the key: a new key starts a new counter."""
    digest = hashlib.sha256(b"smgw counter" + (access.key or b"")).hexdigest()[:32]
    return f"{access.meter}/{digest}"


class ReplayMemory:
    """Receipts of the administrator's orders by message id; never forgotten, so no order acts twice."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition

    async def receipt(self, message_id: str) -> Receipt | None:
        """Return the receipt of an order that was handled before, None for a new one."""
        plaintext = await self._partition.get("receipt", message_id)
        return None if plaintext is None else _decoded(plaintext, Receipt, "receipt")

    def operation(self, receipt: Receipt) -> Operation:
        """Return what keeps a receipt, to be committed with what the order did. The first one stays."""
        return Insert("receipt", receipt.message_id, msgspec.msgpack.encode(receipt))

    async def note(self, receipt: Receipt) -> None:
        """Keep a receipt; durable on return. The first one of an id stays."""
        await self._partition.commit((self.operation(receipt),))


class ProfileArchive:
    """The active set of profiles and the one it replaced, as documents."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition

    async def active(self) -> bytes | None:
        """Return the active document, None before the first activation."""
        return await self._partition.get("profiles", "active")

    async def previous(self) -> bytes | None:
        """Return what was active before, None if nothing was."""
        return await self._partition.get("profiles", "previous")

    async def replace(self, document: bytes, *others: Operation) -> None:
        """Make `document` the active one, together with `others` (receipt, log entry), in one step."""
        await self._partition.commit([*await self.operations(document), *others])

    async def operations(self, document: bytes) -> list[Operation]:
        """Return what `replace` would do, for a commit of the caller's own."""
        active = await self.active()
        kept = [Put("profiles", "previous", active)] if active is not None else []
        return [*kept, Put("profiles", "active", document)]


def _decoded(plaintext: bytes, kind: type[_T], what: str) -> _T:
    try:
        return msgspec.msgpack.decode(plaintext, type=kind)
    except msgspec.DecodeError as error:
        raise StoreCorrupt(f"{what}: a sealed value has another form than this firmware writes") from error
