"""What a party has said of a net or promised, durable before it is told: one file, entry after entry.

The file is a header and frames. A frame is what was written at once: its length, a check of the length, a
tag over it and all frames before, and the changes, each of one named value. What a process that was killed
had not written whole was promised to nobody and is dropped; anything else that does not fit is damage.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

MAGIC: Final = b"smgw net journal 1\n"
NAME_BYTES: Final = 8
_FRAME: Final = struct.Struct("<I8s16s")
_CHANGE: Final = struct.Struct("<BHHI")
_PUT, _DROP, _CLEAR = 0, 1, 2
_SECTOR: Final = 512
_SLACK_BYTES: Final = 1 << 20
"""A file is written anew once it holds twice what is still valid and this much more."""
_RETRY_S: Final = 1.0


class JournalError(Exception):
    """A net's journal cannot be used; `hint` says what to do."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(f"{what}; hint: {hint}")
        self.hint = hint


class JournalDamaged(JournalError):
    """Something in the file is not what was written, or is missing."""


class JournalInUse(JournalError):
    """Another process works with the file."""


class JournalForeign(JournalError):
    """The file belongs to another net, another policy or other keys."""


class Medium(Protocol):
    """Where a journal lies; each call raises `OSError` if it fails, and is durable on return."""

    def read(self) -> bytes:
        """Return everything, nothing if there is no file yet."""

    def append(self, data: bytes) -> None:
        """Write behind the end; if it fails, nothing of it stays."""

    def replace(self, data: bytes) -> None:
        """Have this instead of everything, or what was before."""

    def close(self) -> None:
        """Let go of it."""


class FileMedium:
    """A file with mode 0600, and a lock beside it that ends with the process."""

    def __init__(self, path: Path) -> None:
        """Lock it. Raises `JournalInUse`."""
        self._path, self._file, self._size = path, -1, 0
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise JournalInUse(f"{path} is in use", "one `smgw emp` a folder; end the other one") from None

    def read(self) -> bytes:
        """Return everything, nothing if there is no file yet."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""

    def append(self, data: bytes) -> None:
        """Write behind the end; if it fails, nothing of it stays."""
        if self._file < 0:
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            self._size = os.fstat(self._file).st_size
        try:
            os.ftruncate(self._file, self._size)  # nothing, unless the last try failed and so did its undoing
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)

    def replace(self, data: bytes) -> None:
        """Have this instead of everything, or what was before."""
        temporary = self._path.with_suffix(".new")
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
            os.fsync(file)
        finally:
            os.close(file)
        temporary.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._end_file()

    def close(self) -> None:
        """Let go of it."""
        self._end_file()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _end_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


@dataclass(frozen=True, slots=True)
class Room:
    """The values of one thing, each under a name."""

    journal: Journal
    name: str

    def get(self, key: str) -> bytes | None:
        """Return a value, None if there is none."""
        return self.journal.values(self.name).get(key)

    def items(self, prefix: str = "") -> list[tuple[str, bytes]]:
        """Return (name without the prefix, value) of all whose names begin so, in the order of the names."""
        found = self.journal.values(self.name).items()
        return sorted((key.removeprefix(prefix), data) for key, data in found if key.startswith(prefix))

    def put(self, key: str, value: bytes) -> None:
        """Have a value; durable after the next `Journal.sync`."""
        self.journal.change(_PUT, self.name, key, value)

    def drop(self, key: str) -> None:
        """Have it no more."""
        if key in self.journal.values(self.name):
            self.journal.change(_DROP, self.name, key)

    def clear(self, *prefixes: str) -> None:
        """Have nothing any more; with prefixes, nothing whose name begins so."""
        if not prefixes:
            if self.journal.values(self.name):
                self.journal.change(_CLEAR, self.name)
            return
        for key in [one for one in self.journal.values(self.name) if one.startswith(prefixes)]:
            self.journal.change(_DROP, self.name, key)


class Journal:
    """What outlives a process, by room and name.

    Changes take effect at once and are on disk once `sync` returns; what is changed between two awaits is
    written together or not at all. Nothing may leave the process before the `sync` that follows its cause.

    Args:
        medium: where it lies; None: nowhere, it is forgotten with the process.
        name: 8 bytes that say whose it is.

    Raises:
        JournalDamaged: see the module's words.
        JournalForeign: it is another's.
        OSError: it cannot be read or written.
    """

    def __init__(self, medium: Medium | None = None, name: bytes = bytes(NAME_BYTES)) -> None:
        self._medium, self._header = medium, MAGIC + name
        self._rooms: dict[str, dict[str, bytes]] = {}
        self._staged: list[bytes] = []
        self._changes = self._durable = self._size = 0
        self._tag = hashlib.sha256(self._header).digest()[:16]
        self._live_bytes = 0
        self.dropped_bytes = 0
        """So much at the end was not written whole when the process before this one was killed."""
        self.writes = self.written_bytes = 0
        if medium is not None:
            self._load(medium)

    @property
    def keeps(self) -> bool:
        """Whether anything outlives the process."""
        return self._medium is not None

    @property
    def empty(self) -> bool:
        """Whether nothing is kept."""
        return not any(self._rooms.values())

    def room(self, name: str) -> Room:
        """Return a room; there are as many as there are names."""
        return Room(self, name)

    def rooms(self, prefix: str) -> list[str]:
        """Return the names of rooms with something in them that begin so, without the prefix."""
        found = ((name, values) for name, values in self._rooms.items() if name.startswith(prefix))
        return sorted(name.removeprefix(prefix) for name, values in found if values)

    def values(self, room: str) -> dict[str, bytes]:
        """Return a room's values; not to be changed."""
        return self._rooms.get(room, {})

    def change(self, kind: int, room: str, key: str = "", value: bytes = b"") -> None:
        """Change one value now, and on disk with the next `sync`."""
        self._apply(kind, room, key, value)
        if self._medium is not None:
            self._staged.append(_packed(kind, room, key, value))
            self._changes += 1

    async def sync(self) -> None:
        """Wait until every change made before is durable. Who waits at the same time shares one write.

        Raises:
            OSError: it could not be written; the changes wait for the next time.
        """
        if (wanted := self._changes) == self._durable:
            return
        await asyncio.sleep(0)
        if self._durable < wanted:
            self._write()

    async def sync_patiently(self) -> None:
        """Wait as `sync` does, for as long as the disk is full or away."""
        while True:
            try:
                await self.sync()
            except OSError:
                await asyncio.sleep(_RETRY_S)
            else:
                return

    def close(self) -> None:
        """Write what waits, and let go of the file."""
        if self._medium is not None:
            try:
                if self._staged:
                    self._write()
            finally:
                self._medium.close()

    # -- the file ------------------------------------------------------------------------------------

    def _write(self) -> None:
        assert self._medium is not None
        payload, upto = b"".join(self._staged), self._changes
        data, tag = _frame(self._tag, payload)
        if self._size + len(data) > 2 * self._live_bytes + _SLACK_BYTES:
            data, tag = self._snapshot()
            self._medium.replace(data)
            self._size = 0
        else:
            self._medium.append(data)
        self._tag, self._size = tag, self._size + len(data)
        self._staged.clear()
        self._durable = upto
        self.writes, self.written_bytes = self.writes + 1, self.written_bytes + len(data)

    def _snapshot(self) -> tuple[bytes, bytes]:
        parts, tag = [self._header], hashlib.sha256(self._header).digest()[:16]
        for room, values in sorted(self._rooms.items()):
            if values:
                payload = b"".join(_packed(_PUT, room, key, value) for key, value in values.items())
                data, tag = _frame(tag, payload)
                parts.append(data)
        return b"".join(parts), tag

    def _load(self, medium: Medium) -> None:
        data = medium.read()
        if len(data) < len(self._header) and self._header.startswith(data):
            medium.replace(self._header)  # new, or killed while it was made
            self._size = len(self._header)
            return
        if not data.startswith(MAGIC):
            raise JournalDamaged("the journal does not begin as one", MEND)
        if not data.startswith(self._header):
            raise JournalForeign("the journal is another net's", "give each net the file of its own id")
        at = len(self._header)
        while at < len(data):
            if (payload := self._next(data, at)) is None:
                self.dropped_bytes = len(data) - at
                break
            _, self._tag = _frame(self._tag, payload)
            at += _FRAME.size + len(payload)
            for kind, room, key, value in _unpacked(payload):
                self._apply(kind, room, key, value)
        self._size = at
        if self.dropped_bytes:
            medium.replace(data[:at])

    def _next(self, data: bytes, at: int) -> bytes | None:
        """Return the changes of the frame here, None if it was not written whole. Raises `JournalDamaged`."""
        if len(data) - at < _FRAME.size:
            return None
        length, check, tag = _FRAME.unpack_from(data, at)
        if check != _check(self._tag, length):
            if not data[at:].strip(b"\0"):
                return None  # a power cut: the file had grown, and nothing was in it yet
            raise JournalDamaged(f"the journal is damaged at byte {at}", MEND)
        payload = data[at + _FRAME.size : at + _FRAME.size + length]
        if len(payload) < length:
            return None
        if tag != _tagged(self._tag, payload):
            last = at + _FRAME.size + length == len(data)
            written = len(data.rstrip(b"\0"))
            if last and -(-written // _SECTOR) * _SECTOR < len(data):
                return None  # a power cut: the last sectors were not written
            raise JournalDamaged(f"the journal is damaged in the {length} bytes at {at}", MEND)
        return payload

    def _apply(self, kind: int, room: str, key: str, value: bytes) -> None:
        values = self._rooms.setdefault(room, {})
        overhead = _CHANGE.size + len(room)
        if kind == _CLEAR:
            self._live_bytes -= sum(len(one) + len(data) + overhead for one, data in values.items())
            del self._rooms[room]
            return
        if (before := values.pop(key, None)) is not None:
            self._live_bytes -= len(key) + len(before) + overhead
        if kind == _PUT:
            values[key] = value
            self._live_bytes += len(key) + len(value) + overhead


MEND: Final = (
    "never put an older copy in its place, the net would contradict itself; take this [[net]] out of "
    "emp.toml, so that the others serve on, and found it anew under another id"
)


def _check(tag: bytes, length: int) -> bytes:
    return hashlib.sha256(tag + length.to_bytes(4, "little")).digest()[:8]


def _tagged(tag: bytes, payload: bytes) -> bytes:
    return hashlib.sha256(tag + payload).digest()[:16]


def _frame(before: bytes, payload: bytes) -> tuple[bytes, bytes]:
    """Return a frame that follows one with the tag `before`, and its own tag."""
    tag = _tagged(before, payload)
    return _FRAME.pack(len(payload), _check(before, len(payload)), tag) + payload, tag


def _packed(kind: int, room: str, key: str, value: bytes) -> bytes:
    names = room.encode(), key.encode()
    return b"".join((_CHANGE.pack(kind, len(names[0]), len(names[1]), len(value)), *names, value))


def _unpacked(payload: bytes) -> Iterator[tuple[int, str, str, bytes]]:
    at = 0
    while at < len(payload):
        kind, room, key, value = _CHANGE.unpack_from(payload, at)
        ends = [at := at + _CHANGE.size, at := at + room, at := at + key, at := at + value]
        yield (
            kind,
            payload[ends[0] : ends[1]].decode(),
            payload[ends[1] : ends[2]].decode(),
            payload[ends[2] : ends[3]],
        )
