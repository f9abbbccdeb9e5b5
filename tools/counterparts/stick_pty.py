"""What all emulated sticks share: a pseudo terminal behind a stable link, paced like the real line.

A pseudo terminal has no bit rate; bytes are paced here at ten bits each, those of the host too: no answer
begins before its request could have been there. A stick's own module answers the
host and wraps telegrams as that stick does; it knows nothing of the gateway's driver.
"""

from __future__ import annotations

import asyncio
import os
import tty
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Final, Self

BITS_PER_BYTE: Final = 10
CHUNK: Final = 16
"""Bytes written at once; the pause after them keeps the line's rate."""
DEFAULT_DBM: Final = -75


class PtyStick(ABC):
    """One stick behind a stable link, as `/dev/serial/by-id` has them.

    Use: `async with Im871aStick(path) as stick: await stick.transmit(telegram)`.
    """

    BAUDRATE: ClassVar[int]

    def __init__(self, link: Path, *, baudrate: int | None = None, chunk: int = CHUNK) -> None:
        """Prepare a stick; it appears with `plug`.

        Args:
            link: path of the symbolic link that a driver opens.
            baudrate: of the imitated line; 0 for one without limit, None for the stick's own.
            chunk: bytes that arrive together; 1 cuts everything into single bytes.
        """
        self.link = link
        self.heard: list[bytes] = []
        """Requests of the host, in order."""
        self.lost_bytes = 0
        """What the host did not take in time."""
        self.unheard = 0
        """Telegrams sent on the air while the stick was not configured."""
        self._baudrate = self.BAUDRATE if baudrate is None else baudrate
        self._chunk = chunk
        self._master = self._slave = -1
        self._inbox = bytearray()
        self._listening = asyncio.Event()
        self._line = asyncio.Lock()
        self._request_over = 0.0
        """When the bytes of the host would have been through on the imitated line."""
        self._answers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self.plug()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def plugged(self) -> bool:
        """Whether the device is there."""
        return self._master >= 0

    def plug(self) -> None:
        """Make the device and publish its link in one step."""
        master, slave = os.openpty()  # the slave stays open here, so that a host may come and go
        tty.setraw(master)
        tty.setraw(slave)
        os.set_blocking(master, False)
        self._master, self._slave = master, slave
        self.link.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.link.with_name(self.link.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(slave))
        fresh.replace(self.link)
        asyncio.get_running_loop().add_reader(master, self._on_readable)

    def vanish(self) -> None:
        """Pull the stick: link and device are gone, its configuration is lost."""
        if not self.plugged:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        self.link.unlink(missing_ok=True)
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1
        self._inbox.clear()
        self._listening.clear()
        self._reset()

    async def aclose(self) -> None:
        """Pull the stick and wait for answers still on their way."""
        self.vanish()
        await asyncio.gather(*self._answers)

    async def listening(self) -> None:
        """Wait until a host has configured the stick."""
        await self._listening.wait()

    async def transmit(self, telegram: bytes, *, dbm: int = DEFAULT_DBM) -> bool:
        """Let a telegram (L field in front, no link CRCs) come out of the air.

        Returns:
            Whether the stick was listening; if not, nobody heard it.
        """
        if not self._listening.is_set():
            self.unheard += 1
            return False
        await self.write(self._heard(telegram, dbm))
        return True

    async def write(self, data: bytes) -> None:
        """Send raw bytes to the host, at the line's rate; also for garbage and cut-off messages."""
        loop = asyncio.get_running_loop()
        async with self._line:
            due = loop.time()
            for start in range(0, len(data), self._chunk):
                chunk = data[start : start + self._chunk]
                if not self.plugged:
                    return
                try:
                    taken = os.write(self._master, chunk)
                except BlockingIOError:
                    taken = 0
                self.lost_bytes += len(chunk) - taken
                if self._baudrate:
                    due += len(chunk) * BITS_PER_BYTE / self._baudrate
                await asyncio.sleep(max(due - loop.time(), 0))

    def _on_readable(self) -> None:
        try:
            data = os.read(self._master, 4096)
        except OSError:
            return
        self._inbox += data
        if self._baudrate:
            now = asyncio.get_running_loop().time()
            self._request_over = max(self._request_over, now) + len(data) * BITS_PER_BYTE / self._baudrate
        while (request := self._cut()) is not None:
            self.heard.append(request)
            self._handle(request)

    def _answer(self, data: bytes, *, then_listen: bool = False) -> None:
        loop = asyncio.get_running_loop()

        async def send() -> None:
            await asyncio.sleep(max(self._request_over - loop.time(), 0))
            await self.write(data)
            if then_listen and self.plugged:
                self._listening.set()

        task = loop.create_task(send())
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    def _reset(self) -> None:
        """Forget what a host configured; for sticks that hold more than the base does."""
        return

    @abstractmethod
    def _cut(self) -> bytes | None:
        """Take one request off the inbox; None while none is whole."""

    @abstractmethod
    def _handle(self, request: bytes) -> None:
        """Answer a request."""

    @abstractmethod
    def _heard(self, telegram: bytes, dbm: int) -> bytes:
        """Wrap a telegram as this stick passes it to the host."""
