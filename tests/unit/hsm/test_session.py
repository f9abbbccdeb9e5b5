"""The session task: start, recovery, slots, priorities, deadlines, renewal, PINs that must not be tried."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hsm import curves
from hsm.api import Curve, DataObject, KeySlot, SecurityModule
from hsm.emulator.card import Card
from hsm.emulator.state import CardState
from hsm.emulator.transport import EmulatorTransport
from hsm.errors import (
    ChannelBroken,
    CommandRefused,
    HsmError,
    MalformedResponse,
    ModuleFailed,
    ModuleUnavailable,
    PinRefused,
)
from hsm.profile import PROJECT
from hsm.session import FilePinGuard, MemoryPinGuard, ModuleSession, Priority, pin_digest
from tests.support.card import PIN, ScriptedTransport, make_card

SLOTS = len(PROJECT.ephemeral_references)
START = 6  # APDUs of SELECT and PACE


def session_on(card: Card, **options: Any) -> ModuleSession:
    return ModuleSession(lambda: EmulatorTransport(card), lambda: PIN, **options)


class Line:
    """A line to one card on which `fault` may be set at any time."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.fault: Callable[[bytes, int], bytes | None] = lambda command, count: None
        self.connections = 0
        self.missing = 0

    def __call__(self) -> ScriptedTransport:
        self.connections += 1
        if self.missing:
            self.missing -= 1
            raise ModuleUnavailable("no card in the reader")
        return ScriptedTransport(self.card, lambda command, count: self.fault(command, count))

    def once(self, action: bytes | type[HsmError]) -> None:
        """Spoil the next answer."""

        def fault(command: bytes, count: int) -> bytes | None:
            self.fault = lambda command, count: None
            if isinstance(action, bytes):
                return action
            raise action("scripted")

        self.fault = fault

    def session(self, **options: Any) -> ModuleSession:
        return ModuleSession(self, lambda: PIN, first_pause_s=0.001, **options)


async def test_the_whole_interface() -> None:
    card, _ = make_card()
    async with session_on(card) as session:
        module: SecurityModule = session
        assert len(await module.random(256)) == 256
        key = await module.generate_key_pair(KeySlot.WAN_TLS, Curve.BRAINPOOL_P256)
        assert await module.public_key(KeySlot.WAN_TLS) == key
        assert len(await module.sign(KeySlot.WAN_TLS, bytes(32))) == 64
        ephemeral = await module.generate_ephemeral(Curve.BRAINPOOL_P256)
        secret = await module.agree(KeySlot.WAN_TLS, ephemeral.public.point)
        assert await module.agree_ephemeral(ephemeral, key.point) == secret
        await module.write_object(DataObject.IDENTIFIERS, b"ESGW0100000001")
        assert await module.read_object(DataObject.IDENTIFIERS) == b"ESGW0100000001"
        assert session.statistics.sessions == 1
        assert session.statistics.apdus > 15
        with pytest.raises(CommandRefused):
            await module.public_key(KeySlot.LMN_TLS)
        with pytest.raises(ValueError, match="256"):
            await module.random(0)
    with pytest.raises(ModuleUnavailable):
        await session.random(8)
    with pytest.raises(ModuleUnavailable):
        await session.generate_ephemeral(Curve.P256)


async def test_many_callers_at_once() -> None:
    card, _ = make_card()
    async with session_on(card) as module:
        answers = await asyncio.gather(*(module.random(16) for _ in range(60)))
        assert len(set(answers)) == 60


# --- PINs --------------------------------------------------------------------------------------------------


async def test_a_refused_pin_is_never_tried_again_until_it_changes(tmp_path: Path) -> None:
    card, memory = make_card()
    path = tmp_path / "refused"
    pins = [b"0000000001"]
    sent: list[bytes] = []

    class Watched(EmulatorTransport):
        async def transmit(self, command: bytes) -> bytes:
            sent.append(command)
            return await super().transmit(command)

    def session() -> ModuleSession:
        return ModuleSession(lambda: Watched(card), lambda: pins[0], guard=FilePinGuard(path))

    with pytest.raises(PinRefused) as caught:
        await session().__aenter__()
    assert caught.value.attempts_left == 2
    assert len(sent) == START
    for _ in range(5):  # a supervisor that restarts
        with pytest.raises(PinRefused, match="before"):
            await session().__aenter__()
    assert len(sent) == START
    assert memory.state.pin_left == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"0000000001" not in path.read_bytes()
    pins[0] = PIN
    async with session() as module:
        await module.random(8)
    assert memory.state.pin_left == 3


