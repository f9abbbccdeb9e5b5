"""Recovery of lost members on the other side: the supplier's order, the witness's one signature. No I/O.

Shares codecs and arithmetic with the product and none of its checks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, MutableMapping
from typing import Final

from firmware.enforcement.dcnet.errors import DcNetError
from firmware.enforcement.dcnet.machines import WITNESS, WitnessState, WitnessStep
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES, to_bitmap
from firmware.enforcement.dcnet.messages.faults import RecoveryOrder
from firmware.enforcement.dcnet.primitives import arithmetic, shares

REMEMBERED_SLOTS: Final = 4096
"""What was signed of so many of the newest slots is remembered; older ones are never signed again."""


class SlotWitness:
    """What an administrator co-signs of one net's slots: one manifest each, then one order under it."""

    def __init__(self, kept: MutableMapping[str, bytes] | None = None, name: str = "") -> None:
        """Remember in `kept`, under names with `name` in them; there it outlives this object."""
        self._kept: MutableMapping[str, bytes] = {} if kept is None else kept
        self._name = name

    def manifest(self, slot: int, manifest_hash: bytes) -> bool:
        """Tell whether to co-sign; the same manifest again is co-signed again, another one never.

        Slots far behind the newest are forgotten, and nothing is signed for them any more.
        """
        state, seen, _ = self._slot(slot)
        if state is not WITNESS.start:
            return seen == manifest_hash
        newest = int.from_bytes(self._kept.get(f"newest{self._name}", b""), "big")
        if slot + REMEMBERED_SLOTS <= newest:
            return False
        WITNESS.advance(state, WitnessStep.MANIFEST)
        self._kept[self._key(slot)] = manifest_hash
        if slot > newest:
            self._kept[f"newest{self._name}"] = slot.to_bytes(4, "big")
            first = max(newest - REMEMBERED_SLOTS, slot - 2 * REMEMBERED_SLOTS, 0)
            for old in range(first, slot - REMEMBERED_SLOTS + 1):
                self._kept.pop(self._key(old), None)
        return True

    def order(self, order: RecoveryOrder) -> bool:
        """Tell whether to co-sign: only under the manifest seen, the same order again, another one never."""
        state, seen, known = self._slot(order.slot)
        if state is WitnessState.MANIFEST_SEEN and order.manifest_hash == seen:
            WITNESS.advance(state, WitnessStep.ORDER)
            self._kept[self._key(order.slot)] = seen + order.to_bytes()
            return True
        return known == order

    def _slot(self, slot: int) -> tuple[WitnessState, bytes, RecoveryOrder | None]:
        said = self._kept.get(self._key(slot))
        if said is None:
            return WITNESS.start, b"", None
        seen, order = said[:HASH_BYTES], said[HASH_BYTES:]
        if not order:
            return WitnessState.MANIFEST_SEEN, seen, None
        return WitnessState.ORDER_SEEN, seen, RecoveryOrder.from_bytes(order)

    def _key(self, slot: int) -> str:
        return f"slot{self._name}-{slot}"


def recoverable(
    lost: Collection[int],
    absent: Collection[int],
    adjacent: Mapping[int, Collection[int]],
    f_max: int,
) -> bool:
    """Tell whether members will follow an order for `lost`, with `absent` left out by the manifest."""
    missing, gone = set(lost), set(absent)
    return (
        bool(missing)
        and all(not gone.intersection(adjacent[member]) for member in missing)
        and all(len(missing.intersection(peers)) <= f_max for peers in adjacent.values())
    )


def order_for(
    net: bytes, version: int, slot: int, manifest_hash: bytes, lost: Collection[int], size: int
) -> RecoveryOrder:
    """Make the order, to be signed by EMP and witness."""
    return RecoveryOrder(net, version, slot, manifest_hash, to_bitmap(lost, size))


def opening_of(
    dealt: tuple[tuple[int, bytes], ...], given: Mapping[int, bytes], threshold: int, slot: int, lanes: int
) -> arithmetic.Lanes | None:
    """Return a lost member's r as `combined` does, and do not ask who gave a wrong share."""
    found = combined(dealt, given, threshold, slot, lanes)
    return None if found is None else found[0]


def combined(
    dealt: tuple[tuple[int, bytes], ...], given: Mapping[int, bytes], threshold: int, slot: int, lanes: int
) -> tuple[arithmetic.Lanes, frozenset[int]] | None:
    """Return a lost member's r, which is its self-mask, and whose shares are wrong; None if it cannot be had.

    Args:
        dealt: the shares of its Submit frame: their order gives each holder its x.
        given: holder -> share in clear.
        threshold: t.
        slot: u32.
        lanes: number of lanes.
    """
    found = seed_of(dealt, given, threshold)
    return None if found is None else (arithmetic.self_mask(found[0], slot, lanes), found[1])


def seed_of(
    dealt: tuple[tuple[int, bytes], ...], given: Mapping[int, bytes], threshold: int
) -> tuple[bytes, frozenset[int]] | None:
    """Return the seed of a lost member's masks, and whose shares are wrong; arguments as `combined`."""
    at = {holder: x for x, (holder, _) in enumerate(dealt, start=1)}
    points = {at[holder]: share for holder, share in given.items() if holder in at}
    try:
        seed, wrong = shares.recover(points, threshold)
    except DcNetError:
        return None
    return seed, frozenset(holder for holder, x in at.items() if x in wrong)
