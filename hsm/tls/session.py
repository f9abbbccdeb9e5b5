"""A TLS connection on a socket of the event loop: handshake steps in worker threads, records on the loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import weakref
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from hsm.errors import HsmError, SessionExpired, TlsRefused
from hsm.tls.context import TlsContext
from hsm.tls.engine import TlsEngine
from hsm.x509.certificate import Certificate

T = TypeVar("T")

_RECEIVE_BYTES: Final = 256 * 1024
_WRITE_BYTES: Final = 128 * 1024
"""Plaintext that is encrypted before the socket is asked to take it."""
_FAREWELL_S: Final = 1.0
"""How long an alert or close_notify may take to leave."""

# Threads are made on demand and only as many as `ModuleBridge.admission` lets in per context; a thread
# waiting for the module therefore never keeps another handshake from getting one.
_WORKERS: Final = ThreadPoolExecutor(max_workers=512, thread_name_prefix="smgw-tls")


class TlsStream:
    """An established connection. Not made directly: see `connect` and `serve`.

    One task may read while another writes. Network faults are `OSError`; `SessionExpired` is raised once
    the profile's session limit is reached, from pending calls as well.
    """

    def __init__(self, sock: socket.socket, engine: TlsEngine, limit_s: float) -> None:
        self._sock, self._engine = sock, engine
        self._loop = asyncio.get_running_loop()
        self._write_lock = asyncio.Lock()
        self._users, self._closed, self._aborted, self._expired = 0, False, False, False
        self.version, self.cipher, self.group = engine.version, engine.cipher, engine.group
        self.alpn: str | None = engine.alpn
        self._peer_der = engine.peer_der
        self._peer: Certificate | None = None
        self.peer_address: str = str(sock.getpeername()[0])
        self._expiry = self._loop.call_later(limit_s, _expire, weakref.ref(self))

    @property
    def peer_certificate(self) -> Certificate | None:
        """The peer's own certificate, also after the end; None if it showed none."""
        if self._peer is None and self._peer_der is not None:
            self._peer = Certificate.from_der(self._peer_der)
        return self._peer

    async def read(self, limit: int = 65536) -> bytes:
        """Return 1 to `limit` bytes; empty once the peer has closed in order.

        Raises:
            TlsRefused: a record was refused, or the connection ended without close_notify.
        """
        while True:
            self._demand_open()
            plain = self._engine.read(limit)
            if plain is not None:
                return plain
            if self._engine.pending and not self._write_lock.locked():
                await self._flush()  # e.g. the answer to a KeyUpdate; a writer would carry it along
            data = await self._use(self._loop.sock_recv(self._sock, _RECEIVE_BYTES))
            self._demand_open()
            if not data:
                raise TlsRefused("connection cut off: the peer sent no close_notify")
            self._engine.feed(data)

    async def readexactly(self, count: int) -> bytes:
        """Return `count` bytes; `asyncio.IncompleteReadError` if the peer closes before."""
        whole = bytearray()
        while len(whole) < count:
            part = await self.read(count - len(whole))
            if not part:
                raise asyncio.IncompleteReadError(bytes(whole), count)
            whole += part
        return bytes(whole)

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; returns when the system has taken it."""
        view = memoryview(data).cast("B")
        async with self._write_lock:
            for start in range(0, len(view), _WRITE_BYTES):
                self._demand_open()
                self._engine.write(bytes(view[start : start + _WRITE_BYTES]))
                await self._drain()

    async def close(self) -> None:
        """Say goodbye, for a second at most, and close; more than once is no error."""
        if self._closed:
            return
        self._closed = True
        try:
            if not self._expired:
                self._engine.shutdown()
                async with asyncio.timeout(_FAREWELL_S):
                    await self._flush()
        except (OSError, SessionExpired):
            pass  # nobody left to say goodbye to
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once, without a word; more than once is no error."""
        self._closed = self._aborted = True
        self._expiry.cancel()
        self._engine.close()
        if self._users:
            _cut(self._sock)  # wakes whoever uses it; the last one closes
        else:
            self._sock.close()

    def export(self, label: bytes, length: int, context: bytes | None = None) -> bytes:
        """Return keying material for another protocol (RFC 5705, RFC 8446 7.5)."""
        self._demand_open()
        return self._engine.export(label, length, context)

    def expire(self) -> None:
        """End the session because of its age."""
        self._expired = True
        _cut(self._sock)

    def _demand_open(self) -> None:
        if self._expired:
            raise SessionExpired("the TLS session has reached its age limit")
        if self._closed:
            raise TlsRefused("the connection is closed")

    async def _flush(self) -> None:
        async with self._write_lock:
            await self._drain()

    async def _drain(self) -> None:
        while data := self._engine.outgoing():
            try:
                await self._use(self._loop.sock_sendall(self._sock, data))
            except OSError:
                if self._expired:
                    break  # the caller says so
                raise
        if self._expired:
            self._demand_open()

    async def _use(self, operation: Coroutine[Any, Any, T]) -> T:
        self._users += 1
        try:
            return await operation
        finally:
            self._users -= 1
            if self._aborted and not self._users:
                self._sock.close()


def _expire(stream: weakref.ref[TlsStream]) -> None:
    if (alive := stream()) is not None:
        alive.expire()


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # already cut
        sock.shutdown(socket.SHUT_RDWR)


async def establish(
    sock: socket.socket,
    context: TlsContext,
    *,
    server_name: str | None = None,
    pinned: bytes | None = None,
    limit_s: float,
) -> TlsStream:
    """Run a handshake on a connected socket; on any failure the socket is closed.

    Raises:
        CertificateRefused, TlsRefused, HsmError: see `TlsEngine.handshake`; `TlsRefused` also when
            `limit_s` is over, whoever was slow.
    """
    sock.setblocking(False)
    engine = TlsEngine(context, server_name=server_name, pinned=pinned)
    try:
        try:
            async with asyncio.timeout(limit_s):
                await _handshake(sock, engine, context)
        except TimeoutError as error:
            raise TlsRefused(f"no TLS handshake within {limit_s:g} s") from error
        return TlsStream(sock, engine, context.profile.session_limit_s)
    except BaseException:
        engine.abort()
        sock.close()
        raise


async def _handshake(sock: socket.socket, engine: TlsEngine, context: TlsContext) -> None:
    loop = asyncio.get_running_loop()
    async with context.bridge.admission:
        if not context.server:
            await engine.calls.prepare(engine.first_share)
        while True:
            try:
                if engine.may_block:
                    finished = await loop.run_in_executor(_WORKERS, engine.handshake)
                else:
                    finished = engine.handshake()
            except HsmError:
                await _farewell(sock, engine)
                raise
            while data := engine.outgoing():
                await loop.sock_sendall(sock, data)
            if finished:
                return
            received = await loop.sock_recv(sock, _RECEIVE_BYTES)
            if not received:
                raise TlsRefused("handshake: the peer closed the connection")
            engine.feed(received)


async def _farewell(sock: socket.socket, engine: TlsEngine) -> None:
    """Let the peer have the alert that says why."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_FAREWELL_S):
            while data := engine.outgoing():
                await loop.sock_sendall(sock, data)
    except OSError:
        pass  # the reason is being raised already