async def test_pace_is_not_started_with_one_try_left() -> None:
    def last(state: CardState) -> None:
        state.pin_left = 1

    card, memory = make_card(change=last)
    guard = MemoryPinGuard()
    with pytest.raises(PinRefused, match="not tried"):
        await session_on(card, guard=guard).__aenter__()
    assert memory.state.pin_left == 1
    assert not guard.refused(pin_digest(PIN))  # it was not the PIN's fault


async def test_a_guard_that_cannot_remember_does_not_hide_the_refusal() -> None:
    class Broken(MemoryPinGuard):
        def note(self, pin_digest: bytes) -> None:
            raise OSError("read-only")

    card, _ = make_card()
    with pytest.raises(PinRefused):
        await ModuleSession(lambda: EmulatorTransport(card), lambda: b"0" * 10, guard=Broken()).__aenter__()


async def test_a_pin_refused_later_ends_everything() -> None:
    card, memory = make_card()
    line = Line(card)
    pins = [PIN]
    async with ModuleSession(line, lambda: pins[0], first_pause_s=0.001) as module:
        pins[0] = b"9999999999"
        line.once(ModuleUnavailable)
        with pytest.raises(PinRefused):
            await module.random(8)
        apdus = module.statistics.apdus
        for _ in range(3):
            with pytest.raises(PinRefused):
                await module.random(8)
        with pytest.raises(PinRefused):
            await module.generate_ephemeral(Curve.P256)
        assert module.statistics.apdus == apdus
        with pytest.raises(PinRefused):
            await module.ended()
    assert memory.state.pin_left == 2
    with pytest.raises(PinRefused):
        await module.ended()


async def test_a_repaired_fault_is_reported() -> None:
    card, _ = make_card()
    line, told = Line(card), list[str]()
    async with ModuleSession(line, lambda: PIN, first_pause_s=0.001) as module:
        module.report = lambda fault: told.append(type(fault).__name__)
        line.once(ModuleUnavailable)
        assert len(await module.random(8)) == 8
    assert told == ["ModuleUnavailable"]
    with pytest.raises(ModuleUnavailable):
        await ModuleSession(line, lambda: PIN).ended()


# --- a card that fails -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (ModuleUnavailable, ModuleUnavailable),
        (b"", MalformedResponse),
        (b"\x90", MalformedResponse),
        (b"\x12\x34", MalformedResponse),
        (b"\x90\x00", ChannelBroken),
        (b"\x69\x88", ChannelBroken),
        (b"garbage\x90\x00", ChannelBroken),
    ],
)
async def test_one_fault_is_repaired(fault: Any, error: type[HsmError]) -> None:
    card, _ = make_card()
    line = Line(card)
    async with line.session() as module:
        line.once(fault)
        assert len(await module.random(8)) == 8  # repeated on a new connection
        assert module.statistics.sessions == 2
        line.once(fault)
        with pytest.raises(error):  # not to be repeated
            await module.generate_key_pair(KeySlot.WAN_TLS, Curve.P256)
        assert len(await module.random(8)) == 8
        assert module.statistics.sessions == 3


async def test_a_fault_that_stays_is_reported_and_the_service_recovers() -> None:
    card, _ = make_card()
    line = Line(card)
    async with line.session(deadline_s=5) as module:
        # Talks nonsense to every request, though PACE works each time.
        line.fault = lambda command, count: b"\x00\x00" if count > START else None
        with pytest.raises(MalformedResponse):
            await module.random(8)
        line.fault = lambda command, count: b"\x00\x00"
        with pytest.raises(ModuleUnavailable) as caught:
            await module.at(Priority.NORMAL, deadline_s=0.05).random(8)
        assert isinstance(caught.value.__cause__, MalformedResponse)
        line.fault = lambda command, count: None
        assert len(await module.random(8)) == 8


async def test_a_card_taken_out_and_put_back() -> None:
    card, _ = make_card()
    line = Line(card)
    async with line.session() as module:
        line.missing = 3
        line.once(ModuleUnavailable)
        assert len(await module.random(8)) == 8
        assert line.connections == 5


