from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from lmn.mbus.decoder import Telegram, decode
from lmn.mbus.obis import to_readings
from lmn.model import MeterId
from tools.counterparts import meter_wmbus_telegram as build
from tools.counterparts.meter_wmbus import ElectricityMeter

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def telegram(records: str, device_type: int = 2) -> Telegram:
    who = build.Sender(MeterId("SMG", "12345678", 1, device_type), 0, 8)
    return decode(build.plain(who, bytes.fromhex(records)))


def readings(records: str, device_type: int = 2) -> list[tuple[str, Decimal | None, str]]:
    return [(str(r.obis), r.value, r.unit) for r in to_readings(telegram(records, device_type), NOW)]


@pytest.mark.parametrize(
    ("records", "device_type", "expected"),
    [
        ("0403D2040000", 0x02, ("1-0:1.8.0*255", Decimal(1234), "Wh")),
        ("04833CD2040000", 0x02, ("1-0:2.8.0*255", Decimal(1234), "Wh")),
        ("841003D2040000", 0x02, ("1-0:1.8.1*255", Decimal(1234), "Wh")),
        ("042BD2040000", 0x02, ("1-0:1.7.0*255", Decimal(1234), "W")),
        ("0C1427048502", 0x03, ("7-0:3.0.0*255", Decimal("28504.27"), "m3")),
        ("041301000000", 0x07, ("8-0:1.0.0*255", Decimal("0.001"), "m3")),
        ("041301000000", 0x06, ("9-0:1.0.0*255", Decimal("0.001"), "m3")),
        ("040F01000000", 0x04, ("6-0:1.0.0*255", Decimal(10_000_000), "J")),
        ("0B6E341200", 0x08, ("4-0:1.0.0*255", Decimal(1234), "")),
        ("040300000080", 0x02, ("1-0:1.8.0*255", None, "Wh")),
    ],
)
def test_rows(records: str, device_type: int, expected: tuple[str, Decimal | None, str]) -> None:
    assert readings(records, device_type) == [expected]


@pytest.mark.parametrize(
    "records",
    [
        "4403D2040000",  # storage 1: not the current value
        "1403D2040000",  # a maximum
        "844003D2040000",  # subunit 1
        "048340D2040000",  # a limit
        "048325D2040000",  # per month
        "0403D2040000 0403D3040000",  # contradicts itself
        "0413D2040000",  # no measurand of an electricity meter
        "0F0403D2040000",  # manufacturer data never feed billing
        "04FF03D2040000",
    ],
)
def test_what_is_no_reading(records: str) -> None:
    assert readings(records) == []


def test_a_reading_says_whence_and_when() -> None:
    (reading,) = to_readings(telegram("0403D2040000"), NOW)
    assert (reading.meter.manufacturer, reading.received_utc, reading.meter_status) == ("SMG", NOW, 8)


def test_the_virtual_meter_rises_and_repeats_by_seed() -> None:
    one, two = ElectricityMeter(seed=3), ElectricityMeter(seed=3)
    before = one.import_wh
    for meter in (one, two):
        for _ in range(10):
            meter.step()
    assert one.import_wh == two.import_wh > before
    assert one.telegram() == two.telegram() != one.telegram()
    with pytest.raises(ValueError, match="falls"):
        one.step(-1)


def test_meter_ids_compare_whatever_the_case_of_their_digits() -> None:
    sent = build.Sender(MeterId("SMG", "12ab34cd", 1, 2))
    heard = decode(build.plain(sent, bytes.fromhex("0403D2040000"))).meter
    assert heard == MeterId.from_text("SMG-12AB34CD-01-02") == MeterId.from_text(str(heard))
