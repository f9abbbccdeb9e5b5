"""Entropy for the emulated card's generator: the only place that asks the operating system for randomness."""

from __future__ import annotations

import hashlib
import os
from typing import Protocol


class EntropySource(Protocol):
    """Raw entropy input."""

    trusted: bool
    """False for sources that are not random; a card in operation refuses them."""

    def read(self, count: int) -> bytes:
        """Return `count` bytes of full entropy; may raise OSError."""


class OperatingSystemEntropy:
    """The kernel's generator."""

    trusted = True

    def read(self, count: int) -> bytes:
        """Return `count` bytes."""
        return os.urandom(count)


class FixedEntropy:
    """For tests: the same bytes for the same seed, every time."""

    trusted = False

    def __init__(self, seed: bytes) -> None:
        self._seed, self._count = seed, 0

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes of a hash chain over the seed."""
        output = b""
        while len(output) < count:
            self._count += 1
            output += hashlib.sha256(self._seed + self._count.to_bytes(8, "big")).digest()
        return output[:count]
