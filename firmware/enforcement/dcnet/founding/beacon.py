"""Who draws the key graph: everybody, by nonces that all have committed to before the roster is fixed.

Codec and arithmetic; `roster` judges whether a nonce is the one that was committed to.
Spec: docs/dcnet.md, membership.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from firmware.enforcement.dcnet.errors import MembershipRefused
from firmware.enforcement.dcnet.messages.canonical import Fields, decode, encode, octets
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES, NET_BYTES, document_hash
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.primitives import cells, graph, merkle
from firmware.profile import net_sizes

NONCE_BYTES: Final = 32
MAX_DRAWS: Final = 64
"""So many graphs follow from one beacon; if none has the degrees, the rules do not fit the size."""
_U32: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class BeaconReveal:
    """A nonce that a party gives away; its hash is the commitment that stood in bundle or roster."""

    KIND: ClassVar[int] = 9

    net: bytes
    version: int
    """Of the roster."""
    nonce: bytes

    @property
    def commitment(self) -> bytes:
        """What is published before: 32 bytes that bind net, version and nonce."""
        return document_hash(self)

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.KIND, self.net, self.version, self.nonce])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 4, cls.KIND)
        return cls(fields.octets(NET_BYTES), fields.number(_U32), fields.octets(NONCE_BYTES))


@dataclass(frozen=True, slots=True)
class BeaconCommit:
    """An administrator's commitment, signed by it, before there is a roster."""

    KIND: ClassVar[int] = 8

    net: bytes
    version: int
    commitment: bytes

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.KIND, self.net, self.version, self.commitment])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 4, cls.KIND)
        return cls(fields.octets(NET_BYTES), fields.number(_U32), fields.octets(HASH_BYTES))


@dataclass(frozen=True, slots=True)
class Nonces:
    """Every nonce of a roster, as the EMP publishes them. Unsigned: each is bound by its commitment."""

    KIND: ClassVar[int] = 10

    net: bytes
    version: int
    emp: bytes
    administrators: tuple[bytes, ...]
    """In the order of the roster."""
    members: tuple[bytes, ...]
    """In the order of the indices."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode(
            [self.KIND, self.net, self.version, self.emp, list(self.administrators), list(self.members)]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; anything else than the canonical form raises `MalformedObject`."""
        fields = Fields(decode(data), 6, cls.KIND)
        return cls(
            fields.octets(NET_BYTES),
            fields.number(_U32),
            fields.octets(NONCE_BYTES),
            tuple(octets(item, NONCE_BYTES) for item in fields.array()),
            tuple(octets(item, NONCE_BYTES) for item in fields.array()),
        )


def beacon_of(roster_hash: bytes, nonces: Nonces) -> bytes:
    """Return SHA-256(roster hash | EMP | administrators | Merkle root over the members' nonces)."""
    root = merkle.root(nonces.members)
    return hashlib.sha256(roster_hash + nonces.emp + b"".join(nonces.administrators) + root).digest()


def draw(rules: NetRules, size: int, beacon: bytes) -> frozenset[graph.Edge]:
    """Return the key graph of a roster: that of each cell, and the bridges between them.

    Raises:
        MembershipRefused: `degree`; in some cell there is none.
    """
    if rules.cells == 1:
        return _drawn(rules, range(1, size + 1), beacon)
    found: set[graph.Edge] = set()
    drawn = cells.divided(range(1, size + 1), rules.cells, beacon)
    for number, members in enumerate(drawn):
        found |= _drawn(rules, members, cells.beacon_of_cell(beacon, number))
    return frozenset(found | graph.bridges(drawn, rules.bridges, beacon))


def joints(rules: NetRules, size: int, beacon: bytes) -> cells.Joints | None:
    """Return the cells and bridges of the key graph that `draw` returns; None for a net of one cell."""
    if rules.cells == 1:
        return None
    drawn = cells.divided(range(1, size + 1), rules.cells, beacon)
    return cells.joints_of(drawn, graph.bridges(drawn, rules.bridges, beacon))


def _drawn(rules: NetRules, members: Collection[int], beacon: bytes) -> frozenset[graph.Edge]:
    """Return the first of at most `MAX_DRAWS` key graphs in which every degree suffices."""
    for seed in _seeds(beacon):
        edges = graph.drawn(members, rules.degree, seed, rules.required_degree())
        if edges is not None:
            return edges
    raise MembershipRefused(
        "degree",
        f"no key graph of {len(members)} members gives everybody {rules.required_degree()} neighbours; "
        f"needed: {net_sizes.ways_out(rules.d_min, rules.degree, rules.cells)}",
    )


def _seeds(beacon: bytes) -> Iterator[bytes]:
    yield beacon
    for number in range(1, MAX_DRAWS):
        yield hashlib.sha256(beacon + number.to_bytes(4, "big")).digest()
