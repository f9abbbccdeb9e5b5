"""The control plane: documents in one canonical form, deterministic CBOR arrays. Codec only, judges nothing.

Each document has exactly one encoding: decoding encodes again and compares the bytes, so its hash names it.
Signatures (CMS SignedData over these bytes) are not in here. Spec: docs/dcnet.md, messages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Final, Protocol, Self

from firmware.enforcement.dcnet.arithmetic import Lanes
from firmware.enforcement.dcnet.canonical import Fields, decode, encode, octets
from firmware.enforcement.dcnet.errors import MalformedObject

HASH_BYTES: Final = 32
NET_BYTES: Final = 8
PSEUDONYM_BYTES: Final = 16
_U32: Final = 1 << 32
_POINT_BYTES: Final = frozenset({65, 97, 129})


class KeyExchange(IntEnum):
    """How an edge key is agreed; 2 is reserved for a hybrid with a key-encapsulation mechanism."""

    ECKA = 1


class Verdict(IntEnum):
    """What became of a slot."""

    ABORTED = 0
    TOTALLED = 1


class Document(Protocol):
    """Anything with one canonical encoding."""

    def to_bytes(self) -> bytes:
        """Return the encoding."""


def document_hash(document: Document) -> bytes:
    """Return the SHA-256 that names a document."""
    return hashlib.sha256(document.to_bytes()).digest()


@dataclass(frozen=True, slots=True)
class KeyBundle:
    """One gateway's key for one roster version, signed by the gateway."""

    KIND: ClassVar[int] = 1

    net: bytes
    version: int
    """Of the roster it is for."""
    pseudonym: bytes
    exchange: KeyExchange
    point: bytes
    """Public DCNET key: 04 | x | y."""
    commitment: bytes
    """To the member's beacon nonce, see `beacon.BeaconReveal`."""
    certificate_hash: bytes
    """SHA-256 of the DER of the gateway's SIG certificate."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode(
            [
                self.KIND,
                self.net,
                self.version,
                self.pseudonym,
                int(self.exchange),
                self.point,
                self.commitment,
                self.certificate_hash,
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 8, cls.KIND)
        bundle = cls(
            fields.octets(NET_BYTES),
            fields.number(_U32),
            fields.octets(PSEUDONYM_BYTES),
            fields.member(KeyExchange),
            fields.octets(*_POINT_BYTES),
            fields.octets(HASH_BYTES),
            fields.octets(HASH_BYTES),
        )
        if bundle.point[0] != 4:
            raise MalformedObject("a point must be uncompressed")
        return bundle


@dataclass(frozen=True, slots=True)
class RosterEntry:
    """One member."""

    index: int
    pseudonym: bytes
    certificate_hash: bytes
    administrator: str
    """Who vouches for this member."""
    bundle_hash: bytes
    weight: int = 1
    """Number of metering points behind this member."""
    group: int = 0
    """Class of consumers; large ones get nets of their own."""


@dataclass(frozen=True, slots=True)
class Administrator:
    """One of those who countersign."""

    name: str
    """As `RosterEntry.administrator`."""
    certificate_hash: bytes
    """SHA-256 of the DER of its SIG certificate."""
    commitment: bytes
    """To its beacon nonce."""


@dataclass(frozen=True, slots=True)
class Roster:
    """Who is in a net, signed by the EMP and countersigned by the administrators."""

    KIND: ClassVar[int] = 2

    net: bytes
    version: int
    previous: bytes
    """Hash of the roster before, 32 zero bytes for the first."""
    policy_hash: bytes
    schema_hash: bytes
    first_epoch: int
    """UTC day number in which the key chains of this roster begin."""
    emp_commitment: bytes
    """To the EMP's beacon nonce."""
    administrators: tuple[Administrator, ...]
    """Those named in the entries, and nobody else; names rise."""
    entries: tuple[RosterEntry, ...]
    """Indices 1, 2, ..., without gaps."""

    def to_bytes(self) -> bytes:
        """Encode."""
        entries = [
            [
                entry.index,
                entry.pseudonym,
                entry.certificate_hash,
                entry.administrator,
                entry.bundle_hash,
                entry.weight,
                entry.group,
            ]
            for entry in self.entries
        ]
        return encode(
            [
                self.KIND,
                self.net,
                self.version,
                self.previous,
                self.policy_hash,
                self.schema_hash,
                self.first_epoch,
                self.emp_commitment,
                [[one.name, one.certificate_hash, one.commitment] for one in self.administrators],
                entries,
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 10, cls.KIND)
        roster = cls(
            fields.octets(NET_BYTES),
            fields.number(_U32),
            fields.octets(HASH_BYTES),
            fields.octets(HASH_BYTES),
            fields.octets(HASH_BYTES),
            fields.number(_U32),
            fields.octets(HASH_BYTES),
            tuple(_administrator(item) for item in fields.array()),
            tuple(_entry(item) for item in fields.array()),
        )
        if [entry.index for entry in roster.entries] != list(range(1, len(roster.entries) + 1)):
            raise MalformedObject("roster indices have gaps")
        if [one.name for one in roster.administrators] != sorted({e.administrator for e in roster.entries}):
            raise MalformedObject("the administrators are not those of the members")
        return roster


def _administrator(item: object) -> Administrator:
    fields = Fields(item, 3)
    return Administrator(fields.text(64), fields.octets(HASH_BYTES), fields.octets(HASH_BYTES))


def _entry(item: object) -> RosterEntry:
    fields = Fields(item, 7)
    return RosterEntry(
        fields.number(_U32),
        fields.octets(PSEUDONYM_BYTES),
        fields.octets(HASH_BYTES),
        fields.text(64),
        fields.octets(HASH_BYTES),
        fields.number(_U32),
        fields.number(_U32),
    )


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
            fields.number(_U32),
            fields.octets(HASH_BYTES),
            fields.number(_U32),
            fields.number(_U32),
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
            fields.number(_U32),
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
            fields.number(_U32),
            fields.number(_U32),
            fields.octets(HASH_BYTES),
            fields.octets(),
            fields.octets(),
            fields.octets(HASH_BYTES),
            None if (item := fields.next()) is None else SlotResult.from_fields(item),
        )


