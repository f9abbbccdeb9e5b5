"""Streams on sockets: volume, many at once, the loop, the end of a session, leaks, asyncio protocols."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest
from aiohttp import web

from hsm.api import Curve
from hsm.errors import SessionExpired, TlsRefused
from hsm.tls import TlsStream, TlsVersion, connect, run_protocol, serve
from hsm.tls.provider import provider
from tests.support.soft_module import SoftModule
from tests.unit.hsm.tls_sides import Side, echo, pair, profile, side

BP = Curve.BRAINPOOL_P256


async def open_stream(client: Side, port: int) -> TlsStream:
    return await connect(client.context, "127.0.0.1", port, server_name="localhost")


async def settled(module: SoftModule) -> bool:
    """Whether the module gets all its ephemeral keys back within a moment."""
    for _ in range(200):
        if not module.ephemerals:
            return True
        await asyncio.sleep(0.01)
    return False


async def level(handles: int) -> bool:
    """Whether the handles are down to `handles` within a moment: a worker lets go after its result."""
    for _ in range(200):
        gc.collect()
        if provider().open_handles <= handles:
            return True
        await asyncio.sleep(0.01)
    return False


@pytest.mark.parametrize("curve", [Curve.P256, BP])
async def test_a_lot_of_data_both_ways_at_once(curve: Curve) -> None:
    client, server = await side(curve), await side(curve, server=True)
    payload = bytes(range(256)) * 12000
    async with serve(server.context, echo, "127.0.0.1", 0) as listener:
        stream = await open_stream(client, listener.port)
        _, back = await asyncio.gather(stream.write(payload), stream.readexactly(len(payload)))
        assert back == payload
        await stream.write(memoryview(payload)[:10])
        await stream.write(b"")
        assert await stream.readexactly(10) == payload[:10]
        await stream.close()
        await stream.close()
        with pytest.raises(TlsRefused, match="closed"):
            await stream.read()


async def test_forty_connections_at_once_with_few_admitted() -> None:
    client, server = await side(), await side(server=True)

    async def one(number: int) -> bool:
        message = bytes([number]) * (20000 + number)
        stream = await open_stream(client, listener.port)
        _, back = await asyncio.gather(stream.write(message), stream.readexactly(len(message)))
        await stream.close()
        return back == message

    async with serve(server.context, echo, "127.0.0.1", 0, connections=8) as listener:
        assert all(await asyncio.gather(*(one(number) for number in range(40))))
    assert client.module.counts["sign"] == server.module.counts["sign"] == 40


async def test_a_key_share_that_the_peer_had_no_use_for_is_given_back_while_the_connection_lives() -> None:
    client = await side()
    server = await side(server=True, rules=profile(Curve.P256, maximum=TlsVersion.TLS12))
    async with serve(server.context, echo, "127.0.0.1", 0) as listener:
        stream = await open_stream(client, listener.port)
        assert stream.version == "TLSv1.2"
        assert client.module.counts["generate_ephemeral"] == 2  # one of them was a share for TLS 1.3
        assert await settled(client.module)
        await stream.write(b"alive")
        assert await stream.readexactly(5) == b"alive"
        await stream.close()
    await asyncio.sleep(0.05)
    assert client.module.counts["discard_ephemeral"] == 1  # not once more when OpenSSL forgets it


async def test_exporters_and_facts_agree_on_both_ends() -> None:
    client, server = await side(BP), await side(BP, server=True)
    seen: list[TlsStream] = []
    keys: list[bytes] = []

    async def handle(stream: TlsStream) -> None:
        seen.append(stream)
        keys.extend([stream.export(b"EXPORTER-a", 40), stream.export(b"EXPORTER-a", 40, b"")])
        await stream.write(b"!")  # in TLS 1.3 a client is through before the server
        await stream.read()

    async with serve(server.context, handle, "127.0.0.1", 0) as listener:
        stream = await open_stream(client, listener.port)
        mine = [stream.export(b"EXPORTER-a", 40), stream.export(b"EXPORTER-a", 40, b"")]
        assert stream.export(b"EXPORTER-b", 40) not in mine
        assert stream.group.startswith("brainpoolP256r1")
        assert await stream.readexactly(1) == b"!"
        await stream.close()
    assert keys == mine
    assert seen[0].peer_certificate == client.chain[0]
    assert (seen[0].version, seen[0].cipher, seen[0].group) == (stream.version, stream.cipher, stream.group)


async def test_a_slow_module_leaves_the_loop_free() -> None:
    client = await side(BP, module=SoftModule(delay_s=0.05))
    server = await side(BP, server=True)
    turns = 0

    async def spin() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with serve(server.context, echo, "127.0.0.1", 0) as listener:
        turns, spinner = 0, asyncio.create_task(spin())
        stream = await open_stream(client, listener.port)
        spinner.cancel()
        assert turns > 200  # three calls of 50 ms: blocked for one of them, the loop would not turn
        await stream.close()


async def test_a_session_ends_at_its_age_limit_for_readers_and_writers() -> None:
    client = await side(rules=profile(Curve.P256, session_limit_s=0.1))
    server = await side(server=True)
    async with serve(server.context, echo, "127.0.0.1", 0) as listener:
        stream = await open_stream(client, listener.port)
        await stream.write(b"young")
        assert await stream.readexactly(5) == b"young"
        with pytest.raises(SessionExpired):
            await stream.read()  # pending when the limit comes
        with pytest.raises(SessionExpired):
            await stream.write(b"old")
        await stream.close()


async def test_the_default_age_limit_is_48_hours() -> None:
    assert profile(Curve.P256).session_limit_s == 172800


async def test_a_cut_connection_is_told_from_an_orderly_end() -> None:
    client, server = await side(), await side(server=True)

    async def rude(stream: TlsStream) -> None:
        await stream.read()
        stream.abort()

    async def polite(stream: TlsStream) -> None:
        await stream.write(b"bye")

    async with serve(server.context, rude, "127.0.0.1", 0) as listener:
        stream = await open_stream(client, listener.port)
        await stream.write(b"x")
        with pytest.raises((TlsRefused, ConnectionResetError)):
            await stream.read()
        await stream.close()
    async with serve(server.context, polite, "127.0.0.1", 0) as listener:
        stream = await open_stream(client, listener.port)
        assert await stream.readexactly(3) == b"bye"
        assert await stream.read() == b""
        with pytest.raises(asyncio.IncompleteReadError):
            await stream.readexactly(1)
        await stream.close()


async def test_closing_wakes_a_pending_reader() -> None:
    client, server = await side(), await side(server=True)
    async with serve(server.context, echo, "127.0.0.1", 0) as listener:
        stream = await open_stream(client, listener.port)
        reader = asyncio.create_task(stream.read())
        await asyncio.sleep(0)
        await stream.close()
        with pytest.raises((TlsRefused, OSError)):
            await reader


async def test_a_peer_that_does_not_read_holds_the_writer_and_nobody_else() -> None:
    client, server = await side(), await side(server=True)

    async def deaf(_stream: TlsStream) -> None:
        await asyncio.Event().wait()

    async with serve(server.context, deaf, "127.0.0.1", 0) as listener:
        stream = await open_stream(client, listener.port)

        async def write_on() -> None:
            while True:
                await stream.write(bytes(1 << 20))

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(write_on(), 0.3)
        stream.abort()


async def test_nobody_who_stalls_in_the_handshake_keeps_a_module_or_the_others_out() -> None:
    client, server = await side(BP), await side(BP, server=True)
    async with serve(server.context, echo, "127.0.0.1", 0) as listener:
        stalled = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(10)]
        stream = await open_stream(client, listener.port)
        await stream.write(b"in")
        assert await stream.readexactly(2) == b"in"
        await stream.close()
        for sock in stalled:
            sock.close()


async def test_a_fault_in_a_connection_leaves_the_listener_alone_and_a_mistake_does_not() -> None:
    client, server = await side(), await side(server=True)
    outcomes: list[BaseException] = [OSError("gone"), TlsRefused("no")]

    async def failing(stream: TlsStream) -> None:
        raise outcomes.pop()

    async def mistaken(stream: TlsStream) -> None:
        raise ZeroDivisionError

    async with serve(server.context, failing, "127.0.0.1", 0) as listener:
        for _ in range(2):
            stream = await open_stream(client, listener.port)
            assert await stream.read() == b""
            await stream.close()
    assert not outcomes

    async def visit() -> None:
        async with serve(server.context, mistaken, "127.0.0.1", 0) as listener:
            stream = await open_stream(client, listener.port)
            try:
                await asyncio.Event().wait()
            finally:
                stream.abort()

    with pytest.raises(ExceptionGroup) as caught:
        await visit()
    assert caught.group_contains(ZeroDivisionError)


# ---- leaks


@pytest.mark.parametrize("version", list(TlsVersion))
async def test_no_handle_and_no_ephemeral_key_is_left_behind(version: TlsVersion) -> None:
    rules = profile(Curve.P256, minimum=version, maximum=version)
    client, server = await side(rules=rules), await side(server=True, rules=rules)
    engines = await pair(client, server)
    del engines
    gc.collect()
    before = provider().open_handles
    for _ in range(60):
        one, other = await pair(client, server)
    del one, other
    assert await level(before)
    assert await settled(client.module)
    assert await settled(server.module)


async def test_failed_handshakes_leave_nothing_behind() -> None:
    client, server = await side(BP), await side(BP, server=True)
    await pair(client, server)
    gc.collect()
    before = provider().open_handles
    for _ in range(20):
        with pytest.raises(Exception, match="mismatch"):
            await pair(client, server, "wrong.example")
    await asyncio.sleep(0.05)  # the loop lets go of the last error, and so of its engines
    gc.collect()
    assert await settled(client.module)
    assert await settled(server.module)
    assert await level(before)


async def test_contexts_give_their_keys_back() -> None:
    await pair(await side(), await side(server=True, rules=profile(Curve.P256, alpn=("a",))))
    gc.collect()
    before = provider().open_handles
    for _ in range(5):
        await side(server=True, rules=profile(Curve.P256, alpn=("a",)))
    gc.collect()
    assert await level(before)


@pytest.mark.nightly
@pytest.mark.timeout(600)
async def test_memory_stays_level_over_a_thousand_handshakes() -> None:
    from pathlib import Path

    client, server = await side(), await side(server=True)

    def pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    seen = []
    for number in range(1200):
        await pair(client, server)
        if number % 300 == 299:
            seen.append(pages())
    assert seen[-1] - seen[0] < 512


# ---- asyncio protocols


async def test_aiohttp_serves_on_a_stream_and_a_large_body_comes_through() -> None:
    client, server = await side(BP), await side(BP, server=True)

    async def answer(request: web.BaseRequest) -> web.Response:
        body = await request.read()
        names = request.transport.get_extra_info("tls_stream").peer_certificate.subject_cn
        return web.Response(text=f"{request.path} {len(body)} {names}\n" + "x" * 600000)

    application = web.Server(answer)

    async def handle(stream: TlsStream) -> None:
        await run_protocol(stream, application())

    async with serve(server.context, handle, "127.0.0.1", 0) as listener:
        stream = await open_stream(client, listener.port)
        for path in ("/one", "/two"):
            body = bytes(400000)
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            await stream.write(head.encode() + body)
            text = b""
            while b"\r\n\r\n" not in text:
                text += await stream.read()
            headers, _, rest = text.partition(b"\r\n\r\n")
            assert headers.startswith(b"HTTP/1.1 200")
            length = int(headers.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            rest += await stream.readexactly(length - len(rest))
            assert rest.startswith(f"{path} 400000 ESGW0100000001.SMGW".encode())
        await stream.close()
        await application.shutdown(1)


class Recorder(asyncio.Protocol):
    def __init__(self) -> None:
        self.events: list[str] = []
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.events.append(data.decode())
        if data == b"big":
            self.transport.set_write_buffer_limits(high=1000)
            self.transport.writelines([b"a" * 700, b"b" * 700])
        if data == b"close":
            self.transport.write(b"last words")
            self.transport.close()
            self.transport.write(b"dropped")
        if data == b"bug":
            raise ZeroDivisionError

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(f"lost {type(exc).__name__}")


@pytest.mark.parametrize("way", ["close", "eof", "cut"])
async def test_a_protocols_life(way: str) -> None:
    client, server = await side(), await side(server=True)
    protocol, done = Recorder(), asyncio.Event()

    async def handle(stream: TlsStream) -> None:
        await run_protocol(stream, protocol)
        done.set()

    async with serve(server.context, handle, "127.0.0.1", 0) as listener:
        stream = await open_stream(client, listener.port)
        await stream.write(b"big")
        assert await stream.readexactly(1400) == b"a" * 700 + b"b" * 700
        if way == "close":
            await stream.write(b"close")
            assert await stream.readexactly(10) == b"last words"
            assert await stream.read() == b""
            await stream.close()
        elif way == "eof":
            await stream.close()
        else:
            stream.abort()
        await done.wait()
    lost = {"close": "lost NoneType", "eof": "lost NoneType"}
    middle = ["close"] if way == "close" else []
    assert protocol.events[:4] == ["made", "big", "pause", "resume"]
    assert protocol.events[4:-1] == middle
    assert (
        protocol.events[-1]
        in (lost.get(way, "lost TlsRefused"), "lost ConnectionResetError")[: 1 + (way == "cut")]
    )


async def test_a_mistake_in_a_protocol_is_not_hidden() -> None:
    client, server = await side(), await side(server=True)
    protocol = Recorder()

    async def handle(stream: TlsStream) -> None:
        with pytest.raises(ZeroDivisionError):
            await run_protocol(stream, protocol)

    async with serve(server.context, handle, "127.0.0.1", 0) as listener:
        stream = await open_stream(client, listener.port)
        await stream.write(b"bug")
        assert await stream.read() == b""
        await stream.close()
    assert protocol.events[-1] == "lost NoneType"
