"""Which fields of a net policy can never work together, although each is within its own range. Pure.

Bounds and the order of deadlines are checked where the policy is read; here is what a net would only show by
never getting a total, a roster or a reconcile slot. Spec: docs/dcnet.md, NetPolicy; decision 033.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from firmware.profile.model import NetPolicy
from firmware.profile.net_sizes import unservable

THRESHOLD: Final = 5
"""Smallest t of recovery: so many neighbours give a lost member's seed."""
ROSTER_EPOCHS: Final = 400
"""No roster is used longer than that."""
_DAY_S: Final = 86400
_MEASURED: Final = 0.75
"""A gateway waits so much of D1 for its own value, then it says hello."""


def contradictions(net: NetPolicy) -> Iterator[tuple[str, str]]:
    """Find what can never work.

    Args:
        net: each field within its own range.

    Yields:
        (field, what is needed instead).
    """
    yield from _pace(net)
    yield from _members(net)
    yield from _epochs(net)


def _pace(net: NetPolicy) -> Iterator[tuple[str, str]]:
    """A gateway must get to ask twice in each window: the first answer is often that there is none."""
    if net.poll_s >= net.submit_s * _MEASURED:
        yield "poll_s", f"less than {_MEASURED} * submit_s, or no gateway has its value in time to submit it"
    if net.poll_s >= net.manifest_s - net.submit_s > 0:
        yield "poll_s", "less than manifest_s - submit_s, or no gateway sees the manifest in time to open"
    if net.recovery == "witness" and net.poll_s >= net.recover_s - net.open_s > 0:
        yield "poll_s", "less than recover_s - open_s, or no holder sees an order in time to give its share"


def _members(net: NetPolicy) -> Iterator[tuple[str, str]]:
    if net.recovery == "witness":
        if net.d_min < net.t:
            yield "d_min", f'at least {net.t} with recovery "witness": so many shares give a seed'
        if net.t > net.m:
            yield "t", f"at most m, {net.m}, or no seed is ever recovered"
        elif net.t < THRESHOLD and not net.insecure_small_nets:
            yield "t", f"at least {THRESHOLD}, or insecure_small_nets: so many corrupt holders know a seed"
    begin = max(net.n_start, net.n_min)
    if net.n_start and net.n_start < net.n_min:
        yield "n_start", "0, or at least n_min: fewer never begin"
    if net.n_start > net.n_max:
        yield "n_start", "at most n_max, or no first roster is large enough"
    elif net.n_start > net.n_min and (help_ := unservable(begin, net.n_max, net.d_min)):
        yield "n_start", f"a number of members to begin with that has a key graph: {help_}"
    if net.churn_min > 2 * net.n_max:
        yield (
            "churn_min",
            "at most 2 * n_max: more cannot come and go, so no change would ever be large enough",
        )


def _epochs(net: NetPolicy) -> Iterator[tuple[str, str]]:
    longest_s = ROSTER_EPOCHS * net.epoch_s
    if net.epoch_s < net.slot_s:
        yield "epoch_s", "at least slot_s: an epoch holds a slot"
    if net.roster_pause_s >= longest_s:
        yield (
            "roster_pause_s",
            f"less than {ROSTER_EPOCHS} * epoch_s, or a roster is over before the next one may be",
        )
    period_s = net.reconcile_slots * net.slot_s
    if period_s >= longest_s:
        yield (
            "reconcile_slots",
            f"reconcile_slots * slot_s less than {ROSTER_EPOCHS} * epoch_s, or no roster lasts so long",
        )
    if 0 < period_s < _DAY_S and not net.insecure_small_nets:
        yield (
            "reconcile_slots",
            "0, or at least a day of slots, or insecure_small_nets: in a shorter period too few owe",
        )
