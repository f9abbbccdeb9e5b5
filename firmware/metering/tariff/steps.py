"""The rule engine of stage tariffs: what was used between values that count, and where it goes. Pure.

Between two values that count lies a step. It is one registration period long, or longer where values are
missing: nothing is interpolated, so a step is never cut in time. It belongs to the stage that ran all through
it; if the stage changed inside, to the error register (.8.63). Hence the sum of all stages and the error
register is the difference of the total register, to the last digit (VDE-AR 2418-6 draft for the rule,
docs/tariffs.md).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Final

from firmware.metering.quantity import QuantityRefused, scaled, unscaled
from firmware.metering.register import RegisteredValue
from firmware.metering.status import GatewayStatus, billable, combine, gateway_half, missing
from firmware.metering.tariff.task import Held, Task
from firmware.profile.tariffs import ERROR_STAGE
from lmn.model import MeterId, Obis

_KEPT_FLAGS: Final = GatewayStatus.WIRELESS | GatewayStatus.WARNING | GatewayStatus.METER_ERROR
_HOUR_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Step:
    """What was used between two values that count."""

    begin: RegisteredValue
    end: RegisteredValue
    quantity: int
    """Millionths of the register's unit, at least 0."""

    @property
    def length(self) -> timedelta:
        """Time between the two values."""
        return self.end.instant_utc - self.begin.instant_utc

    def mean_power(self) -> Fraction:
        """Return the mean power, in units of the register an hour: W where it counts Wh."""
        return Fraction(self.quantity, 1_000_000) * _HOUR_S / Fraction(self.length.total_seconds())


def counts(entry: RegisteredValue) -> bool:
    """Tell whether an entry has a value that may be billed."""
    return entry.value is not None and billable(entry.status)


def steps(task: Task, grid_s: int | None = None) -> list[Step]:
    """Return the steps that end in the period, in the order of time.

    The first one begins at the last value that counts before the period, however far back the task knows one:
    what was used over a gap belongs to the period in which the gap ends. A register that went back (a meter
    that was changed) or changed its unit begins anew: nobody knows what was used then.

    Args:
        task: what is evaluated.
        grid_s: only values on this coarser grid, counted from the profile's beginning; a multiple of the
            registration period.
    """
    grid = timedelta(seconds=grid_s or task.profile.registration_period_s)
    origin = task.profile.valid_from
    found: list[Step] = []
    begin: RegisteredValue | None = None
    before = 0
    for entry in task.series(task.obis):
        if entry.value is None or not counts(entry) or (entry.instant_utc - origin) % grid:
            continue
        now = scaled(entry.value)
        if begin is not None and entry.instant_utc > task.from_utc:
            same = begin.unit == entry.unit and begin.meter == entry.meter
            if same and now >= before:
                found.append(Step(begin, entry, now - before))
        begin, before = entry, now
    return found


def allocate(
    found: Iterable[Step], stage_of: Callable[[Step], int | None], into: Mapping[int, int] | None = None
) -> dict[int, int]:
    """Return the quantity of each stage; a step without one stage goes to the error register."""
    amounts = dict(into or {})
    for step in found:
        stage = stage_of(step)
        place = ERROR_STAGE if stage is None else stage
        amounts[place] = amounts.get(place, 0) + step.quantity
    return amounts


class Switching:
    """Which stage runs when: switches in the order of time, and what ran before the first.

    Args:
        switches: (instant, stage); of several at one instant the last counts.
        before: the stage before the first switch.
    """

    def __init__(self, switches: Iterable[tuple[datetime, int]], before: int) -> None:
        ordered = sorted(switches, key=lambda one: one[0])
        self._instants = [instant for instant, _ in ordered]
        self._stages = [before, *(stage for _, stage in ordered)]

    def over(self, begin_utc: datetime, end_utc: datetime) -> int | None:
        """Return the one stage of [begin_utc, end_utc), None if it changed in between.

        A switch at the end belongs to what comes next.
        """
        first, last = bisect_right(self._instants, begin_utc), len(self._instants)
        stage = self._stages[first]
        for place in range(first, last):
            if self._instants[place] >= end_utc:
                break
            follows = place + 1 < last and self._instants[place + 1] == self._instants[place]
            if not follows and self._stages[place + 1] != stage:
                return None
        return stage


def tariff_obis(obis: Obis, stage: int) -> Obis:
    """Return the code of a measurand's register of a stage (group E); 0 is the total."""
    return Obis(obis.groups[:4] + bytes((stage,)) + obis.groups[5:])


@dataclass(frozen=True, slots=True)
class Count:
    """What a stage tariff counted in a period."""

    stages: Sequence[int]
    """All stages of the tariff."""
    amounts: Mapping[int, int]
    """Of the stages that ran and of the error register, in millionths."""
    steps: Sequence[Step]
    """The steps that were allocated."""


