"""An emulated rtl_wmbus behind a named pipe: two demodulators, so most telegrams come twice."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Self


class VirtualRtlWmbus:
    """Writes the receiver's lines into a named pipe; has the sticks' `transmit` and `listening`."""

    def __init__(self, link: Path, *, twice: bool = True) -> None:
        """Prepare; the pipe appears with `plug`."""
        self.link = link
        self.lost_bytes = 0
        self.unheard = 0
        self._twice = twice
        self._descriptor = -1

    async def __aenter__(self) -> Self:
        self.plug()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.vanish()

    def plug(self) -> None:
        """Make the named pipe."""
        self.link.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(self.link)

    def vanish(self) -> None:
        """End the receiver and remove the pipe."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self.link.unlink(missing_ok=True)

    async def listening(self) -> None:
        """Wait until a host reads the pipe."""
        while not self._open():  # noqa: ASYNC110  # a pipe tells nobody that it has a reader
            await asyncio.sleep(0.01)

    def _open(self) -> bool:
        if self._descriptor < 0:
            try:
                self._descriptor = os.open(self.link, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                return False
        return True

    async def transmit(self, telegram: bytes, *, dbm: int = -75) -> bool:
        """Let a telegram come out of the air; returns whether a host reads the pipe."""
        if not self._open():
            self.unheard += 1
            return False
        line = f"T1;1;1;2026-01-01 00:00:00.000;{dbm + 200};{dbm + 190};12345678;0x{telegram.hex()}\n"
        await self.write(line.encode() * (2 if self._twice else 1))
        return True

    async def write(self, data: bytes) -> None:
        """Send raw bytes to the host."""
        try:
            taken = os.write(self._descriptor, data)
        except BlockingIOError:
            taken = 0
        except BrokenPipeError:
            os.close(self._descriptor)
            self._descriptor, taken = -1, 0
        self.lost_bytes += len(data) - taken
        await asyncio.sleep(0)
