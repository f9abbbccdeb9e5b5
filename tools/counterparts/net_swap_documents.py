"""Documents about a swap between two nets of one supplier: offer, proposal, consent. Codec, no rules.

They go between supplier and administrators alone; a gateway sees the order that follows. One encoding each,
as those of `firmware.enforcement.dcnet.messages`. Spec: docs/dcnet.md, swaps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self, TypeVar

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.canonical import Fields, decode, encode, octets
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES, NET_BYTES, U32
from firmware.enforcement.dcnet.messages.roster import Attestation

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SwapOffer:
    """Which of its own gateways an administrator lets change from one net into another, signed by it."""

    KIND: ClassVar[int] = 66

    net: bytes
    target: bytes
    roster_hash: bytes
    """The roster of `net` that is in force."""
    first_epoch: int
    """The first one in `target`."""
    administrator: str
    certificates: tuple[bytes, ...]
    """Hashes of the gateways' SIG certificates, rising."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode(
            [
                self.KIND,
                self.net,
                self.target,
                self.roster_hash,
                self.first_epoch,
                self.administrator,
                list(self.certificates),
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 7, cls.KIND)
        return cls(
            fields.octets(NET_BYTES),
            fields.octets(NET_BYTES),
            fields.octets(HASH_BYTES),
            fields.number(U32),
            fields.text(64),
            _hashes(fields.array()),
        )


@dataclass(frozen=True, slots=True)
class SwapSide:
    """What becomes of one net."""

    net: bytes
    roster_hash: bytes
    """In force."""
    gone: tuple[bytes, ...]
    """Members who leave it anyway; certificate hashes, rising, here as below."""
    come: tuple[bytes, ...]
    """Newcomers who come anyway."""
    out: tuple[bytes, ...]
    """Members who change into the other net."""


@dataclass(frozen=True, slots=True)
class SwapProposal:
    """Two nets exchange members with the first slot of an epoch, signed by their supplier."""

    KIND: ClassVar[int] = 67

    first_epoch: int
    sides: tuple[SwapSide, SwapSide]
    """Their nets rise."""

    def to_bytes(self) -> bytes:
        """Encode."""
        sides = [
            [one.net, one.roster_hash, list(one.gone), list(one.come), list(one.out)] for one in self.sides
        ]
        return encode([self.KIND, self.first_epoch, sides])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 3, cls.KIND)
        epoch = fields.number(U32)
        one, two = _two([_side(item) for item in fields.array()])
        if one.net >= two.net:
            raise MalformedObject("the nets of a swap do not rise")
        return cls(epoch, (one, two))


@dataclass(frozen=True, slots=True)
class SwapConsent:
    """An administrator of one of the two rosters agrees to a proposal, signed by it."""

    KIND: ClassVar[int] = 68

    proposal_hash: bytes
    administrator: str

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.KIND, self.proposal_hash, self.administrator])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 3, cls.KIND)
        return cls(fields.octets(HASH_BYTES), fields.text(64))


# -- envelopes ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SideEvidence:
    """All that shows the roster of one side and its beacon to somebody who is not in it."""

    signed: bytes
    """The roster, by the supplier."""
    countersigned: tuple[Attestation, ...]
    """By each of its administrators, in the order of the roster."""
    bundles: tuple[bytes, ...]
    """Contents of the members' key bundles, in the order of the indices."""
    nonces: bytes
    """`beacon.Nonces`."""
    offers: tuple[Attestation, ...]
    """A `SwapOffer` of each of its administrators, in the order of the roster."""


@dataclass(frozen=True, slots=True)
class SwapPresentation:
    """A proposal with all that it is judged by."""

    signed: bytes
    """The proposal, by the supplier."""
    sides: tuple[SideEvidence, SideEvidence]

    def to_bytes(self) -> bytes:
        """Encode."""
        sides = [
            [one.signed, _pairs(one.countersigned), list(one.bundles), one.nonces, _pairs(one.offers)]
            for one in self.sides
        ]
        return encode([self.signed, sides])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 2)
        return cls(fields.octets(), _two([_evidence(item) for item in fields.array()]))


@dataclass(frozen=True, slots=True)
class SwapWarrant:
    """Everybody's consent to a proposal: now it is carried out."""

    proposal_hash: bytes
    consents: tuple[Attestation, ...]

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.proposal_hash, _pairs(self.consents)])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 2)
        return cls(fields.octets(HASH_BYTES), _attestations(fields.array()))


def _side(item: object) -> SwapSide:
    fields = Fields(item, 5)
    return SwapSide(
        fields.octets(NET_BYTES),
        fields.octets(HASH_BYTES),
        _hashes(fields.array()),
        _hashes(fields.array()),
        _hashes(fields.array()),
    )


def _evidence(item: object) -> SideEvidence:
    fields = Fields(item, 5)
    return SideEvidence(
        fields.octets(),
        _attestations(fields.array()),
        tuple(octets(one) for one in fields.array()),
        fields.octets(),
        _attestations(fields.array()),
    )


def _hashes(items: list[object]) -> tuple[bytes, ...]:
    found = tuple(octets(item, HASH_BYTES) for item in items)
    if list(found) != sorted(set(found)):
        raise MalformedObject("the certificates of a swap do not rise")
    return found


def _attestations(items: list[object]) -> tuple[Attestation, ...]:
    return tuple(Attestation.from_fields(item) for item in items)


def _pairs(items: Iterable[Attestation]) -> list[list[bytes]]:
    return [[item.certificate, item.signed] for item in items]


def _two(items: list[_T]) -> tuple[_T, _T]:
    if len(items) != 2:
        raise MalformedObject("a swap has two sides")
    return items[0], items[1]
