"""A request whose line breaks before all of it has come is no fault of the supplier's."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from tools.counterparts.server import broken_off


@pytest.mark.parametrize("reset", [False, True])
async def test_a_request_that_broke_off_is_not_taken_and_no_fault_is_told(
    reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Found by the hostile wire: each one was a traceback in the log of `smgw emp`."""
    caplog.set_level(logging.WARNING)
    taken: list[bytes] = []
    began, ended = asyncio.Queue[str](), asyncio.Queue[str]()

    async def take(request: web.Request) -> web.Response:
        began.put_nowait(request.method)
        taken.append(await request.read())
        return web.Response()

    @web.middleware
    async def note(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        finally:
            ended.put_nowait(request.method)

    app = web.Application(middlewares=[note, broken_off])
    app.router.add_put("/", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    for body in (b"four", b"fo"):
        _, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n" + body)
        await writer.drain()
        await began.get()
        if body == b"four":
            await ended.get()
        if reset:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            writer.close()
    await ended.get()
    await runner.cleanup()
    assert taken == [b"four"]
    assert not caplog.records


async def test_another_connection_that_broke_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def ask_somebody_else(_request: web.Request) -> web.Response:
        raise ConnectionResetError("an administrator's line")

    app = web.Application(middlewares=[broken_off])
    app.router.add_put("/", ask_somebody_else)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
    writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
    assert b" 500 " in await reader.readline()
    writer.close()
    await runner.cleanup()
    assert [record.name for record in caplog.records] == ["aiohttp.server"]
