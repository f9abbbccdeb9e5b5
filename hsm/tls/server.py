"""Accepting TLS connections."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from hsm.errors import HsmError
from hsm.tls.context import TlsContext
from hsm.tls.session import TlsStream, establish

Serve = Callable[[TlsStream], Awaitable[None]]

_log = logging.getLogger("smgw.hsm")
_CONNECTIONS: Final = 64
_ACCEPT_PAUSE_S: Final = 0.1
"""Before trying again when the system has no more file descriptors."""


@dataclass(frozen=True, slots=True)
class TlsServer:
    """A listener; `port` is the real one when 0 was asked for."""

    host: str
    port: int


@asynccontextmanager
async def serve(
    context: TlsContext,
    handle: Serve,
    host: str,
    port: int,
    *,
    connections: int = _CONNECTIONS,
) -> AsyncIterator[TlsServer]:
    """Listen while the block runs; leaving it ends every connection.

    Args:
        context: a server's settings.
        handle: serves one connection; it is closed afterwards. Its `HsmError` and `OSError` are logged
            and end that connection; anything else ends the block.
        host: address to listen on.
        port: TCP port; 0 lets the system choose.
        connections: how many at once, handshakes included; more wait in the system's queue.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        listener.setblocking(False)
        async with asyncio.TaskGroup() as group:
            acceptor = group.create_task(_accept(listener, context, handle, group, connections))
            try:
                yield TlsServer(host, listener.getsockname()[1])
            finally:
                acceptor.cancel()


async def _accept(
    listener: socket.socket,
    context: TlsContext,
    handle: Serve,
    group: asyncio.TaskGroup,
    connections: int,
) -> None:
    loop = asyncio.get_running_loop()
    room = asyncio.Semaphore(connections)
    live: set[asyncio.Task[None]] = set()
    try:
        while True:
            await room.acquire()
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as error:
                _log.warning("TLS listener: %s", error)
                room.release()
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            task = group.create_task(_one(sock, context, handle, room))
            live.add(task)
            task.add_done_callback(live.discard)
    finally:
        for task in live:
            task.cancel()


async def _one(sock: socket.socket, context: TlsContext, handle: Serve, room: asyncio.Semaphore) -> None:
    stream: TlsStream | None = None
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = await establish(sock, context, limit_s=context.profile.handshake_limit_s)
        await handle(stream)
    except (HsmError, OSError) as error:
        _log.info("TLS connection ended: %s", error)
    finally:
        room.release()
        if stream is not None:
            await stream.close()
        else:
            sock.close()
