"""A card in a PC/SC reader: real pcscd, real vpcd, real pyscard; and what happens when each of them fails.

The recovery table: whatever breaks, the session is back within five seconds of the card's return, or says
plainly why not; nothing is signed twice for one call.
"""

from __future__ import annotations

import asyncio
import builtins
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hsm import pcsc
from hsm.api import Curve, KeySlot
from hsm.emulator.vpcd import NoCard
from hsm.errors import CommandRefused, ModuleUnavailable, NotDelivered, PinRefused
from hsm.pcsc import PcscTransport, Reader, choose, list_readers
from hsm.profile import PROJECT
from hsm.session import ModuleSession, Priority
from tests.support.card import PIN, make_card
from tests.support.reader import CardThread, WatchedCard, count, needs_pcsc, once, pcsc_daemon, pull
from tools.counterparts.pcscd import Pcscd, free_pair

pytestmark = needs_pcsc

SIGN, RANDOM = PROJECT.ins_pso, PROJECT.ins_get_challenge
WITHIN_S = 5.0
READER = "smgw 00 00"


def watched(change: Any = None) -> WatchedCard:
    return WatchedCard(make_card(change=change)[0])


async def started(reader: str = READER, **options: Any) -> ModuleSession:
    """A session; waits until pcscd has noticed its card."""
    while True:
        session = ModuleSession(lambda: PcscTransport(reader), lambda: PIN, first_pause_s=0.05, **options)
        try:
            return await session.__aenter__()
        except ModuleUnavailable:
            await asyncio.sleep(0.05)


async def ended(session: ModuleSession) -> None:
    await session.__aexit__(None, None, None)


class Bench:
    """A reader, its daemon, and a card that can be put in and taken out."""

    def __init__(self, daemon: Pcscd, thread: CardThread, port: int) -> None:
        self.daemon, self._thread, self._port = daemon, thread, port

    def insert(self, card: WatchedCard) -> None:
        self._thread.insert(card, self._port)

    def pull(self) -> None:
        self._thread.pull()


@pytest.fixture
def bench(card_thread: CardThread) -> Iterator[Bench]:
    """The card calls vpcd, as from outside: it may go without taking pcscd down."""
    port = free_pair()
    with pcsc_daemon(f"/dev/null:{port}") as daemon:
        yield Bench(daemon, card_thread, port)
        card_thread.pull()


# --- the road ----------------------------------------------------------------------------------------------


async def test_the_road_through_pcscd(card_thread: CardThread) -> None:
    """vpcd calls the card on loopback: what the demo does."""
    card = watched()
    with card_thread.shown(card) as port, pcsc_daemon(f"127.0.0.1:{port}") as daemon:
        module = await started()
        assert len(await module.random(256)) == 256
        key = await module.generate_key_pair(KeySlot.WAN_TLS, Curve.BRAINPOOL_P512)
        assert len(await module.sign(KeySlot.WAN_TLS, bytes(64))) == 128
        ephemeral = await module.generate_ephemeral(Curve.BRAINPOOL_P512)
        assert len(await module.agree_ephemeral(ephemeral, key.point)) == 64
        there = {reader.name: reader.atr for reader in await list_readers()}
        assert there == {READER: card.atr, "smgw 00 01": NoCard.atr}
        await ended(module)
        for wanted in (f"atr:{card.atr.hex()}", r"^smgw .. 00$"):
            transport = PcscTransport(wanted)
            await transport.connect()
            assert (transport.reader, transport.atr) == (READER, card.atr)
            await transport.close()
            await transport.close()
            with pytest.raises(NotDelivered):
                await transport.transmit(bytes(4))
        with pytest.raises(ModuleUnavailable, match="no reader fits 'none'; PC/SC has 'smgw 00 00'"):
            await PcscTransport("none").connect()
        assert daemon.running


async def test_a_new_connection_finds_no_session(card_thread: CardThread) -> None:
    """A card that another program left powered and logged in is reset first."""
    card = watched()
    with card_thread.shown(card) as port, pcsc_daemon(f"127.0.0.1:{port}"):
        await ended(await started())
        card.events.clear()
        transport = PcscTransport(READER)
        await transport.connect()
        assert card.events
        assert (await transport.transmit(bytes.fromhex("0084000008"))) == b"\x69\x82"
        await transport.close()


