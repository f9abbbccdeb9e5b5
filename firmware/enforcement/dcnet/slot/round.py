"""The rules of one slot: what a gateway submits, what it checks before it opens, and that it opens once.

No I/O, no clock, no randomness; persisting and sending are the driver's. Private to this package: the
supplier's side has checks of its own. Spec: docs/dcnet.md, one slot.
"""

from __future__ import annotations

from collections.abc import Sequence

from firmware.enforcement.dcnet.errors import (
    Equivocation,
    OpeningRefused,
    Refusal,
    ReleaseOfShareRefused,
    UnexpectedStep,
)
from firmware.enforcement.dcnet.machines import SLOT, SlotState, Step
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.faults import RecoveryOrder
from firmware.enforcement.dcnet.messages.frames import RECONCILE, Frame, FrameType, digest
from firmware.enforcement.dcnet.messages.manifest import Manifest
from firmware.enforcement.dcnet.policy import LANES, Recovery
from firmware.enforcement.dcnet.primitives import merkle, scalars
from firmware.enforcement.dcnet.primitives.arithmetic import opening, submission
from firmware.enforcement.dcnet.slot import recovery
from firmware.enforcement.dcnet.slot.outage import Lifted, enough_of
from firmware.enforcement.dcnet.slot.view import Head, Link, View, link


def check_opening(
    view: View,
    head: Head,
    found: Link,
    own_digest: bytes,
    siblings: Sequence[bytes],
    allowed: Lifted | None = None,
) -> None:
    """Apply every rule that stands between an accepted submission and its opening.

    `allowed` is what the administrators forgive in this slot.

    Raises:
        OpeningRefused: naming the first rule that is broken.
    """
    accepted, rules = found.accepted, view.rules
    order = sorted(accepted)
    if view.index not in accepted or not merkle.contains(
        found.manifest.root, own_digest, order.index(view.index), len(order), siblings
    ):
        raise OpeningRefused(Refusal.LEAF, "own submission is not under the root")
    if not accepted <= head.present:
        raise OpeningRefused(Refusal.NOT_PRESENT, "a member was accepted that was not expected")
    if not enough_of(rules, accepted, head.present, allowed):
        raise OpeningRefused(Refusal.EXCLUDED, f"{len(accepted)} of {len(head.present)} members accepted")
    if (reached := len(view.reach(accepted))) < rules.n_min:
        raise OpeningRefused(Refusal.COMPONENT, f"component of {reached} members")
    if (degree := len(view.adjacent.get(view.index, frozenset()) & accepted)) < rules.d_min:
        raise OpeningRefused(Refusal.DEGREE, f"{degree} accepted neighbours")


