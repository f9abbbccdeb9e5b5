"""Registers over billing periods, and what must not break them: roll-over, exchange, gaps, clocks, months.

Figures are counted by hand; that stages add up to the meter's own register is the oracle of the properties.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from firmware.errors import StoreCorrupt
from firmware.flow.evaluation import Evaluator, Since
from firmware.metering.happenings import Happenings
from firmware.metering.original import OriginalLists
from firmware.metering.register import RegisteredValue
from firmware.metering.running import RunningRegisters, kind
from firmware.metering.status import GatewayStatus, gateway_half, wireless
from firmware.metering.tariff.catalogue import evaluate, held_after
from firmware.metering.tariff.steps import counts
from firmware.metering.tariff.task import Held, Occasion, Task
from firmware.profile.tariffs import (
    BillingCalendar,
    ConsumptionVariable,
    EventStage,
    EventVariable,
    LoadVariable,
)
from firmware.store.operations import Forget, Put
from firmware.store.partition import Partition
from lmn.model import MeterId
from tests.unit.firmware.fixed_module import module_of
from tests.unit.firmware.pipeline_street import started
from tests.unit.firmware.profile_set import T0, at, household, meter_profile
from tests.unit.firmware.tariff_examples import TWO_STAGES, time_variable
from tests.unit.firmware.tariff_street import HOUR, a_set, run_through, told
from tests.unit.firmware.tariff_task import SLOT, amounts, profile, registers_of, task, value
from tests.unit.firmware.test_registry import order

RULES = [
    time_variable(registers="running"),
    profile(3, load_variable=LoadVariable(thresholds_w=(1000,)), registers="running"),
    profile(4, consumption_variable=ConsumptionVariable(thresholds_wh=(450,)), registers="running"),
    profile(5, event_variable=EventVariable(events=(EventStage(id="e", stage=2),)), registers="running"),
]
QUANTITIES = st.lists(st.one_of(st.none(), st.integers(0, 10**9)), min_size=1, max_size=40)
OTHER_METER = MeterId.from_text("ELS-87654321-33-02")
CALENDAR = BillingCalendar()


def warned(entry: RegisteredValue) -> bool:
    return GatewayStatus.WARNING in gateway_half(entry.status)


def run_over(rule, entries, ends_s) -> tuple[tuple[RegisteredValue, ...], Held]:
    """Evaluate period after period, as the gateway does: each task begins with the last value before it."""
    held, result, begin = Held(), (), 0
    for end in ends_s:
        before = [one for one in entries if one.instant_utc <= at(begin) and counts(one)]
        own = [one for one in entries if at(begin) < one.instant_utc <= at(end)]
        period = Task(rule, tuple(before[-1:] + own), at(begin), at(end), (), held)
        result, held, begin = evaluate(period), held_after(period), end
    return result, held


# ------------------------------------------------------------------ pure


def test_running_registers_worked_example():
    """Stage 2 from 06:00 to 22:00 Berlin time, which is from 05:00 UTC on; 100 Wh a quarter."""
    rule = replace(RULES[0], billing_period_s=1800)
    entries = registers_of([100] * 28)
    result, _ = run_over(rule, entries, range(1800, 28 * SLOT + 1, 1800))
    # 00:00 to 05:00 UTC is stage 1 (20 quarters), 05:00 to 07:00 stage 2 (8 quarters).
    assert amounts(result) == {0: 3800, 1: 2000, 2: 800, 63: 0}
    assert not any(warned(one) for one in result)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"TAF {rule.taf}")
@given(QUANTITIES, st.sets(st.integers(1, 39), max_size=5))
def test_stages_add_up_however_the_time_is_cut(rule, quantities, cuts):
    entries = registers_of(quantities)
    ends = sorted({cut for cut in cuts if cut < len(quantities)} | {len(quantities)})
    result, held = run_over(rule, entries, [SLOT * end for end in ends])
    known = [one for one in entries if one.value is not None]
    total = int(known[-1].value - known[0].value)
    stages = {stage: found for stage, found in amounts(result).items() if stage}
    if len(known) == 1:
        assert set(stages.values()) == {None}
    else:
        assert sum(stages.values()) == total == sum(quantity for _, quantity in held.amounts) // 10**6
    assert not held.incomplete


@given(QUANTITIES, st.integers(1, 39))
def test_time_variable_stages_do_not_depend_on_the_cut(quantities, cut):
    """What stage runs says the switch table alone, so periods may lie anywhere."""
    entries, end = registers_of(quantities), SLOT * len(quantities)
    one, _ = run_over(RULES[0], entries, [end])
    two, _ = run_over(RULES[0], entries, [min(SLOT * cut, end), end] if SLOT * cut < end else [end])
    assert amounts(one) == amounts(two)


@given(QUANTITIES, st.randoms())
def test_the_same_list_gives_the_same_registers_in_any_order(quantities, rng):
    entries = registers_of(quantities)
    whole = task(RULES[0], entries, 0, SLOT * len(quantities))
    mixed = list(entries)
    rng.shuffle(mixed)
    assert evaluate(replace_entries(whole, mixed)) == evaluate(whole)


def replace_entries(one: Task, entries) -> Task:
    return Task(one.profile, tuple(entries), one.from_utc, one.to_utc, one.events, one.carried)


@pytest.mark.parametrize("rule", [*RULES, *(replace(rule, registers="period") for rule in RULES)])
def test_a_register_that_goes_back_is_told(rule):
    """It rolls over after the second value: 100 and 50 Wh are known, what lies between is not."""
    texts = [999_800, 999_900, 20, 70]
    entries = [value(at(SLOT * slot), text) for slot, text in enumerate(texts)]
    if rule.registers == "running":
        result, held = run_over(rule, entries, [SLOT * 3])
        assert held.incomplete
    else:
        result = evaluate(task(rule, entries, 0, SLOT * 3))
    found = amounts(result)
    assert sum(found[stage] for stage in found if stage) == 150
    assert all(warned(one) for one in result[1:])


def test_a_register_that_goes_back_at_a_boundary_is_told_for_ever():
    entries = [value(at(SLOT * slot), text) for slot, text in enumerate([100, 200, 10, 60, 110])]
    result, held = run_over(RULES[0], entries, [SLOT, 2 * SLOT, 3 * SLOT, 4 * SLOT])
    assert held.incomplete
    assert amounts(result)[1] == 200
    assert all(warned(one) for one in result[1:])


@pytest.mark.parametrize("texts", [[100, 200, 10], [100, 10, 60], [100, 10, 120]])
def test_a_register_that_goes_back_first_or_last_is_told_at_once(texts):
    """Total register and stages of one delivery differ, so it says so, and not only the delivery after it."""
    entries = [value(at(SLOT * slot), text) for slot, text in enumerate(texts)]
    result, _ = run_over(RULES[0], entries, [2 * SLOT])
    assert sum(amounts(result)[stage] for stage in amounts(result) if stage) != texts[2] - texts[0]
    assert all(warned(one) for one in result[1:])


def test_a_register_that_goes_back_before_the_first_step_is_told_for_ever():
    entries = [value(at(SLOT * slot), text) for slot, text in enumerate([100, 10, 60, 110])]
    _, held = run_over(RULES[0], entries, [2 * SLOT, 3 * SLOT])
    assert held.incomplete


def test_another_unit_begins_anew():
    entries = [value(at(0), 100), value(at(SLOT), 300)]
    entries += [value(at(2 * SLOT), 5, unit="varh"), value(at(3 * SLOT), 9, unit="varh")]
    result, held = run_over(RULES[0], entries, [SLOT, 3 * SLOT])
    assert (amounts(result)[1], result[1].unit, held.incomplete) == (4, "varh", True)


def test_a_period_of_which_nothing_is_known_keeps_what_there_was():
    entries = [*registers_of([100]), *(value(at(SLOT * slot), None) for slot in (2, 3))]
    result, held = run_over(RULES[0], entries, [SLOT, 3 * SLOT])
    assert amounts(result)[1] == 100
    assert all(warned(one) for one in result[1:])
    assert not held.incomplete  # what was used meanwhile will come with the next value


def test_a_value_of_an_invalid_clock_at_the_boundary_counts_in_the_next_period():
    entries = registers_of([100, 100, 100, 100])
    untimed = wireless(0, time_valid=False)
    entries[2] = value(at(2 * SLOT), 1200, status=untimed)
    first, held = run_over(RULES[0], entries, [2 * SLOT])
    assert amounts(first) == {0: 1200, 1: 100, 2: 0, 63: 0}
    assert GatewayStatus.TIME_INVALID in gateway_half(first[0].status)
    assert warned(first[1])
    second, held = run_over(RULES[0], entries, [2 * SLOT, 4 * SLOT])
    assert amounts(second) == {0: 1400, 1: 400, 2: 0, 63: 0}
    assert not held.incomplete


# ------------------------------------------------------------------ months


def quarters(begin: datetime, end: datetime, each: int = 100):
    slots = int((end - begin).total_seconds()) // SLOT
    return registers_of([each] * slots, origin=begin)


@pytest.mark.parametrize(
    ("begin", "end", "work_days", "hours"),
    [
        ((2026, 2, 28, 23), (2026, 3, 31, 22), 22, 743),  # 31 days, one of 23 hours
        ((2026, 9, 30, 22), (2026, 10, 31, 23), 22, 745),  # 31 days, one of 25 hours
        ((2028, 1, 31, 23), (2028, 2, 29, 23), 21, 696),  # 29 days
    ],
    ids=["March", "October", "leap February"],
)
def test_a_month_of_taf_2(begin, end, work_days, hours):
    """Stage 2 from 06:00 to 22:00 on work days, 64 quarters; the changes of the clocks lie on Sundays."""
    begin, end = datetime(*begin, tzinfo=UTC), datetime(*end, tzinfo=UTC)
    rule = replace(time_variable(), billing_calendar=CALENDAR, valid_from=T0)
    result = evaluate(Task(rule, tuple(quarters(begin, end)), begin, end))
    high = work_days * 64 * 100
    assert amounts(result) == {0: 1000 + hours * 400, 1: hours * 400 - high, 2: high, 63: 0}
    assert not any(warned(one) for one in result)


async def test_months_in_a_running_gateway(street):
    """Activated in January's last week: a part of a month, then February, each once, also over a restart."""
    rule = {"registration_period_s": 86400, "valid_from": datetime(2025, 12, 31, 23, tzinfo=UTC)}
    rule["billing_calendar"] = BillingCalendar(summer_time="none")
    street.clock.set_utc(datetime(2026, 1, 25, 12, tzinfo=UTC))
    gateway = await street.start()
    profiles = a_set(4, consumption_variable=ConsumptionVariable(thresholds_wh=(5000,)), **rule)
    assert (await gateway.registry.apply(order(profiles))).accepted
    for day in range(40):
        second = (datetime(2026, 1, 25, 23, tzinfo=UTC) - T0).total_seconds() + day * 86400
        gateway.hear(second, 1000 + 100 * day)
        await gateway.until(second + 1000)
    documents = gateway.documents()
    assert [one["period"] for one in documents] == [
        {"from": "2025-12-31T23:00:00Z", "to": "2026-01-31T23:00:00Z"},
        {"from": "2026-01-31T23:00:00Z", "to": "2026-02-28T23:00:00Z"},
    ]
    assert [one["entries"][1]["value"] for one in documents] == ["600", "2800"]
    flags = [int(one["entries"][1]["status"], 16) for one in documents]
    assert [GatewayStatus.WARNING in gateway_half(one) for one in flags] == [True, False]
    gateway = await street.start()
    await gateway.deliver.step()
    assert gateway.documents() == []
    assert gateway.denials == []


