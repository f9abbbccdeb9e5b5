"""Messages of V-mode: the supplier's order, a member's commitments, what opens their blindings. Codec only.

Points and proof are bytes here; whether they are any good is judged by `primitives.verifiable`, which loads
libsodium. Spec: docs/dcnet.md, messages; V-mode.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, Final, Self

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.canonical import Fields, decode, encode, octets
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES, NET_BYTES, U32
from firmware.enforcement.dcnet.primitives import scalars
from firmware.enforcement.dcnet.primitives.scalars import Words

POINT_BYTES: Final = 32
MAX_PROOF_BYTES: Final = 1 << 11
MAX_DATA_LANES: Final = 8


class Reason(IntEnum):
    """Why commitments are ordered."""

    RANGE = 1
    """A total was impossible although its canary lane counted everybody."""
    MISFIT = 2
    """Commitments did not fit the total."""
    DEMAND = 3
    """The supplier's operator wants it."""


@dataclass(frozen=True, slots=True)
class CommitOrder:
    """The EMP asks every member for its `CommitV` in some slots; signed by the EMP."""

    KIND: ClassVar[int] = 50

    net: bytes
    version: int
    """Of the roster; under another one the order is over."""
    first_slot: int
    slots: int
    reason: Reason

    def covers(self, slot: int) -> bool:
        """Tell whether it is about this slot."""
        return self.first_slot <= slot < self.first_slot + self.slots

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.KIND, self.net, self.version, self.first_slot, self.slots, int(self.reason)])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 6, cls.KIND)
        return cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.number(U32),
            fields.number(U32),
            fields.member(Reason),
        )


@dataclass(frozen=True, slots=True)
class CommitV:
    """One member's commitments to the data lanes of one submission, signed by the member."""

    KIND: ClassVar[int] = 51

    net: bytes
    version: int
    epoch: int
    slot: int
    index: int
    reference: bytes
    """Hash of the manifest before the slot, as in the submission."""
    submission: bytes
    """Digest of the Submit frame it belongs to."""
    points: tuple[bytes, ...]
    """C of each data lane."""
    masked: Words = field(repr=False)
    """The blinding of each, under self-mask and pads modulo the group's order."""
    proof: bytes = field(repr=False)
    """That every lane's value lies in its range."""

    def to_bytes(self) -> bytes:
        """Encode."""
        lanes = [[one, scalars.to_bytes(word)] for one, word in zip(self.points, self.masked, strict=True)]
        place = [self.net, self.version, self.epoch, self.slot, self.index]
        return encode([self.KIND, *place, self.reference, self.submission, lanes, self.proof])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 10, cls.KIND)
        net = fields.octets(NET_BYTES)
        version, epoch, slot, index = (fields.number(U32) for _ in range(4))
        reference, submission = fields.octets(HASH_BYTES), fields.octets(HASH_BYTES)
        lanes = [_lane(item) for item in _some(fields.array())]
        proof = fields.octets()
        if len(proof) > MAX_PROOF_BYTES:
            raise MalformedObject(f"range proof of {len(proof)} bytes")
        points, masked = tuple(one for one, _ in lanes), tuple(word for _, word in lanes)
        return cls(net, version, epoch, slot, index, reference, submission, points, masked, proof)


@dataclass(frozen=True, slots=True)
class OpenV:
    """What takes a member's masks off its blindings, sent with its Open under the MAC of its frames."""

    KIND: ClassVar[int] = 52

    net: bytes
    version: int
    slot: int
    index: int
    manifest_hash: bytes
    words: Words = field(repr=False)

    def to_bytes(self) -> bytes:
        """Encode."""
        words = [scalars.to_bytes(word) for word in self.words]
        return encode([self.KIND, self.net, self.version, self.slot, self.index, self.manifest_hash, words])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 7, cls.KIND)
        return cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.number(U32),
            fields.number(U32),
            fields.octets(HASH_BYTES),
            tuple(scalars.from_bytes(octets(item)) for item in _some(fields.array())),
        )


def _lane(item: object) -> tuple[bytes, int]:
    fields = Fields(item, 2)
    return fields.octets(POINT_BYTES), scalars.from_bytes(fields.octets())


def _some(items: list[object]) -> list[object]:
    if not 1 <= len(items) <= MAX_DATA_LANES:
        raise MalformedObject(f"{len(items)} data lanes")
    return items
