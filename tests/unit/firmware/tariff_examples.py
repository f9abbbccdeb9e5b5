"""A profile of each tariff use case, and the tables they are made of."""

from __future__ import annotations

from datetime import timedelta

from firmware.metering.local_time import LocalTime
from firmware.profile.model import ProcessingProfile
from firmware.profile.tariffs import (
    ConsumptionVariable,
    Control,
    DayTable,
    EventStage,
    EventVariable,
    Extremes,
    GridState,
    HighFrequency,
    Limit,
    LoadVariable,
    Prepaid,
    Season,
    Switch,
    TimeVariable,
    Visualisation,
    WeekTable,
)
from tests.unit.firmware.profile_set import IMPORT, at
from tests.unit.firmware.tariff_task import profile

BERLIN = LocalTime(timedelta(hours=1), summer_time=True)
PEAK = EventVariable(
    events=(EventStage(id="peak", stage=2, timeout_s=1800), EventStage(id="night", stage=3)), default_stage=1
)
PREPAID = profile(12, prepaid=Prepaid(credit=2000, warn_at=(500,)))


def day_table(name: str, *switches: tuple[str, int]) -> DayTable:
    return DayTable(id=name, switches=tuple(Switch(at=when, stage=stage) for when, stage in switches))


WORK = day_table("work", ("00:00", 1), ("06:00", 2), ("22:00", 1))
REST = day_table("rest", ("00:00", 1))
WEEK = WeekTable(id="week", days=("work",) * 5 + ("rest",) * 2)
TWO_STAGES = TimeVariable(days=(WORK, REST), weeks=(WEEK,), seasons=(Season(starts="01-01", week="week"),))


def time_variable(table: TimeVariable = TWO_STAGES, **changes) -> ProcessingProfile:
    return profile(2, time_variable=table, **changes)


def example_of(taf: int) -> ProcessingProfile:
    return {
        2: time_variable(),
        3: profile(3, load_variable=LoadVariable(thresholds_w=(500, 2000))),
        4: profile(4, consumption_variable=ConsumptionVariable(thresholds_wh=(300, 2000), reset_s=3600)),
        5: profile(5, event_variable=PEAK),
        8: profile(8, extremes=Extremes(count=3)),
        10: profile(10, grid_state=GridState(send="both", limits=(Limit(obis=IMPORT, above="5000"),))),
        11: profile(11, control=Control(cls_device="pump", events=("peak",))),
        12: PREPAID,
        13: profile(13, visualisation=Visualisation(consent_until=at(86400))),
        14: profile(14, high_frequency=HighFrequency(consent_until=at(86400))),
    }.get(taf, profile(taf))