class Round:
    """One slot of one member. Each step is allowed once; the steps are those of the table."""

    __slots__ = ("_digest", "_found", "_head", "_order", "_seed", "_view", "slot", "state")

    def __init__(self, view: View, head: Head) -> None:
        """Begin the slot after `head`."""
        self.slot, self.state = head.slot + 1, SlotState.MEASURED
        self._view, self._head = view, head
        self._seed, self._digest = b"", b""
        self._found: Link | None = None
        self._order: RecoveryOrder | None = None

    @classmethod
    def resume(cls, view: View, head: Head, seed: bytes, body: bytes) -> Round:
        """Go on after a restart with the seed and the frame (without MAC) that the ledger kept."""
        again = cls(view, head)
        again.state, again._seed, again._digest = SlotState.SUBMITTED, seed, digest(body)
        return again

    @classmethod
    def opened(cls, view: View, head: Head, found: Link, order: RecoveryOrder | None) -> Round:
        """Go on after a restart behind the opening; `order` is the one that was kept, if there was one."""
        again = cls(view, head)
        again.state, again._found, again._order = SlotState.OPENED, found, order
        return again

    @property
    def expected(self) -> bool:
        """Whether this member is in P, so that it may submit at all."""
        return self._view.index in self._head.present

    def submit(self, reading: Sequence[int], seed: bytes, coefficients: Sequence[bytes] = ()) -> bytes:
        """Return the Submit frame without its MAC.

        Args:
            reading: one number per lane.
            seed: 16 bytes, fresh, never used for another slot.
            coefficients: t - 1 times 16 fresh bytes, if the net recovers lost members.

        Raises:
            UnexpectedStep: submitted before, or not expected in this slot.
        """
        if not self.expected:
            raise UnexpectedStep("not expected in this slot")
        state = SLOT.advance(self.state, Step.SUBMIT)
        view, head = self._view, self._head
        lanes = submission(reading, seed, view.index, view.edges, head.present, head.hash, self.slot)
        dealt: tuple[tuple[int, bytes], ...] = ()
        if view.rules.recovery is Recovery.WITNESS:
            if len(coefficients) != view.rules.threshold - 1:
                raise UnexpectedStep("a submission of this net deals shares")
            dealt = recovery.deal(view, head, self.slot, seed, coefficients)
        body = self._frame(FrameType.SUBMIT, head.hash, lanes, dealt)
        self.state, self._seed, self._digest = state, seed, digest(body)
        return body

    def hello(self) -> bytes:
        """Return the Hello frame without its MAC: back again, to be counted from the next slot on."""
        return self._frame(FrameType.HELLO, self._head.hash, ())

    def consider(
        self,
        manifest: Manifest,
        siblings: Sequence[bytes],
        signed: bytes = b"",
        allowed: Lifted | None = None,
    ) -> SlotState:
        """Judge the manifest of this slot: ACCEPTED (open now) or LEFT_OUT.

        The same manifest again changes nothing.

        Args:
            manifest: its signature already checked.
            siblings: our own Merkle path.
            signed: the signed form, evidence if the supplier lies.
            allowed: what the administrators forgive in this slot.

        Raises:
            OpeningRefused: a check failed; the slot is REFUSED and stays closed.
            Equivocation: another manifest was seen for this slot before.
        """
        if self._found is not None:
            if document_hash(manifest) != self._found.hash:
                raise Equivocation(
                    self.slot, (self._found.manifest.to_bytes(), signed or manifest.to_bytes())
                )
            return self.state
        try:
            self._found = found = link(self._view, self._head, manifest)
            if self._view.index not in found.accepted:
                self.state = SLOT.advance(self.state, Step.LEAVE_OUT)
                return self.state
            check_opening(self._view, self._head, found, self._digest, siblings, allowed)
        except OpeningRefused:
            self.refuse()
            raise
        self.state = SLOT.advance(self.state, Step.ACCEPT)
        return self.state

    def refuse(self) -> None:
        """Close the slot for good; `UnexpectedStep` if it is not waiting for its manifest."""
        self.state = SLOT.advance(self.state, Step.REFUSE)

    def blindings(self, lanes: int) -> scalars.Words:
        """Return what takes the masks off the blindings of V-mode: as the opening, and just before it.

        Raises:
            UnexpectedStep: no manifest was accepted, or the slot was opened before.
        """
        SLOT.advance(self.state, Step.OPEN)
        assert self._found is not None
        view, head = self._view, self._head
        missing = head.present - self._found.accepted
        towards = scalars.pads(view.index, view.edges, missing, head.hash, self.slot, lanes)
        return scalars.add(scalars.self_mask(self._seed, self.slot, lanes), towards)

    def open(self) -> bytes:
        """Return the Open frame without its MAC, once.

        Raises:
            UnexpectedStep: no manifest was accepted, or the slot was opened before.
        """
        state = SLOT.advance(self.state, Step.OPEN)
        assert self._found is not None
        view, head, found = self._view, self._head, self._found
        missing = head.present - found.accepted
        lanes = opening(self._seed, view.index, view.edges, missing, head.hash, self.slot, len(LANES))
        self.state, self._seed = state, b""
        return self._frame(FrameType.OPEN, found.hash, lanes)

    def follow(self, order: RecoveryOrder) -> None:
        """Take the one order of this slot; the same again changes nothing.

        Args:
            order: all its signatures already checked.

        Raises:
            ReleaseOfShareRefused: a check of the whole order failed, or the net does not recover members.
            Equivocation: another order was followed for this slot before.
        """
        if self.view.rules.recovery is not Recovery.WITNESS:
            raise ReleaseOfShareRefused("recovery", "this net recovers nobody")
        if self.state is not SlotState.OPENED or self._found is None:
            raise ReleaseOfShareRefused("state", f"a slot in state {self.state.name} gives no share")
        if self._order is not None and order != self._order:
            raise Equivocation(self.slot, (self._order.to_bytes(), order.to_bytes()))
        recovery.lost(self.view, self._head, self._found, order)
        self._order = order  # the first one that could be followed; no share goes out under a second

    def release(self, order: RecoveryOrder, owner: int, submitted: bytes, siblings: Sequence[bytes]) -> bytes:
        """Return the Share frame without its MAC for a lost member; only after this member itself has opened.

        Args:
            order: all its signatures already checked.
            owner: index of the lost member.
            submitted: its Submit frame without MAC.
            siblings: the Merkle path of that frame.

        Raises:
            ReleaseOfShareRefused: a check failed, or the net does not recover members.
            Equivocation: another order was seen for this slot before.
        """
        self.follow(order)
        assert self._found is not None
        share = recovery.release(self.view, self._head, self._found, order, owner, submitted, siblings)
        return self._frame(FrameType.SHARE, self._found.hash, (), ((owner, share),))

    @property
    def view(self) -> View:
        """What this member knows."""
        return self._view

    def excludes(self, manifest: Manifest) -> bool:
        """Tell whether a manifest leaves out more members than delta, so that only a notice can save it."""
        try:
            accepted = link(self._view, self._head, manifest).accepted
        except OpeningRefused:
            return False  # `consider` refuses it with its reason
        return self._view.index in accepted and not enough_of(
            self._view.rules, accepted, self._head.present, None
        )

    @property
    def found(self) -> Link | None:
        """The slot's manifest, once one with the right past was seen."""
        return self._found

    def _frame(
        self,
        kind: FrameType,
        reference: bytes,
        lanes: tuple[int, ...],
        shares: tuple[tuple[int, bytes], ...] = (),
    ) -> bytes:
        view = self._view
        flags = RECONCILE if view.rules.reconciles and lanes else 0
        head = (kind, self.slot, view.rules.net, view.index, view.version, view.epoch, reference)
        return Frame(*head, lanes, shares, flags).to_bytes()