async def test_march_ends_an_hour_early_in_a_running_gateway(street):
    """Hourly values from the 28th on, over the change of the clocks, to the first hours of April."""
    begin = datetime(2026, 3, 28, 12, tzinfo=UTC)
    street.clock.set_utc(begin - timedelta(seconds=60))
    rule = {"registration_period_s": 3600, "valid_from": datetime(2026, 2, 28, 23, tzinfo=UTC)}
    profiles = a_set(2, time_variable=TWO_STAGES, billing_calendar=CALENDAR, registers="running", **rule)
    gateway = await started_now(street, profiles)
    for hour in range(90):
        second = (begin - T0).total_seconds() + 3600 * hour
        gateway.hear(second, 1000 + 100 * hour)
        await gateway.until(second + 60)
    [document] = gateway.documents()
    assert document["period"] == {"from": "2026-02-28T23:00:00Z", "to": "2026-03-31T22:00:00Z"}
    # 82 hours; stage 2 on Monday and Tuesday, the 30th and 31st, 06:00 to 22:00 in summer time.
    values = {one["obis"]: one["value"] for one in document["entries"]}
    assert [values[f"1-0:1.8.{stage}*255"] for stage in (0, 1, 2, 63)] == ["9200", "5000", "3200", "0"]
    assert gateway.denials == []


