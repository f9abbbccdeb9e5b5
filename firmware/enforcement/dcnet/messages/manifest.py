"""Documents about the slots of a net: the chain of manifests and the results. Codec only.

One encoding each, see `messages.roster`. Spec: docs/dcnet.md, messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Self

from firmware.enforcement.dcnet.messages.canonical import Fields, decode, encode, octets
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES, NET_BYTES, U32
from firmware.enforcement.dcnet.primitives.arithmetic import Lanes


class Verdict(IntEnum):
    """What became of a slot."""

    ABORTED = 0
    TOTALLED = 1


@dataclass(frozen=True, slots=True)
class EpochManifest:
    """Starts a chain of manifests for one epoch, signed by the EMP."""

    KIND: ClassVar[int] = 3

    net: bytes
    version: int
    roster_hash: bytes
    epoch: int
    first_slot: int
    present: bytes
    """Bitmap of the members expected in the first slot."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode(
            [
                self.KIND,
                self.net,
                self.version,
                self.roster_hash,
                self.epoch,
                self.first_slot,
                self.present,
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 7, cls.KIND)
        return cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.octets(HASH_BYTES),
            fields.number(U32),
            fields.number(U32),
            fields.octets(),
        )


@dataclass(frozen=True, slots=True)
class SlotResult:
    """What became of a slot, signed by the EMP or inside the next manifest."""

    KIND: ClassVar[int] = 5

    net: bytes
    slot: int
    manifest_hash: bytes
    verdict: Verdict
    totals: Lanes | None = None
    """Sum over the accepted members, if the EMP tells it."""

    def to_fields(self) -> list[Any]:
        """Return the array that stands inside a manifest."""
        totals = None if self.totals is None else list(self.totals)
        return [self.KIND, self.net, self.slot, self.manifest_hash, int(self.verdict), totals]

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode(self.to_fields())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        return cls._from(Fields(decode(data), 6, cls.KIND))

    @classmethod
    def from_fields(cls, item: object) -> Self:
        """Read the array that stands inside a manifest."""
        return cls._from(Fields(item, 6, cls.KIND))

    @classmethod
    def _from(cls, fields: Fields) -> Self:
        return cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.octets(HASH_BYTES),
            fields.member(Verdict),
            fields.lanes_or_null(),
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """Whose submissions of a slot were taken, signed by the EMP."""

    KIND: ClassVar[int] = 4

    net: bytes
    version: int
    slot: int
    previous: bytes
    """Hash of the manifest of the slot before, or of the EpochManifest."""
    accepted: bytes
    """Bitmap A."""
    hello: bytes
    """Bitmap of members who are back and take part from the next slot on."""
    root: bytes
    """Merkle root over the submission digests of A in the order of the indices."""
    result: SlotResult | None = None
    """Of the slot before."""

    def to_bytes(self) -> bytes:
        """Encode."""
        result = None if self.result is None else self.result.to_fields()
        return encode(
            [
                self.KIND,
                self.net,
                self.version,
                self.slot,
                self.previous,
                self.accepted,
                self.hello,
                self.root,
                result,
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 9, cls.KIND)
        return cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.number(U32),
            fields.octets(HASH_BYTES),
            fields.octets(),
            fields.octets(),
            fields.octets(HASH_BYTES),
            None if (item := fields.next()) is None else SlotResult.from_fields(item),
        )


@dataclass(frozen=True, slots=True)
class ManifestReply:
    """A signed manifest and the asking member's own Merkle path (empty if it is not in it)."""

    signed: bytes
    siblings: tuple[bytes, ...] = ()

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.signed, list(self.siblings)])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 2)
        return cls(fields.octets(), tuple(octets(item, HASH_BYTES) for item in fields.array()))
