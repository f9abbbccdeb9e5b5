"""FPT_FLS.1, FPT_PHP.1, FPT_TST.1, FDP_SDI.2, FAU_ARP.1/SYS: states, alarms, self-test, tamper contact."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import pytest

from firmware.chronicle import Chronicle
from firmware.clock.clock import AdjustableClock
from firmware.clock.time_sync import DisciplinedClock, HostTime, TimeSync, TimeUnavailable
from firmware.clock.timekeeping import Outcome as TimeOutcome
from firmware.errors import FirmwareError, LogFull, SelfTestFailed, StoreCorrupt, StoreUnavailable
from firmware.life import selftest
from firmware.life.health import Health
from firmware.life.lifecycle import LifeCycle
from firmware.life.manifest import take
from firmware.life.selftest import SelfTest, free_bytes, known_answers
from firmware.life.states import (
    CAUSES,
    FORBIDDEN,
    Cause,
    End,
    Function,
    OperatingState,
    State,
    forbidden_by,
)
from firmware.life.tamper import driver, gpio
from firmware.life.tamper.driver import FileContact, GpioContact, TamperWatch
from firmware.log.entry import Event, Level, LogKind, Outcome
from firmware.log.journal import Logs
from firmware.log.news import News
from firmware.log.notices import KEPT, Notices
from firmware.log.vocabulary import MEANINGS
from firmware.store.operations import Append
from firmware.store.partition import Partition
from firmware.store.stores import Stores
from firmware.supervisor import Gated
from hsm.api import Curve, KeySlot
from hsm.errors import ModuleUnavailable, PinRefused
from tests.support.soft_module import SoftModule
from wan.ports import Receipt

START = datetime(2026, 1, 1, tzinfo=UTC)
TREE = Path(__file__).parent
"""Stands for the program's tree: nothing in it is named like one of the packages that are watched."""
PROGRAM = take(TREE)


class World:
    def __init__(self, stores: Stores, module: SoftModule, **options) -> None:
        self.stores, self.module = stores, module
        self.host = AdjustableClock(START)
        self.clock = DisciplinedClock(self.host)
        self.notices = Notices(stores.system, self.clock)
        self.logs = Logs(stores, self.clock, **options)
        self.life = LifeCycle(self.logs, self.notices, stores.system)
        self.free = 1000
        common = {"memory": self._memory}
        self.test = SelfTest(
            module, stores, self.logs, self.clock, self.life,
            time_state=lambda: self.clock.state.value, program=PROGRAM, root=TREE, **common,
        )  # fmt: skip
        self.health = Health(module, stores, self.logs, self.clock, self.life, **common)

    async def _memory(self) -> str:
        return f"{self.free} bytes are free" if self.free < 100 else ""

    async def events(self) -> list[Event]:
        return [entry.event for entry in await self.logs.system.entries()]


@pytest.fixture
async def module():
    one = SoftModule()
    await one.generate_key_pair(KeySlot.WAN_SIG, Curve.BRAINPOOL_P256)
    return one


@pytest.fixture
async def stores(tmp_path, module):
    async with await Stores.open(tmp_path, module) as opened:
        yield opened


@pytest.fixture
def world(stores, module):
    return World(stores, module)


# --- the table ----------------------------------------------------------------------------------------------


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


async def turns(count: int = 6) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


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


# --- self-test and health -----------------------------------------------------------------------------------


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


# --- time ---------------------------------------------------------------------------------------------------


class Source:
    name = "test"

    def __init__(self, clock: AdjustableClock) -> None:
        self._host, self.silent = HostTime(clock), False

    async def sample(self):
        if self.silent:
            raise TimeUnavailable("no answer")
        return await self._host.sample()


@pytest.fixture
def sync(world):
    return TimeSync(world.clock, Source(world.host), world.logs, world.life, period_s=lambda: 900)


async def test_fpt_stm_1_the_hosts_clock_jumps_far_ahead_and_back(world, sync):
    await sync.once()
    assert await world.events() == [Event.TIME_SYNCHRONISED]
    world.host.set_utc(START + timedelta(days=400))
    world.host.advance(16)
    assert (await sync.once()).outcome is TimeOutcome.DEVIATION
    assert world.clock.now_utc() == START + timedelta(seconds=16)
    assert not world.clock.valid()
    assert world.life.state is State.MEASUREMENT
    assert world.life.allows(Function.MEASURE)
    world.host.set_utc(START + timedelta(seconds=16))
    world.host.advance(16)
    await sync.once()
    assert (world.clock.valid(), world.life.state) == (True, State.NORMAL)
    assert world.clock.now_utc() == START + timedelta(seconds=32)
    assert [one.event for one in await world.logs.calibration.entries()] == [Event.TIME_DEVIATION]
    assert [one.event for one in await world.notices.waiting()] == [Event.TIME_INVALID]


