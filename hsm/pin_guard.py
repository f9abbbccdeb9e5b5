"""Remembers PACE-PINs that a card has refused: none is tried twice, whatever a supervisor restarts."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Protocol

_PIN_ROUNDS = 20_000


class PinGuard(Protocol):
    """Remembers refused PINs, so that none is tried twice, not even after a restart."""

    def refused(self, pin_digest: bytes) -> bool:
        """True if this PIN was refused before."""

    def note(self, pin_digest: bytes) -> None:
        """Remember a refused PIN; durable on return."""


class MemoryPinGuard:
    """A guard for one process."""

    def __init__(self) -> None:
        self._refused: set[bytes] = set()

    def refused(self, pin_digest: bytes) -> bool:
        """True if this PIN was refused before."""
        return pin_digest in self._refused

    def note(self, pin_digest: bytes) -> None:
        """Remember a refused PIN until the process ends."""
        self._refused.add(pin_digest)


class FilePinGuard:
    """A guard that survives restarts: one digest a line in a file of mode 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def refused(self, pin_digest: bytes) -> bool:
        """True if this PIN was refused before."""
        try:
            return pin_digest.hex() in self._path.read_text(encoding="ascii", errors="replace").split()
        except FileNotFoundError:
            return False

    def count(self) -> int:
        """Return how many PINs are remembered."""
        try:
            return len(self._path.read_bytes().split())
        except FileNotFoundError:
            return 0

    def note(self, pin_digest: bytes) -> None:
        """Remember a refused PIN; durable on return."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, pin_digest.hex().encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def pin_digest(pin: bytes) -> bytes:
    """What a `PinGuard` gets to see: slow to invert, though ten digits are few for anyone with patience."""
    return hashlib.pbkdf2_hmac("sha256", pin, b"smgw refused PACE-PIN", _PIN_ROUNDS)
