"""The card's non-volatile memory: one state blob, old or new after any crash, damage noticed.

Layout: magic (8) | version (2) | sequence (8) | length (4) | content | SHA-256 over all before. One
generation only, because falling back to an older one would give PIN tries back. Tampering is not noticed.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import Protocol

from hsm.errors import ModuleFailed, ModuleUnavailable

_MAGIC = b"SMGWHSM\x00"
_VERSION = 1
_HEADER = struct.Struct(">8sHQI")
_DIGEST_BYTES = 32
_MAX_BYTES = 1 << 20


class StateStorage(Protocol):
    """Where a card keeps its state."""

    def load(self) -> bytes:
        """Return the content saved last.

        Raises:
            ModuleUnavailable: nothing was ever saved.
            ModuleFailed: what is there is damaged.
        """

    def save(self, content: bytes) -> None:
        """Replace the content; durable and complete on return.

        Raises:
            OSError: not written; the old content still stands.
        """


def seal(content: bytes, sequence: int) -> bytes:
    """Put header and checksum around a content."""
    body = _HEADER.pack(_MAGIC, _VERSION, sequence, len(content)) + content
    return body + hashlib.sha256(body).digest()


def unseal(blob: bytes) -> tuple[int, bytes]:
    """Return sequence number and content.

    Raises:
        ModuleFailed: damaged, or of another version.
    """
    body, digest = blob[:-_DIGEST_BYTES], blob[-_DIGEST_BYTES:]
    if len(body) < _HEADER.size or hashlib.sha256(body).digest() != digest:
        raise ModuleFailed("the card's state is damaged")
    magic, version, sequence, length = _HEADER.unpack_from(body)
    if magic != _MAGIC or version != _VERSION or length != len(body) - _HEADER.size:
        raise ModuleFailed("the card's state has an unknown form")
    return sequence, body[_HEADER.size :]


class FileStorage:
    """A file of mode 0600 in a folder, replaced atomically."""

    NAME = "card.state"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / self.NAME
        self._sequence = 0

    def exists(self) -> bool:
        """True if a card was saved here, damaged or not."""
        return self._path.exists()

    def load(self) -> bytes:
        """Read and check the blob."""
        try:
            with self._path.open("rb") as file:
                blob = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            raise ModuleUnavailable("there is no emulated card in this folder") from None
        self._sequence, content = unseal(blob)
        return content

    def save(self, content: bytes) -> None:
        """Write a temporary file, sync it, rename it over the old one, sync the folder."""
        temporary = self._path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(seal(content, self._sequence + 1))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        self._sequence += 1
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class MemoryStorage:
    """A card that forgets with the process."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def load(self) -> bytes:
        """Return what was saved last."""
        return self.content

    def save(self, content: bytes) -> None:
        """Keep it."""
        self.content = content