async def test_a_card_that_hangs() -> None:
    card, _ = make_card()
    hang = False

    class Hanging(EmulatorTransport):
        async def transmit(self, command: bytes) -> bytes:
            if hang:
                await asyncio.sleep(3600)
            return await super().transmit(command)

    options = {"first_pause_s": 0.001, "deadline_s": 0.2}
    async with ModuleSession(lambda: Hanging(card), lambda: PIN, **options) as module:
        hang = True
        with pytest.raises(ModuleUnavailable, match="deadline"):
            await module.at(Priority.NORMAL, deadline_s=0.02).random(8)
        hang = False
        assert len(await module.at(Priority.NORMAL, deadline_s=9).random(8)) == 8
    hang = True
    with pytest.raises(ModuleUnavailable, match="in time"):
        await ModuleSession(lambda: Hanging(card), lambda: PIN, deadline_s=0.02).__aenter__()


async def test_the_first_connection_reports_its_fault() -> None:
    card, _ = make_card()
    cases = ((b"", MalformedResponse), (ModuleUnavailable, ModuleUnavailable), (b"\x6a\x82", CommandRefused))
    for fault, error in cases:
        line = Line(card)
        line.once(fault)
        with pytest.raises(error):
            await line.session().__aenter__()
    line = Line(card)
    line.missing = 1
    with pytest.raises(ModuleUnavailable):
        await line.session().__aenter__()


async def test_a_fault_of_the_module_itself_does_not_end_the_session() -> None:
    card, memory = make_card()
    async with session_on(card) as module:
        memory.broken = True
        with pytest.raises(ModuleFailed):
            await module.generate_key_pair(KeySlot.WAN_TLS, Curve.P256)
        memory.broken = False
        await module.generate_key_pair(KeySlot.WAN_TLS, Curve.P256)
        assert module.statistics.sessions == 1


async def test_a_mistake_of_ours_leaves_nobody_waiting() -> None:
    card, _ = make_card()
    line = Line(card)
    session = line.session()
    await session.__aenter__()

    def mistake(command: bytes, count: int) -> bytes | None:
        raise ZeroDivisionError

    line.fault = mistake
    waiting = [asyncio.ensure_future(session.random(8)) for _ in range(2)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, ModuleFailed) for result in results)
    with pytest.raises(ZeroDivisionError):
        await session.__aexit__(None, None, None)


# --- ephemeral keys ----------------------------------------------------------------------------------------


async def test_slots_are_waited_for_and_given_back() -> None:
    card, _ = make_card()
    async with session_on(card) as module:
        point = curves.generator(Curve.P256)
        keys = [await module.generate_ephemeral(Curve.P256) for _ in range(SLOTS)]
        with pytest.raises(ModuleUnavailable, match="slot"):
            await module.at(Priority.NORMAL, deadline_s=0.01).generate_ephemeral(Curve.P256)
        late = [asyncio.ensure_future(module.generate_ephemeral(Curve.P256)) for _ in range(3)]
        await asyncio.sleep(0)
        late[0].cancel()
        await module.agree_ephemeral(keys[0], point)
        await module.discard_ephemeral(keys[1])
        await module.discard_ephemeral(keys[1])
        await asyncio.gather(*late[1:])
        for key in keys[:2]:
            with pytest.raises(ChannelBroken, match="used up"):
                await module.agree_ephemeral(key, point)


async def test_slots_survive_failures_and_cancelled_callers() -> None:
    card, _ = make_card()
    async with session_on(card) as module:
        for _ in range(2 * SLOTS):
            key = await module.generate_ephemeral(Curve.P256)
            with pytest.raises(CommandRefused, match="6A80"):
                await module.agree_ephemeral(key, b"\x04" + bytes(64))
        for steps in range(6):
            for _ in range(SLOTS):
                task = asyncio.ensure_future(module.generate_ephemeral(Curve.P256))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await module.discard_ephemeral(await task)
        keys = [await module.generate_ephemeral(Curve.P256) for _ in range(SLOTS)]
        assert len({key.reference for key in keys}) == SLOTS


async def test_an_ephemeral_key_dies_with_its_session() -> None:
    card, _ = make_card()
    line = Line(card)
    async with line.session() as module:
        keys = [await module.generate_ephemeral(Curve.P256) for _ in range(SLOTS)]
        line.once(ModuleUnavailable)
        await module.random(8)
        with pytest.raises(ChannelBroken, match="died"):
            await module.agree_ephemeral(keys[0], curves.generator(Curve.P256))
        await module.discard_ephemeral(keys[1])
        fresh = [await module.generate_ephemeral(Curve.P256) for _ in range(SLOTS)]
        assert not {key.reference for key in fresh} & {key.reference for key in keys}
        # A key is lost with the connection on which it is being used.
        line.once(ModuleUnavailable)
        with pytest.raises(ModuleUnavailable):
            await module.agree_ephemeral(fresh[0], curves.generator(Curve.P256))


