"""Orders that are no profiles: from the administrator's spool over the whole road to the supplier."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from firmware.log.entry import Event
from firmware.metering.register import RegisteredValue
from firmware.metering.signature import signed_text
from lmn.model import MeterId, Obis
from tests.support.whole_gateway import (
    BILLING,
    GATEWAY_ID,
    NAME,
    SUPPLIER,
    Road,
    bill_for,
    eventually,
    registering,
    whole_second,
)
from tools.counterparts.gwa import place_order
from tools.homes.peers import peer_entry


def on_request(road: Road) -> dict[str, Any]:
    """The meter's register each second, sent when it is asked for (TAF 9), each value signed."""
    body = registering(road.site.meter, whole_second(), taf=9, signed_values=True)
    del body["processing"][0]["billing_period_s"]
    peer = peer_entry(SUPPLIER, road.pki / "emp", road.emp_port)
    body["communication"] = [{**bill_for(peer), "purpose": "grid"}]
    return body


def registered(entry: dict[str, Any]) -> RegisteredValue:
    return RegisteredValue(
        MeterId.from_text(entry["meter"]),
        Obis.from_text(entry["obis"]),
        datetime.fromisoformat(entry["time_utc"]),
        None if entry["value"] is None else Decimal(entry["value"]),
        entry["unit"],
        int(entry["status"], 16),
    )


async def test_a_request_travels_the_whole_road_and_its_answer_is_signed(road: Road) -> None:
    await road.open_emp()
    async with road.site.running() as life, road.metering():
        profiles = road.order(on_request(road))
        await life.entry(Event.ORDER_APPLIED)
        asked = place_order(
            road.pki / "gwa", GATEWAY_ID, "reading-request", {"communication": f"bill-{SUPPLIER}"}
        )
        event = await road.delivered(life)

        async def answered() -> bool:
            return len(road.gwa_events.of("receipt")) >= 2

        await eventually(answered, "the receipts of both orders")
    assert [one["message_id"] for one in road.gwa_events.of("receipt")] == [profiles, asked]
    assert road.delivered_once()
    document = event["document"]
    assert document["occasion"].startswith("request-")
    (entry,) = document["entries"]
    certificate = x509.load_pem_x509_certificate((road.site.folder / "pki" / "sig.pem").read_bytes())
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    plain = bytes.fromhex(entry["signature"])
    r, s = int.from_bytes(plain[:32], "big"), int.from_bytes(plain[32:], "big")
    key.verify(encode_dss_signature(r, s), signed_text(registered(entry), NAME), ec.ECDSA(hashes.SHA256()))
    other = registered({**entry, "value": "1"})
    with pytest.raises(InvalidSignature):
        key.verify(encode_dss_signature(r, s), signed_text(other, NAME), ec.ECDSA(hashes.SHA256()))


async def test_an_event_is_told_to_the_consumer_whose_tariff_it_changes(road: Road) -> None:
    rule = {"events": [{"id": "peak", "stage": 2}]}
    body = registering(road.site.meter, whole_second(), taf=5, event_variable=rule)
    async with road.site.running() as life:
        road.order(body)
        await life.entry(Event.ORDER_APPLIED)
        asked = place_order(
            road.pki / "gwa", GATEWAY_ID, "tariff-event", {"processing": BILLING, "event": "peak"}
        )

        async def told() -> bool:
            return any(
                (entry.event, entry.subject) == (Event.CONTRACT_CHANGE, asked)
                for entry in await life.consumer().entries()
            )

        await eventually(told, "the event in the consumer's log")


async def test_an_event_that_no_profile_knows_is_refused_over_the_road(road: Road) -> None:
    async with road.site.running() as life:
        place_order(road.pki / "gwa", GATEWAY_ID, "tariff-event", {"processing": "nobody", "event": "peak"})
        entry = await life.entry(Event.ORDER_REFUSED)
        receipt = await road.gwa_events.first("receipt")
    assert entry.sub_event == "unknown"
    assert (receipt["accepted"], receipt["code"]) == (False, "unknown")
