"""The gateway's clients against the real counterparts over mutual TLS on 127.0.0.1, keys in a module."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hsm.api import CertificateUse, KeySlot
from hsm.errors import CertificateRefused, ModuleUnavailable
from hsm.x509 import Certificate, check_path, load_pem_chain
from tests.unit.wan.conftest import GATEWAY, Party, Pki, enrol
from tests.unit.wan.doubles import (
    Events,
    FixedClock,
    MemoryStore,
    Reports,
    Sink,
    TestRelease,
    channel_for,
    dialer_for,
    fresh_module,
    peer_of,
    receipt_release,
)
from tools.counterparts.emp import Supplier
from tools.counterparts.gwa import Administrator, place_order, receipt_of
from tools.counterparts.pki import make_pki, write_crls
from tools.counterparts.server import Listening
from wan.client import HttpChannel, Reply
from wan.cms import message
from wan.cms.enveloped import Opened
from wan.cms.oids import ContentType
from wan.cms.signed import Verified
from wan.dial import Dialer
from wan.emp import payload
from wan.emp.client import EmpClient
from wan.emp.outbox import Outbox, Pace, SealingKeys
from wan.errors import DestinationRefused, MalformedMessage, PeerRefused, PeerUnavailable, UnexpectedReply
from wan.gwa.client import AdministratorLink
from wan.ports import Order

READING = b'{"value_wh":4711}'
NAME = "testemp"


@pytest.fixture
def folder(pki: Pki, tmp_path: Path) -> Path:
    """A counterpart's folders, for this test alone."""
    for party in ("emp", "gwa"):
        shutil.copytree(pki.folder / party, tmp_path / party)
    return tmp_path


@pytest.fixture
async def emp(folder: Path) -> AsyncIterator[tuple[Listening, Events]]:
    events = Events()
    listening = await Supplier(folder / "emp", events).start()
    yield listening, events
    await listening.close()


@pytest.fixture
async def gwa(folder: Path) -> AsyncIterator[tuple[Listening, Events]]:
    events = Events()
    listening = await Administrator(folder / "gwa", events).start()
    yield listening, events
    await listening.close()


async def sealed(pki: Pki, party: Party, name: str, **changes: str) -> bytes:
    peer = peer_of(pki, "emp", 1)
    assert peer.enc_certificate is not None
    facts = {"message_id": name, "gateway": GATEWAY, "recipient": NAME} | changes
    return await message.to_recipient(
        payload.encode(facts["message_id"], facts["gateway"], facts["recipient"], READING),
        recipient=Certificate.from_der(peer.enc_certificate),
        module=fresh_module(party),
        sig_slot=KeySlot.WAN_SIG,
        sig_certificate=party.sig,
        extra=[pki.sub_ca],
    )


def link_for(pki: Pki, channel: HttpChannel, sink: Sink, **options: object) -> AdministratorLink:
    certificate = Certificate.from_pem((pki.folder / "gwa" / "sig.pem").read_bytes())

    def check(signer: Certificate) -> None:
        at_utc = options.get("at_utc", datetime.now(UTC))
        assert isinstance(at_utc, datetime)
        check_path(signer, [pki.sub_ca], [pki.root], at_utc=at_utc, use=CertificateUse.SIG)

    return AdministratorLink(
        channel,
        sink,
        sig_certificate=lambda: certificate,
        gateway=GATEWAY,
        poll_s=60.0,
        clock=FixedClock(),
        report=Reports(),
        check_signer=check,
        release=receipt_release,
    )


# ---- deliveries


async def test_delivery(pki: Pki, gateway: Party, emp: tuple[Listening, Events]) -> None:
    listening, events = emp
    channel = channel_for(pki, gateway, peer_of(pki, "emp", listening.port))
    client = EmpClient(channel, NAME, GATEWAY)
    body = await sealed(pki, gateway, "m-1")
    await client.deliver("m-1", body)
    await client.deliver("m-1", body)
    assert channel.connections == 1
    assert channel.tls_facts is not None
    assert (channel.tls_facts.version, channel.tls_facts.group) == ("TLSv1.2", "brainpoolP256r1")
    assert events.named("delivery") == [
        {
            "event": "delivery",
            "gateway": GATEWAY,
            "message_id": "m-1",
            "verified": True,
            "document": {"value_wh": 4711},
        }
    ]
    assert len(events.named("repeated")) == 1
    (tls,) = events.named("tls")
    assert (tls["peer"], tls["version"]) == ("ESGW0100000001.SMGW", "TLSv1.2")
    await channel.close()


