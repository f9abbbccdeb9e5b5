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

from firmware.errors import StoreUnavailable
from firmware.store.file import SealedFile, named_errors
from firmware.store.operations import Append, Delete, Operation, Put
from firmware.store.seal import SALT_BYTES, new_partition_key, open_partition_key
from hsm.api import SecurityModule

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
    """

    def __init__(
        self, name: str, file: SealedFile, thread: ThreadPoolExecutor, lock: int, opening: int
    ) -> None:
        """Use `open`."""
        self.name = name
        self.opening = opening
        """Rises with every opening; a copy that was put back shows a lower one than the module remembers."""
        self._file, self._thread, self._lock = file, thread, lock
        self._queue: list[_Waiting] = []
        self._busy = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @classmethod
    async def open(
        cls, path: Path, name: str, module: SecurityModule, *, quota_bytes: int | None = None
    ) -> Self:
        """Open the partition in file `path`, made if it is missing.

        Args:
            path: the file; beside it lie its lock and its write-ahead log. The folder must exist.
            name: part of every record's associated data: a file put in another's place is refused.
            module: holds the STORE key; it is asked again only at the next opening.
            quota_bytes: the file grows to this size at most; None: as far as the disk goes.

        Raises:
            StoreUnavailable: open in another process, not writable, or sealed with another module.
            StoreCorrupt: not a partition of this name, or damaged.
            HsmError: the module cannot unwrap the partition key.
        """
        lock = _take_lock(path.with_name(path.name + ".lock"), name)
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"store-{name}")
        run = partial(asyncio.get_running_loop().run_in_executor, thread)
        file: SealedFile | None = None
        try:
            file = await run(SealedFile, path, name, quota_bytes)
            known = await run(file.wrapped_key)
            if known is None:
                key, wrapped = await new_partition_key(module, name)
                opening = await run(file.unlock, key, await module.random(SALT_BYTES), wrapped)
            else:
                key = await open_partition_key(module, name, known)
                opening = await run(file.unlock, key, await module.random(SALT_BYTES), None)
        except BaseException:
            if file is not None:
                thread.submit(file.close)
            thread.shutdown()
            os.close(lock)
            raise
        return cls(name, file, thread, lock, opening)

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
        """Return what is under `key`, None if nothing is."""
        return await self._run(self._file.get, kind, key)

    async def items(self, kind: str) -> list[tuple[str, bytes]]:
        """Return (key, plaintext) of a kind, in the order in which the keys were first put."""
        return await self._run(self._file.items, kind)

    async def records(self, kind: str, after: int = 0, limit: int | None = None) -> list[tuple[int, bytes]]:
        """Return (number, plaintext) of the records after number `after`, oldest first, at most `limit`.

        A damaged record raises; what lies behind it is read with its number as `after`.
        """
        return await self._run(self._file.records, kind, after, -1 if limit is None else limit)

    async def span(self, kind: str) -> tuple[int, int]:
        """Return the numbers of the oldest and the newest record; (n + 1, n) if there is none."""
        return await self._run(self._file.span, kind)

    async def kinds(self) -> list[str]:
        """Return the names of all kinds ever used."""
        return await self._run(self._file.kinds)

    async def damage(self) -> list[str]:
        """Read everything; return one line per damaged place, none if all is well."""
        return [str(fault) for fault in await self._run(self._file.damage)]

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
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

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
        for position, (_, waiting) in enumerate(batch):
            if waiting.done():  # its caller was cancelled
                continue
            if error is not None:
                waiting.set_exception(error)
            else:
                waiting.set_result(done.result()[position])


def _take_lock(path: Path, name: str) -> int:
    """Hold the lock file for as long as the descriptor is open; the system lets go of it at any death."""
    with named_errors(name):
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise StoreUnavailable(f"partition {name} is open in another process") from error
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor
