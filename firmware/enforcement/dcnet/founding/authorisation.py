"""Which members may be neighbours: what administrators authorise at both ends of each edge. Codec, no rules.

Spec: docs/dcnet.md, membership; message PeerAuthorisation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.founding.beacon import Nonces
from firmware.enforcement.dcnet.messages.canonical import Fields, decode, encode
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES, NET_BYTES
from firmware.enforcement.dcnet.messages.roster import Attestation, Roster
from firmware.enforcement.dcnet.primitives.graph import Edge

_U32: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class PeerAuthorisation:
    """Whom an administrator lets its own gateways of a roster share keys with, signed by it."""

    KIND: ClassVar[int] = 11

    net: bytes
    version: int
    roster_hash: bytes
    valid_until: int
    """Last epoch (UTC day number)."""
    peers: tuple[tuple[int, bytes], ...]
    """(member's index, hash of its certificate), indices rise."""

    def to_bytes(self) -> bytes:
        """Encode."""
        peers = [list(peer) for peer in self.peers]
        return encode([self.KIND, self.net, self.version, self.roster_hash, self.valid_until, peers])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 6, cls.KIND)
        found = cls(
            fields.octets(NET_BYTES),
            fields.number(_U32),
            fields.octets(HASH_BYTES),
            fields.number(_U32),
            tuple(_peer(item) for item in fields.array()),
        )
        indices = [index for index, _ in found.peers]
        if indices != sorted(set(indices)):
            raise MalformedObject("the peers of an authorisation do not rise")
        return found


def _peer(item: object) -> tuple[int, bytes]:
    fields = Fields(item, 2)
    return fields.number(_U32), fields.octets(HASH_BYTES)


@dataclass(frozen=True, slots=True)
class GraphPublication:
    """All that the key graph of a roster follows from."""

    nonces: Nonces
    authorisations: tuple[Attestation, ...]
    """Each administrator's `PeerAuthorisation`, in the order of the roster."""

    def to_bytes(self) -> bytes:
        """Encode."""
        pairs = [[item.certificate, item.signed] for item in self.authorisations]
        return encode([self.nonces.to_bytes(), pairs])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 2)
        nonces = Nonces.from_bytes(fields.octets())
        return cls(nonces, tuple(Attestation.from_fields(item) for item in fields.array()))


def authorised_edges(
    roster: Roster, edges: Iterable[Edge], authorised: Mapping[str, PeerAuthorisation]
) -> frozenset[Edge]:
    """Return the edges of which each end is authorised by the administrator of the other.

    Args:
        roster: names each member's administrator and certificate.
        edges: as drawn.
        authorised: by the administrators' names.
    """
    entries = {entry.index: entry for entry in roster.entries}
    allowed = {name: frozenset(found.peers) for name, found in authorised.items()}

    def lets(own: int, peer: int) -> bool:
        return (peer, entries[peer].certificate_hash) in allowed[entries[own].administrator]

    return frozenset(edge for edge in edges if lets(*edge) and lets(*edge[::-1]))
