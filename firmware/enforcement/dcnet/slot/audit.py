"""Canary audit: both ends of every edge say the canary word of their pad, so a wrong one is found. No I/O.

The canary lane is 1 for everybody; its words say nothing about any other lane. A member's side (what it
publishes, and when not) and the judgement, which needs no secret. Spec: docs/dcnet.md, "Canary audit".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from firmware.enforcement.dcnet.errors import AuditRefused
from firmware.enforcement.dcnet.machines import SlotState
from firmware.enforcement.dcnet.messages.faults import CanaryStatement
from firmware.enforcement.dcnet.policy import CANARY_LANE, LANES
from firmware.enforcement.dcnet.primitives.arithmetic import LANE_BYTES, MASK, Purpose, to_lanes
from firmware.enforcement.dcnet.slot.opened import Account
from firmware.enforcement.dcnet.slot.view import Head, Link, View

EPOCHS_BETWEEN: Final = 30
"""Blame budget: a member lets itself be audited once in so many epochs."""


def statement(
    view: View,
    head: Head,
    found: Link,
    sent: Account,
    *,
    state: SlotState,
    last_audit_epoch: int | None,
) -> CanaryStatement:
    """Return what a member publishes in an audit of a slot that it has opened.

    Its mask is taken out of its own opening, so no seed has to be kept for this.

    Args:
        view: what this member knows.
        head: the chain before the slot.
        found: the slot's manifest.
        sent: this member's own frames of the slot.
        state: where this member is with the slot.
        last_audit_epoch: when it was audited last, None: never.

    Raises:
        AuditRefused: the slot was not opened, or the blame budget is spent.
    """
    if state not in (SlotState.OPENED, SlotState.ABORTED, SlotState.OWED):
        raise AuditRefused(f"a slot in state {state.name} is not audited")
    if last_audit_epoch is not None and view.epoch - last_audit_epoch < EPOCHS_BETWEEN:
        raise AuditRefused(f"audited in epoch {last_audit_epoch}; once in {EPOCHS_BETWEEN} epochs is allowed")
    size = LANE_BYTES * len(LANES)
    pads = tuple(
        (peer, to_lanes(edge.output(head.hash, found.manifest.slot, Purpose.PAD, size))[CANARY_LANE])
        for peer, edge in sorted(view.edges.items())
        if peer in head.present
    )
    absent = head.present - found.accepted
    mask = (sent.opened - _sum(view.index, dict(pads), absent)) & MASK
    return CanaryStatement(
        view.rules.net,
        view.version,
        found.manifest.slot,
        view.index,
        found.hash,
        mask,
        pads,
        sent.submitted,
        sent.opened,
        sent.submit_digest,
        sent.open_digest,
    )


@dataclass(frozen=True, slots=True)
class Finding:
    """What an audit found; empty sets mean the canary lane adds up."""

    silent: frozenset[int]
    """Accepted members without a statement that fits."""
    members: frozenset[int]
    """Their own statement contradicts itself or what they sent: the fault is theirs."""
    edges: frozenset[tuple[int, int]]
    """The two ends state different pads: which one is wrong cannot be told, both are on probation."""

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.silent or self.members or self.edges)


def judge(
    statements: Mapping[int, CanaryStatement],
    submitted: Mapping[int, int],
    opened: Mapping[int, int],
    adjacent: Mapping[int, Collection[int]],
    present: frozenset[int],
    manifest_hash: bytes,
) -> Finding:
    """Find out whose canary word is wrong.

    Args:
        statements: by member, signatures checked.
        submitted: canary words y of the accepted members.
        opened: canary words r of the accepted members.
        adjacent: the key graph.
        present: P of the slot.
        manifest_hash: of the slot's manifest.
    """
    accepted = frozenset(submitted)
    absent = present - accepted
    fitting = {
        index: one
        for index, one in statements.items()
        if index in accepted
        and (one.index, one.manifest_hash) == (index, manifest_hash)
        and {peer for peer, _ in one.pads} == present & frozenset(adjacent.get(index, ()))
    }
    members, edges = set(), set()
    for index, one in fitting.items():
        pads = dict(one.pads)
        sent = (1 + one.mask + _sum(index, pads, present)) & MASK
        shown = (one.mask + _sum(index, pads, absent)) & MASK
        if {(sent, shown), (one.submitted, one.opened)} != {(submitted[index], opened[index])}:
            members.add(index)
        for peer, word in one.pads:
            other = fitting.get(peer)
            if index < peer and other is not None and dict(other.pads)[index] != word:
                edges.add((index, peer))
    return Finding(accepted - fitting.keys(), frozenset(members), frozenset(edges))


def _sum(index: int, pads: Mapping[int, int], among: Collection[int]) -> int:
    """Add the words of some neighbours with the direction the pads have for `index`."""
    return sum(word if index < peer else -word for peer, word in pads.items() if peer in among)
