"""The key graph of a net: who shares a key with whom. Public, computed by everybody alike.

Spec: docs/dcnet.md, "Exact constructions": union of k/2 Hamilton cycles drawn by the beacon
(H-graph), complete for n <= k + 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping

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
    if degree < 2 or degree % 2:
        raise ValueError("degree of an H-graph is even and at least 2")
    indices = sorted(set(members))
    if len(indices) <= degree + 1:
        return complete_graph(indices)
    edges: set[Edge] = set()
    for cycle in range(degree // 2):
        prefix = beacon + cycle.to_bytes(4, "big")
        order = sorted(indices, key=lambda i, p=prefix: hashlib.sha256(p + i.to_bytes(8, "big")).digest())  # type: ignore[misc]  # default binds the loop's value
        edges.update((min(a, b), max(a, b)) for a, b in zip(order, order[1:] + order[:1], strict=True))
    return frozenset(edges)


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
    allowed = among if isinstance(among, (set, frozenset)) else frozenset(among)
    seen = {member}
    frontier = [member]
    while frontier:
        fresh = [
            other for other in adjacent.get(frontier.pop(), ()) if other in allowed and other not in seen
        ]
        seen.update(fresh)
        frontier.extend(fresh)
    return frozenset(seen)
