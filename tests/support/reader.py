"""Cards shown over TCP and PC/SC for tests: on a thread of their own, slow, pulled or killed on order."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hsm.emulator.card import Card, PowerEvent
from hsm.emulator.vpcd import call, shown
from tools.counterparts.pcscd import SOCKET_VARIABLE, Pcscd, PcscdMissing, find_pcscd


class Pulled(ConnectionError):
    """Raised by a hook of `WatchedCard`: the card is gone, and with it the connection."""


@dataclass
class WatchedCard:
    """A card that counts what it does; `before` and `after` may delay it or pull it out.

    `before` sees the command; `after` sees command and answer, when the card has done its work.
    """

    card: Card
    before: Callable[[bytes], None] = lambda command: None
    after: Callable[[bytes, bytes], None] = lambda command, answer: None
    events: list[PowerEvent] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)

    @property
    def atr(self) -> bytes:
        return self.card.atr

    def power(self, event: PowerEvent) -> None:
        self.events.append(event)
        self.card.power(event)

    def apdu(self, raw: bytes) -> bytes:
        self.commands.append(raw)
        self.before(raw)
        answer = self.card.apdu(raw)
        self.after(raw, answer)
        return answer


def once(ins: int, action: Callable[[], object]) -> Callable[..., None]:
    """Return a hook that acts at the first command with this INS."""
    done: list[bytes] = []

    def hook(command: bytes, answer: bytes = b"") -> None:
        if command[1] == ins and not done:
            done.append(command)
            action()

    return hook


def pull() -> None:
    """Take the card away: the action of a hook."""
    raise Pulled


def count(card: WatchedCard, ins: int) -> int:
    """Return how many commands with this INS the card has seen."""
    return sum(command[1] == ins for command in card.commands)


class CardThread:
    """Runs the card's end of the line on a loop and thread of its own, so that it may block."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="card", daemon=True)
        self._thread.start()
        self._insert: asyncio.Task[None] | None = None

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    @contextmanager
    def shown(self, card) -> Iterator[int]:
        """The card listens; gives the port."""
        context = shown(card)
        port = self.run(context.__aenter__())
        try:
            yield port
        finally:
            self.run(context.__aexit__(None, None, None))

    def insert(self, card, port: int) -> None:
        """The card calls a vpcd at `port` and calls again whenever it hangs up."""

        async def begin() -> None:
            self._insert = asyncio.create_task(call(card, "127.0.0.1", port))

        self.pull()
        self.run(begin())

    def pull(self) -> None:
        """Take the card out."""

        async def end() -> None:
            task, self._insert = self._insert, None
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

        self.run(end())

    def close(self) -> None:
        self.pull()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


# libpcsclite reads the variable once in the life of a process: one place for all of its daemons.
_PLACE = Path(tempfile.gettempdir()) / f"smgw-pcsc-{os.getpid()}"


@contextmanager
def pcsc_daemon(*devices: str) -> Iterator[Pcscd]:
    """A private pcscd that this process's PC/SC calls reach. One after the other, not two at once."""
    _PLACE.mkdir(mode=0o700, exist_ok=True)
    os.environ[SOCKET_VARIABLE] = str(_PLACE / "pcscd.comm")
    with Pcscd(_PLACE, *devices) as daemon:
        try:
            yield daemon
        finally:
            daemon.stop()
            for path in sorted(_PLACE.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            _PLACE.rmdir()


def _missing() -> str:
    if "pcsc" in os.environ.get("SMGW_REQUIRE_REAL", "").split():
        return ""  # it was set up: whatever is missing now is a failure
    try:
        find_pcscd()
    except PcscdMissing as error:
        return str(error)
    return "" if importlib.util.find_spec("smartcard") else "pyscard is not installed"


needs_pcsc = pytest.mark.skipif(bool(_missing()), reason=_missing() or "there")
"""Skipped only where `./smgw test` could not install it, and there by the written list."""


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that has to happen; the test's time-out is the limit."""
    while not condition():  # noqa: ASYNC110 - what is waited for happens on another thread
        await asyncio.sleep(0.01)


__all__ = ["CardThread", "Pulled", "WatchedCard", "needs_pcsc", "pcsc_daemon", "until"]
