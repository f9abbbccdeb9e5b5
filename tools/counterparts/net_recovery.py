"""Recovery of lost members on the other side: the supplier's order, the witness's one signature. No I/O.

Shares codecs and arithmetic with the product and none of its checks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from firmware.enforcement.dcnet.errors import DcNetError
from firmware.enforcement.dcnet.machines import WITNESS, WitnessState, WitnessStep
from firmware.enforcement.dcnet.messages.documents import to_bitmap
from firmware.enforcement.dcnet.messages.faults import RecoveryOrder
from firmware.enforcement.dcnet.primitives import arithmetic, shares


class SlotWitness:
    """What an administrator co-signs of one net's slots: one manifest each, then one order under it."""

    def __init__(self) -> None:
        """Begin without any slot."""
        self._slots: dict[int, tuple[WitnessState, bytes, RecoveryOrder | None]] = {}

    def manifest(self, slot: int, manifest_hash: bytes) -> bool:
        """Tell whether to co-sign; the same manifest again is co-signed again, another one never."""
        state, seen, _ = self._slots.get(slot, (WITNESS.start, manifest_hash, None))
        if state is WITNESS.start:
            state = WITNESS.advance(state, WitnessStep.MANIFEST)
            self._slots[slot] = state, manifest_hash, None
        return seen == manifest_hash

    def order(self, order: RecoveryOrder) -> bool:
        """Tell whether to co-sign: only under the manifest seen, the same order again, another one never."""
        state, seen, known = self._slots.get(order.slot, (WITNESS.start, b"", None))
        if state is WitnessState.MANIFEST_SEEN and order.manifest_hash == seen:
            state = WITNESS.advance(state, WitnessStep.ORDER)
            self._slots[order.slot] = state, seen, order
            return True
        return known == order


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
    """Return a lost member's r, which is its self-mask; None if the shares do not give it.

    Args:
        dealt: the shares of its Submit frame: their order gives each holder its x.
        given: holder -> share in clear.
        threshold: t.
        slot: u32.
        lanes: number of lanes.
    """
    at = {holder: x for x, (holder, _) in enumerate(dealt, start=1)}
    points = {at[holder]: share for holder, share in given.items() if holder in at}
    try:
        seed, _ = shares.recover(points, threshold)
    except DcNetError:
        return None
    return arithmetic.self_mask(seed, slot, lanes)
