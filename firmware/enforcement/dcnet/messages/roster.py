"""Documents about who is in a net: key bundles and rosters, and the envelopes they travel in. Codec only.

Each document has exactly one encoding, a deterministic CBOR array: decoding encodes again and compares the
bytes, so its hash names it. Signatures (CMS SignedData over these bytes) are not in here.
Spec: docs/dcnet.md, messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.canonical import Fields, decode, encode
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES, NET_BYTES, PSEUDONYM_BYTES, U32

_POINT_BYTES: Final = frozenset({65, 97, 129})


class KeyExchange(IntEnum):
    """How an edge key is agreed; `RESERVED_FOR_A_HYBRID` has a key-encapsulation mechanism beside it."""

    ECKA = 1


RESERVED_FOR_A_HYBRID: Final = 2
"""No bundle of this version may say so; see `KeyExchange`."""


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
            fields.number(U32),
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
            fields.number(U32),
            fields.octets(HASH_BYTES),
            fields.octets(HASH_BYTES),
            fields.octets(HASH_BYTES),
            fields.number(U32),
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
        fields.number(U32),
        fields.octets(PSEUDONYM_BYTES),
        fields.octets(HASH_BYTES),
        fields.text(64),
        fields.octets(HASH_BYTES),
        fields.number(U32),
        fields.number(U32),
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


def _pairs(items: Iterable[SignedBundle | Attestation]) -> list[list[bytes]]:
    return [[item.certificate, item.signed] for item in items]
