"""The Java Card applet in jCardSim for tests: found or skipped, started, and reached over TCP."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket

import pytest

from hsm.errors import ModuleUnavailable
from tools.counterparts.applet_card import AppletUnavailable, Build, ensure_built

PIN = b"1234567890"


def require_tools() -> None:
    """Skip the calling module where the applet cannot be built; `./smgw test` finds out and says so."""
    reason = os.environ.get("SMGW_APPLET_MISSING", "")
    if not reason and not all(shutil.which(tool) for tool in ("java", "javac", "mvn")):
        reason = "no JDK or no Maven"
    if reason:
        pytest.skip(f"the applet cannot be built here: {reason}", allow_module_level=True)


def built() -> Build:
    """The finished build; whoever runs pytest by hand may have to wait for it."""
    try:
        return ensure_built()
    except AppletUnavailable as error:
        pytest.skip(str(error))


class Line:
    """A blocking reader for a card that listens: what the conformance suite drives."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def reset(self) -> None:
        """Power the card anew."""
        self._socket.sendall(b"\x00\x01\x00\x00\x01\x01")

    def transmit(self, command: bytes) -> bytes:
        """One APDU."""
        self._socket.sendall(len(command).to_bytes(2, "big") + command)
        return self._take(int.from_bytes(self._take(2), "big"))

    def atr(self) -> bytes:
        """The answer to reset."""
        self._socket.sendall(b"\x00\x01\x04")
        return self._take(int.from_bytes(self._take(2), "big"))

    def close(self) -> None:
        """Hang up: the card loses its power."""
        self._socket.close()

    def _take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise EOFError("the card hung up")
            data += piece
        return data


class TcpTransport:
    """A `CardTransport` for a card that listens; any fault of the line is `ModuleUnavailable`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def connect(self) -> None:
        try:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            raise ModuleUnavailable("no card") from error
        self._streams[1].write(b"\x00\x01\x01")

    async def transmit(self, command: bytes) -> bytes:
        assert self._streams is not None
        reader, writer = self._streams
        try:
            writer.write(len(command).to_bytes(2, "big") + command)
            await writer.drain()
            return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        except (EOFError, OSError) as error:
            raise ModuleUnavailable("the card is gone") from error

    async def close(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
