"""What the list use cases share: the registered values of a period as they are. Pure."""

from __future__ import annotations

from firmware.metering.register import RegisteredValue
from firmware.metering.tariff.task import Task


def evaluate(task: Task) -> tuple[RegisteredValue, ...]:
    """Return the entries of the period, in the order of time; missing ones are entries too."""
    return task.window()
