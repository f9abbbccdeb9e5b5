"""What brings an administrator into a net's daily life: rates, outage notices, complaints. Codec only.

One encoding each, see `messages.roster`. Spec: docs/dcnet.md, messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.canonical import Fields, decode, encode, octets
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES, NET_BYTES, U32
from firmware.enforcement.dcnet.messages.roster import Attestation

MAX_PROOFS: Final = 4
MAX_ADMINISTRATORS: Final = 64
MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class MemberRate:
    """How often one member took part in a span of slots."""

    index: int
    expected: int
    """Slots in which it was in P."""
    submitted: int
    """Slots in which it was in A."""
    opened: int
    """Slots that it opened."""
    refused: int
    """Slots for which it gave a code why it does not open."""


@dataclass(frozen=True, slots=True)
class Rates:
    """How often each member took part, signed by the EMP."""

    KIND: ClassVar[int] = 44

    net: bytes
    version: int
    first_slot: int
    last_slot: int
    members: tuple[MemberRate, ...]
    """Every member of the roster, indices rise."""

    def to_bytes(self) -> bytes:
        """Encode."""
        rows = [[one.index, one.expected, one.submitted, one.opened, one.refused] for one in self.members]
        return encode([self.KIND, self.net, self.version, self.first_slot, self.last_slot, rows])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 6, cls.KIND)
        found = cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.number(U32),
            fields.number(U32),
            tuple(_rate(item) for item in fields.array()),
        )
        if [one.index for one in found.members] != list(range(1, len(found.members) + 1)):
            raise MalformedObject("the rates of a net are not those of every member")
        return found


@dataclass(frozen=True, slots=True)
class RatesReport:
    """Signed rates with what they were counted from: the signed chain of those slots."""

    signed: bytes
    chain: tuple[bytes, ...]
    """EpochManifests and manifests, each signed; the first is where counting begins and is not counted."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.signed, list(self.chain)])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 2)
        return cls(fields.octets(), tuple(octets(item) for item in fields.array()))


@dataclass(frozen=True, slots=True)
class OutageNotice:
    """An administrator knows why so many are missing: signed by it, it lifts delta in a few slots."""

    KIND: ClassVar[int] = 45

    net: bytes
    version: int
    roster_hash: bytes
    first_slot: int
    last_slot: int
    lost: bytes
    """Bitmap of members that are not counted as left out."""
    share_ppm: int
    """Part of the others that may be missing, if it is more than delta."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode(
            [
                self.KIND,
                self.net,
                self.version,
                self.roster_hash,
                self.first_slot,
                self.last_slot,
                self.lost,
                self.share_ppm,
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 8, cls.KIND)
        return cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.octets(HASH_BYTES),
            fields.number(U32),
            fields.number(U32),
            fields.octets(),
            fields.number(MILLION),
        )


@dataclass(frozen=True, slots=True)
class OutagePublication:
    """The notices of all administrators, in the roster's order."""

    notices: tuple[Attestation, ...]

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([[one.certificate, one.signed] for one in self.notices])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        item = decode(data)
        if not isinstance(item, list) or len(item) > MAX_ADMINISTRATORS:
            raise MalformedObject("a list of notices was expected")
        return cls(tuple(Attestation.from_fields(one) for one in item))


@dataclass(frozen=True, slots=True)
class Statement:
    """What a member signed (a digest, a complaint), with its certificate."""

    certificate: bytes
    signed: bytes

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.certificate, self.signed])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 2)
        return cls(fields.octets(), fields.octets())


class Charge(IntEnum):
    """What a complaint says."""

    EQUIVOCATION = 1
    """The EMP has signed two things that contradict each other."""
    LEFT_OUT = 2
    """The EMP gave receipts for submissions and left them out."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """A member accuses the EMP before its administrator, signed by the member."""

    KIND: ClassVar[int] = 47

    net: bytes
    version: int
    charge: Charge
    objects: tuple[bytes, ...]
    """Signed by the EMP: two that contradict each other and the calendars that rule between them, or the
    manifests without us."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.KIND, self.net, self.version, int(self.charge), list(self.objects)])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form, or too many objects, raises `MalformedObject`."""
        fields = Fields(decode(data), 5, cls.KIND)
        found = cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.member(Charge),
            tuple(octets(item) for item in fields.array()),
        )
        if not 1 <= len(found.objects) <= MAX_PROOFS:
            raise MalformedObject(f"a complaint with {len(found.objects)} objects")
        return found


def _rate(item: object) -> MemberRate:
    fields = Fields(item, 5)
    return MemberRate(*(fields.number(U32) for _ in range(5)))
