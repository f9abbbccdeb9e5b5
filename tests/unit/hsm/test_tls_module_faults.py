"""What a module that refuses, lies, hangs or is given up does to a handshake."""

from __future__ import annotations

import asyncio

import pytest

from hsm.api import Curve, EphemeralKey, KeySlot
from hsm.errors import CommandRefused, MalformedSignature, ModuleUnavailable, TlsRefused, UnexpectedResponse
from hsm.tls import TlsVersion, connect, serve
from hsm.tls.keys import Work, current, note, performing
from tests.support.soft_module import SoftModule
from tests.unit.hsm.tls_sides import echo, pair, profile, side

BP = Curve.BRAINPOOL_P256
V12 = TlsVersion.TLS12


async def test_a_module_that_refuses_surfaces_with_its_own_error() -> None:
    for operation, curve in (("sign", BP), ("agree_ephemeral", BP), ("generate_ephemeral", Curve.P256)):
        client, server = await side(curve), await side(curve, server=True)
        client.module.faults[operation] = CommandRefused(operation, 0x6985)
        with pytest.raises(CommandRefused, match="6985") as caught:
            await pair(client, server)
        assert isinstance(caught.value.__cause__, TlsRefused)
        await asyncio.sleep(0.05)
        assert not client.module.ephemerals


async def test_a_mistake_inside_the_module_is_not_hidden() -> None:
    client, server = await side(BP), await side(BP, server=True)
    client.module.faults["sign"] = ZeroDivisionError("ours")
    with pytest.raises(ZeroDivisionError):
        await pair(client, server)


async def test_concurrent_handshakes_do_not_mix_up_their_errors() -> None:
    server = await side(BP, server=True)
    good, bad = await side(BP), await side(BP)
    bad.module.faults["sign"] = CommandRefused("sign", 0x6985)
    outcomes = await asyncio.gather(
        *(pair(client, server) for client in (good, bad) * 4), return_exceptions=True
    )
    assert all(isinstance(outcome, tuple) for outcome in outcomes[::2])
    assert all(isinstance(outcome, CommandRefused) for outcome in outcomes[1::2])


@pytest.mark.parametrize("version", [TlsVersion.TLS12, TlsVersion.TLS13])
async def test_a_signature_of_something_else(version: TlsVersion) -> None:
    class Wrong(SoftModule):
        async def sign(self, slot: KeySlot, digest: bytes) -> bytes:
            return await super().sign(slot, bytes(len(digest)))

    rules = profile(Curve.P256, minimum=version, maximum=version)
    client = await side(module=Wrong(), rules=rules)
    with pytest.raises(TlsRefused, match=r"signature|decrypt"):
        await pair(client, await side(server=True))


async def test_nonsense_from_the_module_is_named() -> None:
    class Short(SoftModule):
        async def sign(self, slot: KeySlot, digest: bytes) -> bytes:
            return (await super().sign(slot, digest))[1:]

    with pytest.raises(MalformedSignature):
        await pair(await side(BP, module=Short()), await side(BP, server=True))

    class ShortSecret(SoftModule):
        async def agree_ephemeral(self, key: EphemeralKey, peer_point: bytes) -> bytes:
            return (await super().agree_ephemeral(key, peer_point))[1:]

    with pytest.raises(UnexpectedResponse, match="shared secret"):
        await pair(await side(BP, module=ShortSecret()), await side(BP, server=True))


async def test_a_module_that_never_answers_meets_the_limit() -> None:
    class Deaf(SoftModule):
        async def sign(self, slot: KeySlot, digest: bytes) -> bytes:
            await asyncio.Event().wait()
            raise AssertionError

    client, server = await side(BP, module=Deaf()), await side(BP, server=True)
    async with serve(server.context, echo, "127.0.0.1", 0) as listener:
        with pytest.raises(TlsRefused, match=r"within 0\.3 s"):
            await connect(client.context, "127.0.0.1", listener.port, server_name="localhost", timeout_s=0.3)


async def test_a_cancelled_handshake_leaves_no_ephemeral_key() -> None:
    client, server = await side(BP), await side(BP, server=True)
    reached = asyncio.Event()

    class Gate(SoftModule):
        async def generate_ephemeral(self, curve: Curve) -> EphemeralKey:
            key = await super().generate_ephemeral(curve)
            reached.set()
            return key  # the connection is given up between this and its use

    module = Gate()
    client = await side(BP, module=module)
    async with serve(server.context, echo, "127.0.0.1", 0) as listener:
        task = asyncio.create_task(
            connect(client.context, "127.0.0.1", listener.port, server_name="localhost")
        )
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(200):
            if not module.ephemerals:
                break
            await asyncio.sleep(0.01)
    assert not module.ephemerals


async def test_private_keys_are_out_of_reach_outside_a_handshake() -> None:
    with pytest.raises(LookupError):
        current()
    note(ValueError("nobody listens"))  # and nothing happens
    work = Work(object())  # type: ignore[arg-type]  # never called
    with performing(work):
        note(ValueError("first"))
        note(ValueError("second"))
    assert str(work.take_error()) == "first"
    assert work.take_error() is None


async def test_a_call_on_a_module_that_was_given_up_is_named() -> None:
    client = await side(BP)
    calls = client.context.bridge.open()
    calls.abort()
    with pytest.raises(ModuleUnavailable, match="given up"):
        await asyncio.to_thread(calls.generate, BP)


async def test_a_blocking_call_in_the_loops_own_thread_is_a_mistake_and_no_deadlock() -> None:
    calls = (await side(BP)).context.bridge.open()
    with pytest.raises(AssertionError, match="event loop"):
        calls.generate(BP)
