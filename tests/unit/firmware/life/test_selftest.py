"""FPT_TST.1, FDP_SDI.2: the self-test, and what looks after module, stores and memory."""

from __future__ import annotations

import asyncio

import pytest

from firmware.clock.clock import AdjustableClock
from firmware.errors import SelfTestFailed, StoreCorrupt
from firmware.life import selftest
from firmware.life.selftest import free_bytes, known_answers
from firmware.life.states import Cause, Function, State
from firmware.log.entry import Event, Outcome
from firmware.store.operations import Append
from firmware.store.partition import Partition
from hsm.errors import ModuleUnavailable, PinRefused
from tests.unit.firmware.life.world import START, turns


async def test_fpt_tst_1_a_whole_gateway_passes_and_says_so_to_everybody(world):
    await world.logs.consumer("anna").write(Event.DATA_RELEASED)
    checks = await world.test.test()
    assert [(one.name, one.ok) for one in checks] == [
        (name, True) for name in ("algorithms", "program", "module", "stores", "logs", "memory", "clock")
    ]
    assert (await world.events())[-1] is Event.SELF_TEST
    assert (await world.logs.consumer("anna").entries())[-1].event is Event.SELF_TEST
    assert all(one.ok for one in await world.test.test(quick=True))
    assert world.life.state is State.NORMAL


async def fail_algorithms(world, monkeypatch):
    monkeypatch.setattr(selftest, "_SHA256_ABC", "00" * 32)


async def fail_program(world, monkeypatch):
    world.test._program = {"firmware/boot.py": "00" * 32}


async def fail_module(world, monkeypatch):
    world.module.faults["random"] = ModuleUnavailable("gone")


async def fail_random(world, monkeypatch):
    async def same(count):
        return b"\x07" * count

    monkeypatch.setattr(world.module, "random", same)


async def fail_signature(world, monkeypatch):
    async def wrong(slot, digest):
        return b"\x01" * 64

    monkeypatch.setattr(world.module, "sign", wrong)


async def fail_logs(world, monkeypatch):
    await world.logs.system.write(Event.BOOT)
    [(_, first)] = await world.stores.system.records("log/system")
    await world.stores.system.commit([Append("log/system", first)])


async def fail_stores(world, monkeypatch):
    async def damage(self):
        return ["partition consumer: record 7"] if self.name == "consumer" else []

    monkeypatch.setattr(Partition, "damage", damage)


async def fail_memory(world, monkeypatch):
    world.free = 99


@pytest.mark.parametrize(
    ("spoil", "name", "cause"),
    [
        (fail_algorithms, "algorithms", Cause.SELF_TEST_FAILED),
        (fail_program, "program", Cause.CODE_CHANGED),
        (fail_module, "module", Cause.MODULE_LOST),
        (fail_random, "module", Cause.SELF_TEST_FAILED),
        (fail_signature, "module", Cause.SELF_TEST_FAILED),
        (fail_logs, "logs", Cause.STORE_CORRUPT),
        (fail_stores, "stores", Cause.STORE_CORRUPT),
    ],
)
async def test_fpt_tst_1_each_check_can_fail(world, monkeypatch, spoil, name, cause):
    await spoil(world, monkeypatch)
    checks = await world.test.test()
    assert [one.name for one in checks if not one.ok] == [name]
    assert cause in world.life.causes
    if cause is not Cause.STORE_CORRUPT or spoil is fail_stores:
        assert (await world.logs.system.entries())[-1].outcome is Outcome.FAILURE


async def test_fpt_tst_1_memory_is_a_check_and_ends_by_itself(world):
    world.free = 99
    assert [one.name for one in await world.test.test() if not one.ok] == ["memory"]
    assert Cause.MEMORY_CRITICAL in world.life.causes
    world.free = 100
    await world.test.test()
    assert world.life.state is State.NORMAL


async def test_fpt_tst_1_runs_each_day(world):
    world.test._clock = AdjustableClock(START)
    task = asyncio.create_task(world.test.run())
    await turns()
    world.test._clock.advance(86_399)
    await asyncio.sleep(0.05)
    assert world.test.last == ()
    world.test._clock.advance(1)
    async with asyncio.timeout(10):
        while not world.test.last:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_known_answers_and_free_room(tmp_path, monkeypatch):
    known_answers()
    monkeypatch.setattr(selftest, "_GCM_ZERO", "00" * 32)
    with pytest.raises(SelfTestFailed, match="AES-GCM"):
        known_answers()
    assert free_bytes(tmp_path) > 0


async def test_a_module_lost_for_an_hour_is_a_state_two_entries_and_one_alarm(world):
    world.module.faults["random"] = ModuleUnavailable("pulled")
    for _ in range(240):
        await world.health.look()
    assert world.life.state is State.CONNECTIVITY
    assert world.life.allows(Function.MEASURE)  # meters are heard all the while
    del world.module.faults["random"]
    await world.health.look()
    assert world.life.state is State.NORMAL
    assert await world.events() == [Event.MODULE_FAILED, Event.MODULE_FAILED]
    assert len(await world.notices.waiting()) == 1


async def test_what_is_missing_is_looked_for_often(world):
    world.module.faults["random"] = ModuleUnavailable("pulled")
    clock = world.health._clock = AdjustableClock(START)
    task = asyncio.create_task(world.health.run())

    async def until(state):
        async with asyncio.timeout(10):
            while world.life.state is not state:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.005)

    await turns()
    clock.advance(15)
    await until(State.CONNECTIVITY)
    del world.module.faults["random"]
    await asyncio.sleep(0.05)
    clock.advance(1)
    await until(State.NORMAL)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_health_asks_no_module_again_that_refused_its_pin(world):
    world.module.faults["random"] = PinRefused("refused", 2)
    with pytest.raises(PinRefused):
        await world.health.look()


async def test_fdp_sdi_2_a_damaged_store_is_a_state(world, monkeypatch):
    async def corrupt(self, kind, key, plaintext):
        raise StoreCorrupt("page 3")

    monkeypatch.setattr(Partition, "put", corrupt)
    await world.health.look()
    assert Cause.STORE_CORRUPT in world.life.causes
    assert world.life.state is State.APPLICATION
