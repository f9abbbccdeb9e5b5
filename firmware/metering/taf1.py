"""TAF 1, data-sparing: the register at the end of the billing period and nothing in between. Pure.

Worked example: billing period of three slots of 900 s from 00:00 on gives one value, the one registered at
00:45.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from firmware.metering.register import RegisteredValue


def evaluate(
    original: Iterable[RegisteredValue], _from_utc: datetime, to_utc: datetime
) -> tuple[RegisteredValue, ...]:
    """Return the one entry that was registered at the end of the period; it may be one without a value."""
    return tuple(entry for entry in original if entry.instant_utc == to_utc)[:1]
