"""Shows a card over TCP in the protocol of vpcd, so that any PC/SC program can use it through pcscd.

Either vpcd (or a gateway) calls us, or we call it. One caller at a time: a card has one reader.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

from hsm.emulator.card import PowerEvent
from hsm.vpcd import Control, MessageLine, bound

RETRY_S: Final = 0.2
"""Between two attempts to call a reader that is not there."""
AGAIN_S: Final = 1.0
"""Before the reader that hung up is called again: pcscd looks every 0.4 s, and must have seen the card gone.
Called too early, vpcd 3.3 waits on the new connection for an answer that it asked for on the old one."""
HEARD_S: Final = 3.0
"""A reader that was called says something in this time, or the call is made again."""
_PORTS_TRIED: Final = 64
_log = logging.getLogger("smgw.hsm.card")
_EVENTS: Final = {Control.OFF: PowerEvent.OFF, Control.ON: PowerEvent.ON, Control.RESET: PowerEvent.RESET}


class ShownCard(Protocol):
    """What can be shown: `hsm.emulator.Card`, or something that behaves like one."""

    @property
    def atr(self) -> bytes:
        """Answer to reset."""

    def power(self, event: PowerEvent) -> None:
        """Power on, off or reset."""

    def apdu(self, raw: bytes) -> bytes:
        """Answer a command."""


class NoCard:
    """What stands in the second slot of vpcd: its historical bytes read "empty", every command is refused."""

    atr = bytes.fromhex("3b858001656d707479") + bytes(
        (0x85 ^ 0x80 ^ 0x01 ^ 0x65 ^ 0x6D ^ 0x70 ^ 0x74 ^ 0x79,)
    )

    def power(self, event: PowerEvent) -> None:
        """Nothing changes."""

    def apdu(self, raw: bytes) -> bytes:
        """INS not supported."""
        return b"\x6d\x00"


async def talk(card: ShownCard, connected: socket.socket, *, heard_s: float | None = None) -> None:
    """Be the card on one connection until the reader hangs up; the socket is closed in any case.

    Args:
        card: what answers.
        connected: the connection; it becomes this function's own.
        heard_s: hang up if the reader says nothing at all for so long.
    """
    line = MessageLine(connected)
    try:
        async with asyncio.timeout(heard_s):
            message = await line.receive()
        while True:
            if len(message) > 1:
                await line.send(card.apdu(message))
            elif message == bytes((Control.ATR,)):
                await line.send(card.atr)
            elif message and (event := _EVENTS.get(Control(message[0]))) is not None:
                card.power(event)
            message = await line.receive()
    except (EOFError, OSError, ValueError) as error:
        _log.debug("the reader hung up: %s", error)
    finally:
        card.power(PowerEvent.OFF)
        line.close()


async def call(card: ShownCard, host: str, port: int) -> None:
    """Call a vpcd (or a waiting gateway) and be its card, again whenever it hangs up; never returns."""
    loop = asyncio.get_running_loop()
    while True:
        fresh = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        fresh.setblocking(False)
        try:
            await loop.sock_connect(fresh, (host, port))
        except OSError as error:
            fresh.close()
            _log.debug("%s:%d: %s", host, port, error.strerror)
        except BaseException:
            fresh.close()
            raise
        else:
            await talk(card, fresh, heard_s=HEARD_S)
            await asyncio.sleep(AGAIN_S)
            continue
        await asyncio.sleep(RETRY_S)


@asynccontextmanager
async def shown(card: ShownCard, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """Let readers call while the block lasts; gives the port.

    The next port is taken as well and shows a card that can do nothing: vpcd 3.3 has two slots, calls PORT
    and PORT + 1, and takes pcscd down with it when one of them refuses or hangs up. Port 0 takes a free pair.

    Raises:
        OSError: one of the two ports is taken.
    """
    first, second = _pair(host, port)
    tasks = [asyncio.create_task(_welcome(card, first)), asyncio.create_task(_welcome(NoCard(), second))]
    try:
        yield int(first.getsockname()[1])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        first.close()
        second.close()


async def _welcome(card: ShownCard, listening: socket.socket) -> None:
    """Serve one reader; whoever calls meanwhile is turned away."""
    loop = asyncio.get_running_loop()
    served: asyncio.Task[None] | None = None
    try:
        while True:
            connected, _ = await loop.sock_accept(listening)
            if served is not None and not served.done():
                connected.close()
            else:
                served = asyncio.create_task(talk(card, connected))
    finally:
        if served is not None:
            served.cancel()
            with suppress(asyncio.CancelledError):
                await served


def _pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    for _ in range(1 if port else _PORTS_TRIED):
        first = bound(host, port)
        try:
            return first, bound(host, int(first.getsockname()[1]) + 1)
        except (OSError, OverflowError):
            first.close()
    raise OSError(f"no two free ports in a row at {host}:{port or '(any)'}")
