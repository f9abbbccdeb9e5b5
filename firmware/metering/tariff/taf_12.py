"""TAF 12, prepaid: what is left of a credit, at the end of a period and at warning levels. Pure.

Worked example: credit 2000 Wh, warning at 500; registers of 100, 900, 1700 and 2200 Wh since the activation
leave 2000, 1200, 400 (warning) and -100 Wh (nothing left). With a top-up of 1000 before the last, 900 are
left.
"""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

from firmware.metering.quantity import SCALE, scaled
from firmware.metering.register import RegisteredValue
from firmware.metering.status import GatewayStatus
from firmware.metering.tariff.quantity_stages import split
from firmware.metering.tariff.steps import counts, derived_value, flags_of
from firmware.metering.tariff.task import Occasion, Task
from firmware.profile.tariffs import Prepaid
from lmn.model import MeterId, Obis

_UNITS_A_PRICE = 1000 * SCALE
"""Prices are for 1000 units of the register."""


def evaluate(task: Task) -> tuple[RegisteredValue, ...]:
    """Return one entry: what is left at the end of the period, counted from the first value that is known."""
    rule = _rule(task)
    known = _known(task)
    left = None
    if known and _unbroken(known) == len(known):
        left = _left(task, rule, known, known[-1], task.to_utc)
    unit = known[-1].unit if known and not rule.prices else "currency" if known else ""
    flags = flags_of(task)
    if left is not None and left <= 0:
        flags |= GatewayStatus.WARNING
    obis = Obis.from_text(rule.credit_obis)
    return (derived_value(MeterId.from_text(task.profile.meter), obis, task.to_utc, left, unit, flags),)


def fired(task: Task) -> tuple[Occasion, ...]:
    """Return the instants at which what is left fell to a warning level or to nothing."""
    rule, known = _rule(task), _known(task)
    levels = [0, *(level if rule.prices else level * SCALE for level in rule.warn_at)]
    found: list[Occasion] = []
    before: int | None = None
    for entry in known[: _unbroken(known)]:
        left = _left(task, rule, known, entry, entry.instant_utc)
        met = [level for level in levels if before is not None and left <= level < before]
        if met and entry.instant_utc > task.from_utc:
            why = "cut-off" if 0 in met else "warning"
            found.append(Occasion(entry.instant_utc - task.step, entry.instant_utc, why))
        before = left
    return tuple(found)


def _rule(task: Task) -> Prepaid:
    assert task.profile.prepaid is not None, "validation lets no TAF 12 through without"
    return task.profile.prepaid


def _known(task: Task) -> list[RegisteredValue]:
    return [entry for entry in task.series(task.obis) if counts(entry)]


def _unbroken(known: list[RegisteredValue]) -> int:
    """Return how many values there are before the register goes back or changes its unit.

    Behind that nobody knows what was used, also when it has risen past its first value again.
    """
    for place, (earlier, later) in enumerate(pairwise(known), start=1):
        if earlier.unit != later.unit or _quantity(later) < _quantity(earlier):
            return place
    return len(known)


def _quantity(entry: RegisteredValue) -> int:
    assert entry.value is not None, "what counts has a value"
    return scaled(entry.value)


def _left(
    task: Task, rule: Prepaid, known: list[RegisteredValue], entry: RegisteredValue, at_utc: datetime
) -> int:
    """Return what is left in millionths."""
    used = _quantity(entry) - _quantity(known[0])
    added = sum(one.amount for one in task.events if one.id == rule.top_up and one.at_utc <= at_utc)
    if not rule.prices:
        return (rule.credit + added) * SCALE - used
    parts = split(0, used, rule.thresholds_wh)
    cost = sum(quantity * rule.prices[stage - 1] for stage, quantity in parts.items()) // _UNITS_A_PRICE
    return rule.credit + added - cost
