"""Pads, masks and sums: the whole arithmetic of one slot, in the ring of integers modulo 2**64 per lane.

Never decides whether something may be sent or opened; that is `round`.
Spec: docs/dcnet.md, "Exact constructions".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import IntEnum
from struct import pack, unpack
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import ECB

Lanes = tuple[int, ...]
"""One unsigned 64-bit number per lane."""

MODULUS: Final = 1 << 64
MASK: Final = MODULUS - 1
LANE_BYTES: Final = 8
_BLOCK: Final = 16
_BARE: Final = ECB()  # noqa: S305
NO_CONTEXT: Final = bytes(32)


class Purpose(IntEnum):
    """What an output of the PRF is used for; one key never serves one input twice."""

    PAD = 0
    SHARE_TO_HIGHER = 1
    """Share encryption; the holder's index is greater than the owner's."""
    SHARE_TO_LOWER = 2
    AUDIT = 3
    BLINDING = 4


class Prf:
    """AES-128 as CBC-MAC over inputs of one fixed length (three blocks). Keeps its cipher context.

    A context costs ten times what a pad costs, so each edge keeps one for its epoch.
    """

    __slots__ = ("encrypt",)

    def __init__(self, key: bytes) -> None:
        """Take a key of 16 bytes."""
        # ECB of single blocks is the bare permutation, which is what a CBC-MAC of fixed length is made of.
        self.encrypt = Cipher(AES128(key), _BARE).encryptor().update

    def __repr__(self) -> str:
        return "Prf(...)"

    def output(self, context: bytes, slot: int, purpose: int, length: int) -> bytes:
        """Return `length` bytes for (context, slot, purpose).

        Args:
            context: 32 bytes, the hash of the manifest before this slot.
            slot: u32.
            purpose: u8, see `Purpose`.
            length: bytes wanted, at most 2**28.
        """
        return blocks([self], context, slot, purpose, -(-length // _BLOCK))[0][:length]


def blocks(edges: Iterable[Prf], context: bytes, slot: int, purpose: int, count: int) -> list[bytes]:
    """Return the first `count` output blocks of each PRF for the same (context, slot, purpose).

    What does not depend on the key is computed once: this is where a submission spends its time.
    """
    first, second = context[:_BLOCK], int.from_bytes(context[_BLOCK:], "big")
    size = count * _BLOCK
    repeat = counters = 0
    for block in range(count):
        repeat = repeat << 128 | 1
        counters = counters << 128 | slot << 96 | purpose << 88 | block << 64
    from_bytes = int.from_bytes
    found = []
    for encrypt in [edge.encrypt for edge in edges]:
        chained = encrypt((from_bytes(encrypt(first), "big") ^ second).to_bytes(16, "big"))
        # T next to itself, as often as there are blocks, xor all block inputs at once.
        found.append(encrypt((from_bytes(chained, "big") * repeat ^ counters).to_bytes(size, "big")))
    return found


def prf(key: bytes, context: bytes, slot: int, purpose: int, length: int) -> bytes:
    """Return one output of the PRF; for many outputs under one key keep a `Prf`."""
    return Prf(key).output(context, slot, purpose, length)


def to_lanes(data: bytes) -> Lanes:
    """Read little-endian lanes; the length must be a multiple of 8."""
    return unpack(f"<{len(data) // LANE_BYTES}Q", data)


def from_lanes(lanes: Sequence[int]) -> bytes:
    """Write lanes little endian."""
    return pack(f"<{len(lanes)}Q", *lanes)


def self_mask(seed: bytes, slot: int, lanes: int) -> Lanes:
    """Return b_u, the mask that a member's opening contains again.

    Args:
        seed: 16 bytes, fresh for each slot.
        slot: u32.
        lanes: number of lanes.
    """
    return to_lanes(prf(seed, NO_CONTEXT, slot, Purpose.PAD, LANE_BYTES * lanes))


def pads(
    index: int, edges: Mapping[int, Prf], among: Collection[int], previous: bytes, slot: int, lanes: int
) -> Lanes:
    """Return the sum of a member's pads towards some of its neighbours.

    The member with the smaller index adds the pad of an edge, the other one subtracts it.

    Args:
        index: the member's own index.
        edges: neighbour index -> PRF under the edge's epoch key.
        among: only neighbours in here count, best a set; others are ignored.
        previous: hash of the manifest before this slot, 32 bytes.
        slot: u32.
        lanes: number of lanes.
    """
    added = [edge for peer, edge in edges.items() if peer > index and peer in among]
    subtracted = [edge for peer, edge in edges.items() if peer < index and peer in among]
    both = added + subtracted
    if not both:
        return (0,) * lanes
    count = (lanes + 1) // 2  # a block holds two lanes; half a block may be left over
    layout = f"{lanes}Q" + "8x" * (2 * count - lanes)
    words = unpack("<" + layout * len(both), b"".join(blocks(both, previous, slot, Purpose.PAD, count)))
    sign = lanes * len(added)  # from here on pads are subtracted
    return tuple(
        [(sum(words[lane:sign:lanes]) - sum(words[sign + lane :: lanes])) & MASK for lane in range(lanes)]
    )


def add(*terms: Sequence[int]) -> Lanes:
    """Add lane by lane modulo 2**64."""
    return tuple([sum(lane) & MASK for lane in zip(*terms, strict=True)])


def submission(
    reading: Sequence[int],
    seed: bytes,
    index: int,
    edges: Mapping[int, Prf],
    present: Collection[int],
    previous: bytes,
    slot: int,
) -> Lanes:
    """Return y = x + b + pads towards the present neighbours.

    Args:
        reading: x, one number per lane, 0 <= x < 2**64.
        seed: of the self-mask, 16 fresh bytes.
        index: the member's own index.
        edges: neighbour index -> PRF under the edge's epoch key.
        present: P, the members expected in this slot.
        previous: hash of the manifest before this slot.
        slot: u32.
    """
    count = len(reading)
    return add(reading, self_mask(seed, slot, count), pads(index, edges, present, previous, slot, count))


def opening(
    seed: bytes,
    index: int,
    edges: Mapping[int, Prf],
    missing: Collection[int],
    previous: bytes,
    slot: int,
    lanes: int,
) -> Lanes:
    """Return r = b + pads towards the missing neighbours (present before the slot, not accepted in it)."""
    return add(self_mask(seed, slot, lanes), pads(index, edges, missing, previous, slot, lanes))


def total(submissions: Iterable[Sequence[int]], openings: Iterable[Sequence[int]], lanes: int) -> Lanes:
    """Return S, the sum of y - r over the accepted members: all masks cancel."""
    zero = (0,) * lanes
    plus, minus = add(zero, *submissions), add(zero, *openings)
    return tuple((a - b) & MASK for a, b in zip(plus, minus, strict=True))