async def test_taf_1_of_a_month_without_a_value_at_its_end_says_so(street):
    gateway = await started(street, a_set(1, billing_calendar=CALENDAR))
    end = (datetime(2026, 1, 31, 23, tzinfo=UTC) - T0).total_seconds()
    gateway.hear(end - 20, 5)  # the window of a quarter hour reaches 9 s
    await gateway.until(end + 60)
    assert told(gateway) == [("23:00", "", [("1.8.0", None)])]


# ------------------------------------------------------------------ in a running gateway


RUNNING_HOUR = a_set(2, billing_period_s=1800, time_variable=TWO_STAGES, registers="running")


async def started_now(street, profiles):
    gateway = await street.start()
    assert (await gateway.registry.apply(order(profiles))).accepted
    return gateway


def ones(gateway):
    return [dict(entries)["1.8.1"] for _, _, entries in told(gateway)]


async def test_registers_run_on_over_periods_and_restarts(street):
    gateway = await started(street, RUNNING_HOUR)
    await run_through(gateway, HOUR)
    assert ones(gateway) == ["300", "1000"]
    assert [one["entries"][0]["value"] for one in gateway.documents()] == ["1300", "2000"]
    gateway = await street.start()
    for slot, heard in ((5, 2050), (6, 2060)):
        gateway.hear(SLOT * slot, heard)
        await gateway.until(SLOT * slot + 30)
    assert ones(gateway) == ["1060"]


