"""What must not be accepted, and what the errors are."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest

from hsm.api import CertificateUse, Curve
from hsm.errors import CertificateRefused, TlsRefused
from hsm.tls import PeerCertificate, TlsEngine, TlsVersion, connect, serve
from tests.support.pki import DAY, NOW, Tree, tree
from tests.unit.hsm.tls_sides import SLOT, echo, pair, side, transfer

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


# ---- what may be negotiated


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
