"""What is evaluated, and what a use case may say about when its result leaves. Values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from firmware.metering.register import RegisteredValue
from firmware.profile.model import ProcessingProfile
from lmn.model import Obis


@dataclass(frozen=True, slots=True, order=True)
class TariffEvent:
    """Something from outside that an order reported: a tariff event, a switching, a top-up."""

    at_utc: datetime
    id: str
    amount: int = 0
    """Of a top-up."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the registers of a stage tariff hold at an instant."""

    amounts: tuple[tuple[int, int], ...] = ()
    """(stage, millionths of the unit), by stage; the error register is among them."""
    unit: str | None = None
    """None: nothing was counted yet."""
    through_utc: datetime | None = None
    """The last value that was counted."""
    incomplete: bool = False
    """Whether something was used that no register holds."""


@dataclass(frozen=True, slots=True)
class Task:
    """A processing profile over the period (from_utc, to_utc], with all that the result may depend on."""

    profile: ProcessingProfile
    entries: tuple[RegisteredValue, ...]
    """Entries of the original list in any order; also earlier ones, from which counting goes on."""
    from_utc: datetime
    to_utc: datetime
    events: tuple[TariffEvent, ...] = ()
    carried: Held | None = None
    """What running registers hold at `from_utc`; None: registers hold what was used in the period."""

    @property
    def obis(self) -> Obis:
        """The profile's first measurand."""
        return Obis.from_text(self.profile.obis)

    @property
    def step(self) -> timedelta:
        """The registration period."""
        return timedelta(seconds=self.profile.registration_period_s)

    def window(self) -> tuple[RegisteredValue, ...]:
        """Return the entries of the period, in the order of time and of the profile's measurands."""
        order = {Obis.from_text(text): place for place, text in enumerate(self.profile.measurands)}
        inside = (
            one
            for one in self.entries
            if self.from_utc < one.instant_utc <= self.to_utc and one.obis in order
        )
        return tuple(sorted(inside, key=lambda one: (one.instant_utc, order[one.obis])))

    def series(self, obis: Obis) -> list[RegisteredValue]:
        """Return all entries of one measurand up to the end of the period, in the order of time."""
        own = (one for one in self.entries if one.obis == obis and one.instant_utc <= self.to_utc)
        return sorted(own, key=lambda one: one.instant_utc)


@dataclass(frozen=True, slots=True)
class Occasion:
    """A period whose result leaves outside the profile's cycle."""

    from_utc: datetime
    to_utc: datetime
    why: str
    """Up to 24 letters, digits and "-"; part of the message id."""


Evaluation = Callable[[Task], tuple[RegisteredValue, ...]]
"""The result of a task; the same task gives the same result."""
Trigger = Callable[[Task], tuple[Occasion, ...]]
"""The occasions of (from_utc, to_utc], oldest first."""


def floor(profile: ProcessingProfile, instant_utc: datetime) -> datetime:
    """Return the last instant of a profile's registration grid at or before an instant."""
    step = timedelta(seconds=profile.registration_period_s)
    return profile.valid_from + (instant_utc - profile.valid_from) // step * step


def ceiling(profile: ProcessingProfile, instant_utc: datetime) -> datetime:
    """Return the first instant of a profile's registration grid at or after an instant."""
    step = timedelta(seconds=profile.registration_period_s)
    return profile.valid_from - (profile.valid_from - instant_utc) // step * step
