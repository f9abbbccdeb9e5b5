"""What the flow asks of its surroundings: time, the profiles that are active, and who is told of values.

Declarations only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from firmware.metering.register import RegisteredValue
from firmware.profile.model import ProcessingProfile, ProfileSet

FALSE_FUTURE: Final = timedelta(days=1)
"""What was registered farther ahead than this was registered at a false time, and is taken back. Less is
waited for: those instants have been, and nothing is registered twice."""


class Clock(Protocol):
    """The gateway's time."""

    def now_utc(self) -> datetime:
        """Return the current time, aware, UTC."""

    async def sleep_until(self, instant_utc: datetime) -> None:
        """Wait until `now_utc()` is at or past `instant_utc`."""


class Profiles(Protocol):
    """The part of `firmware.profile.registry.Registry` that is used here."""

    @property
    def active(self) -> ProfileSet:
        """Return the active set."""

    def communication_since(self, profile: str) -> datetime | None:
        """Return when a communication profile became active with its present content."""

    def processing_since(self, profile: str) -> datetime | None:
        """Return when a processing profile became active with its present content."""

    def watch(self, changed: Callable[[ProfileSet], None]) -> None:
        """Have `changed` called with every newly active set."""


class Registered(Protocol):
    """Whoever is told of registered values, `firmware.flow.meter_watch.MeterWatch.registered`."""

    async def __call__(
        self,
        processing: ProcessingProfile,
        values: Sequence[RegisteredValue],
        after_utc: datetime,
        through_utc: datetime,
        /,
    ) -> None:
        """Take the values of (after_utc, through_utc], which are durable."""
