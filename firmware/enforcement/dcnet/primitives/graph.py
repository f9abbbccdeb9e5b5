"""The key graph of a net: who shares a key with whom. Public, computed by everybody alike.

Spec: docs/dcnet.md, "Exact constructions": union of k/2 Hamilton cycles drawn by the beacon
(H-graph), complete for n <= k + 1; a net of at most 64 members always has the complete graph.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final

COMPLETE_UP_TO: Final = 64
"""Up to this many members everybody shares a key with everybody: cycles share edges, so degrees of a small
H-graph fall short of k."""

Edge = tuple[int, int]
"""Member indices, the smaller one first."""


def h_graph(members: Iterable[int], degree: int, beacon: bytes) -> frozenset[Edge]:
    """Return the edges of the key graph.

    Args:
        members: member indices, each in [1, 2**32).
        degree: k, even and >= 2; no member has more neighbours unless the graph is complete.
        beacon: nobody's choice; decides the cycles.

    Raises:
        ValueError: k is odd or smaller than 2.
    """
    _check(degree)
    indices = sorted(set(members))
    if len(indices) <= degree + 1:
        return complete_graph(indices)
    return frozenset().union(*_cycles(indices, degree, beacon))


def drawn(members: Iterable[int], degree: int, beacon: bytes, least: int) -> frozenset[Edge] | None:
    """Return the key graph if every member has at least `least` neighbours in it, else None.

    Gives up at the first member that falls short, which is what most beacons of a small net come to.

    Raises:
        ValueError: the degree is odd or smaller than 2.
    """
    indices = sorted(set(members))
    if len(indices) <= max(COMPLETE_UP_TO, degree + 1):
        edges = key_graph(indices, degree, beacon)
        return edges if lowest_degree(indices, edges) >= least else None
    _check(degree)
    if least > degree:
        return None
    found: set[Edge] = set()
    missing: Counter[int] = Counter()
    for cycle in _cycles(indices, degree, beacon):
        for edge in found & cycle:
            missing.update(edge)
            if max(missing[edge[0]], missing[edge[1]]) > degree - least:
                return None
        found |= cycle
    return frozenset(found)


def _check(degree: int) -> None:
    if degree < 2 or degree % 2:
        raise ValueError("degree of an H-graph is even and at least 2")


def _cycles(indices: Sequence[int], degree: int, beacon: bytes) -> Iterator[set[Edge]]:
    """Yield the edges of each Hamilton cycle."""
    named = _named(indices)
    for cycle in range(degree // 2):
        order = _shuffled(named, beacon + cycle.to_bytes(4, "big"))
        following = order[1:] + order[:1]
        yield {(a, b) if a < b else (b, a) for a, b in zip(order, following, strict=True)}


def _named(members: Iterable[int]) -> list[tuple[bytes, int]]:
    """Each member with the bytes that a hash takes for it: drawing a graph spends its time in hashing."""
    return [(i.to_bytes(8, "big"), i) for i in members]


def _shuffled(named: Iterable[tuple[bytes, int]], prefix: bytes) -> list[int]:
    """Order members by SHA-256(prefix | index u64)."""
    begun = hashlib.sha256(prefix)
    found = {}
    for name, member in named:
        one = begun.copy()
        one.update(name)
        found[one.digest()] = member
    return [found[digest] for digest in sorted(found)]


def key_graph(members: Iterable[int], degree: int, beacon: bytes) -> frozenset[Edge]:
    """Return the graph a net uses: complete for at most 64 members, else the H-graph.

    Joining and leaving need no other rule: a cycle is an order by hash, so a new member lands in one place
    of each cycle (k new edges, k/2 old ones vanish) and a gap closes by one edge in each.

    Raises:
        ValueError: the degree is odd or smaller than 2.
    """
    indices = set(members)
    return complete_graph(indices) if len(indices) <= COMPLETE_UP_TO else h_graph(indices, degree, beacon)


def bridges(nets: Sequence[Iterable[int]], count: int, beacon: bytes) -> frozenset[Edge]:
    """Return edges that join several nets into one: `count` between each net and the next, in a circle.

    Nobody chooses the ends: both sides are ordered by SHA-256(beacon | 'bridge' | net u32 | next u32 | index
    u64) and the first `count` of each are paired, one edge a member as long as there are enough.

    Args:
        nets: the members of each net; no index in two of them.
        count: at least 0; 0 leaves the nets apart.
        beacon: as for `h_graph`.
    """
    members = [sorted(set(net)) for net in nets]
    if count == 0 or len(members) < 2:
        return frozenset()
    found: set[Edge] = set()
    around = range(len(members)) if len(members) > 2 else range(1)
    for near in around:
        far = (near + 1) % len(members)
        prefix = beacon + b"bridge" + near.to_bytes(4, "big") + far.to_bytes(4, "big")
        ends = []
        for net in (members[near], members[far]):
            order = _shuffled(_named(net), prefix)
            ends.append([order[place % len(order)] for place in range(count)])
        found.update((min(a, b), max(a, b)) for a, b in zip(*ends, strict=True))
    return frozenset(found)


def lowest_degree(members: Iterable[int], edges: Iterable[Edge]) -> int:
    """Return the smallest number of neighbours that a member has; 0 if one has none."""
    degrees = Counter(chain.from_iterable(edges))
    return min((degrees[member] for member in members), default=0)


def complete_graph(members: Iterable[int]) -> frozenset[Edge]:
    """Return the graph in which everybody shares a key with everybody."""
    indices = sorted(set(members))
    return frozenset((a, b) for position, a in enumerate(indices) for b in indices[position + 1 :])


def neighbours(edges: Iterable[Edge]) -> dict[int, frozenset[int]]:
    """Return each member's neighbours; members without an edge are not listed."""
    found: dict[int, set[int]] = {}
    for a, b in edges:
        found.setdefault(a, set()).add(b)
        found.setdefault(b, set()).add(a)
    return {member: frozenset(others) for member, others in found.items()}


def component(member: int, adjacent: Mapping[int, Collection[int]], among: Collection[int]) -> frozenset[int]:
    """Return the members of `among` that `member` is connected with through members of `among`.

    The result contains `member` itself if it is in `among`, and is empty otherwise.
    """
    if member not in among:
        return frozenset()
    left = set(among)
    left.discard(member)
    seen, frontier = {member}, [member]
    while frontier and left:  # by whole sets: in a large net every member does this in every slot
        fresh = left.intersection(adjacent.get(frontier.pop(), ()))
        left -= fresh
        seen |= fresh
        frontier.extend(fresh)
    return frozenset(seen)