# -- envelopes: what travels beside the signed documents ------------------------------------------


@dataclass(frozen=True, slots=True)
class SignedBundle:
    """A key bundle on its way: the signer's certificate and the signed bundle."""

    certificate: bytes
    signed: bytes

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.certificate, self.signed])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        return cls.from_fields(decode(data))

    @classmethod
    def from_fields(cls, item: object) -> Self:
        """Read the array that stands inside other envelopes."""
        fields = Fields(item, 2)
        return cls(fields.octets(), fields.octets())


@dataclass(frozen=True, slots=True)
class RosterDraft:
    """What the EMP shows an administrator: its signed draft, and the bundles in the order of the indices."""

    signed: bytes
    bundles: tuple[SignedBundle, ...]

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.signed, _pairs(self.bundles)])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 2)
        return cls(fields.octets(), tuple(SignedBundle.from_fields(item) for item in fields.array()))


@dataclass(frozen=True, slots=True)
class Attestation:
    """What an administrator signed (a countersignature, a commitment), with its certificate."""

    certificate: bytes
    signed: bytes

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.certificate, self.signed])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        return cls.from_fields(decode(data))

    @classmethod
    def from_fields(cls, item: object) -> Self:
        """Read the array that stands inside other envelopes."""
        fields = Fields(item, 2)
        return cls(fields.octets(), fields.octets())


@dataclass(frozen=True, slots=True)
class RosterPublication:
    """A roster with everything a member needs to check it."""

    signed: bytes
    """By the EMP."""
    countersigned: tuple[Attestation, ...]
    """By each administrator over the same content, in the order of the roster."""
    bundles: tuple[SignedBundle, ...]
    """In the order of the indices."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.signed, _pairs(self.countersigned), _pairs(self.bundles)])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 3)
        return cls(
            fields.octets(),
            tuple(Attestation.from_fields(item) for item in fields.array()),
            tuple(SignedBundle.from_fields(item) for item in fields.array()),
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


# -- bitmaps --------------------------------------------------------------------------------------


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


def _pairs(items: Iterable[SignedBundle | Attestation]) -> list[list[bytes]]:
    return [[item.certificate, item.signed] for item in items]
