"""The protocol of vpcd (vsmartcard 3.3) over TCP, and the gateway's end of it: the part of the reader.

Both directions: two bytes of length, big endian, then that many bytes. One byte from the reader is a control
(0 off, 1 on, 2 reset, 4 get ATR), more are a command APDU; the card answers ATR and APDUs and nothing else.
Either side may call the other. Nothing is encrypted here: secure messaging is, before and after.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from enum import IntEnum
from typing import Final

from hsm.errors import ModuleUnavailable, NotDelivered

ANSWER_S: Final = 30.0
"""The longest that one command may take; a request's own deadline is usually shorter."""
_MAX_MESSAGE: Final = 0xFFFF
_PREFIX_BYTES: Final = 2
_READ_BYTES: Final = 1 << 16


class Control(IntEnum):
    """What the reader says to the card beside commands."""

    OFF = 0
    ON = 1
    RESET = 2
    ATR = 4


class MessageLine:
    """A connected socket that carries length-prefixed messages. The socket becomes the line's own."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()

    async def receive(self) -> bytes:
        """Return the next message.

        Raises:
            EOFError: the other side closed.
            OSError: the connection broke.
        """
        size = int.from_bytes(await self._take(_PREFIX_BYTES), "big")
        return await self._take(size)

    async def send(self, message: bytes) -> None:
        """Send one message of at most 65535 bytes.

        Raises:
            ValueError: it is longer.
            OSError: the connection broke; the other side has not got the whole message.
        """
        if len(message) > _MAX_MESSAGE:
            raise ValueError("vpcd carries at most 65535 bytes in a message")
        await self._loop.sock_sendall(self._socket, len(message).to_bytes(_PREFIX_BYTES, "big") + message)

    def quiet(self) -> bool:
        """True if the connection stands and nothing waits to be read: anything that does is out of turn."""
        if self._buffer:
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    async def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            # vpcd sends length and content in two packets. Unless the first is acknowledged at once, the
            # second waits 40 ms (Nagle there, delayed acknowledgement here); the kernel forgets this option.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            piece = await self._loop.sock_recv(self._socket, _READ_BYTES)
            if not piece:
                raise EOFError("the other side closed the connection")
            self._buffer += piece
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


class VpcdTransport:
    """A `CardTransport` that is the reader for one card at the other end of a TCP connection.

    Args:
        host, port: where the card listens, or where we do.
        listen: wait until the card calls; each connection listens anew and takes one caller.
        answer_s: longest wait for one answer.
    """

    def __init__(self, host: str, port: int, *, listen: bool = False, answer_s: float = ANSWER_S) -> None:
        self._host, self._port, self._listen, self._answer_s = host, port, listen, answer_s
        self._line: MessageLine | None = None
        self.atr = b""
        """What the card answered to reset; set by `connect`."""

    async def connect(self) -> None:
        """Connect, then power the card off and on."""
        try:
            connected = await (self._accepted() if self._listen else self._dialled())
        except OSError as error:
            verb = "listen at" if self._listen else "reach the card at"
            raise ModuleUnavailable(
                f"cannot {verb} {self._host}:{self._port}: {error.strerror or error}"
            ) from error
        self._line = line = MessageLine(connected)
        try:
            await self._reset(line)
        except BaseException:
            await self.close()
            raise

    async def _reset(self, line: MessageLine) -> None:
        try:
            async with asyncio.timeout(self._answer_s):
                for control in (Control.OFF, Control.ON, Control.ATR):
                    await line.send(bytes((control,)))
                self.atr = await line.receive()
        except TimeoutError:
            raise ModuleUnavailable(f"no answer to reset within {self._answer_s:g} s") from None
        except (EOFError, OSError) as error:
            raise ModuleUnavailable(
                "the card hung up at once: it is in use, or this is no card's port"
            ) from error
        if not self.atr:
            raise ModuleUnavailable("there is no card at the other end")

    async def transmit(self, command: bytes) -> bytes:
        """Send one command APDU and return the answer."""
        line = self._line
        if line is None:
            raise NotDelivered("not connected to a card")
        if not line.quiet():
            raise NotDelivered("the card hung up, or sent what nobody asked for")
        try:
            await line.send(command)
        except OSError as error:
            raise NotDelivered("the card hung up") from error
        try:
            async with asyncio.timeout(self._answer_s):
                return await line.receive()
        except TimeoutError:
            await self.close()
            raise ModuleUnavailable(f"the card did not answer within {self._answer_s:g} s") from None
        except (EOFError, OSError) as error:
            raise ModuleUnavailable("the card hung up before it answered") from error

    async def close(self) -> None:
        """Power the card off and hang up."""
        line, self._line = self._line, None
        if line is not None:
            try:
                with suppress(OSError):
                    await line.send(bytes((Control.OFF,)))
            finally:
                line.close()

    async def _dialled(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        fresh = socket.socket(family, kind, protocol)
        try:
            fresh.setblocking(False)
            await loop.sock_connect(fresh, address)
        except BaseException:
            fresh.close()
            raise
        return fresh

    async def _accepted(self) -> socket.socket:
        with bound(self._host, self._port) as listening:
            connected, _ = await asyncio.get_running_loop().sock_accept(listening)
        return connected


def bound(host: str, port: int) -> socket.socket:
    """A listening, non-blocking socket.

    Raises:
        OSError: the address is taken, or none of ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=16)
    listening.setblocking(False)
    return listening