async def test_delivered_ids_survive_a_restart(
    pki: Pki, gateway: Party, emp: tuple[Listening, Events], folder: Path
) -> None:
    listening, _ = emp
    channel = channel_for(pki, gateway, peer_of(pki, "emp", listening.port))
    body = await sealed(pki, gateway, "m-1")
    await EmpClient(channel, NAME, GATEWAY).deliver("m-1", body)
    await channel.close()
    with (folder / "emp" / "delivered.jsonl").open("ab") as file:
        file.write(b'{"gateway": "cut off by a cra')
    events = Events()
    again = await Supplier(folder / "emp", events).start()
    channel = channel_for(pki, gateway, peer_of(pki, "emp", again.port))
    await EmpClient(channel, NAME, GATEWAY).deliver("m-1", body)
    await EmpClient(channel, NAME, GATEWAY).deliver("m-2", await sealed(pki, gateway, "m-2"))
    assert [event["message_id"] for event in events.named("delivery")] == ["m-2"]
    await channel.close()
    await again.close()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"message_id": "m-2"}, "identity"),
        ({"gateway": "esgw0100000099"}, "identity"),
        ({"recipient": "somebody"}, "identity"),
    ],
)
async def test_what_is_sealed_must_fit_how_it_came(
    pki: Pki, gateway: Party, emp: tuple[Listening, Events], changes: dict[str, str], reason: str
) -> None:
    listening, events = emp
    channel = channel_for(pki, gateway, peer_of(pki, "emp", listening.port))
    with pytest.raises(UnexpectedReply):
        await EmpClient(channel, NAME, GATEWAY).deliver("m-1", await sealed(pki, gateway, "m-1", **changes))
    assert [event["reason"] for event in events.named("refused")] == [reason]
    assert not events.named("delivery")
    await channel.close()


async def test_another_gateways_message_is_refused(
    pki: Pki, gateway: Party, emp: tuple[Listening, Events]
) -> None:
    """A second gateway can neither write to the first one's resource nor pass on its messages as its own."""
    listening, events = emp
    thief = enrol(pki, "esgw0100000666")
    channel = channel_for(pki, thief, peer_of(pki, "emp", listening.port))
    body = await sealed(pki, gateway, "m-1")
    with pytest.raises(UnexpectedReply, match="403"):
        await EmpClient(channel, NAME, GATEWAY).deliver("m-1", body)
    with pytest.raises(UnexpectedReply, match="403"):
        await EmpClient(channel, NAME, "esgw0100000666").deliver("m-1", body)
    assert [event["reason"] for event in events.named("refused")] == ["identity"]
    await channel.close()


async def test_altered_message_is_refused(pki: Pki, gateway: Party, emp: tuple[Listening, Events]) -> None:
    listening, events = emp
    channel = channel_for(pki, gateway, peer_of(pki, "emp", listening.port))
    client = EmpClient(channel, NAME, GATEWAY)
    body = bytearray(await sealed(pki, gateway, "m-1"))
    with pytest.raises(UnexpectedReply, match="400"):
        await client.deliver("m-1", bytes(body[:-1]))
    body[-1] ^= 1
    with pytest.raises(UnexpectedReply, match="422"):
        await client.deliver("m-1", bytes(body))
    assert [event["reason"] for event in events.named("refused")] == ["malformed", "signature"]
    await channel.close()


