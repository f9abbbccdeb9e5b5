"""TAF 4, consumption-variable: amounts by the quantity used since the last reset. Pure.

Worked example: threshold 1000 Wh; a period in which 400, 500 and 300 Wh are used gives 1000 Wh in .8.1 and
200 Wh in .8.2: the third step is cut at the threshold.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from firmware.metering.tariff.quantity_stages import split
from firmware.metering.tariff.steps import Count, steps
from firmware.metering.tariff.task import Task
from firmware.profile.tariffs import ERROR_STAGE


def count(task: Task) -> Count:
    """Return what was used in each stage; what a gap with a reset holds goes to the error register."""
    rule = task.profile.consumption_variable
    assert rule is not None, "validation lets no TAF 4 through without"
    found = steps(task)
    amounts: dict[int, int] = {}
    era, used = 0, 0
    for step in found:
        # The end of a step belongs to the time before it.
        begins, ends = (
            _era(task, instant, rule.reset_s)
            for instant in (step.begin.instant_utc, step.end.instant_utc - timedelta(microseconds=1))
        )
        if ends != era:
            era, used = ends, 0
        if begins == ends:
            parts = split(used, step.quantity, rule.thresholds_wh)
            used += step.quantity
        else:
            parts = {ERROR_STAGE: step.quantity}
        for stage, quantity in parts.items():
            amounts[stage] = amounts.get(stage, 0) + quantity
    return Count(range(1, len(rule.thresholds_wh) + 2), amounts, found)


def _era(task: Task, instant_utc: datetime, reset_s: int | None) -> int:
    """Return how many resets there were since the period's start, which is one itself; -1 before it."""
    if instant_utc < task.from_utc:
        return -1
    return 0 if reset_s is None else (instant_utc - task.from_utc) // timedelta(seconds=reset_s)
