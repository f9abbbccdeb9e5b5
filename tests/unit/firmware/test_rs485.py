"""From a virtual RS-485 line to a registered value: discovery, link, TLS with pinned certificates, SML."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

from firmware.metering.status import GatewayStatus, gateway_half
from tests.support.wired_gateway import profiles, registered, running
from tools.counterparts.meter_sml import server_id
from tools.counterparts.meter_wired import DEFAULT_METER, WiredMeterStation, make_identity
from tools.counterparts.rs485_hub import Rs485Hub

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
