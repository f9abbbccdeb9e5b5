"""Which cells and bridges a policy may ask for. Pure. Spec: docs/dcnet.md, cells and bridges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

LEAST_BRIDGES: Final = 16
"""So many bridges at each joint, unless the net is a small insecure one: with a tenth of the members corrupt,
12 of 16 bridges end at one of them in two of a million nets."""


def problems(
    cells: int, bridges: int, n_min: int, *, witnessed: bool, insecure: bool
) -> Iterator[tuple[str, str]]:
    """Yield (field, what is expected of it) for each thing that is wrong.

    Args:
        cells: into how many the members are drawn.
        bridges: at each joint.
        n_min: fewest members.
        witnessed: whether every administrator co-signs one manifest for all members.
        insecure: whether the policy is one of an insecure small net.
    """
    if cells == 1:
        if bridges:
            yield "bridges", "0, or at least two cells that they join"
        return
    if not bridges:
        yield "cells", "1, or bridges that join them: cells without bridges are nets of their own"
        return
    if bridges < LEAST_BRIDGES and not insecure:
        yield "bridges", f"at least {LEAST_BRIDGES}, or insecure_small_nets in the policy and in gateway.toml"
    if not witnessed:
        # Each end of a bridge has few neighbours in other cells, so d_min does not protect these: told that
        # they alone are missing, all ends of a cell would open, and the cell's sum would be known.
        yield "recovery", '"witness", without which a supplier could tell each end of a bridge another story'
    if n_min < cells * bridges:
        yield "n_min", f"at least cells * bridges = {cells * bridges}: no member is the end of two at a joint"
