"""How the two ends of an edge show each other that they hold one key: tags, disputes. Codec and judgement.

Spec: docs/dcnet.md, membership; message EdgeConfirm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from firmware.enforcement.dcnet.errors import MalformedObject, MembershipRefused
from firmware.enforcement.dcnet.messages.canonical import Fields, decode, encode
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES, NET_BYTES, U32, document_hash
from firmware.enforcement.dcnet.messages.roster import Attestation, Roster
from firmware.enforcement.dcnet.primitives import kdf


@dataclass(frozen=True, slots=True)
class EdgeConfirm:
    """One member's tags for its neighbours, signed by it."""

    KIND: ClassVar[int] = 30

    net: bytes
    version: int
    roster_hash: bytes
    index: int
    tags: tuple[tuple[int, bytes], ...]
    """(neighbour's index, 8 bytes), indices rise."""

    def to_bytes(self) -> bytes:
        """Encode."""
        tags = [list(one) for one in self.tags]
        return encode([self.KIND, self.net, self.version, self.roster_hash, self.index, tags])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 6, cls.KIND)
        found = cls(
            fields.octets(NET_BYTES),
            fields.number(U32),
            fields.octets(HASH_BYTES),
            fields.number(U32),
            tuple(_tag(item) for item in fields.array()),
        )
        peers = [peer for peer, _ in found.tags]
        if peers != sorted(set(peers)):
            raise MalformedObject("the neighbours of a confirmation do not rise")
        return found


def _tag(item: object) -> tuple[int, bytes]:
    fields = Fields(item, 2)
    return fields.number(U32), fields.octets(kdf.TAG_BYTES)


@dataclass(frozen=True, slots=True)
class EdgeDispute:
    """A member says, signed, that a neighbour's tag is not that of their key."""

    KIND: ClassVar[int] = 31

    net: bytes
    version: int
    roster_hash: bytes
    index: int
    peer: int
    shown: bytes
    """Hash of the neighbour's EdgeConfirm."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode(
            [self.KIND, self.net, self.version, self.roster_hash, self.index, self.peer, self.shown]
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
            fields.octets(HASH_BYTES),
        )


@dataclass(frozen=True, slots=True)
class Confirmations:
    """What the EMP relays to a member: its neighbours' EdgeConfirms so far, each signed by its member."""

    items: tuple[Attestation, ...]

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([[item.certificate, item.signed] for item in self.items])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        array = decode(data)
        if not isinstance(array, list):
            raise MalformedObject("an array of confirmations was expected")
        return cls(tuple(Attestation.from_fields(item) for item in array))


def confirm_for(roster: Roster, index: int, tags: Iterable[tuple[int, bytes]]) -> EdgeConfirm:
    """Return what member `index` of a roster tells its neighbours."""
    return EdgeConfirm(roster.net, roster.version, document_hash(roster), index, tuple(tags))


def dispute_of(roster: Roster, index: int, shown: EdgeConfirm) -> EdgeDispute:
    """Return what member `index` says about a neighbour's confirmation that is wrong."""
    return EdgeDispute(
        roster.net, roster.version, document_hash(roster), index, shown.index, document_hash(shown)
    )


def tag_for(
    roster: Roster, index: int, certificate: bytes, shown: EdgeConfirm, roster_hash: bytes = b""
) -> bytes:
    """Return the tag that a signed confirmation holds for member `index`.

    Args:
        roster: the one that member is in.
        index: its own.
        certificate: DER, of whose key signed.
        shown: what was signed.
        roster_hash: of the roster, if it is known: a large one takes its time.

    Raises:
        MembershipRefused: `confirmation`; for another roster, not by that member, or not for us.
    """
    meant = (roster.net, roster.version, roster_hash or document_hash(roster))
    if (shown.net, shown.version, shown.roster_hash) != meant:
        raise MembershipRefused("confirmation", "it is for another roster")
    if not 1 <= shown.index <= len(roster.entries):
        raise MembershipRefused("confirmation", "no such member")
    if hashlib.sha256(certificate).digest() != roster.entries[shown.index - 1].certificate_hash:
        raise MembershipRefused("confirmation", f"member {shown.index} has another certificate")
    for peer, tag in shown.tags:
        if peer == index:
            return tag
    raise MembershipRefused("confirmation", f"member {shown.index} holds no tag for us")
