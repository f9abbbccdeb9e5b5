"""The gateway's three partitions, and what each part keeps in them, typed. No I/O of its own."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

import msgspec

from firmware.errors import StoreCorrupt, StoreRolledBack, StoreUnavailable
from firmware.store.anchor import Anchor, counter_of
from firmware.store.exchange import (
    PARTITIONS,
    exchange_is_pending,
    finish_exchange,
    is_used,
    locked,
    path_of,
)
from firmware.store.operations import Insert, Operation, Put
from firmware.store.partition import Partition
from firmware.store.schema import named_errors
from firmware.store.seal import slot_of
from hsm.api import Curve, KeySlot, SecurityModule
from hsm.errors import CommandRefused, HsmError
from lmn.ports import MeterAccess
from wan.ports import Receipt

_T = TypeVar("_T")

STORE_CURVE: Final = Curve.BRAINPOOL_P256
_BRIDGES: Final = (
    KeySlot.DCNET_4_NEXT,
    KeySlot.DCNET_3_NEXT,
    KeySlot.DCNET_2_NEXT,
    KeySlot.DCNET_1_NEXT,
    KeySlot.DCNET_4,
    KeySlot.DCNET_3,
    KeySlot.DCNET_2,
    KeySlot.DCNET_1,
)
"""Slots whose keys the gateway may make and erase by itself, those first that nets use least."""
_NO_SUCH_KEY: Final = 0x6A88


@dataclass(frozen=True, slots=True)
class Quotas:
    """To what size each partition's file may grow; None: as far as the disk goes."""

    system_bytes: int | None = None
    consumer_bytes: int | None = None
    calibration_bytes: int | None = None

    def of(self, name: str) -> int | None:
        """Return the quota of one partition."""
        return {
            "system": self.system_bytes,
            "consumer": self.consumer_bytes,
            "calibration": self.calibration_bytes,
        }[name]


_NO_QUOTAS: Final = Quotas()


