"""Emulated receivers in software behind a named pipe: rtl_wmbus and rtl_433."""

from __future__ import annotations

import asyncio
import json
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from lmn.wmbus.frame import to_format_a


class PipeReceiver(ABC):
    """Writes the receiver's lines into a named pipe; has the sticks' `transmit` and `listening`."""

    def __init__(self, link: Path) -> None:
        """Prepare; the pipe appears with `plug`."""
        self.link = link
        self.lost_bytes = 0
        self.unheard = 0
        self._descriptor = -1

    @abstractmethod
    def _lines(self, telegram: bytes, dbm: int) -> str:
        """What the receiver prints of a telegram."""

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
        await self.write(self._lines(telegram, dbm).encode())
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


class VirtualRtlWmbus(PipeReceiver):
    """Two demodulators, so most telegrams come twice."""

    def __init__(self, link: Path, *, twice: bool = True) -> None:
        super().__init__(link)
        self._twice = twice

    def _lines(self, telegram: bytes, dbm: int) -> str:
        line = f"T1;1;1;2026-01-01 00:00:00.000;{dbm + 200};{dbm + 190};12345678;0x{telegram.hex()}\n"
        return line * (2 if self._twice else 1)


class VirtualRtl433(PipeReceiver):
    """One JSON object a telegram, format A with the last CRC behind it, as version 22.11 prints them."""

    def _lines(self, telegram: bytes, dbm: int) -> str:
        data = bytes((telegram[0] - 2,)) + telegram[1:] + to_format_a(telegram)[-2:]
        line = {
            "time": "2026-01-01 00:00:00",
            "model": "Wireless-MBus",
            "mode": "T",
            "data_length": len(data),
            "data": data.hex(),
            "mic": "CRC",
            "rssi": dbm / 10,
        }
        return json.dumps(line) + "\n"
