"""The masked values of one slot as columns, one row for each lane: sums at the speed of memory. Pure.

Lanes are rows because a sum along memory is several times faster than one across it. All arithmetic is
modulo 2**64, which is what unsigned 64-bit numbers do by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Columns:
    """Submissions and openings of n places; place p belongs to the net whose first place is the last <= p."""

    submitted: Words
    """y, shape (lanes, n); 0 where nothing was accepted."""
    opened: Words
    """r, same shape; 0 where nothing was opened."""
    starts: Indices
    """First place of each net, rising, from 0."""

    @classmethod
    def empty(cls, lanes: int, sizes: list[int]) -> Self:
        """Make room for nets of some sizes, each at least 1."""
        count = sum(sizes)
        starts = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.intp)
        shape = (lanes, count)
        return cls(np.zeros(shape, dtype=np.uint64), np.zeros(shape, dtype=np.uint64), starts)

    def total(self, without: Indices | None = None) -> Words:
        """Return the sum of y - r of each lane.

        Args:
            without: places that do not count (missing members, members of aborted nets), each once. They are
                taken off again afterwards: a mask over everybody would cost more than the whole sum.
        """
        found: Words = self.submitted.sum(axis=1, dtype=np.uint64) - self.opened.sum(axis=1, dtype=np.uint64)
        if without is not None and len(without):
            # Row by row: gathering from all rows at once is far slower.
            found -= np.array([row.take(without).sum(dtype=np.uint64) for row in self.submitted])
            found += np.array([row.take(without).sum(dtype=np.uint64) for row in self.opened])
        return found

    def by_net(self, without: Indices | None = None) -> Words:
        """Return the sums of each net, shape (lanes, nets)."""
        found: Words = np.add.reduceat(self.submitted, self.starts, axis=1)
        found -= np.add.reduceat(self.opened, self.starts, axis=1)
        if without is not None and len(without):
            nets = np.searchsorted(self.starts, without, side="right") - 1
            for lane in range(len(found)):
                np.subtract.at(found[lane], nets, self.submitted[lane].take(without))
                np.add.at(found[lane], nets, self.opened[lane].take(without))
        return found
