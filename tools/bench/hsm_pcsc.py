"""What pcscd, vpcd and pyscard add to a command, under secure messaging and without it."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from hsm.emulator import load_card
from hsm.emulator.personalise import new_card
from hsm.emulator.transport import EmulatorTransport
from hsm.emulator.vpcd import shown
from hsm.errors import ModuleUnavailable
from hsm.pcsc import PcscTransport
from hsm.session import ModuleSession
from hsm.transport import CardTransport
from hsm.vpcd import VpcdTransport
from tools.bench.figure import Figure
from tools.counterparts.pcscd import SOCKET_VARIABLE, Pcscd, PcscdMissing

PCSC_BAR_MS: Final = 1.5
_CALLS: Final = 200
_READER: Final = "smgw 00 00"
_PIN: Final = b"1234567890"
_SELECT_MF: Final = bytes.fromhex("00A4000C")
_READY_S: Final = 10.0


async def run(rounds: int) -> list[Figure]:
    """Medians of `rounds` times 200 commands: SELECT in the clear, GET CHALLENGE of 8 bytes in a session.

    The same card, in the same run, in process, over TCP, and through pcscd with vpcd and pyscard; beside them
    a socket pair on loopback that only echoes, the least that any of the detours can cost. Without pcscd,
    vpcd or pyscard there is no figure for PC/SC.
    """
    with tempfile.TemporaryDirectory(prefix="smgw-") as name:
        folder = Path(name)
        new_card(folder / "card", _PIN)
        card = load_card(folder / "card")
        echo = await _echo(rounds)
        inside = await _secured(lambda: EmulatorTransport(card), rounds)
        async with shown(card) as port:
            over_tcp = await _secured(lambda: VpcdTransport("127.0.0.1", port), rounds)
            figures = [
                Figure("GET CHALLENGE under SM, in process", inside, "ms"),
                Figure(
                    "GET CHALLENGE under SM, TCP", over_tcp, "ms",
                    reference="in process", reference_value=inside,
                ),
            ]  # fmt: skip
            try:
                daemon = Pcscd(folder, f"127.0.0.1:{port}")
            except PcscdMissing:
                return figures
            os.environ[SOCKET_VARIABLE] = str(daemon.socket)
            await asyncio.to_thread(daemon.start)
            try:
                await _ready()
                plain = await _plain(rounds)
                secured = await _secured(lambda: PcscTransport(_READER), rounds)
            finally:
                await asyncio.to_thread(daemon.stop)
        return [
            *figures,
            Figure(
                "trivial APDU through pcscd", plain, "ms", bar=PCSC_BAR_MS,
                reference="echo of a TCP socket", reference_value=echo,
            ),
            Figure(
                "GET CHALLENGE under SM, pcscd", secured, "ms", bar=PCSC_BAR_MS,
                reference="in process", reference_value=inside,
            ),
        ]  # fmt: skip


async def _ready() -> None:
    async with asyncio.timeout(_READY_S):
        while True:
            with suppress(ModuleUnavailable):
                transport = PcscTransport(_READER)
                await transport.connect()
                await transport.close()
                return
            await asyncio.sleep(0.02)


async def _timed(once: Callable[[], Awaitable[object]], rounds: int) -> float:
    spent = []
    for _ in range(rounds * _CALLS):
        began = perf_counter()
        await once()
        spent.append(1000 * (perf_counter() - began))
    return median(spent)


async def _secured(opener: Callable[[], CardTransport], rounds: int) -> float:
    async with ModuleSession(opener, lambda: _PIN) as module:
        return await _timed(lambda: module.random(8), rounds)


async def _plain(rounds: int) -> float:
    transport = PcscTransport(_READER)
    await transport.connect()
    try:
        return await _timed(lambda: transport.transmit(_SELECT_MF), rounds)
    finally:
        await transport.close()


async def _echo(rounds: int) -> float:
    """Round trip of five bytes between two ends of a TCP connection on one loop."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        near = socket.create_connection(listening.getsockname())
        far, _ = listening.accept()
    for one in (near, far):
        one.setblocking(False)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def once() -> None:
        await loop.sock_sendall(near, _SELECT_MF)
        await loop.sock_sendall(far, await loop.sock_recv(far, 64))
        await loop.sock_recv(near, 64)

    with near, far:
        return await _timed(once, rounds)
