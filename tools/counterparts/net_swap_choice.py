"""Who changes places between two nets so that a lone change is none any more: chosen by nobody. Pure.

The choice follows from the beacons of both rosters in force, in which every party has a nonce that it
committed to before it knew any other, and from what the administrators let move. Spec: docs/dcnet.md, swaps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from firmware.enforcement.dcnet.errors import NetRefused
from firmware.enforcement.dcnet.policy import NetRules

_LABEL: Final = b"smgw-dc/1 swap"


class NoSwap(Exception):
    """No swap helps, or none is needed; `code` is one word for the events."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Exchange:
    """One net before a swap; its members and all others are hashes of certificates."""

    rules: NetRules
    members: frozenset[bytes]
    """Of the roster in force."""
    gone: frozenset[bytes]
    """Members who leave anyway."""
    come: frozenset[bytes]
    """Newcomers who come anyway."""
    offered: frozenset[bytes]
    """Members whose administrators let them change into the other net."""

    @property
    def changes(self) -> int:
        """How many gateways would be in one of two rosters only, without a swap."""
        return len(self.gone) + len(self.come)

    def after(self, out: frozenset[bytes], into: frozenset[bytes]) -> frozenset[bytes]:
        """Return the members of the next roster."""
        return (self.members - self.gone - out) | self.come | into


def seed_of(beacons: Mapping[bytes, bytes]) -> bytes:
    """Return what the choice follows from, given net id -> beacon of both nets, in any order."""
    return hashlib.sha256(_LABEL + b"".join(net + beacons[net] for net in sorted(beacons))).digest()


def same_apart_from_id(one: NetRules, two: NetRules) -> bool:
    """Tell whether two nets have the same rules, the grid included."""
    return replace(one, net=two.net) == two


def choose(one: Exchange, two: Exchange, seed: bytes) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """Return who leaves the first net for the second, and the second for the first: the fewest that help.

    Equally many go each way, so the sizes change by the lone changes only. Whoever comes first by
    SHA-256(seed | net | certificate) goes.

    Raises:
        NoSwap: `same` (one net twice), `policy` (rules differ), `overlap` (a gateway on both sides, or who
            leaves is no member), `idle` (no lone change on either side), `candidates` (too few may go),
            `size` (a net would have too few or too many members, or there is no key graph of so many).
    """
    if one.rules.net == two.rules.net:
        raise NoSwap("same", "a net has nobody to change places with")
    if not same_apart_from_id(one.rules, two.rules):
        raise NoSwap("policy", "the rules of the nets differ")
    if one.members & two.members or one.come & two.come:
        raise NoSwap("overlap", "a gateway stands on both sides")
    for side, other in ((one, two), (two, one)):
        if not side.gone <= side.members:
            raise NoSwap("overlap", "who leaves is no member")
        if side.come & (side.members | (other.members - other.gone)):
            raise NoSwap("overlap", "who comes is a member already")
    least = one.rules.churn_min
    if not any(0 < side.changes < least for side in (one, two)):
        raise NoSwap("idle", "no change is too small")
    pairs = max(1, *(-(-(least - side.changes) // 2) for side in (one, two)))
    out, into = (_first(side, seed, pairs) for side in (one, two))
    for side, after in ((one, one.after(out, into)), (two, two.after(into, out))):
        check_size(side.rules, len(after))
    return out, into


def check_size(rules: NetRules, size: int) -> None:
    """Refuse a number of members that the rules do not allow or that has no key graph.

    Raises:
        NoSwap: `size`.
    """
    net = rules.net.hex()
    if not max(rules.n_min, rules.required_degree() + 1) <= size <= rules.n_max:
        raise NoSwap("size", f"net {net} would have {size} members")
    try:
        replace(rules, n_min=size, n_max=size, n_start=0).check()  # refuses a number without a key graph
    except NetRefused as refused:
        raise NoSwap("size", f"net {net}, {size} members: {refused}") from refused


def _first(side: Exchange, seed: bytes, count: int) -> frozenset[bytes]:
    candidates = (side.offered & side.members) - side.gone
    if len(candidates) < count:
        raise NoSwap(
            "candidates", f"net {side.rules.net.hex()}: {len(candidates)} may go, {count} are needed"
        )
    drawn = sorted(candidates, key=lambda one: hashlib.sha256(seed + side.rules.net + one).digest())
    return frozenset(drawn[:count])
