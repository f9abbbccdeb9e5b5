"""The protocol of vpcd over TCP: both directions of calling, and every way in which it can go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsm.api import Curve, KeySlot
from hsm.emulator.card import PowerEvent
from hsm.emulator.vpcd import NoCard, call, shown
from hsm.errors import CommandRefused, ModuleUnavailable, NotDelivered
from hsm.profile import PROJECT
from hsm.session import ModuleSession, Priority
from hsm.transport import Emulator, Pcsc, Tcp, is_loopback, opener, parse_way, split_address
from hsm.vpcd import MessageLine, VpcdTransport
from tests.support.card import PIN, make_card
from tests.support.reader import CardThread, WatchedCard, count, once, pull, until

SIGN = PROJECT.ins_pso
RANDOM = PROJECT.ins_get_challenge


def watched(**state: Any) -> WatchedCard:
    return WatchedCard(make_card(**state)[0])


def session(port: int, **options: Any) -> ModuleSession:
    return ModuleSession(lambda: VpcdTransport("127.0.0.1", port), lambda: PIN, first_pause_s=0.01, **options)


# --- both directions ---------------------------------------------------------------------------------------


async def test_the_gateway_calls_the_card() -> None:
    card = watched()
    async with shown(card) as port:
        async with session(port) as module:
            assert len(await module.random(256)) == 256
            await module.generate_key_pair(KeySlot.WAN_SIG, Curve.BRAINPOOL_P512)
            assert len(await module.sign(KeySlot.WAN_SIG, bytes(64))) == 128
        await until(lambda: card.events[-1] is PowerEvent.OFF)


async def test_the_card_calls_the_gateway() -> None:
    card = watched()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    calling = asyncio.create_task(call(card, "127.0.0.1", port))
    waiting = lambda: VpcdTransport("127.0.0.1", port, listen=True)  # noqa: E731
    async with ModuleSession(waiting, lambda: PIN) as module:
        assert len(await module.random(8)) == 8
    async with ModuleSession(waiting, lambda: PIN) as module:  # it calls again
        assert len(await module.random(8)) == 8
    calling.cancel()
    await asyncio.wait([calling])


async def test_as_vpcd_cuts_it() -> None:
    """Length and content in packets of their own, several controls in one."""
    card = watched()
    async with shown(card) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in (b"\0", b"\1\0\0\1\1\0\1\4"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        assert await reader.readexactly(2 + len(card.atr)) == struct.pack(">H", len(card.atr)) + card.atr
        writer.write(b"\0\1\2\0\5\0\x84\0\0\x08")
        assert await reader.readexactly(4) == b"\0\2\x69\x82"
        writer.write(b"\0\0")  # an empty message asks for nothing
        writer.write(b"\0\1\4")
        assert await reader.readexactly(2 + len(card.atr))
        assert card.events == [PowerEvent.OFF, PowerEvent.ON, PowerEvent.RESET]
        writer.write(b"\0\1\x77")  # no such control: the connection is of no use any more
        assert await reader.read() == b""
        assert card.events[-1] is PowerEvent.OFF
        writer.close()


async def test_the_second_slot_shows_a_card_that_can_do_nothing() -> None:
    async with shown(watched()) as port:
        line = VpcdTransport("127.0.0.1", port + 1)
        await line.connect()
        assert line.atr == NoCard.atr
        assert await line.transmit(bytes(5)) == b"\x6d\x00"
        await line.close()


async def test_a_port_that_is_taken() -> None:
    async with shown(watched()) as port:
        with pytest.raises(OSError, match=r"free|in use"):
            async with shown(watched(), port=port - 1):
                pass


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_bytes_leave_the_card_alive(noise: bytes) -> None:
    async def run() -> None:
        async with shown(make_card()[0]) as port:
            with socket.create_connection(("127.0.0.1", port)) as connected:
                connected.sendall(noise)
            line = VpcdTransport("127.0.0.1", port)
            for _ in range(200):
                try:
                    await line.connect()
                    break
                except ModuleUnavailable:  # the first caller is not gone yet
                    await line.close()
                    await asyncio.sleep(0.005)
            assert await line.transmit(bytes.fromhex("0084000008")) == b"\x69\x82"
            await line.close()

    asyncio.run(run())


# --- what goes wrong ---------------------------------------------------------------------------------------


async def test_a_card_pulled_after_it_signed_signs_nothing_twice() -> None:
    card = watched()
    async with shown(card) as port, session(port) as module:
        await module.generate_key_pair(KeySlot.WAN_SIG, Curve.P256)
        card.after = once(SIGN, pull)
        with pytest.raises(ModuleUnavailable, match="before it answered"):
            await module.sign(KeySlot.WAN_SIG, bytes(32))
        assert count(card, SIGN) == 1
        assert len(await module.at(Priority.NORMAL, 5).random(8)) == 8
        assert (module.statistics.sessions, count(card, SIGN)) == (2, 1)


async def test_a_card_pulled_before_it_answered_is_asked_again() -> None:
    card = watched()
    card.before = once(RANDOM, pull)
    async with shown(card) as port, session(port) as module:
        assert len(await module.at(Priority.NORMAL, 5).random(8)) == 8
        assert count(card, RANDOM) == 2


async def test_a_loss_noticed_before_the_command_left_costs_nothing() -> None:
    """Not even what must not be repeated: the card has not seen it."""
    cards = [watched(), watched()]
    async with shown(cards[0]) as port, session(port) as module:
        await module.generate_key_pair(KeySlot.WAN_SIG, Curve.P256)
        signature = await module.sign(KeySlot.WAN_SIG, bytes(32))
        await _hang_up(cards[0], module)
        assert len(await module.sign(KeySlot.WAN_SIG, bytes(32))) == len(signature)
        assert module.statistics.sessions == 2
        assert count(cards[0], SIGN) == 2


async def _hang_up(card: WatchedCard, module: ModuleSession) -> None:
    """Let the card end the connection while nobody waits for an answer."""
    transport = module._transport
    assert isinstance(transport, VpcdTransport)
    line = transport._line
    assert line is not None
    await line.send(b"\x77")  # no control that the card knows
    await until(lambda: not line.quiet())


async def test_a_slow_card_and_its_late_answer(card_thread: CardThread) -> None:
    card = watched()
    with card_thread.shown(card) as port:
        async with session(port) as module:
            card.before = once(RANDOM, lambda: time.sleep(0.3))
            with pytest.raises(ModuleUnavailable, match="deadline"):
                await module.at(Priority.NORMAL, 0.05).random(8)
            answers = {await module.at(Priority.NORMAL, 5).random(8) for _ in range(5)}
            assert len(answers) == 5
            assert module.statistics.sessions == 2


async def test_a_card_that_does_not_answer_is_given_up(card_thread: CardThread) -> None:
    card = watched()
    card.before = once(RANDOM, lambda: time.sleep(0.3))
    with card_thread.shown(card) as port:
        line = VpcdTransport("127.0.0.1", port, answer_s=0.05)
        await line.connect()
        with pytest.raises(ModuleUnavailable, match="within"):
            await line.transmit(bytes.fromhex("0084000008"))
        with pytest.raises(NotDelivered):
            await line.transmit(bytes.fromhex("0084000008"))


async def test_one_reader_at_a_time() -> None:
    async with shown(watched()) as port, session(port):
        with pytest.raises(ModuleUnavailable, match="in use"):
            await VpcdTransport("127.0.0.1", port).connect()


async def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        with pytest.raises(ModuleUnavailable, match="listen"):
            await VpcdTransport("127.0.0.1", port, listen=True).connect()
        mute = VpcdTransport("127.0.0.1", port, answer_s=0.05)
        with pytest.raises(ModuleUnavailable, match="reset"):
            await mute.connect()
        await mute.close()
        await mute.close()
    with pytest.raises(ModuleUnavailable, match="reach"):
        await VpcdTransport("127.0.0.1", port).connect()


async def test_an_empty_answer_to_reset_is_no_card() -> None:
    card = watched()
    card.card.atr = b""  # type: ignore[misc]
    async with shown(card) as port:
        line = VpcdTransport("127.0.0.1", port)
        with pytest.raises(ModuleUnavailable, match="no card"):
            await line.connect()
        await line.close()


async def test_what_nobody_asked_for_is_never_taken_for_an_answer() -> None:
    @asynccontextmanager
    async def chatty():
        gone = asyncio.Event()

        async def answer(reader, writer):
            await reader.readexactly(9)
            writer.write(b"\0\2\x3b\0" + b"\0\2\x90\0")  # ATR, and an answer ahead of its command
            await reader.read()
            writer.close()
            await writer.wait_closed()
            gone.set()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]
            await gone.wait()

    async with chatty() as port:
        line = VpcdTransport("127.0.0.1", port)
        await line.connect()
        with pytest.raises(NotDelivered):
            await line.transmit(bytes(4))
        await line.close()


async def test_a_message_of_the_largest_size_and_one_too_large() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with theirs:
        line = MessageLine.__new__(MessageLine)
        ours.setblocking(False)
        line._socket, line._loop, line._buffer = ours, asyncio.get_running_loop(), bytearray()
        with pytest.raises(ValueError, match="65535"):
            await line.send(bytes(65536))
        line.close()


# --- many at once ------------------------------------------------------------------------------------------


async def test_forty_handshakes_at_once_queue_for_the_slots() -> None:
    card = watched()
    async with shown(card) as port, session(port) as module:
        hurry = module.at(Priority.HANDSHAKE, 20)
        peer = (await module.generate_key_pair(KeySlot.WAN_TLS, Curve.BRAINPOOL_P256)).point
        held: set[int] = set()
        most = 0

        async def handshake() -> bytes:
            nonlocal most
            key = await hurry.generate_ephemeral(Curve.BRAINPOOL_P256)
            held.add(key.reference)
            most = max(most, len(held))
            await asyncio.sleep(0.005)  # the peer's flight
            await hurry.sign(KeySlot.WAN_TLS, bytes(32))
            secret = await hurry.agree_ephemeral(key, peer)
            held.remove(key.reference)
            return secret

        secrets = await asyncio.gather(*(handshake() for _ in range(40)))
        assert len(set(secrets)) == 40
        assert most == len(PROJECT.ephemeral_references)
        assert module.statistics.sessions == 1


# --- settings ----------------------------------------------------------------------------------------------


def test_ways_are_read() -> None:
    assert parse_way("emulator") == Emulator(None)
    assert str(getattr(parse_way("emulator:a:b"), "folder", "")) == "a:b"
    assert parse_way("tcp:127.0.0.1:1") == Tcp("127.0.0.1", 1)
    assert parse_way("pcsc:Reader: 1") == Pcsc("Reader: 1")
    assert not Tcp("::1", 1).remote
    assert [
        host for host in ("localhost", "127.9.9.9", "card.lan", "0.0.0.0", "::") if is_loopback(host)
    ] == [
        "localhost",
        "127.9.9.9",
    ]
    assert split_address("[::1]:80") == ("::1", 80)
    with pytest.raises(ValueError, match="emulator:DIR"):
        opener(Emulator())


@given(st.text(max_size=40))
def test_any_text_is_a_way_or_is_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_way(text)


async def test_a_refused_command_is_no_loss() -> None:
    async with shown(watched()) as port, session(port) as module:
        with pytest.raises(CommandRefused):
            await module.sign(KeySlot.LMN_TLS, bytes(32))
        assert module.statistics.sessions == 1


def test_only_the_way_that_is_taken_is_loaded() -> None:
    asked = (
        "import sys, firmware.boot; from hsm.transport import opener, parse_way;"
        "opener(parse_way('tcp:127.0.0.1:1'))();"
        "print([name for name in ('hsm.emulator', 'hsm.pcsc', 'hsm.vpcd') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['hsm.vpcd']"
