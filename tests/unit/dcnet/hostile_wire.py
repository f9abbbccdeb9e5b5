"""A hostile network between a gateway and its supplier: a TCP proxy that does what is drawn.

It sees ciphertext, as a real one would; of TLS it reads the record headers, which are in the clear, so that
it can withhold the answer of a request that it delivered.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_READ_BYTES: Final = 1 << 16
_APPLICATION_DATA: Final = 23
_HEADER_BYTES: Final = 5
_WHOLE: Final = 1 << 16


@dataclass(frozen=True)
class Fate:
    """What happens to one connection. Bytes and answers are counted from its beginning."""

    refused: bool = False
    """Reset as soon as it is open."""
    cut_up: int | None = None
    """Reset after so many bytes from the gateway."""
    cut_down: int | None = None
    """Reset after so many bytes from the supplier."""
    withheld: int | None = None
    """After so many answers nothing comes back any more, while requests still arrive."""
    piece_up: int = _WHOLE
    """Bytes that are sent on at once."""
    piece_down: int = _WHOLE
    delay_up_s: float = 0.0
    """How long whatever was read is kept."""
    delay_down_s: float = 0.0


CALM: Final = Fate()


class Records:
    """Counts the records with application data in a stream of TLS."""

    def __init__(self) -> None:
        self._header, self._left = bytearray(), 0
        self.ended = 0
        """Application records that are whole."""
        self._application = False

    def before_the_end_of(self, number: int, data: bytes) -> bytes:
        """Return as much of the next bytes of the stream as ends with the application record `number`."""
        for at, octet in enumerate(data):
            if self.ended >= number:
                return data[:at]
            self._take(octet)
        return data

    def _take(self, octet: int) -> None:
        if self._left:
            self._left -= 1
        else:
            self._header.append(octet)
            if len(self._header) < _HEADER_BYTES:
                return
            self._application = self._header[0] == _APPLICATION_DATA
            self._left = int.from_bytes(self._header[3:], "big")
            self._header.clear()
        if not self._left:
            self.ended += self._application


class HostileProxy:
    """One gateway's line to its supplier.

    Args:
        port: the supplier's, on loopback.
        fates: of the connections, in their order; those that come later are left in peace.
        met: counts what really happened.
    """

    def __init__(self, port: int, fates: Sequence[Fate], met: Counter[str]) -> None:
        self._to, self._met = port, met
        self._fates: Iterator[Fate] = iter(fates)
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        """Listen, on the same port as before if there was one."""
        if self._server is None:
            self._server = await asyncio.start_server(self._took, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Refuse connections until `open`, and cut those there are."""
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
        await self.cut()

    async def cut(self) -> None:
        """Cut what is open."""
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def fated(self, fates: Sequence[Fate] = ()) -> None:
        """Cut what is open; from now on these are the fates."""
        self._fates = iter(fates)
        await self.cut()

    async def _took(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        fate = next(self._fates, CALM)
        writers = [writer]
        try:
            if fate.refused:
                self._met["refused"] += 1
                return
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
            writers.append(back)
            await self._between(fate, (reader, back), (there, writer))
        except asyncio.CancelledError:
            pass  # cut from outside: both ends are told below
        finally:
            for one in writers:
                _reset(one)
            self._open.discard(task)

    async def _between(
        self,
        fate: Fate,
        up: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        down: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Until one direction ends."""
        ways = [
            asyncio.ensure_future(self._up(fate, *up)),
            asyncio.ensure_future(self._down(fate, *down)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for end in await asyncio.gather(*ways, return_exceptions=True):
                if isinstance(end, BaseException) and not isinstance(
                    end, asyncio.CancelledError | ConnectionError
                ):
                    raise end

    async def _up(self, fate: Fate, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = fate.cut_up
        while data := await reader.read(_READ_BYTES):
            await self._kept(fate.delay_up_s)
            await self._send(writer, data[:left], fate.piece_up)
            if left is not None and (left := left - len(data)) <= 0:
                self._met["cut up"] += 1
                return

    async def _down(self, fate: Fate, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left, records = fate.cut_down, Records()
        while data := await reader.read(_READ_BYTES):
            await self._kept(fate.delay_down_s)
            if fate.withheld is not None:
                before = records.before_the_end_of(fate.withheld, data)
                self._met["withheld"] += bool(before != data)
                data = before
            await self._send(writer, data[:left], fate.piece_down)
            if left is not None and (left := left - len(data)) <= 0:
                self._met["cut down"] += 1
                return

    async def _kept(self, delay_s: float) -> None:
        if delay_s:
            self._met["delayed"] += 1
            await asyncio.sleep(delay_s)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes, piece: int) -> None:
        for at in range(0, len(data), piece):
            writer.write(data[at : at + piece])
            await writer.drain()
            if piece < _WHOLE:
                await asyncio.sleep(0)
        self._met["in pieces"] += bool(len(data) > piece)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as a broken line does: without a word, and what is on its way is lost."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # closed by the other side
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
