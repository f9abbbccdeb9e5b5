"""A quantity cut at thresholds: the one place where a step is split, in quantity and not in time. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from firmware.metering.quantity import SCALE


def split(before: int, quantity: int, thresholds: Sequence[int]) -> dict[int, int]:
    """Return how much of a quantity lies in each stage; the parts add up to it.

    Args:
        before: what was used before it, in millionths.
        quantity: what is split, in millionths, at least 0.
        thresholds: rising, in whole units; up to and including the first runs stage 1.
    """
    parts: dict[int, int] = {}
    edges = [threshold * SCALE for threshold in thresholds]
    begin, end = before, before + quantity
    for stage, edge in enumerate([*edges, max(end, *edges) if edges else end], start=1):
        part = min(end, edge) - begin
        if part > 0:
            parts[stage] = part
            begin += part
    return parts
