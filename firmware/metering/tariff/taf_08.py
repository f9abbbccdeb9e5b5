"""TAF 8, extremes: the highest and lowest mean powers of a period, with the ends of their intervals. Pure.

Worked example: quarter hours of 100, 400, 250 and 50 Wh, count 2: highest 1600 W (at 00:30) and 1000 W (at
00:45), lowest 200 W (at 01:00) and 400 W (at 00:15).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from firmware.metering.quantity import SCALE
from firmware.metering.register import RegisteredValue
from firmware.metering.tariff.steps import Step, derived_value, flags_of, steps
from firmware.metering.tariff.task import Task
from firmware.profile.tariffs import Extremes
from lmn.model import MeterId, Obis

HIGHEST: Final = 6
LOWEST: Final = 3
"""Group D of the codes: maximum and minimum (IEC 62056-61)."""


def extreme_obis(obis: Obis, kind: int) -> Obis:
    """Return the code of a measurand's highest or lowest mean power."""
    return Obis(obis.groups[:3] + bytes((kind,)) + obis.groups[4:])


def evaluate(task: Task) -> tuple[RegisteredValue, ...]:
    """Return the extremes in order, of equal ones the earlier first; intervals with a gap take no part."""
    rule = task.profile.extremes or Extremes()
    interval_s = rule.interval_s or task.profile.registration_period_s
    whole = [step for step in steps(task, interval_s) if step.length.total_seconds() == interval_s]
    highest = sorted(whole, key=lambda step: (-step.quantity, step.end.instant_utc))[: rule.count]
    lowest = sorted(whole, key=lambda step: (step.quantity, step.end.instant_utc))[: rule.count]
    found: list[RegisteredValue] = []
    if rule.which != "lowest":
        found += _entries(task, HIGHEST, highest)
    if rule.which != "highest":
        found += _entries(task, LOWEST, lowest)
    return tuple(found)


def _entries(task: Task, kind: int, extremes: Iterable[Step]) -> list[RegisteredValue]:
    obis, flags = extreme_obis(task.obis, kind), flags_of(task)
    return [
        derived_value(
            MeterId.from_text(task.profile.meter),
            obis,
            step.end.instant_utc,
            round(step.mean_power() * SCALE),
            "W" if step.end.unit == "Wh" else f"{step.end.unit}/h",
            flags,
        )
        for step in extremes
    ]
