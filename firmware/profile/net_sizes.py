"""Which numbers of members a DC-net can have: its key graph must give everybody enough neighbours.

A net of at most 64 members is complete. A larger one is a union of k/2 random cycles, and cycles share edges:
the closer d_min + 2 comes to k, the more members it takes until a drawn graph gives everybody that many.
Spec: docs/dcnet.md, membership; the numbers were measured (decision 029) and are held by a test.
"""

from __future__ import annotations

from typing import Final

COMPLETE_UP_TO: Final = 64
"""Up to this many members everybody shares a key with everybody."""
DEGREE: Final = 16
"""k of the key graph of more members."""
ROOM: Final = 2
"""So many more neighbours than d_min a member of a roster has: room for two absent ones."""
_SMALLEST: Final = {2: 192, 3: 80}
"""k - (d_min + 2) -> from how many members on nearly every roster finds a graph in its 64 draws."""


def smallest_random_net(d_min: int, degree: int = DEGREE) -> int | None:
    """Return from how many members on a random graph serves `d_min`, None if it never does."""
    spare = degree - (d_min + ROOM)
    return None if spare < min(_SMALLEST) else _SMALLEST.get(spare, COMPLETE_UP_TO + 1)


def unservable(n_min: int, n_max: int, d_min: int, degree: int = DEGREE) -> str:
    """Return "" if some number of members from `n_min` to `n_max` can be served, else what would help."""
    if n_min <= COMPLETE_UP_TO and min(n_max, COMPLETE_UP_TO) > d_min + ROOM:
        return ""
    smallest = smallest_random_net(d_min, degree)
    if smallest is not None and n_max >= max(smallest, COMPLETE_UP_TO + 1):
        return ""
    return ways_out(d_min, degree)


def ways_out(d_min: int, degree: int = DEGREE) -> str:
    """Say which nets have a key graph, for somebody whose net has none."""
    smallest = smallest_random_net(d_min, degree)
    large = "" if smallest is None else f", or at least {smallest} members"
    small = f"{d_min + ROOM + 1} to {COMPLETE_UP_TO} members" if d_min + ROOM < COMPLETE_UP_TO else ""
    lower = degree - ROOM - max(_SMALLEST) - 1
    other = f", or d_min of at most {lower}" if d_min > lower else ""
    return f"{small}{large}{other}".removeprefix(", or ")
