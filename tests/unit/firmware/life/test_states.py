"""FPT_FLS.1, FAU_ARP.1/SYS: the table of causes, what carries it, alarms that wait."""

from __future__ import annotations

import asyncio
from itertools import product

import pytest

from firmware.errors import LogFull, StoreCorrupt, StoreUnavailable
from firmware.life.lifecycle import LifeCycle
from firmware.life.states import CAUSES, FORBIDDEN, Cause, End, Function, OperatingState, State, forbidden_by
from firmware.log.entry import Event, Level, LogKind, Outcome
from firmware.log.notices import KEPT
from firmware.log.vocabulary import MEANINGS
from firmware.store.operations import Append
from firmware.store.partition import Partition
from firmware.supervisor import Gated
from tests.unit.firmware.life.world import World, turns


def test_fpt_fls_1_every_cause_has_a_state_and_every_state_a_rule():
    assert CAUSES.keys() == set(Cause)
    assert FORBIDDEN.keys() == set(State)
    assert {rule.state for rule in CAUSES.values()} == set(State) - {State.NORMAL}
    for lighter, graver in zip(list(State)[1:], list(State)[2:], strict=False):
        assert FORBIDDEN[lighter] <= FORBIDDEN[graver], "a graver state forbids no less"
    assert all(rule.text and rule.remedy for rule in CAUSES.values())


def test_fpt_fls_1_states_as_the_reference_says():
    assert CAUSES[Cause.TIME_INVALID].state is State.MEASUREMENT
    assert CAUSES[Cause.NETWORKS_JOINED].state is State.CONNECTIVITY
    assert CAUSES[Cause.MEMORY_CRITICAL].state is State.APPLICATION
    assert CAUSES[Cause.CALIBRATION_LOG_FULL].state is State.APPLICATION
    assert CAUSES[Cause.CODE_CHANGED].state is State.BOOT
    assert Function.ADMINISTER not in FORBIDDEN[State.APPLICATION]
    assert FORBIDDEN[State.APPLICATION] >= {Function.MEASURE, Function.DELIVER}
    assert FORBIDDEN[State.BOOT] == set(Function)


def test_fpt_fls_1_only_full_memory_spares_and_only_what_mends_it():
    spared = {cause: rule.spares for cause, rule in CAUSES.items() if rule.spares}
    assert spared == {Cause.MEMORY_CRITICAL: frozenset({Function.DELIVER})}
    state = OperatingState()
    state.enter(Cause.MEMORY_CRITICAL)
    assert [one for one in Function if state.allows(one)] == [Function.DELIVER, Function.ADMINISTER]
    state.enter(Cause.TAMPERED)  # another cause forbids for itself
    assert not state.allows(Function.DELIVER)


@pytest.mark.parametrize(("first", "second"), list(product(Cause, Cause)))
def test_causes_add_up_and_go_one_by_one(first, second):
    state = OperatingState()
    for cause in {first, second}:
        assert state.enter(cause, "x")
    assert state.enter(first) is None
    assert state.state is max(CAUSES[first].state, CAUSES[second].state)
    for function in Function:
        forbidden = any(function in forbidden_by(one) for one in (first, second))
        assert state.allows(function) != forbidden
    for by in End:
        left = state.leave(first, by)
        assert (left is not None) == (by is CAUSES[first].end)
    assert state.state is (State.NORMAL if first is second else CAUSES[second].state)


def test_every_event_has_a_meaning():
    assert MEANINGS.keys() == set(Event)
    assert all(meaning.text and meaning.logs for meaning in MEANINGS.values())


# --- carrying it --------------------------------------------------------------------------------------------


async def test_fau_arp_1_a_cause_is_logged_is_an_alarm_and_stops_what_it_forbids(world):
    seen = []
    world.life.watch(lambda: seen.append(world.life.allows(Function.MEASURE)))
    assert await world.life.enter(Cause.MEMORY_CRITICAL, "7 bytes")
    assert not await world.life.enter(Cause.MEMORY_CRITICAL, "6 bytes")
    assert await world.life.leave(Cause.MEMORY_CRITICAL)
    assert not await world.life.leave(Cause.MEMORY_CRITICAL)
    assert seen == [False, True]
    came, went = await world.logs.system.entries()
    assert (came.event, came.outcome, came.level) == (Event.MEMORY_CRITICAL, Outcome.FAILURE, Level.ERROR)
    assert came.evidence == {"state": "application", "before": "normal"}
    assert (went.outcome, went.evidence["state"]) == (Outcome.SUCCESS, "normal")
    [notice] = await world.notices.waiting()
    assert (notice.event, notice.subject) == (Event.MEMORY_CRITICAL, "memory-critical")
    assert [one.event for one in await world.logs.calibration.entries()] == [Event.MEMORY_CRITICAL]


