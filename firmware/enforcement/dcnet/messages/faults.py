"""Documents about faults: the order to recover lost members, and those of a canary audit. Codec only.

Spec: docs/dcnet.md, messages; members lost after the manifest; canary audit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.canonical import Fields, decode, encode, octets
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES, NET_BYTES, U32
from firmware.enforcement.dcnet.messages.roster import Attestation
from firmware.enforcement.dcnet.primitives.arithmetic import MODULUS


@dataclass(frozen=True, slots=True)
class RecoveryOrder:
    """Whose self-masks are to be recovered: signed by the EMP, co-signed by the witness, one a slot."""

    KIND: ClassVar[int] = 6

    net: bytes
    version: int
    slot: int
    manifest_hash: bytes
    lost: bytes
    """Bitmap F."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.KIND, self.net, self.version, self.slot, self.manifest_hash, self.lost])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 6, cls.KIND)
        return cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.number(U32),
            fields.octets(HASH_BYTES),
            fields.octets(),
        )


@dataclass(frozen=True, slots=True)
class CanaryStatement:
    """One member's canary lane of one slot, signed by it: masks, and what it has sent. No other lane.

    The signature is over its own account, so nobody else's word is needed to hold it to that.
    """

    KIND: ClassVar[int] = 7

    net: bytes
    version: int
    slot: int
    index: int
    manifest_hash: bytes
    mask: int
    """The canary word of b."""
    pads: tuple[tuple[int, int], ...]
    """(neighbour, canary word of the pad) of every expected neighbour, rising; without direction."""
    submitted: int
    """The canary word of its Submit."""
    opened: int
    """The canary word of its Open."""
    submit_digest: bytes
    """Of the Submit frame without its MAC, as under the manifest's root and in the day's digest."""
    open_digest: bytes
    """Of the Open frame without its MAC."""

    def to_bytes(self) -> bytes:
        """Encode."""
        pads = [list(pad) for pad in self.pads]
        return encode(
            [
                self.KIND,
                self.net,
                self.version,
                self.slot,
                self.index,
                self.manifest_hash,
                self.mask,
                pads,
                self.submitted,
                self.opened,
                self.submit_digest,
                self.open_digest,
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 12, cls.KIND)
        statement = cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.number(U32),
            fields.number(U32),
            fields.octets(HASH_BYTES),
            fields.number(MODULUS),
            tuple(_pad(item) for item in fields.array()),
            fields.number(MODULUS),
            fields.number(MODULUS),
            fields.octets(HASH_BYTES),
            fields.octets(HASH_BYTES),
        )
        neighbours = [neighbour for neighbour, _ in statement.pads]
        if neighbours != sorted(set(neighbours)):
            raise MalformedObject("the neighbours of an audit do not rise")
        return statement


def _pad(item: object) -> tuple[int, int]:
    fields = Fields(item, 2)
    return fields.number(U32), fields.number(MODULUS)


@dataclass(frozen=True, slots=True)
class AuditOrder:
    """The EMP asks every accepted member of one slot for its `CanaryStatement`; signed by the EMP."""

    KIND: ClassVar[int] = 21

    net: bytes
    version: int
    slot: int
    manifest_hash: bytes

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.KIND, self.net, self.version, self.slot, self.manifest_hash])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 5, cls.KIND)
        return cls(
            fields.octets(NET_BYTES), fields.number(U32), fields.number(U32), fields.octets(HASH_BYTES)
        )


@dataclass(frozen=True, slots=True)
class ShownFrame:
    """A Submit that a member says it did not send, under the root of the manifest that it has signed for."""

    index: int
    frame: bytes
    """Without its MAC."""
    siblings: tuple[bytes, ...]
    """From its leaf up to the root."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit brought, for the administrators: enough to judge it again. Signed by the EMP.

    Nobody is judged by `words` alone: they are what the EMP says, and a Submit proves its half of them.
    """

    KIND: ClassVar[int] = 22

    net: bytes
    version: int
    slot: int
    manifest: bytes
    """The slot's `Manifest`, without signature: every statement names its hash."""
    words: tuple[tuple[int, int, int], ...]
    """(member, canary word submitted, canary word opened) of the accepted members, rising."""
    statements: tuple[bytes, ...]
    """Each signed by its member."""
    excused: bytes
    """Bitmap of accepted members that had to say nothing: they were audited before."""
    shown: tuple[ShownFrame, ...] = ()
    """Of members whose statement denies what they submitted; rising. Never of anybody else, and no Open."""

    def to_bytes(self) -> bytes:
        """Encode."""
        words = [list(word) for word in self.words]
        shown = [[one.index, one.frame, list(one.siblings)] for one in self.shown]
        head = [self.KIND, self.net, self.version, self.slot, self.manifest]
        return encode([*head, words, list(self.statements), self.excused, shown])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 9, cls.KIND)
        report = cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.number(U32),
            fields.octets(),
            tuple(_word(item) for item in fields.array()),
            tuple(octets(item) for item in fields.array()),
            fields.octets(),
            tuple(_shown(item) for item in fields.array()),
        )
        for members in ([member for member, _, _ in report.words], [one.index for one in report.shown]):
            if members != sorted(set(members)):
                raise MalformedObject("the members of an audit do not rise")
        return report


@dataclass(frozen=True, slots=True)
class TwoAccounts:
    """Two things that one member has signed about one slot. Proof if they differ, so nobody else signs it."""

    KIND: ClassVar[int] = 60

    statement: bytes
    """Its `CanaryStatement`."""
    other: bytes
    """Its `SlotDigest` of that epoch, or another `CanaryStatement`."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.KIND, self.statement, self.other])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 3, cls.KIND)
        return cls(fields.octets(), fields.octets())


@dataclass(frozen=True, slots=True)
class DisputedEdge:
    """For the administrators: an `EdgeDispute` and the `EdgeConfirm` it is about, as their members signed."""

    KIND: ClassVar[int] = 61

    dispute: bytes
    shown: bytes

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.KIND, self.dispute, self.shown])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 3, cls.KIND)
        return cls(fields.octets(), fields.octets())


@dataclass(frozen=True, slots=True)
class WrongProof:
    """For the administrators: commitments whose range proof fails, as their member signed them."""

    KIND: ClassVar[int] = 63

    signed: bytes
    """Its `CommitV`."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.KIND, self.signed])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        return cls(Fields(decode(data), 2, cls.KIND).octets())


@dataclass(frozen=True, slots=True)
class OtherEnds:
    """What the other ends of a member's disputed edges have stated in an audit, each signed by its member."""

    KIND: ClassVar[int] = 62

    items: tuple[Attestation, ...]

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.KIND, [[item.certificate, item.signed] for item in self.items]])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 2, cls.KIND)
        return cls(tuple(Attestation.from_fields(item) for item in fields.array()))


def _word(item: object) -> tuple[int, int, int]:
    fields = Fields(item, 3)
    return fields.number(U32), fields.number(MODULUS), fields.number(MODULUS)


def _shown(item: object) -> ShownFrame:
    fields = Fields(item, 3)
    return ShownFrame(fields.number(U32), fields.octets(), tuple(octets(one) for one in fields.array()))