async def test_revoked_gateway_gets_no_connection(pki: Pki, folder: Path, tmp_path: Path) -> None:
    revoked = enrol(pki, "esgw0100000667")
    assert revoked.tls is not None
    for name in ("root", "sub-ca"):
        for suffix in ("pem", "key"):
            shutil.copyfile(pki.folder / f"{name}.{suffix}", folder / f"{name}.{suffix}")
    write_crls(folder, revoked=[revoked.tls.serial])
    listening = await Supplier(folder / "emp", Events()).start()
    channel = channel_for(pki, revoked, peer_of(pki, "emp", listening.port))
    with pytest.raises(PeerUnavailable):
        await EmpClient(channel, NAME, "esgw0100000667").deliver("m-1", b"")
    await channel.close()
    await listening.close()


# ---- the peer's certificate


async def test_named_errors_of_the_peers_certificate(
    pki: Pki, gateway: Party, emp: tuple[Listening, Events], tmp_path: Path
) -> None:
    listening, _ = emp
    good = peer_of(pki, "emp", listening.port)
    other = peer_of(pki, "gwa", listening.port)
    make_pki(tmp_path / "other")
    (other_root,) = load_pem_chain((tmp_path / "other" / "root.pem").read_bytes())
    later = datetime.now(UTC) + timedelta(days=365 * 3)
    cases = {
        "other peer's certificate": channel_for(
            pki, gateway, peer_of(pki, "emp", listening.port, tls_certificate=other.tls_certificate)
        ),
        "other name": channel_for(
            pki, gateway, peer_of(pki, "emp", listening.port, server_name="gwa.sm-pki.test")
        ),
        "other root": channel_for(pki, gateway, good, anchors=[other_root]),
        "expired": channel_for(pki, gateway, good, now_utc=lambda: later),
    }
    for case, channel in cases.items():
        with pytest.raises(PeerRefused) as caught:
            await channel.exchange("GET", "/")
        assert isinstance(caught.value.__cause__, CertificateRefused), case
        await channel.close()


async def test_module_faults_are_not_the_peers(
    pki: Pki, gateway: Party, emp: tuple[Listening, Events]
) -> None:
    listening, _ = emp
    module = fresh_module(gateway)
    module.faults["sign"] = ModuleUnavailable("card is gone")
    channel = channel_for(pki, gateway, peer_of(pki, "emp", listening.port), module=module)
    with pytest.raises(ModuleUnavailable):
        await channel.exchange("GET", "/")
    await channel.close()


async def test_only_configured_destinations(pki: Pki, gateway: Party) -> None:
    dialer = dialer_for(pki, gateway, peer_of(pki, "emp", 1))
    with pytest.raises(DestinationRefused):
        await dialer.open("somebody")
    with pytest.raises(DestinationRefused):
        await HttpChannel(dialer, "somebody").exchange("GET", "/")


async def test_nobody_listens_or_answers_nonsense(pki: Pki, gateway: Party) -> None:
    async def nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(PeerUnavailable):
        await channel_for(pki, gateway, peer_of(pki, "emp", port)).exchange("GET", "/")
    server.close()
    await server.wait_closed()
    with pytest.raises(PeerUnavailable) as caught:
        await channel_for(pki, gateway, peer_of(pki, "emp", port)).exchange("GET", "/")
    assert isinstance(caught.value.__cause__, OSError)


# ---- the outbox


