"""Where telegrams come from that no serial line brings: a named pipe, a recording. Implements `BytePort`."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from lmn.errors import LmnError, PortClosed
from lmn.wmbus.sticks.replay import parse_line

READ_SIZE: Final = 4096


class PipePort:
    """The reading end of a named pipe; ends when its writer goes."""

    def __init__(self, descriptor: int) -> None:
        """Take over an open descriptor; must be called from within the event loop."""
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._closed = False
        self._loop.add_reader(descriptor, self._ready.set)

    async def read(self) -> bytes:
        """Return what has arrived, at least one byte; b"" once the writer is gone."""
        while not self._closed:
            await self._ready.wait()
            self._ready.clear()
            try:
                return b"" if self._closed else os.read(self._descriptor, READ_SIZE)
            except BlockingIOError:
                continue
            except OSError:
                return b""
        return b""

    async def write(self, data: bytes) -> None:
        """Refuse: nobody listens at the other end.

        Raises:
            PortClosed: always, unless there is nothing to write.
        """
        if data:
            raise PortClosed("a pipe takes no commands")

    def close(self) -> None:
        """Give the pipe back; a pending read ends with b"". Closing twice is no error."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._descriptor)
        self._ready.set()
        os.close(self._descriptor)


def nature(path: str) -> str | None:
    """Return the kind of receiver that a path is by what it is: a named pipe, a file; None for a device.

    Raises:
        PortClosed: it is not there.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise PortClosed(f"{path}: {error.strerror}") from error
    if stat.S_ISFIFO(mode):
        return "rtl_wmbus"
    return "replay" if stat.S_ISREG(mode) else None


async def open_pipe(path: str) -> PipePort:
    """Open the named pipe into which a receiver writes its lines; it may start later.

    Raises:
        PortClosed: it is not there, or no named pipe.
    """
    try:
        if not stat.S_ISFIFO(os.stat(path).st_mode):
            raise PortClosed(f"{path} is no named pipe; mkfifo makes one")
        return PipePort(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        raise PortClosed(f"{path}: {error.strerror}") from error


class ReplayPort:
    """A recording, played once at its own pace; then silence."""

    def __init__(self, path: Path, *, pace: float = 1.0) -> None:
        """Play `path`; `pace` 0 plays everything at once, 2 twice as fast."""
        self._path, self._pace = path, pace
        self._lines = self._play()
        self._closed = asyncio.Event()

    async def _play(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        with self._path.open("rb") as recording:
            for raw in recording:
                try:
                    recorded = parse_line(raw.decode("ascii", "replace"))
                except LmnError:
                    recorded = None  # the core counts it
                if recorded is not None and recorded.offset_s and self._pace:
                    await asyncio.sleep(max(started + recorded.offset_s / self._pace - loop.time(), 0))
                yield raw.strip() + b"\n"

    async def read(self) -> bytes:
        """Return the next line at its time; after the last one wait until closed."""
        try:
            return await anext(self._lines)
        except StopAsyncIteration:
            await self._closed.wait()
            return b""

    async def write(self, data: bytes) -> None:
        """Refuse: a recording takes no commands.

        Raises:
            PortClosed: always, unless there is nothing to write.
        """
        if data:
            raise PortClosed("a recording takes no commands")

    def close(self) -> None:
        """Stop; a read that waits after the last line ends with b""."""
        self._closed.set()


async def open_replay(path: str) -> ReplayPort:
    """Prepare to play a recording.

    Raises:
        PortClosed: it is not there or cannot be read.
    """
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError as error:
        raise PortClosed(f"{path}: {error.strerror}") from error
    return ReplayPort(Path(path))
