"""Original lists and tasks to vary in tests of the tariff use cases."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from firmware.metering.register import RegisteredValue
from firmware.metering.status import missing, wireless
from firmware.metering.tariff.task import TariffEvent, Task
from firmware.profile.model import ProcessingProfile
from lmn.model import MeterId, Obis
from tests.unit.firmware.profile_set import IMPORT, METER, T0, at, series

ID = MeterId.from_text(METER)
GOOD = wireless(0, time_valid=True)
SLOT = 900


def value(
    instant: datetime, text: str | int | None, obis: str = IMPORT, status: int = GOOD, unit: str = "Wh"
):
    if text is None:
        return RegisteredValue(ID, Obis.from_text(obis), instant, None, "", missing(time_valid=True))
    return RegisteredValue(ID, Obis.from_text(obis), instant, Decimal(text), unit, status)


def registers_of(
    quantities: Iterable[int | None], start: int = 1000, origin: datetime = T0, step: int = SLOT
):
    """The register at each instant: `start` at the origin, then after each quantity; None: no value there."""
    found, total = [value(origin, start)], start
    for slot, quantity in enumerate(quantities, start=1):
        total += quantity or 0
        instant = origin + timedelta(seconds=step * slot)
        found.append(value(instant, None if quantity is None else total))
    return found


def task(
    profile: ProcessingProfile,
    entries: Iterable[RegisteredValue],
    from_s: float = 0,
    to_s: float = 86400,
    events: Iterable[TariffEvent] = (),
) -> Task:
    return Task(profile, tuple(entries), at(from_s), at(to_s), tuple(events))


def profile(taf: int, **changes) -> ProcessingProfile:
    return series("tariff", taf=taf, **changes)


def amounts(entries: Iterable[RegisteredValue]) -> dict[int, int | None]:
    """Group E to value, of an evaluated stage tariff."""
    return {entry.obis.groups[4]: None if entry.value is None else int(entry.value) for entry in entries}