# --- the recovery table ------------------------------------------------------------------------------------


async def test_a_card_killed_while_it_signs(bench: Bench) -> None:
    card = watched()
    bench.insert(card)
    module = await started()
    await module.generate_key_pair(KeySlot.WAN_SIG, Curve.P256)
    card.after = once(SIGN, pull)
    with pytest.raises(ModuleUnavailable):
        await module.sign(KeySlot.WAN_SIG, bytes(32))
    assert count(card, SIGN) == 1
    assert len(await module.at(Priority.NORMAL, WITHIN_S).random(8)) == 8
    assert len(await module.sign(KeySlot.WAN_SIG, b"\1" * 32)) == 64
    assert count(card, SIGN) == 2
    await ended(module)


async def test_a_card_killed_before_it_worked_is_asked_again(bench: Bench) -> None:
    card = watched()
    bench.insert(card)
    module = await started()
    card.before = once(RANDOM, pull)
    assert len(await module.at(Priority.NORMAL, WITHIN_S).random(8)) == 8
    assert module.statistics.sessions == 2
    await ended(module)


async def test_a_card_taken_out_and_put_back_while_idle(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is noticed before the command leaves: even a signature is simply made."""
    monkeypatch.setattr(pcsc, "IDLE_S", 0.0)
    card = watched()
    bench.insert(card)
    module = await started()
    await module.generate_key_pair(KeySlot.WAN_SIG, Curve.P256)
    bench.pull()
    while any(reader.atr for reader in await list_readers()):  # noqa: ASYNC110 - pcscd does not tell
        await asyncio.sleep(0.02)
    with pytest.raises(ModuleUnavailable, match=r"taken out|no card"):
        await module.at(Priority.NORMAL, 0.5).random(8)
    bench.insert(card)
    assert len(await module.at(Priority.NORMAL, WITHIN_S).sign(KeySlot.WAN_SIG, bytes(32))) == 64
    assert count(card, SIGN) == 1
    await ended(module)


async def test_a_swapped_card_is_no_longer_ours(bench: Bench) -> None:
    bench.insert(watched())
    module = await started()
    await module.generate_key_pair(KeySlot.WAN_SIG, Curve.P256)
    bench.insert(watched())  # the same PIN, none of the keys
    with pytest.raises((CommandRefused, ModuleUnavailable)):
        await module.at(Priority.NORMAL, WITHIN_S).sign(KeySlot.WAN_SIG, bytes(32))
    with pytest.raises(CommandRefused, match="6A88"):
        await module.at(Priority.NORMAL, WITHIN_S).sign(KeySlot.WAN_SIG, bytes(32))

    def other_pin(state: Any) -> None:
        state.pin = b"9999999999"

    stranger = watched(other_pin)
    bench.insert(stranger)
    with pytest.raises(PinRefused):
        await module.at(Priority.NORMAL, WITHIN_S).random(8)
    tried = count(stranger, PROJECT.ins_general_authenticate)
    with pytest.raises(PinRefused):
        await module.random(8)
    assert count(stranger, PROJECT.ins_general_authenticate) == tried  # it cost one try, not three
    await ended(module)


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
async def test_pcscd_restarted(bench: Bench, kill: bool) -> None:
    card = watched()
    bench.insert(card)
    module = await started()
    await module.generate_key_pair(KeySlot.WAN_SIG, Curve.P256)
    bench.daemon.stop(kill=kill)
    with pytest.raises(ModuleUnavailable, match=r"pcscd does not run|was stopped"):
        await module.at(Priority.NORMAL, 0.5).random(8)
    bench.daemon.start()
    assert len(await module.at(Priority.NORMAL, WITHIN_S).random(8)) == 8
    assert len(await module.sign(KeySlot.WAN_SIG, bytes(32))) == 64
    await ended(module)


async def test_the_reader_is_unplugged_and_plugged_in_again(bench: Bench) -> None:
    card = watched()
    bench.insert(card)
    module = await started()
    bench.daemon.stop()
    readers = bench.daemon.socket.parent / "readers" / "vpcd"
    plugged = readers.read_text()
    readers.write_text("")
    bench.daemon.start()
    with pytest.raises(ModuleUnavailable, match="no reader is plugged in"):
        await module.at(Priority.NORMAL, 1.0).random(8)
    bench.daemon.stop()
    readers.write_text(plugged)
    bench.daemon.start()
    assert len(await module.at(Priority.NORMAL, WITHIN_S).random(8)) == 8
    await ended(module)


async def test_a_slow_card_and_its_late_answer(bench: Bench) -> None:
    card = watched()
    bench.insert(card)
    module = await started()
    card.before = once(RANDOM, lambda: time.sleep(0.5))
    with pytest.raises(ModuleUnavailable, match="deadline"):
        await module.at(Priority.NORMAL, 0.1).random(8)
    # The thread still holds the card; the session waits for it, and the late answer is nobody's.
    answers = {await module.at(Priority.NORMAL, WITHIN_S).random(8) for _ in range(5)}
    assert len(answers) == 5
    assert module.statistics.sessions == 2
    await ended(module)


async def test_a_card_that_does_not_answer_is_given_up(bench: Bench) -> None:
    card = watched()
    bench.insert(card)
    await ended(await started())
    card.before = once(RANDOM, lambda: time.sleep(0.4))
    slow = PcscTransport(READER, answer_s=0.1)
    await slow.connect()
    with pytest.raises(ModuleUnavailable, match=r"within 0.1 s"):
        await slow.transmit(bytes.fromhex("0084000008"))
    with pytest.raises(NotDelivered):
        await slow.transmit(bytes.fromhex("0084000008"))
    early = PcscTransport(READER)
    with pytest.raises(ModuleUnavailable, match="another program holds the card"):
        await early.connect()
    await early.close()
    await ended(await started())


async def test_a_second_client(bench: Bench) -> None:
    bench.insert(watched())
    module = await started()
    second = PcscTransport(READER)
    with pytest.raises(ModuleUnavailable, match="another program holds the card"):
        await second.connect()
    await second.close()
    assert len(await module.random(8)) == 8
    assert module.statistics.sessions == 1
    await ended(module)
    await ended(await started())  # and it was released


async def test_no_pcscd() -> None:
    with pcsc_daemon("/dev/null:1") as daemon:
        daemon.stop()
        with pytest.raises(ModuleUnavailable, match="pcscd does not run"):
            await list_readers()
        missing = PcscTransport(READER)
        with pytest.raises(ModuleUnavailable, match="pcscd does not run"):
            await missing.connect()
        await missing.close()


async def test_no_pyscard(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("smartcard"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleUnavailable, match="python3-pyscard"):
        pcsc.check_installed()


# --- choosing ----------------------------------------------------------------------------------------------

HERE = [
    Reader("Omnikey 00 00", b"\x3b\x01"),
    Reader("Virtual 00 00", b"\x3b\x02"),
    Reader("Virtual 00 01", b""),
]


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("Virtual 00 01", "Virtual 00 01"),  # an exact name, even if another fits better
        ("virtual", "Virtual 00 00"),  # of two, the one with a card
        ("omni", "Omnikey 00 00"),
        ("atr:3B02", "Virtual 00 00"),
    ],
)
def test_a_reader_is_chosen(wanted: str, name: str) -> None:
    assert choose(HERE, wanted).name == name


@pytest.mark.parametrize(
    ("wanted", "why"), [("00 00", "more than one"), ("x", "no reader"), ("atr:3b", "no ")]
)
def test_a_reader_is_not_guessed(wanted: str, why: str) -> None:
    with pytest.raises(ModuleUnavailable, match=why) as caught:
        choose(HERE, wanted)
    assert "'Omnikey 00 00' (card 3b01)" in str(caught.value)
    with pytest.raises(ModuleUnavailable, match="has none"):
        choose([], wanted)


async def test_the_thread_of_a_closed_loop_ends(bench: Bench) -> None:
    """A card that never answers keeps no process from ending."""
    bench.insert(watched())
    await ended(await started())
    for _ in range(200):
        if not any(thread.name == "smgw.pcsc" for thread in threading.enumerate()):
            return
        await asyncio.sleep(0.01)
    pytest.fail("a PC/SC thread outlives its connection")
