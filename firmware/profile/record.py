"""What is stored of the profiles: the active set, the one before it, one that waits. A value."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from msgspec.structs import replace

from firmware.enforcement.determination import Grid
from firmware.profile.model import ProcessingProfile, ProfileSet

MAX_TENURES: Final = 2000
"""Far more changes of tenant than a house sees; each is in the record that is kept with every order."""


class Staged(msgspec.Struct, frozen=True, kw_only=True):
    """A set that was checked and waits for the order to activate it."""

    version: int
    profiles: ProfileSet


class Tenure(msgspec.Struct, frozen=True, kw_only=True):
    """Something was a consumer's, and then became another one's."""

    key: str
    """As in `ActiveRecord.owners`."""
    consumer: str
    until_utc: datetime


class ActiveRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored: the active set and what must be remembered of the sets before it."""

    version: int
    """Of the order that made the set active."""
    profiles: ProfileSet
    since: dict[str, datetime]
    """"communication/<id>" or "processing/<id>" -> when its present content became active."""
    history: tuple[Grid, ...]
    """What recipients got under earlier sets (`firmware.enforcement.determination`)."""
    newest: int = 0
    """The highest version of any order that was carried out; none at or below it is taken again."""
    before: ProfileSet | None = None
    """The set that the active one replaced; None: there was none."""
    staged: Staged | None = None
    owners: dict[str, str] = {}
    """"processing/<id>" or "meter/<meter>" of any set so far -> the consumer it was last given to."""
    tenures: tuple[Tenure, ...] = ()
    """Who had such a thing before its last consumer, in the order of time."""

    @property
    def floor(self) -> int:
        """The version that an order must exceed."""
        return max(self.version, self.newest)  # a record of the first firmware had no `newest`


def owners(profiles: ProfileSet) -> dict[str, str]:
    """Return whose each processing profile and meter of a set is, as `ActiveRecord.owners` has it."""
    found = {f"meter/{one.meter}": one.consumer for one in profiles.meters}
    return found | {f"processing/{one.id}": one.consumer for one in profiles.processing}


def changed_hands(before: dict[str, str], profiles: ProfileSet, now_utc: datetime) -> tuple[Tenure, ...]:
    """Return what a set gives to another consumer than it was last given to."""
    return tuple(
        Tenure(key=key, consumer=before[key], until_utc=now_utc)
        for key, consumer in owners(profiles).items()
        if before.get(key, consumer) != consumer
    )


def goes_on(before: ProcessingProfile | None, now: ProcessingProfile | None, at_utc: datetime) -> bool:
    """Tell whether two contents of a processing profile differ in their end at most, which is to come."""
    if before is None or now is None:
        return before is now
    running = before.valid_until is None or before.valid_until > at_utc
    return before == now or (running and replace(before, valid_until=now.valid_until) == now)


NOTHING = ActiveRecord(version=0, profiles=ProfileSet(), since={}, history=())
"""Before the first order."""
