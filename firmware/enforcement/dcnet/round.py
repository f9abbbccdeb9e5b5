"""The rules of one slot: what a gateway submits, what it checks before it opens, and that it opens once.

No I/O, no clock, no randomness; persisting and sending are the driver's. Private to this package: the
supplier's side has checks of its own. Spec: docs/dcnet.md, one slot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from firmware.enforcement.dcnet import graph, merkle
from firmware.enforcement.dcnet.arithmetic import Prf, opening, submission
from firmware.enforcement.dcnet.errors import (
    Equivocation,
    MalformedObject,
    OpeningRefused,
    Refusal,
    UnexpectedStep,
)
from firmware.enforcement.dcnet.frames import Frame, FrameType, digest
from firmware.enforcement.dcnet.messages import EpochManifest, Manifest, document_hash, from_bitmap
from firmware.enforcement.dcnet.policy import LANES, NetRules


class SlotState(Enum):
    """Where a gateway is with one slot; the value is what the ledger keeps."""

    IDLE = 0
    MEASURED = 1
    SUBMITTED = 2
    ACCEPTED = 3
    OPENED = 4
    TOTALLED = 5
    LEFT_OUT = 6
    REFUSED = 7
    ABORTED = 8
    OWED = 9


class Step(Enum):
    """What can happen to a slot."""

    MEASURE = "measure"
    SUBMIT = "submit"
    ACCEPT = "accept"
    OPEN = "open"
    TOTAL = "total"
    LEAVE_OUT = "leave-out"
    REFUSE = "refuse"
    ABORT = "abort"
    OWE = "owe"


_NEXT: Final = {  # the whole life of a slot: what is not listed is an error
    (SlotState.IDLE, Step.MEASURE): SlotState.MEASURED,
    (SlotState.MEASURED, Step.SUBMIT): SlotState.SUBMITTED,
    (SlotState.MEASURED, Step.LEAVE_OUT): SlotState.LEFT_OUT,
    (SlotState.SUBMITTED, Step.ACCEPT): SlotState.ACCEPTED,
    (SlotState.SUBMITTED, Step.LEAVE_OUT): SlotState.LEFT_OUT,
    (SlotState.SUBMITTED, Step.REFUSE): SlotState.REFUSED,
    (SlotState.ACCEPTED, Step.OPEN): SlotState.OPENED,
    (SlotState.OPENED, Step.TOTAL): SlotState.TOTALLED,
    (SlotState.OPENED, Step.ABORT): SlotState.ABORTED,
    (SlotState.LEFT_OUT, Step.OWE): SlotState.OWED,
    (SlotState.REFUSED, Step.OWE): SlotState.OWED,
    (SlotState.ABORTED, Step.OWE): SlotState.OWED,
}

RESUMABLE: Final = frozenset({SlotState.MEASURED, SlotState.SUBMITTED, SlotState.OPENED})
"""States in which a slot can go on after a restart. ACCEPTED is never persisted."""


def advance(state: SlotState, step: Step) -> SlotState:
    """Return the state after `step`; a step that the table does not list raises `UnexpectedStep`."""
    try:
        return _NEXT[state, step]
    except KeyError:
        raise UnexpectedStep(f"a slot in state {state.name} cannot {step.value}") from None


@dataclass(frozen=True, slots=True)
class View:
    """What one member knows of its net during one epoch."""

    rules: NetRules
    version: int
    epoch: int
    size: int
    index: int
    edges: Mapping[int, Prf]
    """Neighbour -> PRF under the edge's epoch key."""
    adjacent: Mapping[int, frozenset[int]]
    """The whole key graph."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain of manifests, as far as this gateway has followed it."""

    epoch: int
    slot: int
    """The slot whose manifest it is; of an EpochManifest the slot before its first one."""
    hash: bytes
    present: frozenset[int]
    """P of the next slot."""

    @classmethod
    def of_epoch(cls, manifest: EpochManifest, size: int) -> Head:
        """Start a chain."""
        present = from_bitmap(manifest.present, size)
        return cls(manifest.epoch, manifest.first_slot - 1, document_hash(manifest), present)


@dataclass(frozen=True, slots=True)
class Link:
    """A manifest whose place in the chain is right."""

    manifest: Manifest
    hash: bytes
    accepted: frozenset[int]
    hello: frozenset[int]

    def head(self, epoch: int) -> Head:
        """Return the end of the chain behind this manifest: P = accepted + hello."""
        return Head(epoch, self.manifest.slot, self.hash, self.accepted | self.hello)


