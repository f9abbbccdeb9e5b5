from __future__ import annotations

import pytest

from lmn.errors import LmnError
from lmn.mbus.decoder import Telegram, decode
from lmn.mbus.obis import to_readings
from lmn.ports import MeterAccess, ReceptionMode
from tools.counterparts.meter_wmbus import DEFAULT_KEY
from tools.counterparts.meter_wmbus_load import MeterKind
from tools.counterparts.meter_wmbus_virtual import START, Fault, Protection, VirtualMeter

OBIS = {
    MeterKind.ELECTRICITY: "1-0:1.8.0*255",
    MeterKind.GAS: "7-0:3.0.0*255",
    MeterKind.WATER: "8-0:1.0.0*255",
    MeterKind.HEAT: "6-0:1.0.0*255",
}


def access(meter: VirtualMeter) -> MeterAccess:
    key = None if meter.protection is Protection.NONE else DEFAULT_KEY
    strict = meter.protection in (Protection.MODE7, Protection.MODE10)
    return MeterAccess(meter.meter, key, ReceptionMode.STRICT if strict else ReceptionMode.OPEN)


def receive(meter: VirtualMeter, rounds: int) -> list[Telegram | str]:
    """What a gateway makes of the next telegrams; an error is its code."""
    last: int | None = None
    results: list[Telegram | str] = []
    for _ in range(rounds):
        meter.step()
        for data in meter.on_air():
            try:
                telegram = decode(data, access(meter), last)
            except LmnError as error:
                results.append(error.code)
                continue
            last = telegram.counter if telegram.counter is not None else last
            results.append(telegram)
    return results


@pytest.mark.parametrize("protection", Protection)
@pytest.mark.parametrize("kind", MeterKind)
def test_each_kind_in_each_mode(kind: MeterKind, protection: Protection) -> None:
    meter = VirtualMeter(kind, protection, seed=1)
    for _ in range(5):
        (telegram,) = receive(meter, 1)
        assert isinstance(telegram, Telegram)
        assert telegram.security.value == protection.value
        readings = {str(r.obis): r.value for r in to_readings(telegram, START)}
        assert readings[OBIS[kind]] == meter.registers.main_value()
        shown = next(r for r in telegram.records if r.quantity == "datetime")
        assert shown.value_text == meter.clock.isoformat(" ", "minutes")
        assert all(record.understood for record in telegram.records)


@pytest.mark.parametrize("kind", MeterKind)
def test_a_day_of_load_never_falls_and_repeats_by_seed(kind: MeterKind) -> None:
    one, two = VirtualMeter(kind, seed=4), VirtualMeter(kind, seed=4)
    before = first = one.registers.main_value()
    for _ in range(24 * 12):
        one.step(300)
        two.step(300)
        assert one.registers.main_value() >= before
        before = one.registers.main_value()
    assert before > first
    assert one.telegram() == two.telegram()
    with pytest.raises(ValueError, match="falls"):
        one.registers.advance(one.clock, -1)


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        (Fault.WRONG_KEY, {"mac"}),
        (Fault.COUNTER_RESET, {"counter"}),
        (Fault.DUPLICATES, {"counter"}),
        (Fault.COLLISIONS, {"mac", "length", "malformed", "unsupported", "unknown-meter"}),
        (Fault.TRUNCATION, {"mac", "length"}),
    ],
)
def test_faults_of_single_telegrams_are_refused(fault: Fault, codes: set[str]) -> None:
    results = receive(VirtualMeter(faults=(fault,), seed=2), 12)
    refused = {result for result in results if isinstance(result, str)}
    assert refused
    assert refused <= codes
    assert sum(isinstance(result, Telegram) for result in results) >= 2


def test_faults_of_the_meter_are_told() -> None:
    (weak,) = receive(VirtualMeter(MeterKind.WATER, faults=(Fault.LOW_BATTERY,)), 1)
    assert isinstance(weak, Telegram)
    assert weak.status == 0x04
    (opened,) = receive(VirtualMeter(faults=(Fault.TAMPER,)), 1)
    assert isinstance(opened, Telegram)
    assert opened.status == 0x08
    assert next(r for r in opened.records if r.quantity == "error flags").value_text == "1"
    (jumped,) = receive(VirtualMeter(faults=(Fault.CLOCK_JUMP,)), 1)
    assert isinstance(jumped, Telegram)
    assert next(r for r in jumped.records if r.quantity == "datetime").value_text == "2027-02-05 06:01"
