"""One sealed partition: asynchronous face, group commit, one writer thread, one process at a time."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeVar

from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.store.operations import Append, Delete, Operation, Put
from firmware.store.schema import named_errors
from firmware.store.seal import (
    KEY_BYTES,
    SALT_BYTES,
    new_partition_key,
    open_partition_key,
    wrap_partition_key,
)
from firmware.store.upkeep import KeptFile, Readable, Usage
from hsm.api import KeySlot, SecurityModule

MAX_BATCH: Final = 1000
"""Commits that share one transaction and one fsync at most."""
_Waiting = tuple[Sequence[Operation], "asyncio.Future[list[int]]"]
_T = TypeVar("_T")


class Partition:
    """Sealed records of one partition. What was awaited is on the disk: it survives `kill -9` and power loss.

    Keyed items (`put`, `get`) and numbered lists (`append`, `records`) live side by side, grouped by kind.
    Callers that write at the same time share a transaction; a failed one fails for all of them.
    Every method may raise StoreUnavailable (disk full, read-only, locked, closed) and StoreCorrupt
    (damaged; the text names kind and number); neither changes anything.

    Once damage was seen, by whatever call, the partition is in its secure state: it takes no more writes
    (StoreCorrupt) until a backup is restored, and what is readable is still read. Partitions whose logs must
    tell of it go on; their next opening shows the damage again.
    """

    def __init__(
        self,
        name: str,
        file: KeptFile,
        thread: ThreadPoolExecutor,
        lock: int,
        opening: int,
        *,
        goes_on: bool = False,
    ) -> None:
        """Use `open`."""
        self.name = name
        self.opening = opening
        """Rises with every opening."""
        self.fault: StoreCorrupt | None = None
        """The damage that was seen first; None: all is well so far."""
        self.commits = 0
        """Transactions that callers' operations went into since the opening."""
        self._goes_on = goes_on
        self.turn = asyncio.Lock()
        """For steps that must not mix: moving on to another epoch, changing keys."""
        self._file, self._thread, self._lock = file, thread, lock
        self._queue: list[_Waiting] = []
        self._busy = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: Path,
        name: str,
        module: SecurityModule,
        *,
        quota_bytes: int | None = None,
        goes_on: bool = False,
        salvage: bool = False,
        anybodys: bool = False,
    ) -> Self:
        """Open the partition in file `path`, made if it is missing.

        Args:
            path: the file; beside it lie its lock and its write-ahead log. The folder must exist.
            name: part of every record's associated data: a file put in another's place is refused.
            module: holds the STORE key; it is asked again only at the next opening.
            quota_bytes: the file grows to this size at most; None: as far as the disk goes.
            goes_on: takes writes also after damage was seen.
            salvage: leave out what cannot be read instead of refusing the file; for a look at a copy.
            anybodys: take a file whose key not only the module could have wrapped (`open_partition_key`).

        Raises:
            StoreUnavailable: open in another process, not writable, sealed with another module, or with a
                key that anybody could have wrapped.
            StoreCorrupt: not a partition of this name, or so damaged that nothing of it can be read; damage
                that leaves something readable is told by `fault`.
            HsmError: the module cannot unwrap the partition key.
        """
        lock = take_lock(path, name)
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"store-{name}")
        run = partial(asyncio.get_running_loop().run_in_executor, thread)
        file: KeptFile | None = None
        try:
            file = await run(KeptFile, path, name, quota_bytes)
            file.salvage = salvage
            known = await run(file.wrapped_keys)
            if not known:
                key, wrapped = await new_partition_key(module, name)
                opening = await run(file.unlock, key, await module.random(SALT_BYTES), wrapped)
            else:
                taken = salvage or anybodys
                key, form, ours = await open_partition_key(module, name, known, anybodys=taken)
                opening = await run(file.unlock, key, await module.random(SALT_BYTES), None)
                # Not ours, or a change of the STORE key was cut short.
                if not ours or len(known) > 1 or form.slot is not KeySlot.STORE:
                    wrapped = await wrap_partition_key(module, name, key)
                    await run(file.replace_header, (wrapped,))
            fault = await run(file.tally_fault)
        except BaseException:
            if file is not None:
                thread.submit(file.close)
            thread.shutdown()
            os.close(lock)
            raise
        partition = cls(name, file, thread, lock, opening, goes_on=goes_on)
        partition.fault = fault
        return partition

    async def put(self, kind: str, key: str, plaintext: bytes) -> None:
        """Keep `plaintext` under `key`, replacing what was there; durable on return."""
        await self.commit((Put(kind, key, plaintext),))

    async def append(self, kind: str, plaintext: bytes) -> int:
        """Add a record to the list `kind`, durable on return; return its number, from 1, without gaps."""
        return (await self.commit((Append(kind, plaintext),)))[0]

    async def delete(self, kind: str, key: str) -> None:
        """Forget what is under `key`; no error if nothing is."""
        await self.commit((Delete(kind, key),))

    async def commit(self, operations: Sequence[Operation]) -> list[int]:
        """Carry out several operations, all or none; return the result of each (see `operations`).

        Operations handed in first are carried out first. A caller that is cancelled while it waits
        does not take its operations back.
        """
        if self._closed:
            raise StoreUnavailable(f"partition {self.name} is closed")
        if self.fault is not None and not self._goes_on:
            raise StoreCorrupt(f"partition {self.name} takes no more: {self.fault}")
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[list[int]] = loop.create_future()
        self._queue.append((operations, waiting))
        if not self._busy:
            # Not at once: whoever else is about to write in this turn of the loop shares the transaction.
            self._busy = True
            self._idle.clear()
            loop.call_soon(self._start)
        return await waiting

    async def get(self, kind: str, key: str) -> bytes | None:
        """Return what is under `key`, None if nothing is.

        In a damaged partition nothing is ever None: what is not there cannot be told from what was lost.
        """
        found = await self._run(self._file.get, kind, key)
        if found is None and self.fault is not None and not self._goes_on:
            raise StoreCorrupt(f"partition {self.name}: an item may be lost: {self.fault}")
        return found

    async def items(self, kind: str) -> list[tuple[str, bytes]]:
        """Return (key, plaintext) of a kind, in the order in which the keys were first put."""
        return await self._run(self._file.items, kind)

    async def records(self, kind: str, after: int = 0, limit: int | None = None) -> list[tuple[int, bytes]]:
        """Return (number, plaintext) of the records after number `after`, oldest first, at most `limit`.

        A damaged record raises; what lies behind it is read with its number as `after`. A damaged partition
        may have lost the end of a list: what is returned is right, and no more being there is StoreCorrupt.
        """
        found = await self._run(self._file.records, kind, after, -1 if limit is None else limit)
        if not found and self.fault is not None and not self._goes_on:
            raise StoreCorrupt(f"partition {self.name}: records of {kind} may be lost: {self.fault}")
        return found

    async def span(self, kind: str) -> tuple[int, int]:
        """Return the numbers of the oldest and the newest record; (n + 1, n) if there is none."""
        return await self._run(self._file.span, kind)

    async def kinds(self) -> list[str]:
        """Return the names of all kinds in use."""
        return await self._run(self._file.kinds)

    async def damage(self) -> list[str]:
        """Read everything; return one line per damaged place, none if all is well."""
        faults = await self._run(self._file.damage)
        if faults:
            self._note(faults[0])
        return [str(fault) for fault in faults]

    async def readable(self) -> list[Readable]:
        """Try to open every row, kind by kind."""
        return await self._run(self._file.readable)

    async def usage(self) -> Usage:
        """Return how full the partition is."""
        return await self._run(self._file.usage)

    async def compact(self) -> None:
        """Give freed pages back to the disk; no deleted byte is left in file or log."""
        await self._run(self._file.compact)

    @property
    def epoch(self) -> int:
        """The epoch that the file belongs to: see `firmware.store.anchor`."""
        return self._file.epoch

    async def change_key(self, module: SecurityModule) -> int:
        """Seal everything anew under a new partition key of the module's random bytes; return how many rows.

        One transaction: after a kill at any point it is done or not begun. Writers wait meanwhile.

        Raises:
            HsmError: the module failed; nothing was changed.
        """
        key = await module.random(KEY_BYTES)
        wrapped = await wrap_partition_key(module, self.name, key)
        return await self._run(self._file.change_key, key, await module.random(SALT_BYTES), wrapped)

    async def wrap_key(self, module: SecurityModule, slots: Sequence[KeySlot]) -> None:
        """Wrap the same partition key anew, against the module's key in each of `slots`."""
        key = await self._run(self._file.key)
        forms = [await wrap_partition_key(module, self.name, key, slot) for slot in slots]
        await self._run(self._file.replace_header, forms)

    async def close(self) -> None:
        """Finish what was handed in, then give the file back; closing twice is no error."""
        if self._closed:
            return
        self._closed = True
        await self._idle.wait()
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._file.close)
        finally:
            self._thread.shutdown()
            os.close(self._lock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, function: Callable[..., _T], *arguments: object) -> _T:
        if self._closed:
            raise StoreUnavailable(f"partition {self.name} is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        except StoreCorrupt as fault:
            self._note(fault)
            raise

    def _note(self, fault: StoreCorrupt) -> None:
        if self.fault is None:
            self.fault = StoreCorrupt(str(fault))  # not itself: its traceback would keep cursors alive

    def _start(self) -> None:
        batch, self._queue = self._queue[:MAX_BATCH], self._queue[MAX_BATCH:]
        commits = [operations for operations, _ in batch]
        done = asyncio.get_running_loop().run_in_executor(self._thread, self._file.commit, commits)
        done.add_done_callback(partial(self._finished, batch))

    def _finished(self, batch: list[_Waiting], done: asyncio.Future[list[list[int]]]) -> None:
        if self._queue:
            self._start()
        else:
            self._busy = False
            self._idle.set()
        error = done.exception()
        self.commits += error is None
        if isinstance(error, StoreCorrupt):
            self._note(error)
        for position, (_, waiting) in enumerate(batch):
            if waiting.done():  # its caller was cancelled
                continue
            if error is not None:
                waiting.set_exception(error)
            else:
                waiting.set_result(done.result()[position])


def take_lock(path: Path, name: str) -> int:
    """Lock a partition's file for as long as the descriptor is open; the system lets go of it at any death.

    Raises:
        StoreUnavailable: somebody else holds it, or the folder cannot be written.
    """
    with named_errors(name):
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise StoreUnavailable(f"partition {name} is open in another process") from error
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor
