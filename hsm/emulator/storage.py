"""The card's non-volatile memory: two generations in two files; after any crash the old state or the new one.

Each file: magic (8) | version (2) | sequence (8) | length (4) | content | AES-256-CMAC over all before. A new
state goes to a temporary file, which is synced and renamed over the *older* generation; the newest one whose
MAC holds counts. The MAC key is HMAC-SHA-256 of 32 random bytes in the file `card.key` of the same folder. So
the MAC notices damage and the state of another card; whoever can write the folder can also make it.

If the newest generation is damaged the one before it is used, and `lost` says so: the card then takes
one try of the PIN away and moves its counter on, because the lost state may have done that.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from pathlib import Path
from typing import Protocol

from hsm.emulator.entropy import OperatingSystemEntropy
from hsm.errors import ModuleFailed, ModuleUnavailable
from hsm.suites import cmac

_MAGIC = b"SMGWHSM\x00"
_VERSION = 2
_HEADER = struct.Struct(">8sHQI")
_KEY_BYTES, _MAC_BYTES = 32, 16
_MAX_BYTES = 1 << 20
_KEY_USE = b"smgw emulated card: MAC of the state, version 2"


class StateStorage(Protocol):
    """Where a card keeps its state."""

    lost: bool
    """True after a `load` that had to fall back, because the newest generation is damaged or gone."""

    def load(self) -> bytes:
        """Return the content saved last.

        Raises:
            ModuleUnavailable: nothing was ever saved.
            ModuleFailed: what is there is damaged.
        """

    def save(self, content: bytes) -> None:
        """Replace the content; durable and complete on return.

        Raises:
            OSError: perhaps not written; a later `load` gives the old content or this one.
        """


def seal(key: bytes, content: bytes, sequence: int) -> bytes:
    """Put header and MAC around a content."""
    body = _HEADER.pack(_MAGIC, _VERSION, sequence, len(content)) + content
    return body + cmac(key, body)


def unseal(key: bytes, blob: bytes) -> tuple[int, bytes]:
    """Return sequence number and content.

    Raises:
        ModuleFailed: damaged, of another card, or of another version.
    """
    body, mac = blob[:-_MAC_BYTES], blob[-_MAC_BYTES:]
    if len(body) < _HEADER.size or not hmac.compare_digest(cmac(key, body), mac):
        raise ModuleFailed("the card's state is damaged")
    magic, version, sequence, length = _HEADER.unpack_from(body)
    if magic != _MAGIC or version != _VERSION or length != len(body) - _HEADER.size:
        raise ModuleFailed("the card's state has an unknown form")
    return sequence, body[_HEADER.size :]


class FileStorage:
    """Three files of mode 0600 in a folder: two generations and the key of their MAC."""

    NAMES = ("card.0", "card.1")
    KEY_NAME = "card.key"
    OLD_NAME = "card.state"  # version 1

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths = tuple(folder / name for name in self.NAMES)
        self._sequence = 0
        self._newest = 1
        self._marks: tuple[object, ...] | None = None
        self.lost = False

    def exists(self) -> bool:
        """True if a card was saved here, damaged or not, of this version or an older one."""
        return any(path.exists() for path in (*self._paths, self._folder / self.OLD_NAME))

    def load(self) -> bytes:
        """Read both generations; return the newest good one."""
        blobs = [self._read(path) for path in self._paths]
        if blobs == [None, None]:
            if (self._folder / self.OLD_NAME).exists():
                raise ModuleFailed(
                    "the emulated card in this folder has the format of an older version (1);"
                    " it is not read: move it away and personalise a new one"
                )
            raise ModuleUnavailable("there is no emulated card in this folder")
        key = self._key()
        good: list[tuple[int, int, bytes]] = []
        for index, blob in enumerate(blobs):
            try:
                sequence, content = unseal(key, blob or b"")
            except ModuleFailed:
                continue
            good.append((sequence, index, content))
        if not good:
            raise ModuleFailed("the card's state is damaged")
        sequence, self._newest, content = max(good)
        self.lost = len(good) == 1 and (sequence > 1 or blobs[1 - self._newest] is not None)
        # A lost generation may have had the next number: it is never given again.
        self._sequence = sequence + self.lost
        self._marks = self._look()
        return content

    def save(self, content: bytes) -> None:
        """Write a temporary file, sync it, rename it over the older generation, sync the folder."""
        if self._marks is not None and self._look() != self._marks:
            raise OSError("another process has changed the state of this card")
        path = self._paths[1 - self._newest]
        temporary = path.with_suffix(".new")
        try:
            self._write(temporary, seal(self._key(create=True), content, self._sequence + 1))
            temporary.replace(path)
            self._sync_folder()
        finally:
            self._marks = self._look()
        self._sequence += 1
        self._newest = 1 - self._newest
        self.lost = False

    def _key(self, *, create: bool = False) -> bytes:
        path = self._folder / self.KEY_NAME
        secret = self._read(path)
        if create and secret is None and not any(file.exists() for file in self._paths):
            secret = OperatingSystemEntropy().read(_KEY_BYTES)
            temporary = path.with_suffix(".tmp")
            self._write(temporary, secret)
            temporary.replace(path)
            self._sync_folder()
        if secret is None or len(secret) != _KEY_BYTES:
            raise ModuleFailed("the key of the card's state is damaged or gone")
        return hmac.digest(secret, _KEY_USE, hashlib.sha256)

    def _look(self) -> tuple[object, ...]:
        """What tells that nobody else has written: inode and time of both generations."""
        marks: list[object] = []
        for path in self._paths:
            try:
                status = path.stat()
            except FileNotFoundError:
                marks.append(None)
            else:
                marks.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(marks)

    @staticmethod
    def _read(path: Path) -> bytes | None:
        try:
            with path.open("rb") as file:
                return file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return None

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class MemoryStorage:
    """A card that forgets with the process."""

    lost = False

    def __init__(self, content: bytes) -> None:
        self.content = content

    def load(self) -> bytes:
        """Return what was saved last."""
        return self.content

    def save(self, content: bytes) -> None:
        """Keep it."""
        self.content = content
