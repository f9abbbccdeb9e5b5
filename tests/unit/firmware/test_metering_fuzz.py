"""Whatever profile passes the check can be evaluated over whatever list, and fits through the gate."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from firmware.enforcement.content import unfit
from firmware.enforcement.schedule import deliveries, delivery_window
from firmware.metering.dataset import Dataset, to_document
from firmware.metering.register import RegisteredValue
from firmware.metering.tariff.catalogue import evaluate, fired
from firmware.metering.tariff.task import TariffEvent, Task
from firmware.profile import codec
from firmware.profile.check import check
from firmware.profile.model import ProfileSet
from firmware.profile.tariffs import (
    ConsumptionVariable,
    Control,
    DayTable,
    EventStage,
    EventVariable,
    Extremes,
    FeedIn,
    GridState,
    HighFrequency,
    Limit,
    LoadVariable,
    OnDemand,
    Prepaid,
    Season,
    SpecialDay,
    Switch,
    TimeVariable,
    Visualisation,
    WeekTable,
)
from lmn.model import MeterId, Obis
from tests.unit.firmware.profile_set import IMPORT, METER, T0, meter_profile
from tests.unit.firmware.tariff_task import profile

ID = MeterId.from_text(METER)
NAMES = ("a", "b")
CODES = (IMPORT, "1-0:2.8.0", "1-0:32.7.0")

names, codes = st.sampled_from(NAMES), st.sampled_from(CODES)
stages, amounts = st.integers(1, 62), st.integers(0, 10**15)
rising = st.sets(st.integers(0, 5000), min_size=1, max_size=4).map(lambda one: tuple(sorted(one)))
grid_times = st.sampled_from([None, 900, 1800, 3600])
times = st.sets(st.integers(1, 95), max_size=4).map(
    lambda quarters: [f"{quarter // 4:02}:{quarter % 4 * 15:02}" for quarter in (0, *sorted(quarters))]
)
instants = st.integers(-2 * 86400, 400 * 86400).map(lambda second: T0 + timedelta(seconds=second))


@st.composite
def tables(draw):
    days = tuple(
        DayTable(id=name, switches=tuple(Switch(at=at, stage=draw(stages)) for at in draw(times)))
        for name in NAMES
    )
    weeks = tuple(WeekTable(id=name, days=tuple(draw(names) for _ in range(7))) for name in NAMES)
    starts = draw(st.sets(st.sampled_from(["01-01", "03-29", "10-25", "12-31"]), max_size=3))
    dates = draw(st.sets(st.sampled_from(["02-29", "2026-03-29", "12-31", "2026-01-02"]), max_size=3))
    return TimeVariable(
        utc_offset_min=draw(st.sampled_from([-60, 0, 60, 120, 840])),
        summer_time=draw(st.sampled_from(["eu", "none"])),
        default_stage=draw(stages),
        days=days,
        weeks=weeks,
        seasons=tuple(Season(starts=start, week=draw(names)) for start in starts),
        special_days=tuple(SpecialDay(date=date, day=draw(names)) for date in dates),
    )


def _limits(send):
    bounds = st.none() | st.integers(-500, 500).map(str)
    limit = st.builds(Limit, obis=codes, below=bounds, above=bounds)
    return st.builds(GridState, send=st.just(send), limits=st.lists(limit, max_size=3).map(tuple))


BLOCKS = {
    2: ("time_variable", tables()),
    3: ("load_variable", st.builds(LoadVariable, thresholds_w=rising, measuring_period_s=grid_times)),
    4: ("consumption_variable", st.builds(ConsumptionVariable, thresholds_wh=rising, reset_s=grid_times)),
    5: (
        "event_variable",
        st.builds(
            EventVariable,
            events=st.tuples(
                *(
                    st.builds(
                        EventStage, id=st.just(name), stage=stages, timeout_s=st.none() | st.integers(1, 9999)
                    )
                    for name in NAMES
                )
            ),
            default_stage=stages,
        ),
    ),
    6: ("on_demand", st.builds(OnDemand, retention_days=st.integers(1, 366))),
    8: ("extremes", st.builds(Extremes, count=st.integers(1, 100), interval_s=grid_times)),
    9: (
        "feed_in",
        st.builds(
            FeedIn,
            send=st.sampled_from(["request", "cycle", "change"]),
            change_w=st.none() | st.integers(1, 999),
        ),
    ),
    10: ("grid_state", st.sampled_from(["cycle", "event", "both"]).flatmap(_limits)),
    11: (
        "control",
        st.builds(
            Control,
            cls_device=names,
            events=st.just(NAMES),
            before_s=st.integers(0, 9999),
            after_s=st.integers(0, 9999),
        ),
    ),
    12: (
        "prepaid",
        st.builds(
            Prepaid,
            credit=amounts,
            prices=st.lists(amounts, max_size=3).map(tuple),
            thresholds_wh=st.just(()) | rising,
            warn_at=st.sets(st.integers(1, 9999), max_size=3).map(tuple),
            top_up=names,
        ),
    ),
    13: ("visualisation", st.builds(Visualisation, consent_until=instants)),
    14: ("high_frequency", st.builds(HighFrequency, consent_until=instants)),
}


@st.composite
def rules(draw):
    """A processing profile that the check lets through."""
    taf = draw(st.integers(1, 14))
    block, strategy = BLOCKS.get(taf, (None, None))
    many = {"more_obis": CODES[1:]} if taf in (1, 6, 7, 10, 11, 13, 14) else {}
    fixed = {1: 3600}.get(taf) or draw(st.sampled_from([None, 3600, 86400]))
    rule = profile(taf, billing_period_s=fixed, **many, **({} if block is None else {block: draw(strategy)}))
    assume(not check(ProfileSet(meters=(meter_profile(),), processing=(rule,)), small_nets_allowed=False))
    return rule


values = st.none() | st.decimals(-(10**12), 10**13 - 1, places=6, allow_nan=False) | st.integers(0, 9999)
entries = st.lists(
    st.builds(
        lambda obis, slot, value, unit, status: RegisteredValue(
            ID,
            Obis.from_text(obis),
            T0 + timedelta(seconds=900 * slot),
            None if value is None else Decimal(value),
            unit,
            status,
        ),
        codes,
        st.integers(0, 100),
        values,
        st.sampled_from(["Wh", "V", "m3", ""]),
        st.integers(0, 2**64 - 1) | st.just(0),
    ),
    max_size=30,
    unique_by=lambda one: (one.obis, one.instant_utc),
)
events = st.lists(st.builds(TariffEvent, instants, names, amounts), max_size=5)


@given(rules(), entries, events)
def test_what_passes_the_check_can_be_evaluated_and_what_comes_out_passes_the_gate(rule, given_list, told):
    ends = deliveries(rule, T0, T0 + timedelta(days=1))
    periods = [(*delivery_window(rule, end), "") for end in ends[:3] + ends[-1:]]
    task = Task(rule, tuple(given_list), T0, T0 + timedelta(days=1), tuple(told))
    periods += [(one.from_utc, one.to_utc, one.why) for one in fired(task)]
    for begin, end, why in periods:
        result = evaluate(Task(rule, tuple(given_list), begin, end, tuple(told)))
        dataset = Dataset(rule.id, rule.taf, rule.consumer, begin, end, result, why)
        assert unfit(rule, dataset) is None
        assert to_document(dataset, identity="i", gateway="g", communication="c")


@settings(max_examples=25)
@given(rules())
def test_what_passes_the_check_reads_back(rule):
    profiles = ProfileSet(meters=(meter_profile(),), processing=(rule,))
    assert codec.from_json(codec.to_json(profiles), small_nets_allowed=False) == profiles
