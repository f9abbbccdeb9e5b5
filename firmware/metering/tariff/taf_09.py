"""TAF 9, actual feed-in: the present power of a generator, on request, in a cycle or when it changes. Pure.

Worked example: change_w = 500; registered 1000, 1200, 1700 and 1100 W: sent with the third (+500) and the
fourth (-600).
"""

from __future__ import annotations

from itertools import pairwise

from firmware.metering.quantity import SCALE, scaled
from firmware.metering.tariff import series
from firmware.metering.tariff.steps import counts
from firmware.metering.tariff.task import Occasion, Task
from firmware.profile.tariffs import FeedIn

evaluate = series.evaluate


def fired(task: Task) -> tuple[Occasion, ...]:
    """Return the instants at which the power differs by `change_w` from the value before."""
    rule = task.profile.feed_in or FeedIn()
    if rule.send != "change" or rule.change_w is None:
        return ()
    bound = rule.change_w * SCALE
    values = [
        (entry.instant_utc, scaled(entry.value))
        for entry in task.series(task.obis)
        if entry.value is not None and counts(entry)
    ]
    return tuple(
        Occasion(instant - task.step, instant, "change")
        for (_, before), (instant, now) in pairwise(values)
        if instant > task.from_utc and abs(now - before) >= bound
    )
