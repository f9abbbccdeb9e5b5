"""From a virtual RS-485 line to a registered value: discovery, link, TLS with pinned certificates, SML."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from firmware.config import load
from firmware.errors import ConfigurationRefused
from firmware.log.entry import Event
from firmware.metering.status import GatewayStatus, gateway_half
from firmware.wired.certificate import OwnCertificate
from hsm.x509 import Certificate
from tests.support.soft_module import SoftModule
from tests.support.wired_gateway import profiles, registered, running
from tools.counterparts.meter_sml import server_id
from tools.counterparts.meter_wired import DEFAULT_METER, WiredMeterStation, make_identity
from tools.counterparts.rs485_hub import Rs485Hub

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LINE = f"""
[[lmn.rs485]]
port = "line0"
poll_s = 0.3
[[lmn.rs485.meter]]
meter = "{DEFAULT_METER}"
server_id = "{server_id(DEFAULT_METER).hex()}"
certificate = "meter/meter.pem"
registers = ["1-0:1.8.0", "1-0:2.8.0"]
"""


async def test_a_wired_meter_registers_values(tmp_path: Path) -> None:
    folder = tmp_path / "gw"
    make_identity(folder / "meter", DEFAULT_METER)
    async with Rs485Hub(folder / "line0", echo=True) as hub:
        station = WiredMeterStation(hub, folder / "meter", folder / "state" / "lmn-tls.pem")
        async with running(folder, LINE, profiles(str(DEFAULT_METER), "1-0:1.8.0", "strict")) as gateway:
            value = await registered(gateway)
            assert not gateway.telegrams.rejected
    assert (value.value, value.unit) == (Decimal(station.registers.import_wh10) / 10, "Wh")
    assert value.status & 0xFFFFFFFF == 4
    assert not gateway_half(value.status) & GatewayStatus.WIRELESS
    assert station.handshakes == 1
    assert station.address == 3


async def test_a_meter_without_keys_is_paired_under_the_key_of_its_profile(tmp_path: Path) -> None:
    """The whole gateway with its emulated card: the service key is made, signed with and wrapped there."""
    folder = tmp_path / "gw"
    folder.mkdir()
    master = bytes(range(16))
    line = "".join(row for row in LINE.splitlines(keepends=True) if not row.startswith("certificate"))
    document = profiles(str(DEFAULT_METER), "1-0:1.8.0", "strict", master.hex())
    async with Rs485Hub(folder / "line0") as hub:
        station = WiredMeterStation(hub, tmp_path / "meter", None, master=master)
        for handshakes in (1, 2):  # the second time from what the gateway has kept
            async with running(folder, line, document) as gateway:
                async with asyncio.timeout(40):
                    while station.handshakes < handshakes:  # noqa: ASYNC110  # counters have no event
                        await asyncio.sleep(0.1)
                value = await registered(gateway, 40)
                assert not gateway.telegrams.rejected
                entries = await gateway._parts.logs.system.entries()
    changes = [one.subject for one in entries if one.event is Event.CERTIFICATE_CHANGE]
    assert changes == [str(DEFAULT_METER)]  # once in both lives
    assert value.value == Decimal(station.registers.import_wh10) / 10
    assert station.memory._state["generation"] == 1
    assert not [path for path in folder.rglob("*") if path.is_file() and master in path.read_bytes()]


async def test_the_certificate_towards_meters_is_made_once(tmp_path: Path) -> None:
    module = SoftModule()

    async def opened(module: SoftModule, days: int = 0) -> Certificate:
        return (
            await OwnCertificate.open(tmp_path, module, "ESGW0100000001", NOW + timedelta(days=days))
        ).current

    made = await opened(module)
    assert made.subject_cn == "esgw0100000001.sm"
    assert await opened(module) == made
    over = await opened(module, 8 * 365)
    assert over.public_key != made.public_key
    fresh = await opened(SoftModule())
    assert fresh.public_key != over.public_key
    assert Certificate.from_pem((tmp_path / "lmn-tls.pem").read_bytes()) == fresh


@pytest.mark.parametrize(
    "line",
    [
        "primary = 2",
        "broadcast = 100",
        "baudrate = 300",
        "slots = 0",
        "slot_s = 0.0",
        "sym_mac_bytes = 4",
        "renew_days = 0",
    ],
)
def test_a_line_that_is_configured_wrongly(tmp_path: Path, line: str) -> None:
    (tmp_path / "pin").touch(mode=0o600)
    path = tmp_path / "gateway.toml"
    path.write_text(
        '[gateway]\nid = "ESGW0100000001"\nstate = "s"\n[module]\nstate = "m"\npin_file = "pin"\n'
        f'[[lmn.rs485]]\nport = "x"\n{line}\n'
    )
    with pytest.raises(ConfigurationRefused):
        load(path)


async def test_a_meter_with_another_certificate_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "gw"
    make_identity(folder / "meter", DEFAULT_METER)
    make_identity(folder / "forged", DEFAULT_METER)
    async with Rs485Hub(folder / "line0") as hub:
        station = WiredMeterStation(hub, folder / "forged", folder / "state" / "lmn-tls.pem")
        async with running(folder, LINE, profiles(str(DEFAULT_METER), "1-0:1.8.0", "strict")) as gateway:
            async with asyncio.timeout(20):
                while not gateway.telegrams.rejected:  # noqa: ASYNC110  # counters have no event
                    await asyncio.sleep(0.1)
            assert set(gateway.telegrams.rejected) == {"key"}
            assert not gateway.telegrams.accepted
    assert station.requests == []
