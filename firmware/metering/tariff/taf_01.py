"""TAF 1, data-sparing: each register at the end of the billing period and nothing in between. Pure.

Worked example: billing period of three slots of 900 s from 00:00 on gives one value, the one registered at
00:45.
"""

from __future__ import annotations

from firmware.metering.register import RegisteredValue
from firmware.metering.tariff.task import Task


def evaluate(task: Task) -> tuple[RegisteredValue, ...]:
    """Return what was registered at the end of the period; it may be an entry without a value."""
    return tuple(entry for entry in task.window() if entry.instant_utc == task.to_utc)
