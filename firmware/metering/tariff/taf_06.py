"""TAF 6, on-demand reading: daily snapshots, kept for some weeks, that leave on request. Pure.

Worked example: a snapshot a day, kept for 42 days; a request on day 100 gives the snapshots of days 59 to
100.
"""

from __future__ import annotations

from datetime import timedelta

from firmware.metering.register import RegisteredValue
from firmware.metering.tariff.task import Task
from firmware.profile.model import ProcessingProfile
from firmware.profile.tariffs import OnDemand


def retention(profile: ProcessingProfile) -> timedelta:
    """Return how far back a request reaches."""
    return timedelta(days=(profile.on_demand or OnDemand()).retention_days)


def evaluate(task: Task) -> tuple[RegisteredValue, ...]:
    """Return the snapshots of the period that are not older than the retention."""
    oldest = task.to_utc - retention(task.profile)
    return tuple(entry for entry in task.window() if entry.instant_utc > oldest)