async def test_fpt_stm_1_a_deviation_may_stop_measuring_instead(world):
    sync = TimeSync(
        world.clock, Source(world.host), world.logs, world.life, period_s=lambda: 900, stop_on_deviation=True
    )
    await sync.once()
    world.host.set_utc(START + timedelta(seconds=60))
    await sync.once()
    assert world.life.state is State.APPLICATION
    await sync.once()
    assert world.life.state is State.NORMAL


async def test_fpt_stm_1_a_silent_source_lets_trust_fade_and_comes_back(world, sync):
    sync._source.silent = True
    with pytest.raises(TimeUnavailable):
        await sync.once()
    assert world.life.causes == {Cause.TIME_INVALID: "it is unknown"}
    sync._source.silent = False
    await sync.once()
    assert world.life.state is State.NORMAL
    sync._source.silent = True
    world.host.advance(300_000)
    with pytest.raises(TimeUnavailable):
        await sync.once()
    assert world.life.state is State.MEASUREMENT


# --- tamper contact -----------------------------------------------------------------------------------------


async def test_fpt_php_1_a_file_is_the_emulators_contact(world, tmp_path):
    seen = []

    async def tampered(text):
        seen.append(text)

    path = tmp_path / "opened"
    clock = AdjustableClock(START)
    task = asyncio.create_task(TamperWatch(FileContact(path), clock, tampered).run())
    await turns()
    assert seen == []
    path.write_text("the cover is off\nand more")
    clock.advance(0.5)
    await turns()
    path.write_text("")
    clock.advance(0.5)
    await turns()
    assert seen == ["the cover is off", "the file is there"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(OSError, match="Is a directory"):
        FileContact(tmp_path).opened()


def test_gpio_structures_have_the_kernels_layout():
    """Sizes, offsets and numbers as a C compiler gives them for linux/gpio.h (x86-64, headers 6.1)."""
    request = gpio.line_request(17, active_low=True, pull_up=True)
    assert len(request) == 592
    assert request[:4] == struct.pack("=I", 17)
    assert request[256:267] == b"smgw tamper"
    assert struct.unpack_from("=Q", request, 288)[0] == 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8
    assert struct.unpack_from("=II", request, 560) == (1, 16)
    assert (gpio.GET_LINE, gpio.GET_VALUES, gpio.EVENT_BYTES) == (0xC250B407, 0xC010B40E, 48)
    struct.pack_into("=i", request, 588, 9)
    assert gpio.line_descriptor(bytes(request)) == 9
    for broken in (bytes(592), b""):
        with pytest.raises(FirmwareError):
            gpio.line_descriptor(broken)


def test_a_gpio_line_is_read_and_short_openings_are_kept(tmp_path, monkeypatch):
    """The kernel's side is played here: no GPIO chip is at hand."""
    events, keep = os.pipe()
    chip = tmp_path / "gpiochip0"
    chip.touch()
    level = [0]

    def ioctl(descriptor, request, data):
        if request == gpio.GET_LINE:
            struct.pack_into("=i", data, 588, os.dup(events))
        else:
            assert request == gpio.GET_VALUES
            assert struct.unpack_from("=Q", data, 8)[0] == 1
            struct.pack_into("=Q", data, 0, level[0])

    monkeypatch.setattr(driver.fcntl, "ioctl", ioctl)
    with GpioContact(chip, 17) as contact:
        assert contact.opened() is None
        os.write(keep, bytes(96))
        assert contact.opened() == "line 17 was active for a moment"
        assert contact.opened() is None
        level[0] = 1
        assert contact.opened() == "line 17 is active"
    os.close(events)
    os.close(keep)
    with pytest.raises(FileNotFoundError), GpioContact(tmp_path / "none", 1):
        pass


def test_a_gpio_line_that_fails_says_so(tmp_path, monkeypatch):
    chip = tmp_path / "gpiochip0"
    chip.touch()

    def ioctl(descriptor, request, data):
        raise OSError(errno.ENOTTY, "no GPIO chip")

    monkeypatch.setattr(driver.fcntl, "ioctl", ioctl)
    with pytest.raises(OSError, match="no GPIO"), GpioContact(chip, 1):
        pass


# --- entries that share the commit of what they tell of -----------------------------------------------------


async def test_fau_gen_1_an_orders_entry_shares_the_commit_and_the_calibration_log_is_told_after_a_kill(
    world,
):
    chronicle = Chronicle(world.logs, world.clock, world.stores.system)
    receipt = Receipt("o1", accepted=True, code="ok", reason="version 1 is active")
    await world.stores.system.commit(chronicle.receipt_entries(receipt))
    # killed here: the effect is there, `receipt` was never called
    again = Chronicle(world.logs, world.clock, world.stores.system)
    for _ in range(2):
        await again.recover()
    assert await world.events() == [Event.ORDER_APPLIED]
    changes = [one.subject for one in await world.logs.calibration.entries()]
    assert changes == ["o1"]


async def test_fau_gen_1_a_kill_between_the_two_logs_tells_the_calibration_log_once(world, monkeypatch):
    chronicle = Chronicle(world.logs, world.clock, world.stores.system)
    receipt = Receipt("o2", accepted=True, code="ok", reason="")
    await world.stores.system.commit(chronicle.receipt_entries(receipt))
    await world.logs.calibration.write(Event.PROFILE_CHANGE, subject="o2", user="gwa")  # killed after this
    await Chronicle(world.logs, world.clock, world.stores.system).recover()
    assert len(await world.logs.calibration.entries()) == 1
    assert await world.stores.system.items("untold") == []


async def test_fau_gen_1_con_a_consumer_is_told_of_his_profiles_once_also_after_a_kill(world):
    """Killed before the consumer's log was told, and killed between telling and noting that it was."""
    news = [
        News(consumer=who, event=Event.PROFILE_CHANGE, text=f"version 1 is active: ~processing/{who}")
        for who in ("anna", "bert")
    ]
    chronicle = Chronicle(world.logs, world.clock, world.stores.system)
    receipt = Receipt("o5", accepted=True, code="ok", reason="version 1 is active")
    await world.stores.system.commit(chronicle.receipt_entries(receipt, news))
    await world.logs.consumer("bert").write(Event.PROFILE_CHANGE, subject="o5", user="gwa", text=news[1].text)
    for _ in range(2):
        await Chronicle(world.logs, world.clock, world.stores.system).recover()
    for one in news:
        (entry,) = await world.logs.consumer(one.consumer).entries()
        assert (entry.event, entry.subject, entry.user, entry.text) == (one.event, "o5", "gwa", one.text)
    assert await world.stores.system.items("untold-consumer") == []


async def test_fau_gen_1_con_an_order_without_a_kill_tells_the_consumer_once(world):
    chronicle = Chronicle(world.logs, world.clock, world.stores.system)
    receipt = Receipt("o6", accepted=True, code="ok", reason="done")
    await world.stores.system.commit(chronicle.instruction_entries(receipt, "anna"))
    await chronicle.instruction(receipt, "anna")
    await Chronicle(world.logs, world.clock, world.stores.system).recover()
    (entry,) = await world.logs.consumer("anna").entries()
    assert (entry.event, entry.subject, entry.text) == (Event.CONTRACT_CHANGE, "o6", "done")


async def test_what_a_consumer_must_be_told_and_cannot_be_read_is_named(world):
    await world.stores.system.put("untold-consumer", "o7/0", b"{}")
    with pytest.raises(StoreCorrupt, match="told"):
        await Chronicle(world.logs, world.clock, world.stores.system).recover()


async def test_fau_gen_1_refusals_are_logged_once_whichever_way_they_came(world):
    chronicle = Chronicle(world.logs, world.clock, world.stores.system)
    refused = Receipt("o3", accepted=False, code="version", reason="too old")
    await world.stores.system.commit(chronicle.receipt_entries(refused))
    await chronicle.receipt(refused)
    await chronicle.receipt(Receipt("o4", accepted=False, code="signature", reason="broken"))
    entries = await world.logs.system.entries()
    assert [(one.event, one.subject) for one in entries] == [
        (Event.ORDER_REFUSED, "o3"),
        (Event.ORDER_REFUSED, "o4"),
    ]
    assert chronicle.counts.orders_refused == 2