async def test_what_is_kept_saves_counting_and_nothing_else(street):
    gateway = await started(street, RUNNING_HOUR)
    await run_through(gateway, HOUR)
    since = Since(at(-60), at(-60))
    occasion = Occasion(at(1800), at(3600), "")
    rule = RUNNING_HOUR.processing[0]

    def evaluator(running):
        return Evaluator(gateway.originals, gateway.happenings, running=running)

    whole = await evaluator(None).dataset(rule, occasion, since)
    kept = await evaluator(RunningRegisters(street.partition)).dataset(rule, occasion, since)
    assert whole == kept
    await street.partition.commit([Forget(kind(rule.id, at(0)))])
    assert await evaluator(RunningRegisters(street.partition)).dataset(rule, occasion, since) == whole
    # What outlives the list is what counts: without it the first period is lost.
    await street.partition.commit([Forget("original/tariff/20260101")])
    late = await evaluator(RunningRegisters(street.partition)).dataset(
        rule, Occasion(at(3600), at(5400), ""), since
    )
    assert amounts(late.entries)[1] == 1000


async def test_values_that_are_taken_back_are_in_no_register(tmp_path):
    async with await Partition.open(tmp_path / "c.db", "consumer", module_of()) as partition:
        originals, running = OriginalLists(partition), RunningRegisters(partition)
        rule = RUNNING_HOUR.processing[0]
        await originals.add(rule.id, registers_of([100] * 8), at(8 * SLOT))
        evaluator = Evaluator(originals, Happenings(partition), running=running)
        since = Since(at(-60), at(-60))
        await evaluator.dataset(rule, Occasion(at(5400), at(7200), ""), since)
        assert (await running.at(rule.id, at(-60), at(7200))) is not None
        assert await originals.withdraw(rule.id, at(3600)) == 4
        assert (await running.at(rule.id, at(-60), at(7200))) is None
        await originals.add(rule.id, registers_of([100] * 4 + [7] * 4)[5:], at(8 * SLOT))
        again = await evaluator.dataset(rule, Occasion(at(5400), at(7200), ""), since)
        assert amounts(again.entries)[1] == 428


