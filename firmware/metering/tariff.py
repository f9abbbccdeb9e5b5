"""Evaluation of an original list per tariff use case (TAF). Pure: the same list gives the same result.

Each use case is a module of its own with its worked example; this table is all that knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from firmware.metering import taf1, taf7
from firmware.metering.register import RegisteredValue

Evaluation = Callable[[Iterable[RegisteredValue], datetime, datetime], tuple[RegisteredValue, ...]]

_EVALUATIONS: Final[dict[int, Evaluation]] = {1: taf1.evaluate, 7: taf7.evaluate}


def evaluate(
    taf: int, original: Iterable[RegisteredValue], from_utc: datetime, to_utc: datetime
) -> tuple[RegisteredValue, ...]:
    """Return what use case `taf` makes of the registered values of (from_utc, to_utc].

    Raises:
        ValueError: a use case that is not built; profile validation lets none through.
    """
    if taf not in _EVALUATIONS:
        raise ValueError(f"TAF {taf} is not built")
    return _EVALUATIONS[taf](original, from_utc, to_utc)
