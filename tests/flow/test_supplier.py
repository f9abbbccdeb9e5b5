"""Administrator and supplier that are down, or not who they must be: nothing is lost, nothing comes twice."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from firmware.log.entry import Event
from tests.support.whole_gateway import SUPPLIER, Road
from tools.counterparts.pki import EMP_SERVER_NAME, GWA_SERVER_NAME, make_participant, make_pki
from wan.pki.profile import Role

_LONG_AGO = timedelta(days=9 * 365)


async def test_the_supplier_is_down_over_a_restart(road: Road) -> None:
    async with road.site.running() as life:
        road.order_bill()
        await life.entry(Event.ORDER_APPLIED)
        async with road.metering():
            await road.waiting(life)
            entry = await life.entry(Event.PEER_UNAVAILABLE, "PeerUnavailable")
    assert SUPPLIER in entry.text
    assert road.emp_events == []
    await road.open_emp()
    async with road.site.running() as life:
        event = await road.delivered(life)
    async with road.site.running() as life:
        await road.delivered(life)  # a third life sends nothing again
    assert event["verified"]
    assert len(event["document"]["entries"]) == 1
    assert road.delivered_once()


async def test_an_acknowledgement_is_lost(road: Road) -> None:
    """The supplier took the message and the gateway does not know: the same comes again and counts once."""
    await road.open_emp()
    async with road.site.running() as life, road.metering():
        road.order_bill()
        async with road.outbox_forgets(life):
            await road.emp_events.first("repeated")
        event = await road.delivered(life)
    assert [one["message_id"] for one in road.emp_events.of("delivery")] == [event["message_id"]]


def impostor(road: Road, folder: Path, kind: str, party: str) -> Path:
    """A counterpart's folder with a TLS certificate that must be refused."""
    role, name, host = (
        (Role.EMP, SUPPLIER, EMP_SERVER_NAME) if party == "emp" else (Role.GWA, "testgwa", GWA_SERVER_NAME)
    )
    target = folder / kind
    shutil.copytree(road.pki / party, target)
    if kind == "another root":
        make_pki(folder / "other")
        source = folder / "other" / party
    elif kind == "another peer":
        source = folder / "stranger"
        make_participant(road.pki, source, role, "stranger", server_name=host)
    else:
        source = folder / "old"
        make_participant(
            road.pki, source, role, name, server_name=host, now_utc=datetime.now(UTC) - _LONG_AGO
        )
    for suffix in ("pem", "key"):
        shutil.copyfile(source / f"tls.{suffix}", target / f"tls.{suffix}")
    return target


@pytest.mark.parametrize("kind", ["expired", "another root", "another peer"])
async def test_the_suppliers_certificate(road: Road, tmp_path: Path, kind: str) -> None:
    wrong = impostor(road, tmp_path, kind, "emp")
    if kind == "expired":  # the profile pins it: only its age is wrong
        right, profile = tmp_path / "right", road.pki / "emp"
        shutil.copytree(profile, right)
        for name in ("tls.pem", "tls.key"):
            shutil.copyfile(wrong / name, profile / name)
    await road.open_emp(wrong)
    async with road.site.running() as life:
        first = road.order_bill()
        await life.entry(Event.ORDER_APPLIED)
        async with road.metering():
            await road.waiting(life)
            entry = await life.entry(Event.AUTHENTICATION_FAILED, "PeerRefused")
        assert not road.emp_events.of("delivery")
        await road.close_emp()
        if kind == "expired":
            for name in ("tls.pem", "tls.key"):
                shutil.copyfile(right / name, profile / name)
            road.order_bill()  # the administrator renews what is pinned
        await road.open_emp()
        await road.delivered(life)
    assert SUPPLIER in entry.text
    assert first
    assert not road.emp_events.of("repeated")
    ids = [event["message_id"] for event in road.emp_events.of("delivery")]
    assert len(ids) == len(set(ids)) >= 1


@pytest.mark.parametrize("kind", ["expired", "another root", "another peer"])
async def test_the_administrators_certificate(road: Road, tmp_path: Path, kind: str) -> None:
    wrong = impostor(road, tmp_path, kind, "gwa")
    assert road.gwa is not None
    port = road.gwa.port
    await road.gwa.close()
    pinned = road.site.folder / "pki" / "gwa-tls.pem"
    right = pinned.read_bytes()
    if kind == "expired":
        pinned.write_bytes((wrong / "tls.pem").read_bytes())
    await road.open_emp()
    order = road.order_bill()
    shutil.copytree(road.pki / "gwa" / "spool", wrong / "spool")
    await road.open_gwa(port, wrong)
    async with road.site.running() as life:
        entry = await life.entry(Event.AUTHENTICATION_FAILED, "PeerRefused")
    assert "gwa" in entry.text
    assert not road.gwa_events.of("receipt")
    assert road.gwa is not None
    await road.gwa.close()
    pinned.write_bytes(right)
    await road.open_gwa(port)
    async with road.site.running() as life:
        receipt = await road.gwa_events.first("receipt")
    assert (receipt["message_id"], receipt["accepted"]) == (order, True)


async def test_an_order_of_somebody_else_is_refused_and_the_next_one_is_not(road: Road) -> None:
    from tools.counterparts.gwa import place_order

    forged = place_order(
        road.pki / "gwa", "ESGW0100000001", "profiles", {"meters": []}, signer=road.pki / "emp"
    )
    async with road.site.running() as life:
        entry = await life.entry(Event.ORDER_REFUSED, "signature")
        good = road.order_bill()
        applied = await life.entry(Event.ORDER_APPLIED)
    assert applied.subject == good
    assert entry.subject != forged  # an unsigned claim is not believed, not even about its id


async def test_a_supplier_whose_enc_certificate_is_too_old(road: Road, tmp_path: Path) -> None:
    """Nothing is sealed for it, other recipients get theirs, and it gets its own once it has a new one."""
    from tests.support.whole_gateway import bill_for, registering, whole_second
    from tools.homes.peers import peer_entry

    make_participant(
        road.pki, tmp_path / "old", Role.EMP, "oldemp", server_name="old.sm-pki.test",
        now_utc=datetime.now(UTC) - _LONG_AGO,
    )  # fmt: skip
    await road.open_emp()
    async with road.site.running() as life:
        start = whole_second()
        until = (start + timedelta(seconds=1)).isoformat()
        body = registering(road.site.meter, start, valid_until=until, recipients=["oldemp", SUPPLIER])
        body["communication"] = [
            bill_for(peer_entry("oldemp", tmp_path / "old", 9, "old.sm-pki.test")),
            bill_for(peer_entry(SUPPLIER, road.pki / "emp", road.emp_port)),
        ]
        road.order(body)
        await life.entry(Event.ORDER_APPLIED)
        async with road.metering():
            await road.delivered(life)
            await life.entry(Event.AUTHENTICATION_FAILED, "CertificateRefused")
    assert road.delivered_once()
