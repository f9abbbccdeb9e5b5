"""A member's side of V-mode: which order it follows, and what it commits to beside a submission. No I/O.

The masked blindings follow the rules of the lanes: fresh for each slot, sent with one submission, opened
once, under the same manifest and by the same `Round`. Spec: docs/dcnet.md, V-mode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from firmware.enforcement.dcnet.errors import CommitmentRefused
from firmware.enforcement.dcnet.messages.commit import CommitOrder, CommitV
from firmware.enforcement.dcnet.policy import CANARY_LANE, TENTHS, NetRules
from firmware.enforcement.dcnet.primitives import scalars
from firmware.enforcement.dcnet.primitives.scalars import WIDE_BYTES
from firmware.enforcement.dcnet.slot.view import Head, View

DATA_LANES: Final = CANARY_LANE
"""The lanes before the canary; that one is 1 for everybody and needs no commitment."""
SECRET_BYTES: Final = 64
_BLINDINGS: Final = b"smgw-dc/1 V-mode blindings"
_PROOF: Final = b"smgw-dc/1 V-mode proof"


def check_order(rules: NetRules, version: int, slot: int, order: CommitOrder) -> None:
    """Judge an order (signature already checked) when `slot` is to be submitted.

    Raises:
        CommitmentRefused: of another net or roster, about other slots, or about more than the policy allows.
    """
    if (order.net, order.version) != (rules.net, version):
        raise CommitmentRefused("net", "an order for another net or roster")
    if not 1 <= order.slots <= rules.v_slots:
        raise CommitmentRefused("slots", f"{order.slots} slots; the policy allows {rules.v_slots} at once")
    if not order.covers(slot):
        raise CommitmentRefused("slot", f"an order for {order.slots} slots from {order.first_slot} on")


@dataclass(frozen=True, slots=True)
class Work:
    """All that a `CommitV` follows from; computing it takes a while, so it can be done apart."""

    view: View
    head: Head
    roster_hash: bytes
    slot: int
    reading: Sequence[int]
    """Of the data lanes."""
    seed: bytes
    """Of the slot's self-mask; the blindings do not come from it, since others may recover it."""
    submission: bytes
    secret: bytes
    """SECRET_BYTES of the module, for this slot alone."""

    def __repr__(self) -> str:
        return f"Work(slot={self.slot})"

    def commit(self) -> CommitV:
        """Commit to the data lanes, mask the blindings, and show that every value is in its range.

        Raises:
            ValueError: a value lies outside its lane's range; nothing may be sent.
        """
        from firmware.enforcement.dcnet.primitives import verifiable  # loads libsodium, in V-mode only

        if len(self.secret) != SECRET_BYTES or len(self.reading) != DATA_LANES:
            raise ValueError("commitments need the data lanes and a secret of their own")
        view, head = self.view, self.head
        drawn = hashlib.shake_256(_BLINDINGS + self.secret).digest(WIDE_BYTES * DATA_LANES)
        blindings = [scalars.wide(drawn[at : at + WIDE_BYTES]) for at in range(0, len(drawn), WIDE_BYTES)]
        masks = scalars.self_mask(self.seed, self.slot, DATA_LANES)
        towards = scalars.pads(view.index, view.edges, head.present, head.hash, self.slot, DATA_LANES)
        masked = scalars.add(blindings, masks, towards)
        limits = (view.rules.max_wh * TENTHS,) * DATA_LANES
        place = (
            view.rules.net,
            self.roster_hash,
            view.epoch,
            self.slot,
            view.index,
            head.hash,
            self.submission,
        )
        binding = verifiable.Binding(*place, limits)
        proof_secret = hashlib.sha512(_PROOF + self.secret).digest()
        points, proof = verifiable.shown(binding, self.reading, blindings, masked, proof_secret)
        return CommitV(
            view.rules.net,
            view.version,
            view.epoch,
            self.slot,
            view.index,
            head.hash,
            self.submission,
            points,
            masked,
            proof,
        )
