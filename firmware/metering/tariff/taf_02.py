"""TAF 2, time-variable: amounts by a switch table of days, weeks, seasons and special days. Pure.

Worked example: stage 2 from 06:00 to 22:00 local time, else stage 1; a day of 100 Wh a quarter hour gives
6400 Wh in .8.2, 3200 Wh in .8.1 and nothing in .8.63.
"""

from __future__ import annotations

from firmware.metering.tariff.steps import Count, Switching, allocate, steps
from firmware.metering.tariff.switch_table import stages, switches
from firmware.metering.tariff.task import Task
from firmware.profile.tariffs import TimeVariable


def count(task: Task) -> Count:
    """Return what was used in each stage of the switch table."""
    table = task.profile.time_variable or TimeVariable()
    found = steps(task)
    begin_utc = found[0].begin.instant_utc if found else task.from_utc
    plan = Switching(switches(table, begin_utc, task.to_utc), table.default_stage)
    amounts = allocate(found, lambda step: plan.over(step.begin.instant_utc, step.end.instant_utc))
    return Count(stages(table), amounts, found)
