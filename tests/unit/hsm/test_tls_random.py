"""The randomness that a hello shows comes from the security module, and from nowhere else."""

from __future__ import annotations

import asyncio
import itertools
from ctypes import c_int, c_size_t, c_uint, c_void_p, create_string_buffer
from dataclasses import dataclass

import pytest

from hsm import libcrypto
from hsm.api import Curve
from hsm.errors import ModuleFailed, ModuleUnavailable
from hsm.tls import TlsContext, TlsEngine, TlsVersion, connect, serve
from hsm.tls.profile import Suite12
from hsm.tls.provider import provider
from tests.support.soft_module import SoftModule
from tests.unit.hsm.tls_sides import echo, pair, profile, pump, side, transfer

CURVE = Curve.P256
VERSIONS = [v for v in TlsVersion if v <= profile(CURVE).highest_version(libcrypto.version())]
CLIENT_HELLO, SERVER_HELLO = 1, 2


class Teller(SoftModule):
    """A module whose random bytes are all different and known afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.given = b""
        self._next = itertools.count()

    async def random(self, count: int) -> bytes:
        await self._turn("random")
        drawn = b"".join(next(self._next).to_bytes(4, "big") for _ in range(count // 4))
        self.given += drawn
        return drawn


@dataclass(frozen=True)
class Hello:
    """What of a hello is random (RFC 8446 4.1.2, 4.1.3)."""

    random: bytes
    session: bytes

    @classmethod
    def from_records(cls, raw: bytes, kind: int) -> Hello:
        assert raw[0] == 0x16
        body = raw[5:]
        assert body[0] == kind
        return cls(body[6:38], body[39 : 39 + body[38]])


def exactly(version: TlsVersion, **settings):  # type: ignore[no-untyped-def]
    return profile(CURVE, minimum=version, maximum=version, **settings)


async def client_hello(context: TlsContext) -> Hello:
    engine = TlsEngine(context, server_name="localhost")
    try:
        assert not await asyncio.to_thread(engine.handshake)
        return Hello.from_records(engine.outgoing(), CLIENT_HELLO)
    finally:
        engine.close()


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_s_hello_shows_the_module_s_bytes(version: TlsVersion) -> None:
    teller = Teller()
    client = await side(CURVE, module=teller, rules=exactly(version))
    hellos = [await client_hello(client.context) for _ in range(5)]
    assert [hello.random for hello in hellos] == [teller.given[at : at + 32] for at in range(0, 320, 64)]
    sessions = [teller.given[at + 32 : at + 64] for at in range(0, 320, 64)]
    assert [hello.session for hello in hellos] == (sessions if version is TlsVersion.TLS13 else [b""] * 5)
    assert teller.counts["random"] == 2  # 256 bytes, for four connections, at a time


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_server_s_hello_does_so_too(version: TlsVersion) -> None:
    teller = Teller()
    client = await side(CURVE, rules=exactly(version))
    server = await side(CURVE, server=True, module=teller, rules=exactly(version))
    one, other = TlsEngine(client.context, server_name="localhost"), TlsEngine(server.context)
    await asyncio.to_thread(one.handshake)
    other.feed(one.outgoing())
    await asyncio.to_thread(other.handshake)
    answer = other.outgoing()
    assert Hello.from_records(answer, SERVER_HELLO).random in (teller.given[:32], teller.given[32:64])
    one.feed(answer)
    await pump(one, other)
    assert transfer(one, other, b"through") == b"through"


async def test_without_our_random_numbers_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the two tests above would say of an OpenSSL that draws from its own generator."""
    monkeypatch.setattr("hsm.tls.rand.hello_bytes", lambda count: b"")
    teller = Teller()
    client = await side(CURVE, module=teller, rules=exactly(TlsVersion.TLS12))
    assert (await client_hello(client.context)).random not in teller.given


async def test_no_hello_leaves_without_the_module() -> None:
    teller = Teller()
    teller.faults["random"] = ModuleUnavailable("gone")
    client = await side(CURVE, module=teller)
    engine = TlsEngine(client.context, server_name="localhost")
    with pytest.raises(ModuleUnavailable, match="gone"):
        await asyncio.to_thread(engine.handshake)
    assert engine.outgoing() == b""
    engine.close()


async def test_a_module_that_gives_less_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    client = await side(CURVE)

    async def short(count: int) -> bytes:
        return bytes(count - 1)

    monkeypatch.setattr(client.module, "random", short)
    engine = TlsEngine(client.context, server_name="localhost")
    with pytest.raises(ModuleFailed, match="255 random bytes"):
        await asyncio.to_thread(engine.handshake)
    with pytest.raises(ModuleFailed, match="255 random bytes"):
        await engine.calls.prepare(None)
    assert engine.outgoing() == b""
    engine.close()


