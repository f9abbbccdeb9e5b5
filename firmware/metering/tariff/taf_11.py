"""TAF 11, control of loads and generators: a switching event and the readings around it. Pure.

Worked example: registration 900 s, after_s = 900; the load is switched at 00:20: the readings of 00:15, 00:30
and 00:45 leave, as soon as the last one is registered.
"""

from __future__ import annotations

from datetime import UTC, timedelta

from firmware.metering.tariff import series
from firmware.metering.tariff.task import Occasion, Task, ceiling, floor

evaluate = series.evaluate


def fired(task: Task) -> tuple[Occasion, ...]:
    """Return the readings' period of each switching event whose last reading lies in the task's period."""
    rule = task.profile.control
    assert rule is not None, "validation lets no TAF 11 through without"
    found = []
    for event in sorted(event for event in task.events if event.id in rule.events):
        first = floor(task.profile, event.at_utc - timedelta(seconds=rule.before_s))
        last = ceiling(task.profile, event.at_utc + timedelta(seconds=rule.after_s))
        if task.from_utc < last <= task.to_utc:
            name = f"event-{event.at_utc.astimezone(UTC):%Y%m%dT%H%M%SZ}"
            found.append(Occasion(first - task.step, last, name))
    return tuple(sorted(found, key=lambda one: (one.to_utc, one.why)))
