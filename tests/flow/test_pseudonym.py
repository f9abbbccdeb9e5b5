"""A grid state under a pseudonym through a whole gateway, the administrator and the supplier (FPR_PSE.1)."""

from __future__ import annotations

import json
from pathlib import Path

from aiohttp import web
from cryptography import x509

from firmware.log.entry import Event
from tests.flow.test_releases import Recorder, unreleased
from tests.support.whole_gateway import (
    CONSUMER,
    GATEWAY_ID,
    NAME,
    SUPPLIER,
    Life,
    Road,
    eventually,
    registering,
    whole_second,
)
from tools.counterparts.emp import Supplier
from tools.counterparts.pki import EMP_SERVER_NAME
from tools.homes.peers import peer_entry

PROFILE = "grid-of-mill-lane-4"


def order_grid_state(road: Road) -> None:
    body = registering(road.site.meter, whole_second(), taf=10, billing_period_s=None)
    body["communication"] = [
        {
            "id": PROFILE,
            "processing": body["processing"][0]["id"],
            "recipient": SUPPLIER,
            "purpose": "grid",
            "pseudonymised": True,
            "peer": peer_entry(SUPPLIER, road.pki / "emp", road.emp_port),
        }
    ]
    road.order(body)


async def forward(road: Road) -> None:
    """Let the administrator know where the supplier is."""
    assert road.gwa is not None
    port = road.gwa.port
    await road.gwa.close()
    with (road.pki / "gwa" / "gwa.toml").open("a", encoding="utf-8") as file:
        address = f"127.0.0.1:{road.emp_port}"
        file.write(
            f'\n[[forward]]\nname = "{SUPPLIER}"\naddress = "{address}"\nserver_name = "{EMP_SERVER_NAME}"\n'
        )
    await road.open_gwa(port)


class Wire:
    """Everything that the supplier is shown: requests, certificates of the other side, opened contents."""

    def __init__(self, road: Road, monkeypatch) -> None:
        self.seen: list[bytes] = []
        self.paths: list[str] = []
        app, unwrapped = Supplier.app, Supplier._unwrapped
        wire = self

        @web.middleware
        async def look(request, handler):
            wire.paths.append(request.path)
            wire.seen += [request.path.encode(), repr(dict(request.headers)).encode(), await request.read()]
            session = request.transport.get_extra_info("ssl_object")
            wire.seen.append(session.getpeercert(binary_form=True))
            return await handler(request)

        def looking(supplier):
            made = app(supplier)
            made.middlewares.append(look)
            return made

        def opened(content):
            wire.seen.append(content)
            return unwrapped(content)

        monkeypatch.setattr(Supplier, "app", looking)
        monkeypatch.setattr(Supplier, "_unwrapped", staticmethod(opened))


def names_of(road: Road) -> list[bytes]:
    """Every name of the gateway, its meter and its owner, as text and as bytes."""
    meter = road.site.meter.meter
    names = [text.encode() for text in (GATEWAY_ID, NAME, str(meter), CONSUMER, PROFILE, "billing")]
    for use in ("tls", "sig", "enc"):
        pem = (road.site.folder / "pki" / f"{use}.pem").read_bytes()
        certificate = x509.load_pem_x509_certificate(pem)
        identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        key = certificate.public_key().public_numbers()
        names += [identifier.value.digest, key.x.to_bytes(32, "big")]
    number = str(meter).split("-")[1]
    return [*names, number.encode(), bytes.fromhex(number), bytes.fromhex(number)[::-1]]


async def released(life: Life) -> list:
    return [one for one in await life.consumer().entries() if one.event is Event.DATA_RELEASED]


async def test_fpr_pse_1_the_supplier_is_shown_no_name(road: Road, monkeypatch) -> None:
    wire, recorder = Wire(road, monkeypatch), Recorder(monkeypatch)
    await forward(road)
    await road.open_emp()
    async with road.site.running() as life, road.metering():
        order_grid_state(road)
        event = await road.emp_events.first("pseudonymous")
        await road.gwa_events.first("forwarded")
        [entry, *_] = await released(life)
    document = event["document"]
    assert document["pseudonym"] == event["pseudonym"] == entry.evidence["pseudonym"]
    assert document["entries"][0]["value"] is None or document["entries"][0]["unit"] == "Wh"
    assert len(wire.seen) > 4
    for shown in wire.seen:
        for name in names_of(road):
            assert name not in shown
    assert all(path.startswith("/emp/v1/forwarded/") for path in wire.paths)
    assert unreleased(recorder.sent, recorder.made) == []
    assert any("/forwards/" in one.resource for one in recorder.sent)
    # What the administrator is told holds neither value nor pseudonym.
    assert event["pseudonym"] not in json.dumps(road.gwa_events)


async def test_a_supplier_that_is_away_gets_it_later_and_once(road: Road, tmp_path: Path) -> None:
    await forward(road)
    async with road.site.running() as life, road.metering():
        order_grid_state(road)
        await road.waiting(life)
        await life.entry(Event.PEER_MISBEHAVED)
    assert not road.emp_events.of("pseudonymous")
    await road.open_emp()
    async with road.site.running() as life:

        async def empty() -> bool:
            return not await life._parts.stores.consumer.items("outbox")

        await eventually(empty, "an empty outbox")
    ids = [event["message_id"] for event in road.emp_events.of("pseudonymous")]
    assert ids
    assert len(ids) == len(set(ids))


async def test_the_administrator_forwards_for_its_gateways_alone(road: Road) -> None:
    """To whom it has no address, nothing is forwarded: the message waits."""
    await road.open_emp()
    async with road.site.running() as life, road.metering():
        order_grid_state(road)
        await road.waiting(life)
        entry = await life.entry(Event.PEER_MISBEHAVED)
    assert "404" in entry.text
    assert not road.emp_events.of("pseudonymous")