async def test_supplier_down_then_up_delivered_once(
    pki: Pki, gateway: Party, folder: Path, unused_tcp_port: int
) -> None:
    peer = peer_of(pki, "emp", unused_tcp_port)
    channel = channel_for(pki, gateway, peer)
    store, reports, events = MemoryStore(), Reports(), Events()
    outbox = Outbox(
        store,
        lambda: {NAME: EmpClient(channel, NAME, GATEWAY)},
        lambda: {NAME: peer},
        module=fresh_module(gateway),
        keys=lambda: SealingKeys(KeySlot.WAN_SIG, gateway.sig, (pki.sub_ca,)),
        check_recipient=lambda certificate: None,
        gateway=GATEWAY,
        report=reports,
        pace=Pace(0.05, 1.0, 0.05),
    )
    async with asyncio.TaskGroup() as group:
        service = group.create_task(outbox.run())
        for number in range(3):
            await outbox.send(TestRelease(NAME, f"m-{number}", READING))
        await outbox.send(TestRelease(NAME, "m-0", READING))
        while len(reports) < 2:
            await reports.changed.wait()
            reports.changed.clear()
        assert not store.done
        listening = await Supplier(folder / "emp", events).start(port=unused_tcp_port)
        while len(store.done) < 3:
            await store.changed.wait()
            store.changed.clear()
        await outbox.send(TestRelease(NAME, "m-0", READING))
        await outbox.send(TestRelease(NAME, "m-3", READING))
        while len(store.done) < 4:
            await store.changed.wait()
            store.changed.clear()
        service.cancel()
    assert set(reports.kinds) == {"PeerUnavailable"}
    assert [event["message_id"] for event in events.named("delivery")] == ["m-0", "m-1", "m-2", "m-3"]
    await channel.close()
    await listening.close()


async def test_connection_kept_open_and_found_dead_is_opened_again(
    pki: Pki, gateway: Party, folder: Path
) -> None:
    events = Events()
    listening = await Supplier(folder / "emp", events).start()
    channel = channel_for(pki, gateway, peer_of(pki, "emp", listening.port))
    client = EmpClient(channel, NAME, GATEWAY)
    await client.deliver("m-1", await sealed(pki, gateway, "m-1"))
    await listening.close()
    again = await Supplier(folder / "emp", events).start(port=listening.port)
    await client.deliver("m-2", await sealed(pki, gateway, "m-2"))
    assert channel.connections == 2
    await channel.close()
    await again.close()


# ---- orders


async def test_orders_and_receipts(
    pki: Pki, gateway: Party, gwa: tuple[Listening, Events], folder: Path
) -> None:
    listening, events = gwa
    sink = Sink()
    channel = channel_for(pki, gateway, peer_of(pki, "gwa", listening.port))
    link = link_for(pki, channel, sink)
    assert await link.poll() == []
    good = place_order(folder / "gwa", GATEWAY.upper(), "profiles", {"meters": []})
    false = place_order(folder / "gwa", GATEWAY, "profiles", {"meters": []}, signer=folder / "emp")
    early = place_order(
        folder / "gwa", GATEWAY, "profiles", {}, now_utc=datetime.now(UTC) + timedelta(days=1)
    )
    place_order(folder / "gwa", "esgw0100000002", "profiles", {})
    receipts = await link.poll()
    assert [(item.accepted, item.code) for item in receipts] == [
        (True, "ok"),
        (False, "signature"),
        (False, "time"),
    ]
    (order,) = sink.orders
    assert (order.message_id, order.kind, order.version) == (good, "profiles", 1)
    assert json.loads(order.body) == {"meters": []}
    assert await link.poll() == []  # all were answered
    kept = [receipt_of(folder / "gwa", GATEWAY, item) for item in (good, false, early)]
    assert [item.code for item in kept if item is not None] == ["ok", "signature", "time"]
    assert [event["message_id"] for event in events.named("receipt")] == [good, false, early]
    await channel.close()


async def test_order_of_an_expired_administrator(
    pki: Pki, gateway: Party, gwa: tuple[Listening, Events], folder: Path
) -> None:
    listening, _ = gwa
    channel = channel_for(pki, gateway, peer_of(pki, "gwa", listening.port))
    place_order(folder / "gwa", GATEWAY, "profiles", {})
    sink = Sink()
    later = datetime.now(UTC) + timedelta(days=365 * 3)
    (receipt,) = await link_for(pki, channel, sink, at_utc=later).poll()
    assert (receipt.accepted, receipt.code) == (False, "certificate")
    assert not sink.orders
    await channel.close()