async def test_a_slot_waited_for_across_a_loss() -> None:
    card, _ = make_card()
    line = Line(card)
    async with line.session() as module:
        for _ in range(SLOTS):
            await module.generate_ephemeral(Curve.P256)
        waiting = asyncio.ensure_future(module.generate_ephemeral(Curve.P256))
        await asyncio.sleep(0)
        line.once(ModuleUnavailable)
        await module.random(8)
        await waiting


# --- order and age -----------------------------------------------------------------------------------------


async def test_urgent_requests_go_first() -> None:
    card, _ = make_card()
    async with session_on(card) as module:
        order: list[Priority] = []

        async def call(priority: Priority) -> None:
            await module.at(priority).random(8)
            order.append(priority)

        await asyncio.gather(*(call(p) for p in (Priority.BULK, Priority.NORMAL, Priority.HANDSHAKE) * 2))
        assert order == sorted(order)


async def test_a_request_whose_deadline_passes_in_the_queue_is_not_carried_out() -> None:
    card, _ = make_card()
    line = Line(card)
    async with line.session() as module:
        line.missing = 10**6
        line.once(ModuleUnavailable)
        with pytest.raises(ModuleUnavailable):
            await module.at(Priority.NORMAL, deadline_s=0.02).random(8)
        line.missing = 0
        before = module.statistics.apdus
        await module.random(8)
        assert module.statistics.apdus == before + START + 1


async def test_renewal_before_48_hours() -> None:
    card, _ = make_card()
    now = [0.0]
    async with session_on(card, clock=lambda: now[0]) as module:
        await module.random(8)
        now[0] = 45 * 3600
        await module.random(8)
        assert module.statistics.sessions == 1
        key = await module.generate_ephemeral(Curve.P256)
        now[0] = 46 * 3600 + 60  # due, but a handshake is under way
        await module.random(8)
        assert module.statistics.sessions == 1
        await module.agree_ephemeral(key, curves.generator(Curve.P256))
        await module.random(8)
        await module.random(8)
        assert module.statistics.sessions == 2
        await module.generate_ephemeral(Curve.P256)
        now[0] += 47 * 3600  # no handshake takes that long
        await module.random(8)
        await module.random(8)
        assert module.statistics.sessions == 3


async def test_an_idle_session_is_renewed_too() -> None:
    card, _ = make_card()
    renewed = asyncio.Event()
    connected: list[bytes] = []

    def pin() -> bytes:
        connected.append(b"")
        if len(connected) == 3:
            renewed.set()
        return PIN

    async with ModuleSession(lambda: EmulatorTransport(card), pin, lifetime_s=0.02):
        await renewed.wait()


async def test_closing_leaves_nobody_waiting() -> None:
    card, _ = make_card()
    line = Line(card)
    async with line.session() as module:
        line.missing = 10**6
        line.once(ModuleUnavailable)
        waiting = [asyncio.ensure_future(module.random(8)) for _ in range(3)]
        await asyncio.sleep(0.01)

    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, ModuleUnavailable) for result in results)

    class Hanging(EmulatorTransport):
        async def transmit(self, command: bytes) -> bytes:
            if command[1] == 0x84:
                await asyncio.sleep(3600)
            return await super().transmit(command)

    async with ModuleSession(lambda: Hanging(card), lambda: PIN) as module:
        in_flight = asyncio.ensure_future(module.random(8))
        await asyncio.sleep(0.01)
    with pytest.raises(ModuleUnavailable, match="closed"):
        await in_flight


async def test_the_queue_is_bounded() -> None:
    card, _ = make_card()
    line = Line(card)
    async with line.session() as module:
        line.missing = 10**6
        line.once(ModuleUnavailable)
        waiting = [asyncio.ensure_future(module.random(8)) for _ in range(1100)]
        await asyncio.sleep(0.01)
        refused = [task for task in waiting if task.done()]
        assert 0 < len(refused) < 100
        for task in refused:
            with pytest.raises(ModuleUnavailable, match="too many"):
                await task
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        line.missing = 0
        assert len(await module.random(8)) == 8