async def test_other_content_of_the_profile_counts_anew(street):
    gateway = await started(street, RUNNING_HOUR)
    await run_through(gateway, HOUR[:3])
    changed = replace(
        RUNNING_HOUR, processing=(replace(RUNNING_HOUR.processing[0], recipients=("emp", "other")),)
    )
    assert (await gateway.registry.apply(order(changed, version=2))).accepted
    for slot, heard in ((3, 1600), (4, 2000)):
        gateway.hear(SLOT * slot, heard)
        await gateway.until(SLOT * slot + 30)
    assert ones(gateway) == ["300", "400"]  # activated at 00:37:30: what is known of since begins at 00:45


async def test_a_meter_is_exchanged_inside_a_period(street):
    """The old meter's profile is cut short and delivers the rest; the new one's profile begins there."""
    first = replace(RUNNING_HOUR.processing[0], registers="period", billing_period_s=3600)
    ends = replace(first, valid_until=at(1800))
    follows = replace(first, id="after", meter=str(OTHER_METER), valid_from=at(1800))
    sent = RUNNING_HOUR.communication[0]
    both = replace(
        household(),
        meters=(meter_profile(), meter_profile(id="new", meter=str(OTHER_METER))),
        processing=(ends, follows),
        communication=(sent, replace(sent, id="out-2", processing="after")),
    )
    gateway = await started(street, replace(RUNNING_HOUR, processing=(first,)))
    await run_through(gateway, HOUR[:2])
    assert (await gateway.registry.apply(order(both, version=2))).accepted
    for slot, old, new in ((2, 1300, 7), (3, 1600, 17), (4, 2000, 37), (5, 2600, 67), (6, 2700, 107)):
        gateway.hear(SLOT * slot, old)  # it goes on sending, in the fitter's van
        gateway.hear_of(OTHER_METER, SLOT * slot, new)
        await gateway.until(SLOT * slot + 30)
    assert told(gateway) == [
        ("00:30", "", [("1.8.0", "1300"), ("1.8.1", "300"), ("1.8.2", "0"), ("1.8.63", "0")]),
        ("01:30", "", [("1.8.0", "107"), ("1.8.1", "100"), ("1.8.2", "0"), ("1.8.63", "0")]),
    ]
    assert gateway.denials == []


async def test_a_profile_that_has_ended_is_not_taken_up_again(street):
    """What was measured between its end and a later order stays inside."""
    first = replace(RUNNING_HOUR.processing[0], valid_until=at(1800))
    gateway = await started(street, replace(RUNNING_HOUR, processing=(first,)))
    await run_through(gateway, HOUR)
    assert ones(gateway) == ["300"]
    again = replace(RUNNING_HOUR, processing=(replace(first, valid_until=None),))
    assert (await gateway.registry.apply(order(again, version=2))).accepted
    for slot, heard in ((5, 2100), (6, 2200)):
        gateway.hear(SLOT * slot, heard)
        await gateway.until(SLOT * slot + 30)
    assert ones(gateway)[1:] == ["100"]


async def test_a_damaged_register_is_named(tmp_path):
    async with await Partition.open(tmp_path / "c.db", "consumer", module_of()) as partition:
        key = f"{at(0).isoformat()}/{at(-60).isoformat()}"
        await partition.commit([Put(kind("p", at(0)), key, b"{}")])
        with pytest.raises(StoreCorrupt, match="running register"):
            await RunningRegisters(partition).at("p", at(-60), at(0))


def test_a_day_is_kept_as_long_as_derived_values_are():
    assert kind("p", at(0) + timedelta(days=3)) == "derived/p/20260104"
