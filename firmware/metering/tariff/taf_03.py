"""TAF 3, load-variable: amounts by the mean power of measuring periods against thresholds. Pure.

Worked example: measuring period 900 s, threshold 2000 W; quarter hours of 400, 500 and 600 Wh are 1600, 2000
and 2400 W: 400 Wh in .8.1, 1100 Wh in .8.2.
"""

from __future__ import annotations

from bisect import bisect_right

from firmware.metering.tariff.steps import Count, Step, allocate, steps
from firmware.metering.tariff.task import Task


def count(task: Task) -> Count:
    """Return what was used in each stage; what was used over a missing value has no known power."""
    rule = task.profile.load_variable
    assert rule is not None, "validation lets no TAF 3 through without"
    period_s = rule.measuring_period_s or task.profile.registration_period_s
    found = steps(task, period_s)

    def stage_of(step: Step) -> int | None:
        whole = step.length.total_seconds() == period_s
        return bisect_right(rule.thresholds_w, step.mean_power()) + 1 if whole else None

    stages = range(1, len(rule.thresholds_w) + 2)
    return Count(stages, allocate(found, stage_of), found)
