"""What travels under the eyes of a net's administrators: co-signed documents, and an order with its frames.

Codec only. Spec: docs/dcnet.md, messages; members lost after the manifest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from firmware.enforcement.dcnet.messages.canonical import Fields, decode, encode, octets
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES, U32
from firmware.enforcement.dcnet.messages.roster import Attestation


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A document that the EMP has signed and every administrator of the roster has co-signed."""

    KIND: ClassVar[int] = 20

    signed: bytes
    """By the EMP."""
    cosigned: tuple[Attestation, ...]
    """Over the same content, in the order of the roster's administrators."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.KIND, self.signed, [[one.certificate, one.signed] for one in self.cosigned]])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 3, cls.KIND)
        return cls(fields.octets(), tuple(Attestation.from_fields(item) for item in fields.array()))


@dataclass(frozen=True, slots=True)
class LostMember:
    """A lost member whose share the asking one holds, with what proves that the share was submitted."""

    index: int
    submitted: bytes
    """Its Submit frame without MAC."""
    siblings: tuple[bytes, ...]
    """The frame's Merkle path."""


@dataclass(frozen=True, slots=True)
class OrderReply:
    """A co-signed RecoveryOrder, and the lost members that have dealt the asking one a share."""

    order: bytes
    """A `Witnessed`."""
    lost: tuple[LostMember, ...]

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode(
            [self.order, [[one.index, one.submitted, list(one.siblings)] for one in self.lost]],
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 2)
        return cls(fields.octets(), tuple(_lost(item) for item in fields.array()))


def _lost(item: object) -> LostMember:
    fields = Fields(item, 3)
    index, submitted = fields.number(U32), fields.octets()
    return LostMember(index, submitted, tuple(octets(one, HASH_BYTES) for one in fields.array()))
