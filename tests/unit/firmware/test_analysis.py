"""Attacks seen in several entries together (FAU_SAA.1/SYS): rules, and the service that follows the log."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.clock.clock import AdjustableClock
from firmware.life.suspicion import SuspicionWatch
from firmware.log.analysis import MAX_SUBJECTS, RULES, Analysis, Rule
from firmware.log.entry import Entry, Event, Level, LogKind, Outcome
from firmware.log.journal import Journal
from firmware.log.notices import Notices
from firmware.log.vocabulary import MEANINGS
from firmware.store.partition import Partition
from tests.unit.firmware.fixed_module import module_of

START = datetime(2026, 1, 1, tzinfo=UTC)


def entry(
    number: int, seconds: float, event: Event = Event.TELEGRAM_REFUSED, sub_event: str = "mac", **changes
) -> Entry:
    fields = {"subject": "meter", "repeated": 0} | changes
    return Entry(
        log="system",
        number=number,
        previous="",
        at_utc=START + timedelta(seconds=seconds),
        seconds_index=0,
        level=Level.WARNING,
        event=event,
        outcome=Outcome.FAILURE,
        sub_event=sub_event,
        **fields,
    )


def found(entries) -> list[tuple[str, str, int]]:
    analysis = Analysis()
    return [(one.rule.name, one.subject, one.last) for each in entries for one in analysis.take(each)]


def test_one_less_than_the_number_is_noise():
    entries = [entry(number, number) for number in range(1, 31)]
    assert found(entries[:29]) == []
    assert found(entries) == [("forged-telegrams", "meter", 30)]


def test_an_entry_that_stands_for_several_counts_as_often():
    assert found([entry(1, 0, repeated=28)]) == []
    assert found([entry(1, 0, repeated=28), entry(2, 60)]) == [("forged-telegrams", "meter", 2)]


def test_what_is_spread_over_a_longer_time_is_noise():
    assert found([entry(number, 125 * number) for number in range(1, 200)]) == []


def test_each_meter_is_counted_apart_and_peers_together():
    meters = [entry(number, number, subject=f"meter-{number % 2}") for number in range(1, 50)]
    assert found(meters) == []
    peers = [
        entry(number, number, Event.AUTHENTICATION_FAILED, "x", subject=f"peer-{number}")
        for number in range(1, 6)
    ]
    assert found(peers) == [("false-peers", "", 5)]


def test_an_alarm_is_told_once_in_its_time():
    flood = [entry(number, number * 10) for number in range(1, 800)]
    told = found(flood)
    assert [last for _, _, last in told] == [30, 390, 750]


def test_what_is_over_is_not_counted():
    over = [dataclasses.replace(entry(number, number), outcome=Outcome.SUCCESS) for number in range(1, 99)]
    assert found(over) == []


def test_other_reasons_are_other_rules():
    replays = [entry(number, number, sub_event="counter") for number in range(1, 31)]
    crcs = [entry(number, number, sub_event="crc") for number in range(1, 999)]
    assert found(replays) == [("replayed-telegrams", "meter", 30)]
    assert found(crcs) == []


@given(st.lists(st.tuples(st.integers(-(10**6), 10**6), st.integers(0, 40)), max_size=60))
def test_a_clock_that_jumps_breaks_nothing(steps):
    analysis = Analysis()
    for number, (seconds, repeated) in enumerate(steps, start=1):
        analysis.take(entry(number, seconds, repeated=repeated))
    window = analysis._windows["forged-telegrams"].get("meter")
    assert window is None or window.total == sum(times for _, times in window.seen)


def test_chosen_subjects_do_not_fill_memory():
    analysis = Analysis()
    for number in range(MAX_SUBJECTS + 50):
        analysis.take(entry(number + 1, 0, subject=f"meter-{number}"))
    assert analysis.watched()["forged-telegrams"] == MAX_SUBJECTS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_can_be_met_by_what_the_system_log_holds(rule: Rule):
    for event in rule.events:
        assert LogKind.SYSTEM in MEANINGS[event].logs
        assert MEANINGS[event].written
        sub_event = min(rule.sub_events, default="")
        told = found([entry(1, 0, event, sub_event, repeated=rule.count - 1)])
        assert rule.name in [name for name, _, _ in told]


# ------------------------------------------------------------------ the service


class World:
    def __init__(self, partition: Partition) -> None:
        self.partition, self.clock = partition, AdjustableClock(START)
        self.system = Journal(partition, LogKind.SYSTEM, self.clock)
        self.notices = Notices(partition, self.clock)

    def watch(self) -> SuspicionWatch:
        return SuspicionWatch(self.system, self.notices, self.partition, self.clock)

    async def refuse(self, times: int) -> None:
        await self.system.write(
            Event.TELEGRAM_REFUSED, Outcome.FAILURE, sub_event="mac", subject="meter", repeated=times - 1
        )

    async def told(self) -> list[Entry]:
        return [one for one in await self.system.entries() if one.event is Event.ATTACK_SUSPECTED]


@pytest.fixture
async def world(tmp_path):
    async with await Partition.open(tmp_path / "system.db", "system", module_of()) as partition:
        yield World(partition)


async def test_fau_saa_1_sys_many_refusals_are_an_alarm(world):
    watch = world.watch()
    await watch.step()
    await world.refuse(29)
    await watch.step()
    assert await world.told() == []
    await world.refuse(1)
    await watch.step()
    [told] = await world.told()
    assert (told.sub_event, told.subject, told.parent) == ("forged-telegrams", "meter", 2)
    [alarm] = await world.notices.waiting()
    assert (alarm.event, alarm.subject) == (Event.ATTACK_SUSPECTED, "meter")


async def test_a_restart_counts_on_and_tells_nothing_twice(world):
    await world.watch().step()
    await world.refuse(20)
    await world.watch().step()
    await world.refuse(20)
    for _ in range(3):
        await world.watch().step()
    assert len(await world.told()) == 1
    assert len(await world.notices.waiting()) == 1


async def test_a_long_log_is_read_from_where_it_matters(world):
    await world.partition.commit([world.system.operation(Event.LOG_READ) for _ in range(450)])
    world.clock.advance(3 * 86400)
    await world.refuse(15)
    await world.partition.commit([world.system.operation(Event.LOG_READ) for _ in range(250)])
    await world.refuse(15)
    watch = world.watch()
    assert 0 < await watch._start() <= 450
    await watch.step()
    assert len(await world.told()) == 1
