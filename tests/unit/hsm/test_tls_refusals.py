"""What must not be accepted, and what the errors are."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest

from hsm import libcrypto
from hsm.api import CertificateUse, Curve, EphemeralKey, KeySlot
from hsm.errors import (
    CertificateRefused,
    CommandRefused,
    MalformedSignature,
    ModuleUnavailable,
    TlsRefused,
    UnexpectedResponse,
)
from hsm.tls import (
    HAN,
    WAN,
    PeerCertificate,
    Suite12,
    TlsContext,
    TlsEngine,
    TlsProfile,
    TlsVersion,
    connect,
    serve,
)
from hsm.tls.keys import Work, current, note, performing
from tests.support.pki import DAY, NOW, Tree, tree
from tests.support.soft_module import SoftModule
from tests.unit.hsm.tls_sides import SLOT, echo, pair, profile, side, transfer

BP = Curve.BRAINPOOL_P256
V12 = TlsVersion.TLS12


async def test_the_plain_case_passes_with_revocation_lists_and_an_address() -> None:
    crls = tree(BP).crls()
    client, server = await side(BP, crls=crls), await side(BP, server=True, crls=crls)
    one, other = await pair(client, server, "127.0.0.1")
    assert transfer(one, other, b"there") == b"there"
    assert transfer(other, one, b"back") == b"back"


# ---- the peer's certificate


@pytest.mark.parametrize("name", ["wrong.example", "127.0.0.2", "::1", "localhost.localdomain"])
async def test_wrong_name_or_address(name: str) -> None:
    with pytest.raises(CertificateRefused, match="mismatch"):
        await pair(await side(BP), await side(BP, server=True), name)


@pytest.mark.parametrize(
    ("validity", "reason"),
    [
        ({"not_before": NOW - 3 * DAY, "not_after": NOW - DAY}, "expired"),
        ({"not_before": NOW + DAY, "not_after": NOW + 3 * DAY}, "not yet valid"),
    ],
)
@pytest.mark.parametrize("server_is_bad", [True, False])
async def test_validity_of_either_side(validity: dict, reason: str, server_is_bad: bool) -> None:
    client = await side(BP, **({} if server_is_bad else validity))
    server = await side(BP, server=True, **(validity if server_is_bad else {}))
    with pytest.raises(CertificateRefused, match=reason):
        await pair(client, server)


async def test_the_clock_that_counts_is_the_given_one() -> None:
    later = NOW + 701 * DAY
    client, server = await side(BP, now_utc=lambda: later), await side(BP, server=True)
    with pytest.raises(CertificateRefused, match="expired"):
        await pair(client, server)


async def test_validity_alone_can_be_skipped_for_fetching_the_time() -> None:
    old = await side(BP, server=True, not_before=NOW - 3 * DAY, not_after=NOW - DAY)
    blind = await side(BP, insecure_skip_validity=True)
    await pair(blind, old)
    with pytest.raises(CertificateRefused, match="mismatch"):
        await pair(blind, old, "wrong.example")


@pytest.mark.parametrize("server_is_foreign", [True, False])
async def test_another_root_of_the_same_name(server_is_foreign: bool) -> None:
    foreign = Tree(BP)
    client = await side(BP, **({} if server_is_foreign else {"pki": foreign, "anchors": tree(BP).anchors}))
    server = await side(
        BP, server=True, **({"pki": foreign, "anchors": tree(BP).anchors} if server_is_foreign else {})
    )
    with pytest.raises(CertificateRefused, match="certificate"):
        await pair(client, server)


@pytest.mark.parametrize("server_is_bad", [True, False])
async def test_revoked(server_is_bad: bool) -> None:
    crls = tree(BP).crls(revoked=[0x4711])
    bad = {"serial": 0x4711}
    client = await side(BP, crls=crls, **({} if server_is_bad else bad))
    server = await side(BP, crls=crls, server=True, **(bad if server_is_bad else {}))
    with pytest.raises(CertificateRefused, match="revoked"):
        await pair(client, server)


async def test_the_sub_cas_revocation_list_is_missing() -> None:
    client = await side(BP, crls=[tree(BP).root.crl()])
    with pytest.raises(CertificateRefused, match="CRL"):
        await pair(client, await side(BP, server=True))


@pytest.mark.parametrize("server_is_bad", [True, False])
async def test_an_encryption_certificate_is_none_for_tls(server_is_bad: bool) -> None:
    bad = {"use": CertificateUse.ENC}
    client = await side(BP, **({} if server_is_bad else bad))
    server = await side(BP, server=True, **(bad if server_is_bad else {}))
    with pytest.raises((CertificateRefused, TlsRefused), match=r"key usage|no shared cipher"):
        await pair(client, server)


async def test_the_pinned_certificate_and_another_of_the_same_peer() -> None:
    client, server = await side(BP), await side(BP, server=True)
    other = tree(BP).tls(server.module.keys[SLOT])[0]
    async with serve(server.context, echo, "127.0.0.1", 0) as listener:
        stream = await connect(
            client.context, "127.0.0.1", listener.port, server_name="localhost", pinned=server.chain[0].der
        )
        assert stream.peer_certificate == server.chain[0]
        await stream.close()
        with pytest.raises(CertificateRefused, match="not the one configured"):
            await connect(client.context, "127.0.0.1", listener.port, pinned=other.der)
        with pytest.raises(ValueError, match="name or by its certificate"):
            await connect(client.context, "127.0.0.1", listener.port)


async def test_a_peer_without_certificate_is_refused_or_allowed_by_the_servers_rule() -> None:
    refusing = await side(Curve.P256, server=True)
    allowing = await side(Curve.P256, server=True, peer=PeerCertificate.OPTIONAL)
    plain = ssl.create_default_context()
    plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE
    plain.maximum_version = ssl.TLSVersion.TLSv1_2
    for us, good in ((allowing, True), (refusing, False)):
        engine = TlsEngine(us.context)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        peer = plain.wrap_bio(incoming, outgoing, server_hostname="localhost")

        async def run(engine=engine, peer=peer, incoming=incoming, outgoing=outgoing) -> None:
            for _ in range(6):
                with contextlib.suppress(ssl.SSLWantReadError):
                    peer.do_handshake()
                engine.feed(outgoing.read())
                if not engine.finished:
                    await asyncio.to_thread(engine.handshake)
                while data := engine.outgoing():
                    incoming.write(data)

        if good:
            await run()
            assert engine.finished
            assert engine.peer_der is None
        else:
            with pytest.raises(CertificateRefused, match="did not return a certificate"):
                await run()


async def test_a_client_always_demands_a_certificate() -> None:
    with pytest.raises(ValueError, match="client"):
        await side(peer=PeerCertificate.INSECURE_NONE)


# ---- the module


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


# ---- what may be negotiated


@pytest.mark.parametrize("suite", list(Suite12))
async def test_each_suite_of_tls_1_2(suite: Suite12) -> None:
    rules = profile(BP, maximum=V12, suites12=(suite,))
    one, other = await pair(await side(BP, rules=rules), await side(BP, server=True))
    assert one.cipher == other.cipher == suite.value
    assert transfer(one, other, bytes(40000)) == bytes(40000)


async def test_no_common_suite_or_group() -> None:
    client = await side(BP, rules=profile(BP, maximum=V12, suites12=(Suite12.AES128_CBC,)))
    server = await side(BP, server=True, rules=profile(BP, suites12=(Suite12.AES256_GCM,)))
    with pytest.raises(TlsRefused, match="no shared cipher"):
        await pair(client, server)
    client = await side(Curve.P256, pki=tree(BP), anchors=tree(BP).anchors)
    with pytest.raises(TlsRefused):
        await pair(client, await side(BP, server=True))


async def test_a_brainpool_certificate_over_a_nist_group() -> None:
    rules = profile(BP, curves=(Curve.P256, BP))
    one, _ = await pair(await side(BP, rules=rules), await side(BP, server=True, rules=rules))
    assert one.group == "secp256r1"


async def test_hello_retry_request_uses_a_second_ephemeral_key_and_drops_the_first() -> None:
    client = await side(rules=profile(Curve.P256, curves=(Curve.P256, Curve.P384)))
    server = await side(server=True, rules=profile(Curve.P256, curves=(Curve.P384, Curve.P256)))
    one, _ = await pair(client, server)
    if one.group == "secp384r1":  # newer servers ask for their favourite, older ones take what is offered
        assert client.module.counts["generate_ephemeral"] == 2
    only384 = await side(server=True, rules=profile(Curve.P256, curves=(Curve.P384, Curve.P256)[:1]))
    client = await side(
        Curve.P384, rules=profile(Curve.P384, curves=(Curve.P256, Curve.P384)), pki=tree(Curve.P256)
    )
    one, _ = await pair(client, only384)
    assert one.group == "secp384r1"
    assert client.module.counts["generate_ephemeral"] == 2
    assert client.module.counts["agree_ephemeral"] == 1
    await asyncio.sleep(0.05)
    assert client.module.counts["discard_ephemeral"] == 1
    assert not client.module.ephemerals


async def test_application_protocols() -> None:
    rules = profile(Curve.P256, alpn=("http/1.1", "smgw/1"))
    one, other = await pair(
        await side(rules=rules), await side(server=True, rules=profile(Curve.P256, alpn=("smgw/1",)))
    )
    assert one.alpn == other.alpn == "smgw/1"
    with pytest.raises(TlsRefused, match=r"alert|protocol"):
        await pair(await side(rules=rules), await side(server=True, rules=profile(Curve.P256, alpn=("x",))))


@pytest.mark.parametrize("limit", [512, 4096])
async def test_the_maximum_fragment_length_is_honoured(limit: int) -> None:
    one, other = await pair(
        await side(rules=profile(Curve.P256, max_fragment_bytes=limit)), await side(server=True)
    )
    other.write(bytes(10000))
    wire, lengths = b"", []
    while data := other.outgoing():
        wire += data
    one.feed(wire)
    while wire:
        length = int.from_bytes(wire[3:5], "big")
        lengths.append(length)
        wire = wire[5 + length :]
    assert max(lengths) <= limit + 24
    assert sum(lengths) >= 10000


async def test_encrypt_then_mac_and_extended_master_secret_are_offered() -> None:
    client = await side(BP)
    engine = TlsEngine(client.context, server_name="localhost")
    await asyncio.to_thread(engine.handshake)
    hello = engine.outgoing()
    assert b"\x00\x16\x00\x00" in hello
    assert b"\x00\x17\x00\x00" in hello
    assert b"localhost" in hello
    assert b"\x00\x23\x00\x00" not in hello  # no session tickets


def test_versions_follow_the_library() -> None:
    assert WAN.highest_version((3, 0, 19)) is V12
    assert WAN.highest_version((3, 5, 0)) is TlsVersion.TLS13
    assert profile(Curve.P256).highest_version((3, 0, 19)) is TlsVersion.TLS13
    assert WAN.groups((3, 0, 19)) == "brainpoolP256r1:brainpoolP384r1:secp256r1"
    assert WAN.groups((3, 5, 0)).startswith("brainpoolP256r1tls13:brainpoolP256r1:")
    assert "brainpool" not in HAN.signature_schemes((3, 0, 19))
    assert WAN.signature_schemes((3, 0, 19), BP) == "ECDSA+SHA256"
    assert "ecdsa_brainpoolP512r1_sha512" in HAN.signature_schemes((3, 5, 0))


async def test_a_profile_that_needs_more_than_the_library_is_refused() -> None:
    if libcrypto.version() >= (3, 2, 0):
        return
    with pytest.raises(TlsRefused, match="TLS13"):
        await side(BP, rules=profile(BP, minimum=TlsVersion.TLS13))


async def test_a_context_needs_a_certificate() -> None:
    with pytest.raises(ValueError, match="certificate"):
        TlsContext(
            TlsProfile("x", (BP,)),
            SoftModule(),
            asyncio.get_running_loop(),
            slot=SLOT,
            chain=[],
            anchors=tree(BP).anchors,
        )


# ---- the wire


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(200), b"\x16\x03\x03\xff\xff"]
)
async def test_a_peer_that_speaks_nonsense_or_hangs_up(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        await writer.drain()
        writer.close()

    client = await side()
    nonsense = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with nonsense:
        port = nonsense.sockets[0].getsockname()[1]
        with pytest.raises((TlsRefused, ConnectionResetError)):
            await connect(client.context, "127.0.0.1", port, server_name="localhost")


async def test_a_silent_peer_meets_the_limit_and_nobody_listening_is_an_os_error() -> None:
    client = await side()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(TlsRefused, match=r"within 0\.2 s"):
            await connect(client.context, "127.0.0.1", port, server_name="localhost", timeout_s=0.2)
    with pytest.raises(ConnectionRefusedError):
        await connect(client.context, "127.0.0.1", port, server_name="localhost")


async def test_a_changed_record_ends_the_connection() -> None:
    one, other = await pair(await side(), await side(server=True))
    one.write(b"reading")
    record = bytearray(one.outgoing())
    record[-1] ^= 1
    other.feed(bytes(record))
    with pytest.raises(TlsRefused, match=r"record|mac"):
        other.read(100)


async def test_a_replayed_or_reordered_record_ends_the_connection() -> None:
    one, other = await pair(await side(), await side(server=True))
    one.write(b"first")
    record = one.outgoing()
    other.feed(record)
    assert other.read(100) == b"first"
    other.feed(record)
    with pytest.raises(TlsRefused):
        other.read(100)


@pytest.mark.parametrize("cut", [1, 5, 40, 100])
async def test_a_handshake_in_small_pieces(cut: int) -> None:
    client, server = (await side(BP)).context, (await side(BP, server=True)).context
    one, other = TlsEngine(client, server_name="localhost"), TlsEngine(server)
    for _ in range(12):
        for engine, peer in ((one, other), (other, one)):
            if not engine.finished:
                await asyncio.to_thread(engine.handshake)
            wire = b""
            while data := engine.outgoing():
                wire += data
            for at in range(0, len(wire), cut):
                peer.feed(wire[at : at + cut])
        if one.finished and other.finished:
            break
    assert one.finished
    assert other.finished


async def test_engines_refuse_work_after_their_end() -> None:
    one, _ = await pair(await side(), await side(server=True))
    one.close()
    one.close()
    for use in (
        lambda: one.read(1),
        lambda: one.write(b"x"),
        lambda: one.version,
        lambda: one.export(b"x", 4),
    ):
        with pytest.raises(TlsRefused, match="closed"):
            use()
    fresh = TlsEngine((await side()).context, server_name="localhost")
    fresh.abort()
    with pytest.raises(TlsRefused, match="given up"):
        await asyncio.to_thread(fresh.handshake)