def link(view: View, head: Head, manifest: Manifest) -> Link:
    """Check that a manifest (signature already checked) follows `head`.

    Raises:
        OpeningRefused: other net, roster or slot (FORM), or another past than ours (PREVIOUS).
    """
    if (manifest.net, manifest.version, manifest.slot) != (view.rules.net, view.version, head.slot + 1):
        raise OpeningRefused(Refusal.FORM, "a manifest of another net, roster or slot")
    if manifest.previous != head.hash:
        raise OpeningRefused(Refusal.PREVIOUS, "the manifest continues another chain")
    try:
        accepted = from_bitmap(manifest.accepted, view.size)
        hello = from_bitmap(manifest.hello, view.size)
    except MalformedObject as error:
        raise OpeningRefused(Refusal.FORM, str(error)) from error
    return Link(manifest, document_hash(manifest), accepted, hello)


def check_opening(view: View, head: Head, found: Link, own_digest: bytes, siblings: Sequence[bytes]) -> None:
    """Apply every rule that stands between an accepted submission and its opening.

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
    if not rules.enough_of(len(accepted), len(head.present)):
        raise OpeningRefused(Refusal.EXCLUDED, f"{len(accepted)} of {len(head.present)} members accepted")
    if (reached := len(graph.component(view.index, view.adjacent, accepted))) < rules.n_min:
        raise OpeningRefused(Refusal.COMPONENT, f"component of {reached} members")
    if (degree := len(view.adjacent.get(view.index, frozenset()) & accepted)) < rules.d_min:
        raise OpeningRefused(Refusal.DEGREE, f"{degree} accepted neighbours")


class Round:
    """One slot of one member. Each step is allowed once; the steps are those of the table."""

    __slots__ = ("_digest", "_found", "_head", "_seed", "_view", "slot", "state")

    def __init__(self, view: View, head: Head) -> None:
        """Begin the slot after `head`."""
        self.slot, self.state = head.slot + 1, SlotState.MEASURED
        self._view, self._head = view, head
        self._seed, self._digest = b"", b""
        self._found: Link | None = None

    @classmethod
    def resume(cls, view: View, head: Head, seed: bytes, body: bytes) -> Round:
        """Go on after a restart with the seed and the frame (without MAC) that the ledger kept."""
        again = cls(view, head)
        again.state, again._seed, again._digest = SlotState.SUBMITTED, seed, digest(body)
        return again

    @property
    def expected(self) -> bool:
        """Whether this member is in P, so that it may submit at all."""
        return self._view.index in self._head.present

    def submit(self, reading: Sequence[int], seed: bytes) -> bytes:
        """Return the Submit frame without its MAC.

        Args:
            reading: one number per lane.
            seed: 16 bytes, fresh, never used for another slot.

        Raises:
            UnexpectedStep: submitted before, or not expected in this slot.
        """
        if not self.expected:
            raise UnexpectedStep("not expected in this slot")
        state = advance(self.state, Step.SUBMIT)
        view, head = self._view, self._head
        lanes = submission(reading, seed, view.index, view.edges, head.present, head.hash, self.slot)
        body = self._frame(FrameType.SUBMIT, head.hash, lanes)
        self.state, self._seed, self._digest = state, seed, digest(body)
        return body

    def hello(self) -> bytes:
        """Return the Hello frame without its MAC: back again, to be counted from the next slot on."""
        return self._frame(FrameType.HELLO, self._head.hash, ())

    def consider(self, manifest: Manifest, siblings: Sequence[bytes], signed: bytes = b"") -> SlotState:
        """Judge the manifest of this slot: ACCEPTED (open now) or LEFT_OUT.

        The same manifest again changes nothing.

        Args:
            manifest: its signature already checked.
            siblings: our own Merkle path.
            signed: the signed form, evidence if the supplier lies.

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
                self.state = advance(self.state, Step.LEAVE_OUT)
                return self.state
            check_opening(self._view, self._head, found, self._digest, siblings)
        except OpeningRefused:
            self.refuse()
            raise
        self.state = advance(self.state, Step.ACCEPT)
        return self.state

    def refuse(self) -> None:
        """Close the slot for good; `UnexpectedStep` if it is not waiting for its manifest."""
        self.state = advance(self.state, Step.REFUSE)

    def open(self) -> bytes:
        """Return the Open frame without its MAC, once.

        Raises:
            UnexpectedStep: no manifest was accepted, or the slot was opened before.
        """
        state = advance(self.state, Step.OPEN)
        assert self._found is not None
        view, head, found = self._view, self._head, self._found
        missing = head.present - found.accepted
        lanes = opening(self._seed, view.index, view.edges, missing, head.hash, self.slot, len(LANES))
        self.state, self._seed = state, b""
        return self._frame(FrameType.OPEN, found.hash, lanes)

    @property
    def found(self) -> Link | None:
        """The slot's manifest, once one with the right past was seen."""
        return self._found

    def _frame(self, kind: FrameType, reference: bytes, lanes: tuple[int, ...]) -> bytes:
        view = self._view
        frame = Frame(kind, self.slot, view.rules.net, view.index, view.version, view.epoch, reference, lanes)
        return frame.to_bytes()
