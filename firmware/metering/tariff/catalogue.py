"""Every tariff use case: how it is evaluated, when it fires, what comes out. The one table. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from firmware.metering.register import RegisteredValue
from firmware.metering.tariff import (
    taf_01,
    taf_02,
    taf_03,
    taf_04,
    taf_05,
    taf_06,
    taf_07,
    taf_08,
    taf_09,
    taf_10,
    taf_11,
    taf_12,
    taf_13,
    taf_14,
)
from firmware.metering.tariff.steps import Count, hold, registers
from firmware.metering.tariff.task import Evaluation, Held, Occasion, Task, Trigger

Counting = Callable[[Task], Count]
"""What a stage tariff counts; the same task gives the same count."""


class Form(Enum):
    """What a result consists of; the policy gate holds every data set against it."""

    END = "end"
    """Registered values of the period's end alone."""
    STAGES = "stages"
    """Total, stage and error registers, all of the period's end."""
    SERIES = "series"
    """Registered values on the grid."""
    EXTREMES = "extremes"
    """Mean powers on the grid."""
    CREDIT = "credit"
    """One value of the period's end under the credit's code."""


@dataclass(frozen=True, slots=True)
class UseCase:
    """One row of the table."""

    evaluate: Evaluation
    form: Form
    count: Counting | None = None
    """What a stage tariff counts in a period; its registers may run on over periods."""
    fired: Trigger | None = None
    on_request: bool = False
    """Whether an order of the administrator may ask for it."""
    looks_back: bool = False
    """Whether the last value before the period belongs to its task."""
    transient: bool = False
    """Whether its original list is forgotten once it is delivered (TAF 9, 10 and 14)."""


def _stages(count: Counting) -> Evaluation:
    return lambda task: registers(task, count(task))


USE_CASES: Final[dict[int, UseCase]] = {
    1: UseCase(taf_01.evaluate, Form.END),
    2: UseCase(_stages(taf_02.count), Form.STAGES, taf_02.count, looks_back=True),
    3: UseCase(_stages(taf_03.count), Form.STAGES, taf_03.count, looks_back=True),
    4: UseCase(_stages(taf_04.count), Form.STAGES, taf_04.count, looks_back=True),
    5: UseCase(_stages(taf_05.count), Form.STAGES, taf_05.count, looks_back=True),
    6: UseCase(taf_06.evaluate, Form.SERIES, on_request=True),
    7: UseCase(taf_07.evaluate, Form.SERIES),
    8: UseCase(taf_08.evaluate, Form.EXTREMES, looks_back=True),
    9: UseCase(
        taf_09.evaluate, Form.SERIES, looks_back=True, fired=taf_09.fired, on_request=True, transient=True
    ),
    10: UseCase(taf_10.evaluate, Form.SERIES, looks_back=True, fired=taf_10.fired, transient=True),
    11: UseCase(taf_11.evaluate, Form.SERIES, fired=taf_11.fired),
    12: UseCase(taf_12.evaluate, Form.CREDIT, looks_back=True, fired=taf_12.fired),
    13: UseCase(taf_13.evaluate, Form.SERIES),
    14: UseCase(taf_14.evaluate, Form.SERIES, transient=True),
}


def evaluate(task: Task) -> tuple[RegisteredValue, ...]:
    """Return the result of a task under its profile's use case."""
    return USE_CASES[task.profile.taf].evaluate(task)


def fired(task: Task) -> tuple[Occasion, ...]:
    """Return the occasions outside the cycle of (from_utc, to_utc]."""
    trigger = USE_CASES[task.profile.taf].fired
    return () if trigger is None else trigger(task)


def held_after(task: Task) -> Held:
    """Return what the running registers of a stage tariff hold at the end of a task's period."""
    count = USE_CASES[task.profile.taf].count
    if count is None:
        raise ValueError(f"TAF {task.profile.taf} has no registers that run")
    return hold(task, count(task))