async def test_a_step_that_must_fetch_belongs_in_a_thread() -> None:
    client = await side(CURVE, rules=exactly(TlsVersion.TLS12))
    first = TlsEngine(client.context, server_name="localhost")
    assert first.may_block
    await asyncio.to_thread(first.handshake)
    second = TlsEngine(client.context, server_name="localhost")
    assert not second.may_block
    assert not second.handshake()  # on the loop's own thread
    for engine in (first, second):
        engine.close()


async def test_a_client_s_share_is_made_ahead() -> None:
    """On the loop; the step in the thread then asks the module for nothing."""
    client = await side(CURVE)
    engine = TlsEngine(client.context, server_name="localhost")
    assert engine.first_share is CURVE
    await engine.calls.prepare(engine.first_share)
    assert dict(client.module.counts) == {"generate_key_pair": 1, "random": 1, "generate_ephemeral": 1}
    await asyncio.to_thread(engine.handshake)
    assert Hello.from_records(engine.outgoing(), CLIENT_HELLO).random
    assert sum(client.module.counts.values()) == 3
    assert engine.first_share is None
    assert TlsEngine((await side(CURVE, rules=exactly(TlsVersion.TLS12))).context).first_share is None
    assert TlsEngine((await side(CURVE, server=True)).context).first_share is None
    engine.close()


async def settled(module: SoftModule, left: int) -> None:
    while len(module.ephemerals) != left:  # noqa: ASYNC110 - a key is given back by a task of its own
        await asyncio.sleep(0.005)


async def test_a_share_made_ahead_that_nobody_wants_is_given_back() -> None:
    client = await side(CURVE)
    unused = TlsEngine(client.context, server_name="localhost")
    await unused.calls.prepare(CURVE)
    unused.close()
    await settled(client.module, 0)
    other = TlsEngine(client.context, server_name="localhost")
    await other.calls.prepare(Curve.P384)
    await asyncio.to_thread(other.handshake)
    assert client.module.counts["generate_ephemeral"] == 3
    await settled(client.module, 1)  # the right one, in use
    other.close()
    await settled(client.module, 0)


async def test_a_fault_while_making_ahead_is_the_connection_s_own() -> None:
    client, server = await side(CURVE), await side(CURVE, server=True)
    client.module.faults["generate_ephemeral"] = ModuleUnavailable("gone")
    async with serve(server.context, echo, "127.0.0.1", 0) as listener:
        with pytest.raises(ModuleUnavailable, match="gone"):
            await connect(client.context, "127.0.0.1", listener.port, server_name="localhost")
        del client.module.faults["generate_ephemeral"]
        await (await connect(client.context, "127.0.0.1", listener.port, server_name="localhost")).close()


async def test_a_server_asks_for_nothing_before_it_has_heard_something() -> None:
    server = await side(CURVE, server=True)
    engine = TlsEngine(server.context)
    assert not await asyncio.to_thread(engine.handshake)
    assert dict(server.module.counts) == {"generate_key_pair": 1}
    engine.close()


async def test_no_byte_is_used_twice() -> None:
    """Also by forty handshakes at once, whose threads fetch for one another."""
    teller = Teller()
    client = await side(CURVE, module=teller)
    hellos = await asyncio.gather(*(client_hello(client.context) for _ in range(40)))
    assert len({hello.random for hello in hellos}) == 40
    assert all(hello.random in teller.given for hello in hellos)


async def test_what_no_hello_shows_is_the_cpu_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a handshake step, such as the explicit IVs of CBC records, nothing waits for a card."""
    drawn: list[int] = []
    monkeypatch.setattr("hsm.tls.rand.host_random", lambda count: drawn.append(count) or b"\x5a" * count)
    rules = exactly(TlsVersion.TLS12, suites12=(Suite12.AES128_CBC,))
    client, server = await side(CURVE, rules=rules), await side(CURVE, server=True, rules=rules)
    one, other = await pair(client, server)
    asked = client.module.counts["random"], server.module.counts["random"]
    assert transfer(one, other, b"x" * 50_000) == b"x" * 50_000
    assert asked == (client.module.counts["random"], server.module.counts["random"]) == (1, 1)
    assert drawn.count(16) >= 4  # explicit IVs: of four records of data, at least


def test_our_random_numbers_are_alone_in_their_library_context() -> None:
    lib = libcrypto.crypto({"RAND_bytes_ex": (c_int, c_void_p, c_void_p, c_size_t, c_uint)})
    buffers = [create_string_buffer(100_000) for _ in range(2)]
    for buffer in buffers:  # more than one request takes
        assert lib.RAND_bytes_ex(provider().library_context, buffer, 100_000, 0) == 1
    assert buffers[0].raw != buffers[1].raw
    assert len(set(buffers[0].raw[65_000:66_000])) > 100
