"""One member's keys in one roster: a chain for each edge, what its peer must confirm, the MAC key.

Moves forward only: what was left behind cannot be made again, and a kept ring that was moved replaces the one
before it. Never in a repr. Spec: docs/dcnet.md, membership and "Exact constructions".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from firmware.enforcement.dcnet.errors import MalformedObject, MembershipRefused
from firmware.enforcement.dcnet.messages.canonical import Fields, decode, encode
from firmware.enforcement.dcnet.messages.documents import U32
from firmware.enforcement.dcnet.primitives import kdf
from firmware.errors import StoreCorrupt

MAX_EPOCHS_AHEAD: Final = 400
"""No chain is moved further than that at once: a roster is redrawn long before."""


@dataclass(slots=True)
class EdgeKeys:
    """What a member holds of one edge."""

    chain: bytes = field(repr=False)
    """Chain key of the ring's epoch."""
    own_tag: bytes = field(repr=False)
    """What we tell the peer."""
    expected: bytes = field(repr=False)
    """What the peer must tell us."""
    confirmed: bool = False


class KeyRing:
    """Chains of all edges, in step, and the key of the MACs."""

    def __init__(self, epoch: int, mac_key: bytes, edges: Mapping[int, EdgeKeys]) -> None:
        """Hold the keys of `epoch`; `edges` by the neighbours' indices."""
        self.epoch, self.mac_key, self._edges = epoch, mac_key, dict(edges)

    def __repr__(self) -> str:
        return f"KeyRing(epoch={self.epoch}, edges={len(self._edges)})"

    @property
    def peers(self) -> frozenset[int]:
        """Every neighbour with a key."""
        return frozenset(self._edges)

    @property
    def unconfirmed(self) -> frozenset[int]:
        """Neighbours that have not shown yet that they hold our key."""
        return frozenset(peer for peer, edge in self._edges.items() if not edge.confirmed)

    def tags(self) -> tuple[tuple[int, bytes], ...]:
        """Return (neighbour, our tag for it), indices rise."""
        return tuple((peer, self._edges[peer].own_tag) for peer in sorted(self._edges))

    def confirm(self, peer: int, tag: bytes) -> bool:
        """Take a neighbour's tag; whether it is the right one."""
        edge = self._edges[peer]
        edge.confirmed = edge.confirmed or edge.expected == tag
        return edge.expected == tag

    def adopt(self, confirmed: frozenset[int]) -> None:
        """Take over which edges may be used from the ring of the net that this one's reconciles."""
        for peer, edge in self._edges.items():
            edge.confirmed = peer in confirmed

    def move(self, net: bytes, epoch: int) -> None:
        """Go on to `epoch`; what opened the epochs before it is forgotten.

        Raises:
            MembershipRefused: `epoch`; it lies behind, or too far ahead.
        """
        if epoch < self.epoch:
            raise MembershipRefused("epoch", f"the keys of epoch {epoch} are erased")
        if epoch > self.epoch + MAX_EPOCHS_AHEAD:
            raise MembershipRefused("epoch", f"epoch {epoch} is too far ahead")
        for edge in self._edges.values():
            for _ in range(epoch - self.epoch):
                edge.chain = kdf.chain_next(edge.chain, net)
        self.epoch = epoch

    def epoch_keys(self, net: bytes) -> dict[int, bytes]:
        """Return the key of each edge in the ring's epoch."""
        return {peer: kdf.epoch_key(edge.chain, net, self.epoch) for peer, edge in self._edges.items()}

    def to_bytes(self) -> bytes:
        """Encode for the sealed store."""
        edges: Iterable[list[object]] = (
            [peer, edge.chain, edge.own_tag, edge.expected, int(edge.confirmed)]
            for peer, edge in sorted(self._edges.items())
        )
        return encode([self.epoch, self.mac_key, list(edges)])

    @classmethod
    def from_bytes(cls, data: bytes) -> KeyRing:
        """Read what was kept; `StoreCorrupt` if it is no ring."""
        try:
            fields = Fields(decode(data), 3)
            epoch, mac_key = fields.number(U32), fields.octets(kdf.KEY_BYTES)
            edges = {}
            for item in fields.array():
                edge = Fields(item, 5)
                peer = edge.number(U32)
                edges[peer] = EdgeKeys(
                    edge.octets(kdf.KEY_BYTES),
                    edge.octets(kdf.TAG_BYTES),
                    edge.octets(kdf.TAG_BYTES),
                    edge.number(2) == 1,
                )
        except MalformedObject as error:
            raise StoreCorrupt("a kept key ring is not in its canonical form") from error
        return cls(epoch, mac_key, edges)


def edge_keys(root: bytes, net: bytes, roster_hash: bytes, *, lower: bool) -> EdgeKeys:
    """Return what the end of an edge holds at the beginning.

    Args:
        root: K_uv, not needed afterwards.
        net: the net's identifier.
        roster_hash: of the roster that the edge belongs to.
        lower: whether ours is the smaller index.
    """
    upward = kdf.confirm_tag(root, roster_hash, upward=True)
    downward = kdf.confirm_tag(root, roster_hash, upward=False)
    own, expected = (upward, downward) if lower else (downward, upward)
    return EdgeKeys(kdf.chain_start(root, net), own, expected)
