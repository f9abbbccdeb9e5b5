"""Numbers modulo the order of libsodium's Edwards group, and the masks that hide blindings in a slot.

A blinding is masked as a lane is (self-mask and pads), but modulo the group's order: modulo 2**64 a mask
would leave most of the blinding bare. No point is in here, so nothing of libsodium is loaded. Spec:
docs/dcnet.md, V-mode; RFC 8032, section 5.1 (L).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.primitives.arithmetic import NO_CONTEXT, Prf, Purpose

ORDER: Final = (1 << 252) + 27742317777372353535851937790883648493
"""L, the prime order of the group."""
SCALAR_BYTES: Final = 32
WIDE_BYTES: Final = 64

Words = tuple[int, ...]
"""One number modulo ORDER for each data lane."""


def wide(data: bytes) -> int:
    """Reduce 64 uniform bytes, little endian; the result is uniform but for about 2**-259."""
    if len(data) != WIDE_BYTES:
        raise ValueError("a wide reduction takes 64 bytes")
    return int.from_bytes(data, "little") % ORDER


def to_bytes(scalar: int) -> bytes:
    """Encode as 32 bytes, little endian; `scalar` is taken modulo ORDER."""
    return (scalar % ORDER).to_bytes(SCALAR_BYTES, "little")


def from_bytes(data: bytes) -> int:
    """Decode the one encoding below ORDER; another one raises `MalformedObject`."""
    scalar = int.from_bytes(data, "little")
    if len(data) != SCALAR_BYTES or scalar >= ORDER:
        raise MalformedObject("not a number below the group's order")
    return scalar


def self_mask(seed: bytes, slot: int, lanes: int) -> Words:
    """Return the part of a mask that a member's opening contains again.

    Args:
        seed: 16 bytes, that of the lanes' self-mask; the purpose tells the outputs apart.
        slot: u32.
        lanes: number of data lanes.
    """
    return _words(Prf(seed), NO_CONTEXT, slot, lanes)


def pads(
    index: int, edges: Mapping[int, Prf], among: Collection[int], previous: bytes, slot: int, lanes: int
) -> Words:
    """Return the sum of a member's pads towards some neighbours: added by the smaller index, else subtracted.

    Args:
        index: the member's own.
        edges: neighbour -> PRF under the edge's epoch key.
        among: only neighbours in here count.
        previous: hash of the manifest before this slot.
        slot: u32.
        lanes: number of data lanes.
    """
    sums = [0] * lanes
    for peer, edge in edges.items():
        if peer in among:
            sign = 1 if peer > index else -1
            for lane, word in enumerate(_words(edge, previous, slot, lanes)):
                sums[lane] += sign * word
    return tuple(total % ORDER for total in sums)


def add(*terms: Sequence[int]) -> Words:
    """Add lane by lane modulo ORDER."""
    return tuple(sum(lane) % ORDER for lane in zip(*terms, strict=True))


def total(masked: Iterable[Sequence[int]], opened: Iterable[Sequence[int]], lanes: int) -> Words:
    """Return R, the sum of the blindings of all members whose words these are: all masks cancel."""
    zero = (0,) * lanes
    plus, minus = add(zero, *masked), add(zero, *opened)
    return tuple((a - b) % ORDER for a, b in zip(plus, minus, strict=True))


def _words(prf: Prf, context: bytes, slot: int, lanes: int) -> Words:
    data = prf.output(context, slot, Purpose.BLINDING, WIDE_BYTES * lanes)
    return tuple(wide(data[at : at + WIDE_BYTES]) for at in range(0, len(data), WIDE_BYTES))
