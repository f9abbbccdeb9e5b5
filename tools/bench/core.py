"""A day of tariffs: 96 slots x 20 meters, registered and evaluated under TAF 1, 2 and 7. Process time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from statistics import median
from time import process_time
from typing import Final

from firmware.metering.register import Register, RegisteredValue, half_window, register_value
from firmware.metering.tariff.catalogue import evaluate
from firmware.metering.tariff.task import Task
from firmware.profile.model import ProcessingProfile
from firmware.profile.tariffs import DayTable, Season, Switch, TimeVariable, WeekTable
from lmn.model import ACTIVE_ENERGY_IMPORT, MeterId, Reading
from tools.bench.figure import Figure

BAR_MS: Final = 50
METERS: Final = 20
SLOTS: Final = 96
_SLOT_S: Final = 900
_DAY: Final = timedelta(days=1)
_TAFS: Final = (1, 2, 7)
_START: Final = datetime(2026, 6, 1, tzinfo=UTC)
_TABLE: Final = TimeVariable(
    days=(
        DayTable(
            id="d",
            switches=(Switch(at="00:00", stage=1), Switch(at="06:00", stage=2), Switch(at="22:00", stage=1)),
        ),
    ),
    weeks=(WeekTable(id="w", days=("d",) * 7),),
    seasons=(Season(starts="01-01", week="w"),),
)


def _profile(meter: MeterId, taf: int) -> ProcessingProfile:
    return ProcessingProfile(
        id=f"taf-{taf}",
        taf=taf,  # type: ignore[arg-type]  # one of _TAFS
        meter=str(meter),
        obis=str(ACTIVE_ENERGY_IMPORT),
        consumer="household",
        registration_period_s=_SLOT_S,
        billing_period_s=86400,
        recipients=("emp",),
        valid_from=_START,
        time_variable=_TABLE if taf == 2 else None,
    )


def _readings(meter: MeterId) -> list[Reading]:
    """Four values a slot, as radio meters send; the register rises by 37.5 Wh between two of them."""
    return [
        Reading(
            meter,
            ACTIVE_ENERGY_IMPORT,
            Decimal(1_000_000) + Decimal("37.5") * place,
            "Wh",
            _START + timedelta(seconds=place * _SLOT_S / 4 + 2),
        )
        for place in range(SLOTS * 4 + 1)
    ]


def _register(meter: MeterId, recent: Register) -> list[RegisteredValue]:
    reach = half_window(_SLOT_S)
    instants = [_START + timedelta(seconds=_SLOT_S * slot) for slot in range(SLOTS + 1)]
    return [
        register_value(
            meter, ACTIVE_ENERGY_IMPORT, recent.around(meter, ACTIVE_ENERGY_IMPORT, at, reach), at, reach
        )
        for at in instants
    ]


def _ms(work: Callable[[], object]) -> float:
    began = process_time()
    work()
    return (process_time() - began) * 1e3


async def run(rounds: int) -> list[Figure]:
    """Evaluate, then register, the same day over and over; medians of process time count."""
    meters = [MeterId("ELS", f"{number:08d}", 0x33, 0x02) for number in range(METERS)]
    recent = Register(2 * _DAY)
    for meter in meters:
        for reading in _readings(meter):
            recent.add(reading)
    lists = {meter: tuple(_register(meter, recent)) for meter in meters}
    profiles = [_profile(meter, taf) for meter in meters for taf in _TAFS]

    def evaluated() -> None:
        for meter, profile in zip((one for one in meters for _ in _TAFS), profiles, strict=True):
            assert evaluate(Task(profile, lists[meter], _START, _START + _DAY))

    def registered() -> None:
        for meter in meters:
            _register(meter, recent)

    def least() -> None:
        """Three times over every list: one difference of decimals for each slot."""
        for _ in _TAFS:
            for entries in lists.values():
                _differences(entries)

    evaluation, registration, floor = [], [], []
    for _ in range(rounds):
        evaluation.append(_ms(evaluated))
        registration.append(_ms(registered))
        floor.append(_ms(least))
    beside = "one decimal difference a slot and profile"
    day = f"a day of {SLOTS} slots x {METERS} meters"
    return [
        Figure(f"{day} evaluated under TAF 1, 2, 7", median(evaluation), "ms", bar=BAR_MS,
               reference=beside, reference_value=median(floor)),
        Figure(f"{day} registered from four readings a slot", median(registration), "ms",
               reference=beside, reference_value=median(floor)),
    ]  # fmt: skip


def _differences(entries: Sequence[RegisteredValue]) -> Decimal:
    total = Decimal(0)
    for before, after in pairwise(entries):
        if before.value is not None and after.value is not None:
            total += after.value - before.value
    return total
