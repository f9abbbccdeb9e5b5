"""What every document of the control plane has in common: its hash, bitmaps of members, sizes of fields."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, Protocol

from firmware.enforcement.dcnet.errors import MalformedObject

HASH_BYTES: Final = 32
NET_BYTES: Final = 8
PSEUDONYM_BYTES: Final = 16
U32: Final = 1 << 32


class Document(Protocol):
    """Anything with one canonical encoding."""

    def to_bytes(self) -> bytes:
        """Return the encoding."""


def document_hash(document: Document) -> bytes:
    """Return the SHA-256 that names a document."""
    return hashlib.sha256(document.to_bytes()).digest()


def to_bitmap(members: Iterable[int], size: int) -> bytes:
    """Encode a set of indices 1..size: index i is bit (i - 1) % 8 of byte (i - 1) // 8."""
    bits = sum(1 << (index - 1) for index in set(members))
    return bits.to_bytes((size + 7) // 8, "little")


def from_bitmap(bitmap: bytes, size: int) -> frozenset[int]:
    """Decode a bitmap of the indices 1..size; a wrong length or stray bits raise `MalformedObject`."""
    bits = int.from_bytes(bitmap, "little")
    if len(bitmap) != (size + 7) // 8 or bits >> size:
        raise MalformedObject(f"bitmap of {len(bitmap)} bytes is not one of {size} members")
    return frozenset(index for index in range(1, size + 1) if bits >> (index - 1) & 1)
