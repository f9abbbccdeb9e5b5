"""Orders as documents, and what the link to the administrator makes of them."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.api import KeySlot
from hsm.errors import CertificateRefused, ModuleUnavailable
from hsm.x509 import Certificate
from tests.unit.wan.conftest import GATEWAY, Party
from tests.unit.wan.doubles import FakeChannel, FixedClock, Reports, Sink, fresh_module, receipt_release
from wan.client import Reply
from wan.cms import signed
from wan.errors import MalformedMessage, OrderRefused, PeerUnavailable, SignatureRefused, UnexpectedReply
from wan.gwa import orders
from wan.gwa.client import AdministratorLink, decode_list
from wan.ports import Order, Receipt

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
ORDER = Order("o-1", "profiles", NOW, 7, b'{"meters":[]}')


def document(**changes: Any) -> bytes:
    fields = json.loads(orders.encode(ORDER, GATEWAY)) | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


async def signed_order(party: Party, order: Order = ORDER, gateway: str = GATEWAY) -> bytes:
    return await signed.sign(
        orders.encode(order, gateway),
        module=fresh_module(party),
        slot=KeySlot.WAN_SIG,
        certificate=party.sig,
    )


def link(
    channel: FakeChannel, sink: Sink, party: Party, now_utc: datetime = NOW, **changes: Any
) -> AdministratorLink:
    options: dict[str, Any] = {
        "sig_certificate": lambda: party.sig,
        "gateway": GATEWAY,
        "poll_s": 3600.0,
        "clock": FixedClock(now_utc),
        "report": Reports(),
        "check_signer": lambda signer: None,
        "release": receipt_release,
    }
    return AdministratorLink(channel, sink, **(options | changes))


def offer(*ders: bytes) -> Reply:
    return Reply(200, json.dumps({"orders": [base64.b64encode(der).decode() for der in ders]}).encode())


def test_document_round_trip() -> None:
    text = orders.encode(ORDER, GATEWAY)
    assert json.loads(text) == {
        "message_id": "o-1",
        "gateway": GATEWAY,
        "kind": "profiles",
        "issued_utc": "2026-06-01T12:00:00Z",
        "version": 7,
        "body": {"meters": []},
    }
    assert orders.decode(text, GATEWAY) == ORDER


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="array"),
        pytest.param(b"\xff", id="no text"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(document(extra=1), id="unknown field"),
        pytest.param(document(kind=...), id="missing field"),
        pytest.param(document(message_id="../x"), id="path in the id"),
        pytest.param(document(message_id=""), id="empty id"),
        pytest.param(document(message_id="x" * 65), id="long id"),
        pytest.param(document(message_id="o-1\n"), id="line feed in the id"),
        pytest.param(document(message_id="unverified-00"), id="id of the unbelieved"),
        pytest.param(document(version=-1), id="negative version"),
        pytest.param(document(version=1 << 63), id="version too large"),
        pytest.param(document(issued_utc="2026-06-01T12:00:00"), id="no time zone"),
        pytest.param(document(issued_utc="yesterday"), id="no time"),
        pytest.param(document(body=[]), id="body is no object"),
    ],
)
def test_malformed_documents(text: bytes) -> None:
    with pytest.raises(MalformedMessage):
        orders.decode(text, GATEWAY)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        orders.decode(data, GATEWAY)
    with pytest.raises(MalformedMessage):
        decode_list(data)


def test_order_for_another_gateway() -> None:
    with pytest.raises(OrderRefused) as caught:
        orders.decode(document(), "esgw0100000002")
    assert caught.value.code == "addressee"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"orders":["?"]}', b'{"orders":[1]}', b'{"orders":[],"more":1}', b'{"orders":["A"]}'],
)
def test_malformed_lists(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_list(body)


def test_too_many_orders() -> None:
    with pytest.raises(MalformedMessage, match="too long"):
        decode_list(json.dumps({"orders": [""] * 257}).encode())


async def test_signature_is_the_pinned_administrators(party: Party, stranger: Party) -> None:
    der = await signed_order(party)
    assert orders.open_order(der, gateway=GATEWAY, signer=party.sig) == ORDER
    with pytest.raises(SignatureRefused):
        orders.open_order(der, gateway=GATEWAY, signer=stranger.sig)
    with pytest.raises(MalformedMessage, match="too long"):
        orders.open_order(bytes(orders.MAX_ORDER_BYTES + 1), gateway=GATEWAY, signer=party.sig)


async def test_signed_by_the_administrator_but_not_as_data(party: Party) -> None:
    der = await signed.sign(
        orders.encode(ORDER, GATEWAY),
        module=fresh_module(party),
        slot=KeySlot.WAN_SIG,
        certificate=party.sig,
        content_type="compressed_data",
    )
    with pytest.raises(MalformedMessage, match="id-data"):
        orders.open_order(der, gateway=GATEWAY, signer=party.sig)


async def test_refused_orders_get_a_receipt_and_do_not_stop_the_rest(party: Party, stranger: Party) -> None:
    false, good = await signed_order(stranger), await signed_order(party)
    other = await signed_order(party, gateway="esgw0100000002")
    channel, sink = FakeChannel(offer(b"junk", false, other, good), *[Reply(201, b"")] * 4), Sink()
    receipts = await link(channel, sink, party).poll()
    assert [item.code for item in receipts] == ["malformed", "signature", "addressee", "ok"]
    assert sink.orders == [ORDER]
    assert [resource for _, resource, _ in channel.requests[1:]] == [
        f"/gwa/v1/{GATEWAY}/receipts/{item.message_id}" for item in receipts
    ]


async def test_a_false_order_cannot_use_up_a_true_ones_id(party: Party, stranger: Party) -> None:
    """Same message id in both: the first is refused under a name of its own."""
    sink = Sink()
    false, good = await signed_order(stranger), await signed_order(party)
    channel = FakeChannel(offer(false), Reply(201, b""), offer(good), Reply(201, b""))
    first = await link(channel, sink, party).poll()
    second = await link(channel, sink, party).poll()
    assert first[0].message_id == orders.unverified_id(false)
    assert second == [Receipt("o-1", True, "ok", "")]


async def test_lost_receipt_is_sent_again(party: Party) -> None:
    sink, der = Sink(), await signed_order(party)
    channel = FakeChannel(offer(der), PeerUnavailable("gone"), offer(der), Reply(200, b""))
    with pytest.raises(PeerUnavailable):
        await link(channel, sink, party).poll()
    assert await link(channel, sink, party).poll() == [Receipt("o-1", True, "ok", "")]
    assert sink.orders == [ORDER]  # applied once


async def test_receipt_not_taken_does_not_hold_up_the_next(party: Party) -> None:
    later = Order("o-2", "profiles", NOW, 8, b"{}")
    ders = [await signed_order(party), await signed_order(party, later)]
    channel, reports = FakeChannel(offer(*ders), Reply(500, b""), Reply(201, b"")), Reports()
    receipts = await link(channel, Sink(), party, report=reports).poll()
    assert [item.message_id for item in receipts] == ["o-2"]
    assert reports.kinds == ["UnexpectedReply"]


async def test_future_order(party: Party) -> None:
    der = await signed_order(party)
    channel, sink = FakeChannel(offer(der), Reply(201, b"")), Sink()
    (receipt,) = await link(channel, sink, party, NOW - timedelta(minutes=6)).poll()
    assert (receipt.code, sink.orders) == ("time", [])
    channel = FakeChannel(offer(der), Reply(201, b""))
    (receipt,) = await link(channel, Sink(), party, NOW - timedelta(minutes=4)).poll()
    assert receipt.accepted


async def test_administrator_certificate_is_checked(party: Party) -> None:
    def refuse(signer: Certificate) -> None:
        raise CertificateRefused("expired")

    channel, sink = FakeChannel(offer(await signed_order(party)), Reply(201, b"")), Sink()
    (receipt,) = await link(channel, sink, party, check_signer=refuse).poll()
    assert (receipt.code, sink.orders) == ("certificate", [])


async def test_sink_may_refuse(party: Party) -> None:
    class Strict(Sink):
        async def apply(self, order: Order) -> Receipt:
            raise OrderRefused("version", "older than what is active")

    channel = FakeChannel(offer(await signed_order(party)), Reply(201, b""))
    (receipt,) = await link(channel, Strict(), party).poll()
    assert receipt == Receipt("o-1", False, "version", "older than what is active")


async def test_unexpected_answers(party: Party) -> None:
    with pytest.raises(UnexpectedReply):
        await link(FakeChannel(Reply(503, b"")), Sink(), party).poll()
    with pytest.raises(MalformedMessage):
        await link(FakeChannel(Reply(200, b"<html>")), Sink(), party).poll()


async def test_service_survives_the_administrator_and_can_be_called(party: Party) -> None:
    reports = Reports()
    channel = FakeChannel(PeerUnavailable("down"), MalformedMessage("html"), ModuleUnavailable("card"))
    service = link(channel, Sink(), party, report=reports)
    task = asyncio.ensure_future(service.run())
    for count in (1, 2):
        while len(reports) < count:
            await reports.changed.wait()
            reports.changed.clear()
        service.call_now()
    with pytest.raises(ModuleUnavailable):  # ours: the supervisor decides
        await task
    assert reports.kinds == ["PeerUnavailable", "MalformedMessage"]