async def test_fpt_php_1_tampering_outlasts_a_restart_until_the_administrator_acknowledges_it(world):
    await world.life.enter(Cause.TAMPERED, "opened")
    assert not await world.life.leave(Cause.TAMPERED)
    again = LifeCycle(world.logs, world.notices, world.stores.system)
    await again.load()
    assert again.causes == {Cause.TAMPERED: "opened"}
    assert again.state is State.APPLICATION
    assert await again.leave(Cause.TAMPERED, End.ORDER)
    last = LifeCycle(world.logs, world.notices, world.stores.system)
    await last.load()
    assert last.state is State.NORMAL
    assert await world.events() == [Event.TAMPER, Event.TAMPER]


async def test_what_a_full_disk_kept_out_of_the_log_is_told_when_there_is_room(world, monkeypatch):
    commit = Partition.commit

    async def full(self, operations):
        raise StoreUnavailable("disk full")

    monkeypatch.setattr(Partition, "commit", full)
    await world.life.enter(Cause.STORE_UNAVAILABLE, "disk full")
    assert world.life.state is State.APPLICATION
    monkeypatch.setattr(Partition, "commit", commit)
    await world.health.look()
    assert world.life.state is State.NORMAL
    assert [one.outcome for one in await world.logs.system.entries()] == [Outcome.FAILURE, Outcome.SUCCESS]
    assert len(await world.notices.waiting()) == 1


async def test_a_full_calibration_log_hides_no_other_state(stores, module):
    world = World(stores, module, capacity={LogKind.CALIBRATION: 1})
    await world.logs.calibration.write(Event.TIME_DEVIATION)
    with pytest.raises(LogFull):
        await world.logs.calibration.write(Event.TIME_DEVIATION)
    await world.health.look()
    assert world.life.state is State.APPLICATION
    await world.life.enter(Cause.MEMORY_CRITICAL, "x")
    assert await world.events() == [Event.LOG_FULL, Event.MEMORY_CRITICAL]


async def test_notices_wait_in_order_are_bounded_and_go_when_they_were_taken(world):
    for number in range(KEPT + 3):
        await world.notices.put(Event.TAMPER, "x", str(number))
    waiting = await world.notices.waiting()
    assert [one.text for one in waiting] == [str(number) for number in range(3, KEPT + 3)]
    await world.notices.taken(waiting[4].number)
    assert (await world.notices.waiting())[0].text == "8"
    await world.stores.system.commit((Append("notice", b"{}"),))
    with pytest.raises(StoreCorrupt):
        await world.notices.waiting()


class Endless:
    name = "endless"

    def __init__(self) -> None:
        self.starts = self.ends = 0
        self.fault: OSError | None = None

    async def run(self) -> None:
        self.starts += 1
        try:
            if self.fault is not None:
                raise self.fault
            await asyncio.Event().wait()
        finally:
            self.ends += 1


async def test_fpt_fls_1_a_gated_service_runs_only_while_it_may(world):
    inner = Endless()
    gated = Gated(inner, lambda: world.life.allows(Function.MEASURE), world.life.watch)
    await world.life.enter(Cause.MEMORY_CRITICAL, "x")
    task = asyncio.create_task(gated.run())
    await turns()
    assert inner.starts == 0
    await world.life.leave(Cause.MEMORY_CRITICAL)
    await turns()
    assert (inner.starts, inner.ends) == (1, 0)
    await world.life.enter(Cause.TIME_INVALID, "marks values, stops nothing")
    await turns()
    assert (inner.starts, inner.ends) == (1, 0)
    await world.life.enter(Cause.MEMORY_CRITICAL, "x")
    await turns()
    assert (inner.starts, inner.ends) == (1, 1)
    await world.life.leave(Cause.MEMORY_CRITICAL)
    await turns()
    assert inner.starts == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert inner.ends == 2
    inner.fault = OSError("line gone")
    with pytest.raises(OSError, match="line gone"):
        await gated.run()