class Stores:
    """The three partitions of one gateway, open. Use `async with await Stores.open(...)`."""

    def __init__(self, partitions: Sequence[Partition], module: SecurityModule, folder: Path) -> None:
        """Use `open`."""
        self.partitions = tuple(partitions)
        """All three, in the order of `PARTITIONS`."""
        system, consumer, calibration = self.partitions
        self.system = system
        """Profiles, replay memory, system log."""
        self.consumer = consumer
        """Readings, counters, outbox, ledger, consumer logs."""
        self.calibration = calibration
        """Calibration log."""
        self.anchor = Anchor(module, self.partitions)
        self._module, self._folder, self._closed = module, folder, False

    @classmethod
    async def open(
        cls,
        folder: Path,
        module: SecurityModule,
        *,
        quotas: Quotas = _NO_QUOTAS,
        accept: bool = False,
    ) -> Self:
        """Open the partitions in `folder`; made, like the STORE key, at the very first start.

        A restore that was cut short after its checks is finished first.

        Args:
            folder: holds nothing but the stores.
            module: the one they were made with; asked again for each checkpoint and change of keys.
            quotas: limits of size.
            accept: take files that the module's counter speaks against, or whose keys anybody could have
                wrapped, because somebody knows where they come from.

        Raises:
            StoreUnavailable: open in another process, not writable, or of another security module,
                also one that has no STORE key.
            StoreCorrupt: damaged beyond reading, or one of them is missing although all had been there.
            StoreRolledBack: the module's counter says that one of them is not the newest, or that there
                were some where none are.
            HsmError: the module cannot open the partition keys.
        """
        paths = _paths(folder)
        with named_errors("(all)"):
            if exchange_is_pending(folder):
                with locked(folder):
                    finish_exchange(folder)
        used = [is_used(path) for path in paths]
        if any(used) and not used[0]:  # the system partition is made first
            raise StoreCorrupt(f"partition {PARTITIONS[0]} is missing")
        await _store_key(module, any(used))
        if not any(used) and not accept and await counter_of(module):
            raise StoreRolledBack(
                "the partitions are gone: the security module has counted openings of some;"
                " `smgw restore` puts a backup back, or begins anew"
            )
        async with AsyncExitStack() as stack:
            opened: list[Partition] = []
            for path, name in zip(paths, PARTITIONS, strict=True):
                partition = await Partition.open(
                    path,
                    name,
                    module,
                    quota_bytes=quotas.of(name),
                    goes_on=name != "consumer",
                    anybodys=accept,
                )
                opened.append(await stack.enter_async_context(partition))
                if (
                    len(opened) == 1
                    and not all(used)
                    and await partition.get("stores", "complete") is not None
                ):
                    missing = PARTITIONS[used.index(False)]
                    raise StoreCorrupt(f"partition {missing} is missing")
            stores = cls(opened, module, folder)
            if not stores.faults():  # a damaged set is read, not carried on
                await stores.anchor.advance(accept=accept)
            elif not accept:
                await stores.anchor.check()
            if await opened[0].get("stores", "complete") is None:
                await opened[0].put("stores", "complete", b"")
            await stores._tidy_bridges()
            stack.pop_all()
        return stores

    def faults(self) -> list[StoreCorrupt]:
        """Return the damage that was seen so far, at most one a partition."""
        return [partition.fault for partition in self.partitions if partition.fault is not None]

    @property
    def commits(self) -> int:
        """Transactions since the opening, of all partitions."""
        return sum(partition.commits for partition in self.partitions)

    async def checkpoint(self) -> None:
        """Move on to the next epoch: copies made before this moment are noticed from now on.

        Raises:
            HsmError, StoreUnavailable, StoreCorrupt: it did not happen, or only its first step; harmless.
        """
        await self.anchor.advance(known=True)

    async def change_keys(self) -> int:
        """Seal all records anew under new partition keys; return how many there were.

        Each partition is one transaction: a kill at any point leaves each with its old key or its new one.

        Raises:
            HsmError, StoreUnavailable, StoreCorrupt: some partitions may have new keys already; again helps.
        """
        rows = 0
        async with self.consumer.turn:
            for partition in self.partitions:
                rows += await partition.change_key(self._module)
        await self.checkpoint()
        return rows

    async def change_key_of(self, partition: Partition) -> None:
        """Change the key of one partition alone."""
        async with self.consumer.turn:
            await partition.change_key(self._module)
        await self.checkpoint()

    def disk_free_bytes(self) -> int:
        """Return how much room the disk has left for the stores.

        Raises:
            StoreUnavailable: the disk is gone.
        """
        with named_errors("(all)"):
            return shutil.disk_usage(self._folder).free

    async def change_store_key(self, curve: Curve = STORE_CURVE) -> None:
        """Replace the STORE key in the module; the records stay as they are.

        The module has no second place for this key. So the partition keys are wrapped against a bridging key
        in a free slot first, as well; a start after a kill opens them by whichever key is still there, wraps
        them against the new one and erases the bridge.

        Raises:
            StoreUnavailable: the module has no free slot.
            HsmError: the module refuses, e.g. because its administrator is not authenticated (6982); the
                stores open as before.
        """
        async with self.consumer.turn:
            await self._bridge(curve)
        await self.checkpoint()

    async def _bridge(self, curve: Curve) -> None:
        bridge = await self._free_slot()
        # Told by name first, so that a start after a kill knows which key to erase.
        await self.system.put("stores", "bridge", bytes((bridge,)))
        await self._module.generate_key_pair(bridge, curve)
        for partition in self.partitions:
            await partition.wrap_key(self._module, (KeySlot.STORE, bridge))
        try:
            await self._module.generate_key_pair(KeySlot.STORE, curve)
        finally:
            for partition in self.partitions:
                await partition.wrap_key(self._module, (KeySlot.STORE,))
            await self._tidy_bridges()

    async def _free_slot(self) -> KeySlot:
        for slot in _BRIDGES:
            try:
                await self._module.public_key(slot)
            except CommandRefused as refused:
                if refused.sw != _NO_SUCH_KEY:
                    raise
                return slot
        raise StoreUnavailable("the security module has no free slot for a change of the STORE key")

    async def _tidy_bridges(self) -> None:
        """Erase the bridging key once no partition needs it any more."""
        bridge = await self.system.get("stores", "bridge")
        if bridge is not None and self.system.fault is None:
            await self._module.delete_key(slot_of(bridge[0]))
            await self.system.delete("stores", "bridge")

    async def close(self) -> None:
        """Move on to the last epoch, then close all three, each even if another one fails.

        Without the module the epoch stays open, as after a power cut: copies of since its beginning are not
        noticed then.
        """
        if self._closed:
            return
        self._closed = True
        async with AsyncExitStack() as stack:
            for partition in self.partitions:
                stack.push_async_callback(partition.close)
            if not self.faults():
                with suppress(HsmError, StoreUnavailable):
                    await self.checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _store_key(module: SecurityModule, used: bool) -> None:
    """Make the STORE key at the very first start."""
    try:
        await module.public_key(KeySlot.STORE)
    except CommandRefused as refused:
        if refused.sw != _NO_SUCH_KEY:
            raise
        if used:
            raise StoreUnavailable(
                "the security module has no STORE key, yet there are partitions"
            ) from refused
        await module.generate_key_pair(KeySlot.STORE, STORE_CURVE)


def _paths(folder: Path) -> list[Path]:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"store: {error.strerror}") from error
    return [path_of(folder, name) for name in PARTITIONS]


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
