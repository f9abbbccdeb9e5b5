"""TAF 7, interval series: one registered value a period. Pure.

Worked example: period 900 s, delivery period 1 h from 00:00 on gives the values of 00:15, 00:30, 00:45 and
01:00.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from firmware.metering.register import RegisteredValue


def evaluate(
    original: Iterable[RegisteredValue], from_utc: datetime, to_utc: datetime
) -> tuple[RegisteredValue, ...]:
    """Return the entries of (from_utc, to_utc], in the order of time; missing ones are entries too."""
    inside = (entry for entry in original if from_utc < entry.instant_utc <= to_utc)
    return tuple(sorted(inside, key=lambda entry: entry.instant_utc))
