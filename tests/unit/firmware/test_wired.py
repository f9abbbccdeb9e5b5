"""From a line to a registered value, in a whole gateway; and what intake refuses of a line."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from firmware.config import load
from firmware.errors import ConfigurationRefused
from firmware.flow.intake import Intake
from firmware.metering.register import Register
from firmware.metering.status import GatewayStatus, gateway_half, wired
from lmn.errors import ChecksumMismatch
from lmn.model import ACTIVE_ENERGY_IMPORT, MeterId
from lmn.ports import MeterAccess, ReceptionMode
from lmn.wired_values import WiredRefusal, WiredValue, WiredValues
from lmn.wmbus.link import ReceivedFrame
from tests.support.wired_gateway import profiles, registered, running
from tests.unit.firmware.profile_set import at
from tests.unit.firmware.test_intake import ID, Meters, Store, plain_telegram
from tools.counterparts.meter_sml import DEFAULT_METER, SmlMeter, VirtualHead, server_id

HEAD = f"""
[[lmn.head]]
port = "head0"
meter = "{DEFAULT_METER}"
server_id = "{server_id(DEFAULT_METER).hex()}"
"""


async def test_an_infrared_head_registers_values(tmp_path: Path) -> None:
    meter = SmlMeter()

    async def push(head: VirtualHead) -> None:
        while True:
            await head.push(meter.frame())
            await asyncio.sleep(0.1)

    (tmp_path / "gw").mkdir()
    document = profiles(str(DEFAULT_METER), "1-0:1.8.0")
    async with (
        VirtualHead(tmp_path / "gw" / "head0", baudrate=115200) as head,
        running(tmp_path / "gw", HEAD, document) as gateway,
    ):
        pushing = asyncio.create_task(push(head))
        value = await registered(gateway)
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)
        silent = await registered(gateway, missing=True)
    assert (value.value, value.unit, value.meter) == (Decimal(meter.import_wh10) / 10, "Wh", DEFAULT_METER)
    assert not gateway_half(value.status) & GatewayStatus.WIRELESS
    assert gateway_half(silent.status) == GatewayStatus.FIXED | GatewayStatus.NO_VALUE
    assert gateway.telegrams.accepted
    assert not gateway.telegrams.rejected


class Side:
    """An intake with a store in memory."""

    def __init__(self, mode: ReceptionMode, *, wired: bool = False) -> None:
        self.register, self.store, self.reports = Register(keep=at(3600) - at(0)), Store(), []
        self.intake = Intake(
            Meters(MeterAccess(ID, None, mode)), self.store, self.register, now_utc=lambda: at(10),
            now_s=lambda: 10.0, report=self._report, wired=frozenset({ID} if wired else ()),
        )  # fmt: skip

    async def _report(self, rejection) -> None:
        self.reports.append(rejection)

    async def values(self) -> list[Decimal | None]:
        await self.intake.commit()
        return [one.value for one in self.register.around(ID, ACTIVE_ENERGY_IMPORT, at(10), at(20) - at(0))]


def told(*, protected: bool, meter: MeterId = ID) -> WiredValues:
    value = WiredValue(ACTIVE_ENERGY_IMPORT, Decimal("12.5"), "Wh", 4)
    return WiredValues(meter, (value,), 9.5, protected)


@pytest.mark.parametrize(
    ("mode", "protected", "kept"),
    [
        (ReceptionMode.OPEN, False, [Decimal("12.5")]),
        (ReceptionMode.STRICT, True, [Decimal("12.5")]),
        (ReceptionMode.STRICT, False, []),
    ],
)
async def test_unprotected_values_need_an_open_profile(mode, protected, kept) -> None:
    side = Side(mode)
    side.intake.receive_wired(told(protected=protected))
    assert await side.values() == kept
    assert dict(side.intake.statistics.rejected) == ({} if kept else {"downgrade": 1})


async def test_a_wired_meter_is_not_heard_on_the_air() -> None:
    side = Side(ReceptionMode.OPEN, wired=True)
    side.intake.receive(ReceivedFrame(plain_telegram(5), 9.0))
    assert await side.values() == []
    assert side.intake.statistics.rejected["downgrade"] == 1


async def test_refusals_of_a_line_are_counted_and_reported() -> None:
    side = Side(ReceptionMode.OPEN)
    side.intake.receive_wired(WiredRefusal(ID, ChecksumMismatch("x")))
    side.intake.receive_wired(told(protected=True, meter=MeterId("ELS", "00000000", 1, 2)))
    assert await side.values() == []
    assert dict(side.intake.statistics.rejected) == {"crc": 1, "unknown-meter": 1}
    assert [one.code for one in side.reports] == ["crc"]


async def test_readings_of_a_line_survive_a_restart() -> None:
    side = Side(ReceptionMode.OPEN)
    side.intake.receive_wired(told(protected=False))
    await side.values()
    stored = [operation.plaintext for commit in side.store.commits for operation in commit]

    class Records:
        async def records(self, kind, after=0, limit=None):
            return list(enumerate(stored, 1))

    again = Side(ReceptionMode.OPEN)
    await again.intake.load(Records())
    [reading] = again.register.around(ID, ACTIVE_ENERGY_IMPORT, at(10), at(20) - at(0))
    assert (reading.wired, reading.meter_status, reading.received_utc) == (True, 4, at(9.5))


@pytest.mark.parametrize(
    ("meter_status", "tampered"),
    [(0, False), (0x4, False), (0x204, True), (0x404, True), (0x200, False), (0x1C104, False)],
)
def test_status_of_a_wired_meter(meter_status: int, tampered: bool) -> None:
    word = wired(meter_status, time_valid=True)
    assert bool(gateway_half(word) & GatewayStatus.METER_TAMPER) is tampered
    assert word & 0xFFFFFFFF == meter_status
    assert gateway_half(wired(0, time_valid=False)) & GatewayStatus.TIME_INVALID


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('meter = "nobody"', "lmn.head[0].meter"),
        ('server_id = "XY"', "lmn.head[0].server_id"),
        ('quirks = ["none"]', "lmn.head[0].quirks"),
        ("baudrate = 1", "lmn.head[0].baudrate"),
        ("speed = 1", "lmn.head[0].speed"),
    ],
)
def test_a_head_that_is_configured_wrongly(tmp_path: Path, line: str, complaint: str) -> None:
    key = line.partition(" ")[0]
    rest = "\n".join(each for each in HEAD.splitlines() if not each.startswith(key + " "))
    path = tmp_path / "gateway.toml"
    (tmp_path / "pin").touch(mode=0o600)
    path.write_text(
        '[gateway]\nid = "ESGW0100000001"\nstate = "s"\n[module]\nstate = "m"\npin_file = "pin"\n[lmn]\n'
        + rest + "\n" + line
    )  # fmt: skip
    with pytest.raises(ConfigurationRefused) as caught:
        load(path)
    assert any(fault.key.startswith(complaint) for fault in caught.value.faults)