def registers(task: Task, count: Count) -> tuple[RegisteredValue, ...]:
    """Return total register, amount of each stage and error register at the end of the period.

    The total is the meter's own register. The amounts are what was used in the period or, where the task
    carries what was counted before, what running registers hold. A stage that did not run is there with 0;
    where not one step is known the amounts have no value.
    """
    obis, meter, flags = task.obis, MeterId.from_text(task.profile.meter), flags_of(task)
    held = _of_period(task, count) if task.carried is None else hold(task, count)
    if held.incomplete or _ends_early(task, held):
        flags |= GatewayStatus.WARNING
    by_wire = bool(task.entries) and not flags & GatewayStatus.WIRELESS
    total = next(
        (one for one in reversed(task.series(obis)) if one.instant_utc == task.to_utc),
        RegisteredValue(meter, obis, task.to_utc, None, "", missing(time_valid=True, by_wire=by_wire)),
    )
    amounts = dict(held.amounts)
    derived = [
        derived_value(
            meter,
            tariff_obis(obis, stage),
            task.to_utc,
            None if held.unit is None else amounts.get(stage, 0),
            held.unit or "",
            flags,
        )
        for stage in (*count.stages, ERROR_STAGE)
    ]
    return (total, *derived)


def _of_period(task: Task, count: Count) -> Held:
    held = carry_on(Held(), count)
    begins_late = not count.steps or count.steps[0].begin.instant_utc > task.from_utc
    return replace(held, incomplete=held.incomplete or begins_late)


def _ends_early(task: Task, held: Held) -> bool:
    """Tell whether values count that came after all that is in the registers: the meter's went back last."""
    counting = [one.instant_utc for one in task.series(task.obis) if counts(one)]
    return held.through_utc is not None and bool(counting) and counting[-1] > held.through_utc


def hold(task: Task, count: Count) -> Held:
    """Return what running registers hold at the end of a task's period."""
    before = task.carried or Held()
    held = carry_on(before, count)
    if before.through_utc is not None or not count.steps:
        return held
    # Nothing was counted so far: that the register went back before the first step shows in the list alone.
    first = count.steps[0].begin
    known = [one for one in task.series(task.obis) if counts(one) and one.instant_utc < first.instant_utc]
    return replace(held, incomplete=held.incomplete or (bool(known) and _went_back(known[-1], first)))


def _went_back(before: RegisteredValue, after: RegisteredValue) -> bool:
    if before.value is None or after.value is None:
        return False
    return (before.unit, before.meter) != (after.unit, after.meter) or after.value < before.value


def carry_on(before: Held, count: Count) -> Held:
    """Return what running registers hold when a period's count is added to what they held before it.

    What was used while a register went back (it rolled over, or the meter was changed) is in none of them,
    and they say so for ever after. Where the unit changed they begin anew.
    """
    if not count.steps:
        return before
    first, last = count.steps[0].begin, count.steps[-1].end
    anew = before.unit is not None and before.unit != last.unit
    gone_back = any(later.begin != earlier.end for earlier, later in pairwise(count.steps))
    not_joined = before.through_utc is not None and before.through_utc != first.instant_utc
    amounts = {} if anew else dict(before.amounts)
    for stage, quantity in count.amounts.items():
        amounts[stage] = amounts.get(stage, 0) + quantity
    return Held(
        amounts=tuple(sorted(amounts.items())),
        unit=last.unit,
        through_utc=last.instant_utc,
        incomplete=before.incomplete or anew or gone_back or not_joined,
    )


def flags_of(task: Task) -> GatewayStatus:
    """Return what a result says of the values behind it: a warning if one of the period does not count."""
    obis, status, gap = task.obis, 0, False
    for entry in task.entries:
        if task.from_utc < entry.instant_utc <= task.to_utc and entry.obis == obis:
            status |= entry.status
            gap = gap or not counts(entry)
    flags = GatewayStatus.FIXED | gateway_half(status) & _KEPT_FLAGS
    return flags | GatewayStatus.WARNING if gap else flags


def derived_value(
    meter: MeterId,
    obis: Obis,
    instant_utc: datetime,
    quantity: int | None,
    unit: str,
    flags: GatewayStatus,
) -> RegisteredValue:
    """Make the entry of a derived register; a quantity that no value can hold becomes one without a value."""
    try:
        value = None if quantity is None else unscaled(quantity)
    except QuantityRefused:
        value = None
    if value is None:
        return RegisteredValue(meter, obis, instant_utc, None, "", combine(flags | GatewayStatus.NO_VALUE, 0))
    return RegisteredValue(meter, obis, instant_utc, value, unit, combine(flags, 0))
