"""Recovery of lost neighbours: the shares a member deals, and its checks before it gives one away.

No I/O; signatures (EMP and witness) are checked before an order comes here. Private to the gateway's rules.
Spec: docs/dcnet.md, "Members lost after the manifest".
"""

from __future__ import annotations

from collections.abc import Sequence

from firmware.enforcement.dcnet.errors import MalformedObject, ReleaseOfShareRefused
from firmware.enforcement.dcnet.messages.documents import from_bitmap
from firmware.enforcement.dcnet.messages.faults import RecoveryOrder
from firmware.enforcement.dcnet.messages.frames import Frame, FrameType, digest
from firmware.enforcement.dcnet.primitives import merkle, shares
from firmware.enforcement.dcnet.slot.view import Head, Link, View


def holders(view: View, head: Head) -> tuple[int, ...]:
    """Return who holds the shares: the m present neighbours with the smallest indices."""
    present = sorted(view.adjacent.get(view.index, frozenset()) & head.present)
    return tuple(present[: view.rules.holders])


def deal(
    view: View, head: Head, slot: int, seed: bytes, coefficients: Sequence[bytes]
) -> tuple[tuple[int, bytes], ...]:
    """Return the sealed shares of a seed, (holder, 16 bytes), for the Submit frame.

    With fewer present neighbours than a polynomial needs there are none: this member cannot be recovered.

    Args:
        view: what this member knows.
        head: the chain before the slot.
        slot: u32.
        seed: of the self-mask.
        coefficients: t - 1 times 16 fresh random bytes.
    """
    chosen = holders(view, head)
    if len(chosen) < view.rules.threshold:
        return ()
    parts = shares.split(seed, coefficients, len(chosen))
    return tuple(
        (holder, shares.seal(part, view.edges[holder], head.hash, slot, view.index, holder))
        for holder, part in zip(chosen, parts, strict=True)
    )


def lost(view: View, head: Head, found: Link, order: RecoveryOrder) -> frozenset[int]:
    """Return F of an order after checking it as a whole.

    Args:
        view: what this member knows.
        head: the chain before the slot.
        found: the one manifest this member has seen for the slot.
        order: signed by EMP and witness, both checked.

    Raises:
        ReleaseOfShareRefused: naming the rule that is broken.
    """
    meant = (view.rules.net, view.version, found.manifest.slot, found.hash)
    if (order.net, order.version, order.slot, order.manifest_hash) != meant:
        raise ReleaseOfShareRefused("manifest", "an order under another manifest than ours")
    try:
        missing = from_bitmap(order.lost, view.size)
    except MalformedObject as error:
        raise ReleaseOfShareRefused("form", str(error)) from error
    if not missing or not missing <= found.accepted:
        raise ReleaseOfShareRefused("accepted", "an order for members that were not accepted")
    absent = head.present - found.accepted
    for member, adjacent in view.adjacent.items():
        if (count := len(adjacent & missing)) > view.rules.f_max:
            raise ReleaseOfShareRefused("f-max", f"member {member} has {count} lost neighbours")
        if member in missing and adjacent & absent:
            # Its opening would hold pads towards them; b alone is another number than r.
            raise ReleaseOfShareRefused("absent-neighbour", f"a neighbour of member {member} was left out")
    return missing


def release(
    view: View,
    head: Head,
    found: Link,
    order: RecoveryOrder,
    owner: int,
    submitted: bytes,
    siblings: Sequence[bytes],
) -> bytes:
    """Return the opened share that this member holds for a lost one.

    Args:
        view: what this member knows.
        head: the chain before the slot.
        found: the manifest.
        order: signed by EMP and witness, both checked.
        owner: index of the lost member.
        submitted: its Submit frame without MAC, as the EMP relays it.
        siblings: the Merkle path of that frame.

    Raises:
        ReleaseOfShareRefused: naming the rule that is broken.
    """
    if owner == view.index or owner not in lost(view, head, found, order):
        raise ReleaseOfShareRefused("not-lost", f"member {owner} is not in the order")
    ranks = sorted(found.accepted)
    if not merkle.contains(found.manifest.root, digest(submitted), ranks.index(owner), len(ranks), siblings):
        raise ReleaseOfShareRefused("leaf", f"not the accepted submission of member {owner}")
    try:
        frame = Frame.from_bytes(submitted)
    except MalformedObject as error:
        raise ReleaseOfShareRefused("form", str(error)) from error
    # The root is the EMP's word: what lies under it must also say that it is this member's.
    said = (frame.type, frame.net, frame.version, frame.epoch, frame.slot, frame.index, frame.reference)
    slot = found.manifest.slot
    meant = (FrameType.SUBMIT, view.rules.net, view.version, view.epoch, slot, owner, head.hash)
    if said != meant:
        raise ReleaseOfShareRefused("form", f"no submission of member {owner} for this slot")
    sealed = dict(frame.shares).get(view.index)
    if sealed is None or owner not in view.edges:
        raise ReleaseOfShareRefused("no-share", f"member {owner} dealt us no share")
    return shares.seal(sealed, view.edges[owner], head.hash, slot, owner, view.index)
