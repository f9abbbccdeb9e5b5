"""Complaints, rates, outages and the relay as the two servers mount them, over TLS."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.wan.conftest import GATEWAY, Party, Pki
from tests.unit.wan.doubles import Events, channel_for, peer_of
from tests.unit.wan.test_net_mount import NET, OTHERS, profiles, settings
from tools.cli.gwa import app as gwa_app
from tools.counterparts import net_mount
from tools.counterparts.emp import Supplier
from tools.counterparts.gwa import Administrator, place_order
from tools.counterparts.pki import EMP_SERVER_NAME
from wan.client import HttpChannel
from wan.errors import OrderRefused

BASE = f"/dcnet/v1/{NET}"


@pytest.fixture
def folder(pki: Pki, tmp_path: Path) -> Path:
    for party in ("emp", "gwa"):
        shutil.copytree(pki.folder / party, tmp_path / party)
    return tmp_path


async def statuses(channel: HttpChannel, *questions: tuple[str, str]) -> list[int]:
    return [(await channel.exchange(method, BASE + below, b"x")).status for method, below in questions]


async def test_an_administrator_relays_to_the_supplier_of_its_orders(
    pki: Pki, gateway: Party, folder: Path
) -> None:
    emp_toml = folder / "emp" / "emp.toml"
    net = settings(1, [GATEWAY, *OTHERS])
    emp_toml.write_text(emp_toml.read_text(encoding="utf-8") + net_mount.to_toml(net), encoding="utf-8")
    supplier_events, events = Events(), Events()
    supplier = await Supplier(folder / "emp", supplier_events).start()
    listening = await Administrator(folder / "gwa", events).start()
    channel = channel_for(pki, gateway, peer_of(pki, "gwa", listening.port))
    questions = (
        ("GET", "/relay/roster/1"),
        ("PUT", f"/relay/bundle/1/{GATEWAY}"),
        ("PUT", f"/relay/bundle/1/{OTHERS[0]}"),
        ("PUT", "/relay/submit/1/1"),
    )
    assert await statuses(channel, *questions) == [403] * 4, "no order put the gateway into this net"
    order = profiles(folder)
    order["communication"][0]["peer"] |= {"port": supplier.port, "server_name": EMP_SERVER_NAME}
    place_order(folder / "gwa", GATEWAY, "profiles", order)
    assert await statuses(channel, *questions) == [404, 400, 403, 403], "x is no bundle"
    refused = supplier_events.named("refused")
    assert [(one["gateway"], one["what"]) for one in refused] == [(GATEWAY, "bundle")]
    direct = channel_for(pki, gateway, peer_of(pki, "emp", supplier.port))
    for resource in (f"/relay/{GATEWAY}/roster/1", f"/relay/{OTHERS[0]}/roster/1"):
        assert await statuses(direct, ("GET", resource)) == [403], "a gateway relays for nobody"
    await supplier.close()
    assert await statuses(channel, *questions[:2]) == [504, 202]
    for open_channel in (channel, direct):
        await open_channel.close()
    await listening.close()


async def test_what_is_told_to_an_administrator_is_judged(pki: Pki, gateway: Party, folder: Path) -> None:
    place_order(folder / "gwa", GATEWAY, "profiles", profiles(folder))
    events = Events()
    listening = await Administrator(folder / "gwa", events).start()
    channel = channel_for(pki, gateway, peer_of(pki, "gwa", listening.port))
    assert await statuses(channel, ("POST", "/complaint"), ("POST", "/rates")) == [403, 403]
    asked = net_mount._administrators(folder / "emp", settings(listening.port, OTHERS))["gwa"]
    with pytest.raises(OrderRefused, match="form"):
        await asked.rates(b"junk")
    with pytest.raises(OrderRefused, match="roster"):
        await asked.outage(1, 5)
    assert {event["what"] for event in events.named("refused")} == {"complaint", "rates"}
    await channel.close()
    await listening.close()


def test_a_calendar_in_the_configuration(folder: Path) -> None:
    net = settings(1, OTHERS)
    blocked = net_mount.CalendarSettings(first_slot=96, slots=96, blocked=[(100, 103)], jitter_s=5.0)
    wanted = net_mount.msgspec.structs.replace(net, calendar=[blocked])
    with (folder / "emp" / "emp.toml").open("a", encoding="utf-8") as file:
        file.write(net_mount.to_toml(wanted))
    supplier = Supplier(folder / "emp", Events())
    assert supplier._settings.net == [wanted]
    (calendar,) = net_mount._calendars(wanted)
    assert (calendar.blocked, calendar.jitter_ms, calendar.slot_s) == (((100, 103),), 5000, 900)


def test_an_operator_notes_an_outage(folder: Path) -> None:
    arguments = ["--dir", str(folder / "gwa"), "--outage", NET]
    done = CliRunner().invoke(gwa_app, [*arguments, "--slots", "96-99", "--members", "4,5", "--share", "0.2"])
    assert done.exit_code == 0, done.output
    assert (folder / "gwa" / "dcnet" / f"outage-{NET}").read_bytes() == (
        b'{"first_slot":96,"last_slot":99,"members":[4,5],"share_ppm":200000}'
    )
    for bad in (
        ["--slots", "99-96"],
        ["--slots", "x"],
        [],
        ["--slots", "1-2", "--members", "a"],
        ["--slots", "1-2", "--share", "1"],
    ):
        assert CliRunner().invoke(gwa_app, [*arguments, *bad]).exit_code == 2
