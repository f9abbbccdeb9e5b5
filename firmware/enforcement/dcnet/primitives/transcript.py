"""The transcript of a proof: everything both sides know, hashed in order, gives the challenges (Fiat-Shamir).

Every item has a label and a length, so no two transcripts of different items hash the same bytes.
Spec: docs/dcnet.md, V-mode.
"""

from __future__ import annotations

import hashlib
from typing import Final

from firmware.enforcement.dcnet.primitives.kdf import SCHEME
from firmware.enforcement.dcnet.primitives.scalars import WIDE_BYTES, wide

_DOMAIN: Final = SCHEME + b" V-mode"
_COUNT_BYTES: Final = 4


class Transcript:
    """Takes items and gives challenges, by SHA-512 over the state before."""

    __slots__ = ("_state",)

    def __init__(self, purpose: str) -> None:
        """Begin a transcript for one purpose."""
        self._state = hashlib.sha512(_DOMAIN).digest()
        self.absorb("purpose", purpose.encode("ascii"))

    def absorb(self, label: str, *items: bytes) -> None:
        """Take items under a label."""
        parts = [self._state, len(items).to_bytes(_COUNT_BYTES, "big")]
        for item in (label.encode("ascii"), *items):
            parts += [len(item).to_bytes(_COUNT_BYTES, "big"), item]
        self._state = hashlib.sha512(b"".join(parts)).digest()

    def challenge(self, label: str) -> int:
        """Return a number modulo the group's order that follows from everything taken so far."""
        self.absorb("challenge", label.encode("ascii"))
        return wide(hashlib.sha512(self._state + b"\x01").digest())

    def draws(self, secret: bytes, count: int) -> list[int]:
        """Return `count` secret numbers: each needs `secret`, and differs in every other transcript.

        Args:
            secret: fresh bytes of the module, and what is proven, so that even a repeated draw gives no
                secret number to two statements.
            count: how many.
        """
        if not secret:
            raise ValueError("secret numbers need a secret")
        stream = hashlib.shake_256(self._state + b"\x02" + secret).digest(WIDE_BYTES * count)
        return [wide(stream[at : at + WIDE_BYTES]) for at in range(0, len(stream), WIDE_BYTES)]
