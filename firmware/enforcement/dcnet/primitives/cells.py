"""Nets joined by bridges into one: the cells, the bridges at each joint, and who still hangs together.

All cells are in one roster and one chain of manifests. A cell is complete or an H-graph, like a net of its
own; cells stand in a circle, and each joint of two neighbours has the same number of bridges. Public, and
computed by everybody alike. Spec: docs/dcnet.md, cells and bridges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from firmware.enforcement.dcnet.primitives import graph
from firmware.enforcement.dcnet.primitives.graph import Edge

_ALIVE: Final = (3, 4)
"""A joint holds while that part of its bridges has both ends among the members that count."""


def needed_bridges(count: int) -> int:
    """Return how many of a joint's `count` bridges must be left, so that its two cells count as joined."""
    part, of = _ALIVE
    return -(-count * part // of)


def divided(members: Iterable[int], count: int, beacon: bytes) -> tuple[tuple[int, ...], ...]:
    """Draw who is in which of `count` cells; their sizes differ by one at most, indices rise.

    Members are ordered by SHA-256(beacon | "cells" | index u64) and cut; the first cells take one more. So
    nobody chooses with whom somebody is in a cell.
    """
    order = sorted(
        set(members),
        key=lambda member: hashlib.sha256(beacon + b"cells" + member.to_bytes(8, "big")).digest(),
    )
    small, more = divmod(len(order), count)
    found, at = [], 0
    for number in range(count):
        size = small + (number < more)
        found.append(tuple(sorted(order[at : at + size])))
        at += size
    return tuple(found)


def beacon_of_cell(beacon: bytes, number: int) -> bytes:
    """Return what draws a cell's own key graph: SHA-256(beacon | "cell" | number u32)."""
    return hashlib.sha256(beacon + b"cell" + number.to_bytes(4, "big")).digest()


@dataclass(frozen=True, slots=True)
class Joints:
    """The cells of a net and the bridges between them."""

    cell_of: Mapping[int, int]
    """Member -> number of its cell, from 0."""
    bridges: Mapping[tuple[int, int], frozenset[Edge]]
    """(cell, cell), the smaller first -> the bridges that were drawn."""

    def alive(
        self, adjacent: Mapping[int, Collection[int]], among: Collection[int]
    ) -> dict[tuple[int, int], int]:
        """Return how many bridges each joint has whose ends are both in `among` and share a key.

        Args:
            adjacent: the key graph; a bridge that is not in it was authorised by nobody.
            among: members that count.
        """
        return {
            joint: sum(a in among and b in among and b in adjacent.get(a, ()) for a, b in drawn)
            for joint, drawn in self.bridges.items()
        }

    def holding(
        self, adjacent: Mapping[int, Collection[int]], among: Collection[int]
    ) -> frozenset[tuple[int, int]]:
        """Return the joints with enough bridges; see `alive`."""
        return frozenset(
            joint
            for joint, count in self.alive(adjacent, among).items()
            if count >= needed_bridges(len(self.bridges[joint]))
        )

    def without_loose(
        self, adjacent: Mapping[int, frozenset[int]], among: Collection[int]
    ) -> Mapping[int, frozenset[int]]:
        """Return the key graph without the bridges of joints that do not hold."""
        holding = self.holding(adjacent, among)
        loose = [edge for joint, drawn in self.bridges.items() if joint not in holding for edge in drawn]
        if not loose:
            return adjacent
        cut = graph.neighbours(loose)
        return {member: peers - cut[member] if member in cut else peers for member, peers in adjacent.items()}


def joints_of(cells: Iterable[Iterable[int]], drawn: Iterable[Edge]) -> Joints:
    """Sort bridges by their joints.

    Args:
        cells: the members of each.
        drawn: every bridge.
    """
    cell_of = {member: number for number, cell in enumerate(cells) for member in cell}
    found: dict[tuple[int, int], set[Edge]] = {}
    for a, b in drawn:
        near, far = sorted((cell_of[a], cell_of[b]))
        found.setdefault((near, far), set()).add((a, b))
    return Joints(cell_of, {joint: frozenset(edges) for joint, edges in sorted(found.items())})


def reach(
    member: int, adjacent: Mapping[int, frozenset[int]], among: Collection[int], joints: Joints | None
) -> frozenset[int]:
    """Return the members of `among` that `member` surely hangs together with.

    Through a joint that has lost more than a quarter of its bridges nobody counts: the supplier may have left
    the others out, so that all that are left end at members that work with it.

    Args:
        member: index.
        adjacent: the key graph with all its bridges.
        among: members that count.
        joints: None in a net of one cell.
    """
    if joints is not None:
        adjacent = joints.without_loose(adjacent, among)
    return graph.component(member, adjacent, among)
