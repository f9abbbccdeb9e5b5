"""TAF 5, event-variable: amounts by stages that outside events start. Pure.

Worked example: quarter hours of 100 Wh from 00:00 to 02:00, default stage 1; "peak" (stage 2, timeout 1800 s)
at 00:20 acts from 00:30 to 01:00: 200 Wh in .8.2, 600 Wh in .8.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import zip_longest

from firmware.metering.tariff.steps import Count, Switching, allocate, steps
from firmware.metering.tariff.task import Task, ceiling
from firmware.profile.tariffs import EventVariable


def count(task: Task) -> Count:
    """Return what was used in each stage.

    An event acts from the next registration instant on, so that no registered step is cut by it.
    """
    rule = task.profile.event_variable
    assert rule is not None, "validation lets no TAF 5 through without"
    found = steps(task)
    plan = Switching(_switches(task, rule), rule.default_stage)
    amounts = allocate(found, lambda step: plan.over(step.begin.instant_utc, step.end.instant_utc))
    stages = sorted({rule.default_stage, *(event.stage for event in rule.events)})
    return Count(stages, amounts, found)


def _switches(task: Task, rule: EventVariable) -> Iterator[tuple[datetime, int]]:
    known = {event.id: event for event in rule.events}
    events = sorted(event for event in task.events if event.id in known)
    for event, following in zip_longest(events, events[1:]):
        stage = known[event.id]
        yield ceiling(task.profile, event.at_utc), stage.stage
        if stage.timeout_s is not None:
            over = event.at_utc + timedelta(seconds=stage.timeout_s)
            if following is None or over < following.at_utc:
                yield ceiling(task.profile, over), rule.default_stage
