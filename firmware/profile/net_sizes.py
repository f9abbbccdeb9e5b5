"""Which numbers of members a DC-net can have: its key graph must give everybody enough neighbours.

A net of at most 64 members is complete. A larger one is a union of k/2 random cycles, and cycles share edges:
the closer d_min + 2 comes to k, the more members it takes until a drawn graph gives everybody that many.
A net of several cells has one such graph in each of them. Spec: docs/dcnet.md, membership, sizes; the numbers
of k = 16 were measured (decision 029), those of other k are estimated (decision 032); tests hold both.
"""

from __future__ import annotations

from functools import lru_cache
from math import exp
from typing import Final

COMPLETE_UP_TO: Final = 64
"""Up to this many members everybody shares a key with everybody."""
DEGREE: Final = 16
"""k of the key graph of more members, unless the policy says otherwise."""
ROOM: Final = 2
"""So many more neighbours than d_min a member of a roster has: room for two absent ones."""
_SMALLEST: Final = {2: 192, 3: 80}
"""k - (d_min + 2) -> from how many members on nearly every roster finds a graph in its 64 draws; k = 16."""
_LARGEST: Final = 1 << 24
_LARGEST_DEGREE: Final = 128
_TOO_FEW: Final = 4.0
"""So many members with too few neighbours may be expected of one draw; then about one of 15 has none."""


def smallest_random_net(d_min: int, degree: int = DEGREE) -> int | None:
    """Return from how many members on a random graph serves `d_min`, None if it never does."""
    spare = degree - (d_min + ROOM)
    if spare < min(_SMALLEST):
        return None
    if degree == DEGREE:
        return _SMALLEST.get(spare, COMPLETE_UP_TO + 1)
    return _estimated(spare, degree)


@lru_cache(maxsize=1024)
def _estimated(spare: int, degree: int) -> int:
    """Return the smallest size of which few members are expected to lack more than `spare` neighbours.

    Each of the k/2 (k/2 - 1) / 2 pairs of cycles shares two edges on average, so a member lacks about
    k (k - 2) / 2 (n - 1) neighbours, nearly in a Poisson distribution.
    """
    low, high = COMPLETE_UP_TO + 1, _LARGEST
    while low < high:
        middle = (low + high) // 2
        mean = degree * (degree - 2) / (2 * (middle - 1))
        term = below = exp(-mean)
        for number in range(1, spare + 1):
            term *= mean / number
            below += term
        if middle * (1 - below) <= _TOO_FEW:
            high = middle
        else:
            low = middle + 1
    return low


def has_graph(size: int, d_min: int, degree: int = DEGREE, cells: int = 1) -> bool:
    """Tell whether nearly every roster of `size` members in so many cells finds a key graph."""
    small, more = divmod(size, cells)
    return all(_cell_has_graph(one, d_min, degree) for one in {small, small + (more > 0)})


def _cell_has_graph(size: int, d_min: int, degree: int) -> bool:
    if size <= _complete(degree):
        return size > d_min + ROOM
    smallest = smallest_random_net(d_min, degree)
    return smallest is not None and size >= smallest


def _complete(degree: int) -> int:
    return max(COMPLETE_UP_TO, degree + 1)


def smallest_net(least: int, most: int, d_min: int, degree: int = DEGREE, cells: int = 1) -> int | None:
    """Return the smallest number of members from `least` to `most` with a graph, None if there is none."""
    begins = [least, cells * (d_min + ROOM + 1), cells * (smallest_random_net(d_min, degree) or 0)]
    fitting = [one for one in begins if least <= one <= most and has_graph(one, d_min, degree, cells)]
    return min(fitting, default=None)


def largest_net(most: int, d_min: int, degree: int = DEGREE, cells: int = 1) -> int:
    """Return the largest number of members up to `most` with a key graph, 0 if there is none."""
    ends = [most, cells * _complete(degree)]
    return max((one for one in ends if one <= most and has_graph(one, d_min, degree, cells)), default=0)


def unservable(n_min: int, n_max: int, d_min: int, degree: int = DEGREE, cells: int = 1) -> str:
    """Return "" if some number of members from `n_min` to `n_max` can be served, else what would help."""
    if smallest_net(n_min, n_max, d_min, degree, cells) is not None:
        return ""
    return ways_out(d_min, degree, cells)


def cannot_begin(
    n_start: int, n_min: int, n_max: int, d_min: int, degree: int = DEGREE, cells: int = 1
) -> str:
    """Return "" if a first roster of `n_start` members (0: as many as it takes) has a graph, else why not."""
    begin = max(n_start, n_min)
    if not n_start or has_graph(begin, d_min, degree, cells):
        return ""
    larger = smallest_net(begin, n_max, d_min, degree, cells)
    said = "" if larger is None else f"n_start = {larger} does; "
    return f"{begin} members seldom find a key graph; {said}{ways_out(d_min, degree, cells)}"


def ways_out(d_min: int, degree: int = DEGREE, cells: int = 1) -> str:
    """Say which nets have a key graph, for somebody whose net has none."""
    smallest, least, complete = smallest_random_net(d_min, degree), d_min + ROOM + 1, _complete(degree)
    found = []
    if least <= complete:
        found.append(f"{cells * least} to {cells * complete} members")
    if smallest is not None:
        found.append(f"at least {cells * smallest} members")
    lower = degree - ROOM - max(_SMALLEST) - 1
    if d_min > lower >= 1:
        found.append(f"d_min of at most {lower}")
        if (higher := _sufficient(d_min)) is not None:
            found.append(f"k of at least {higher}")
    return ", or ".join(found)


def _sufficient(d_min: int) -> int | None:
    """Return the smallest k with which every number of more than 64 members has a graph."""
    for degree in range(DEGREE + 2, _LARGEST_DEGREE + 1, 2):
        smallest = smallest_random_net(d_min, degree)
        if smallest is not None and smallest <= COMPLETE_UP_TO + 1:
            return degree
    return None