async def test_orders_are_not_told_to_others(
    pki: Pki, gateway: Party, gwa: tuple[Listening, Events], folder: Path
) -> None:
    listening, _ = gwa
    channel = channel_for(pki, gateway, peer_of(pki, "gwa", listening.port))
    for resource, status in (
        ("/gwa/v1/esgw0100000002/orders", 403),
        ("/gwa/v1/..%2f..%2fx/orders", 404),
        ("/gwa/v1/ESGW0100000001/orders", 404),
        (f"/gwa/v1/{GATEWAY}/orders", 200),
    ):
        assert (await channel.exchange("GET", resource)).status == status
    for body in (b"", b"{}", b'{"message_id":"x","accepted":true,"code":"","reason":""}'):
        reply = await channel.exchange("PUT", f"/gwa/v1/{GATEWAY}/receipts/none", body)
        assert reply.status == 400
    body = b'{"message_id":"none","accepted":true,"code":"","reason":""}'
    assert (await channel.exchange("PUT", f"/gwa/v1/{GATEWAY}/receipts/none", body)).status == 404
    await channel.close()


async def test_changed_peer_gets_a_new_connection(
    pki: Pki, gateway: Party, emp: tuple[Listening, Events], folder: Path
) -> None:
    """A connection made under the old profile carries nothing of the new one."""
    listening, _ = emp
    good = peer_of(pki, "emp", listening.port)
    known = {"emp": good}
    inner = dialer_for(pki, gateway, good)
    dialer = Dialer(inner._context_factory, lambda: known)
    channel = HttpChannel(dialer, "emp")
    assert (await channel.exchange("GET", "/")).status == 404
    wrong = peer_of(pki, "gwa", listening.port).tls_certificate
    known["emp"] = peer_of(pki, "emp", listening.port, tls_certificate=wrong)
    with pytest.raises(PeerUnavailable):
        await channel.exchange("GET", "/")
    known["emp"] = good
    assert (await channel.exchange("GET", "/")).status == 404
    assert channel.connections == 2
    await channel.close()


async def test_reply_that_is_too_long_or_too_late(
    pki: Pki, gateway: Party, gwa: tuple[Listening, Events], folder: Path
) -> None:
    listening, _ = gwa
    peer = peer_of(pki, "gwa", listening.port)
    place_order(folder / "gwa", GATEWAY, "profiles", {"padding": "x" * 5000})
    channel = HttpChannel(dialer_for(pki, gateway, peer), "gwa", max_reply_bytes=4096)
    with pytest.raises(MalformedMessage, match="too long"):
        await channel.exchange("GET", f"/gwa/v1/{GATEWAY}/orders")
    await channel.close()
    module = fresh_module(gateway)
    module.delay_s = 0.5
    channel = HttpChannel(dialer_for(pki, gateway, peer, module=module), "gwa", timeout_s=0.05)
    with pytest.raises(PeerUnavailable):
        await channel.exchange("GET", f"/gwa/v1/{GATEWAY}/orders")
    await channel.close()


async def test_long_lists_come_in_parts(
    pki: Pki, gateway: Party, gwa: tuple[Listening, Events], folder: Path
) -> None:
    listening, _ = gwa
    for _ in range(66):
        place_order(folder / "gwa", GATEWAY, "profiles", {})
    channel, sink = channel_for(pki, gateway, peer_of(pki, "gwa", listening.port)), Sink()
    link = link_for(pki, channel, sink)
    assert [len(await link.poll()) for _ in range(3)] == [64, 2, 0]
    assert [order.version for order in sink.orders] == list(range(1, 67))
    await channel.close()
    with pytest.raises(ValueError, match="more than"):
        place_order(folder / "gwa", GATEWAY, "profiles", {"padding": "x" * (1 << 20)})
    with pytest.raises(ValueError, match="gateway id"):
        place_order(folder / "gwa", "../../etc", "profiles", {})


def test_no_plaintext_in_a_repr(gateway: Party) -> None:
    secret = b'{"key_hex":"00112233"}'
    order = Order("o-1", "profiles", datetime.now(UTC), 1, secret)
    verified = Verified(secret, ContentType.DATA, gateway.sig)
    values = [order, verified, Opened(secret, ContentType.DATA), Reply(200, secret)]
    values.append(payload.decode(payload.encode("m", GATEWAY, "emp", secret)))
    assert not [value for value in values if "00112233" in repr(value)]
