"""TAF 10, grid state: voltages, currents, powers, in a cycle or when a value leaves its bounds. Pure.

Worked example: 32.7.0 below 207 V or above 253 V; registered 230, 206, 205 and 231 V: sent with the second
(out of bounds) and the fourth (back).
"""

from __future__ import annotations

from decimal import Decimal

from firmware.metering.tariff import series
from firmware.metering.tariff.steps import counts
from firmware.metering.tariff.task import Occasion, Task
from firmware.profile.tariffs import GridState, Limit
from lmn.model import Obis

evaluate = series.evaluate


def fired(task: Task) -> tuple[Occasion, ...]:
    """Return the instants at which a value left its bounds or came back; a missing value changes nothing.

    The first value that is known counts as coming from inside.
    """
    rule = task.profile.grid_state or GridState()
    if rule.send == "cycle":
        return ()
    instants = set()
    for limit in rule.limits:
        outside = False
        for entry in task.series(Obis.from_text(limit.obis)):
            if entry.value is None or not counts(entry):
                continue
            before, outside = outside, _outside(limit, entry.value)
            if before != outside and entry.instant_utc > task.from_utc:
                instants.add(entry.instant_utc)
    return tuple(Occasion(instant - task.step, instant, "limit") for instant in sorted(instants))


def _outside(limit: Limit, value: Decimal) -> bool:
    below = limit.below is not None and value < Decimal(limit.below)
    return below or (limit.above is not None and value > Decimal(limit.above))
