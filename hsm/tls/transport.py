"""An asyncio Transport on a `TlsStream`, for protocols such as aiohttp's that want one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from hsm.errors import TlsRefused
from hsm.tls.session import TlsStream

_HIGH_WATER_BYTES: Final = 256 * 1024
_READ_BYTES: Final = 128 * 1024


async def run_protocol(stream: TlsStream, protocol: asyncio.Protocol) -> None:
    """Let `protocol` have the connection; returns when it is over and `connection_lost` was called."""
    transport = TlsTransport(stream, protocol)
    await transport.run()


class TlsTransport(asyncio.Transport):
    """Reads and writes for a protocol. Flow control as asyncio's own: `pause_writing` and back."""

    def __init__(self, stream: TlsStream, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": (stream.peer_address, 0), "tls_stream": stream})
        self._stream = stream
        self._protocol: asyncio.Protocol = protocol
        self._outbox = bytearray()
        self._high, self._low = _HIGH_WATER_BYTES, _HIGH_WATER_BYTES // 4
        self._wake, self._readable = asyncio.Event(), asyncio.Event()
        self._readable.set()
        self._writer_paused, self._closing, self._aborting = False, False, False
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Serve until either side closes."""
        loop = asyncio.get_running_loop()
        self._protocol.connection_made(self)
        self._tasks = [loop.create_task(self._read()), loop.create_task(self._write())]
        fault: Exception | None = None
        try:
            done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            faults = [task.exception() for task in done if not task.cancelled()]
            fault = next((f for f in faults if isinstance(f, OSError | TlsRefused)), None)
            for other in (f for f in faults if f is not None and f is not fault):
                raise other  # a mistake in the protocol is not ours to hide
        finally:
            self._closing = True
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._protocol.connection_lost(fault)
            await self._stream.close()

    async def _read(self) -> None:
        """Ends when the peer has closed and the protocol does not want to go on writing."""
        while True:
            await self._readable.wait()
            data = await self._stream.read(_READ_BYTES)
            if self._closing:
                await asyncio.Event().wait()  # the writer ends it
            if not data:
                break
            self._protocol.data_received(data)
        if self._protocol.eof_received():
            await asyncio.Event().wait()  # half open: the writer ends it
        self.close()
        await asyncio.Event().wait()

    async def _write(self) -> None:
        """Ends when closing and everything is out."""
        while not self._aborting:
            if not self._outbox:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            data, self._outbox = bytes(self._outbox), bytearray()
            await self._stream.write(data)
            if self._writer_paused and len(self._outbox) <= self._low:
                self._writer_paused = False
                self._protocol.resume_writing()

    # ---- what a protocol calls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue data; dropped once closing, as asyncio's own transports do."""
        if self._closing or not data:
            return
        self._outbox += data
        self._wake.set()
        if not self._writer_paused and len(self._outbox) > self._high:
            self._writer_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Queue several pieces."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """TLS closes both directions at once here."""
        return False

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called, or the connection is over."""
        return self._closing

    def close(self) -> None:
        """Send what is queued, then close."""
        self._closing = True
        self._wake.set()

    def abort(self) -> None:
        """Close at once."""
        self._closing = self._aborting = True
        self._outbox.clear()
        self._wake.set()
        self._stream.abort()

    def is_reading(self) -> bool:
        """Whether data is being passed on."""
        return self._readable.is_set() and not self._closing

    def pause_reading(self) -> None:
        """Pass no more data on; what was just read still comes."""
        self._readable.clear()

    def resume_reading(self) -> None:
        """Go on."""
        self._readable.set()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As in `asyncio.WriteTransport`."""
        self._high = _HIGH_WATER_BYTES if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        """Bytes queued here."""
        return len(self._outbox)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high)."""
        return self._low, self._high

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection to another protocol."""
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who has the connection."""
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`peername` and `tls_stream`."""
        return super().get_extra_info(name, default)
