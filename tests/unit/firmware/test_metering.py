"""Registration windows, quantities, status word, documents."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.metering.dataset import Dataset, decimal_text, message_id, to_document, utc_text
from firmware.metering.quantity import QuantityRefused, scaled, unscaled
from firmware.metering.register import (
    Register,
    RegisteredValue,
    choose,
    energy_between,
    half_window,
    register_value,
    whole_wh,
)
from firmware.metering.status import (
    BitOrder,
    GatewayStatus,
    PtbStatus,
    billable,
    combine,
    gateway_half,
    missing,
    ptb,
    reversed_bits,
    to_text,
    wireless,
)
from lmn.model import ACTIVE_ENERGY_EXPORT, ACTIVE_ENERGY_IMPORT, MeterId, Reading
from tests.unit.firmware.profile_set import METER, at

ID = MeterId.from_text(METER)
REACH = timedelta(seconds=9)


def reading(second, value="100", status=0, obis=ACTIVE_ENERGY_IMPORT, unit="Wh"):
    number = None if value is None else Decimal(value)
    return Reading(ID, obis, number, unit, at(second), status)


def entry(second, value="100", unit="Wh"):
    number = None if value is None else Decimal(value)
    return RegisteredValue(ID, ACTIVE_ENERGY_IMPORT, at(second), number, unit, 0)


def chosen(*readings):
    return choose(readings, at(900), REACH)


def test_the_window_is_one_percent():
    assert half_window(900) == timedelta(seconds=9)
    assert half_window(3600) == timedelta(seconds=36)
    assert half_window(2) == timedelta(milliseconds=20)


def test_a_short_period_may_have_a_wider_window():
    assert half_window(2, 0.5) == timedelta(seconds=0.5)
    assert half_window(900, 0.5) == timedelta(seconds=9)


@pytest.mark.parametrize("second", [891, 900, 909])
def test_both_edges_of_the_window_count(second):
    assert chosen(reading(second)) == reading(second)


@pytest.mark.parametrize("second", [890.999999, 909.000001])
def test_a_microsecond_outside_does_not(second):
    assert chosen(reading(second)) is None


def test_the_nearest_counts_and_of_two_the_earlier():
    assert chosen(reading(895), reading(902), reading(908)) == reading(902)
    assert chosen(reading(903, "2"), reading(897, "1")) == reading(897, "1")


def test_no_value_is_never_interpolated():
    value = register_value(
        ID, ACTIVE_ENERGY_IMPORT, [reading(880, "100"), reading(920, "200")], at(900), REACH
    )
    assert value.value is None
    assert GatewayStatus.NO_VALUE in gateway_half(value.status)


def test_a_meter_without_value_gives_none():
    assert chosen(reading(900, None)) is None
    assert chosen(reading(900, None), reading(905)) == reading(905)


def test_another_measurand_does_not_count():
    other = reading(900, obis=ACTIVE_ENERGY_EXPORT)
    assert register_value(ID, ACTIVE_ENERGY_IMPORT, [other], at(900), REACH).value is None


def test_values_are_registered_as_they_came():
    value = register_value(ID, ACTIVE_ENERGY_IMPORT, [reading(901, "1234567890123.000001")], at(900), REACH)
    assert value.value == Decimal("1234567890123.000001")
    assert value.instant_utc == at(900)
    assert "1234567890123" not in repr(value)


def test_a_clock_that_cannot_be_trusted_marks_the_value():
    value = register_value(ID, ACTIVE_ENERGY_IMPORT, [reading(900)], at(900), REACH, time_valid=False)
    assert GatewayStatus.TIME_INVALID in gateway_half(value.status)
    value = register_value(ID, ACTIVE_ENERGY_IMPORT, [], at(900), REACH, time_valid=False)
    assert gateway_half(value.status) >= GatewayStatus.TIME_INVALID | GatewayStatus.NO_VALUE


readings = st.lists(
    st.builds(reading, st.floats(880, 920, allow_nan=False), st.integers(0, 999).map(str)), max_size=12
)


@given(readings, st.randoms(use_true_random=False))
def test_replay_in_any_order_gives_the_same(given_readings, shuffler):
    first = register_value(ID, ACTIVE_ENERGY_IMPORT, given_readings, at(900), REACH)
    again = sorted(given_readings, key=lambda one: (one.received_utc, one.value))
    shuffler.shuffle(again)
    second = register_value(ID, ACTIVE_ENERGY_IMPORT, again, at(900), REACH)
    assert first == second


@given(readings)
def test_what_counts_is_inside_and_nothing_inside_is_nearer(given_readings):
    found = choose(given_readings, at(900), REACH)
    distances = [abs(one.received_utc - at(900)) for one in given_readings]
    inside = [distance for distance in distances if distance <= REACH]
    assert (found is None) == (not inside)
    if found is not None:
        assert abs(found.received_utc - at(900)) == min(inside)


@given(readings)
def test_the_register_finds_what_a_list_would(given_readings):
    register = Register(timedelta(hours=1))
    for one in given_readings:
        register.add(one)
    around = register.around(ID, ACTIVE_ENERGY_IMPORT, at(900), REACH)
    expected = [one for one in given_readings if abs(one.received_utc - at(900)) <= REACH]
    assert sorted(one.received_utc for one in around) == sorted(one.received_utc for one in expected)


def test_the_register_is_bounded():
    register = Register(timedelta(seconds=100), per_measurand=5)
    for second in range(20):
        register.add(reading(second))
    register.add(reading(19, obis=ACTIVE_ENERGY_EXPORT))
    assert len(register.around(ID, ACTIVE_ENERGY_IMPORT, at(10), timedelta(seconds=100))) == 5
    assert len(register.around(ID, ACTIVE_ENERGY_EXPORT, at(10), timedelta(seconds=100))) == 1
    register.add(reading(500))
    assert len(register.around(ID, ACTIVE_ENERGY_IMPORT, at(10), timedelta(seconds=1000))) == 1


def test_a_reading_from_the_future_does_not_blind_the_register():
    """The clock was a day ahead for one telegram: neither that one nor its effect may stay."""
    register = Register(timedelta(hours=8))
    for second in (0, 300, 600):
        register.add(reading(second, "1"))
    register.add(reading(86400, "2"))
    register.add(reading(900, "3"))
    assert [one.value for one in register.around(ID, ACTIVE_ENERGY_IMPORT, at(900), REACH)] == [Decimal(3)]
    assert not register.around(ID, ACTIVE_ENERGY_IMPORT, at(86400), REACH)


def test_energy_of_a_slot():
    assert energy_between(entry(0, "100"), entry(900, "350")) == 250
    assert energy_between(entry(0, "100"), entry(900, "100")) == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, entry(900)),
        (entry(0), None),
        (entry(0, None), entry(900)),
        (entry(0), entry(900, None)),
        (entry(0, "101"), entry(900, "100")),
        (entry(0, unit="m3"), entry(900, unit="m3")),
    ],
)
def test_energy_that_nobody_knows(before, after):
    assert energy_between(before, after) is None


@given(st.lists(st.decimals(0, 10**6, places=3), min_size=2, max_size=30))
def test_rounding_loses_no_energy(steps):
    registers, total = [], Decimal(0)
    for step in steps:
        total += step
        registers.append(entry(len(registers), str(total)))
    pairs = pairwise(registers)
    slots = [energy_between(before, after) for before, after in pairs]
    assert sum(slots) == whole_wh(registers[-1]) - whole_wh(registers[0])


@pytest.mark.parametrize("by_wire", [False, True])
def test_a_missing_value_has_the_radio_bit_of_radio_meters_alone(by_wire):
    value = register_value(ID, ACTIVE_ENERGY_IMPORT, [], at(900), REACH, by_wire=by_wire)
    assert bool(gateway_half(value.status) & GatewayStatus.WIRELESS) is not by_wire


def test_status_word():
    word = combine(GatewayStatus.NO_VALUE, 0x12345678)
    assert to_text(word) == "0000200512345678"
    assert gateway_half(word) == GatewayStatus.NO_VALUE | GatewayStatus.FIXED
    assert to_text(missing(time_valid=True)) == "0002200500000000"
    assert to_text(missing(time_valid=True, by_wire=True)) == "0000200500000000"
    with pytest.raises(ValueError, match="32 bits"):
        combine(GatewayStatus.FIXED, 1 << 32)


@pytest.mark.parametrize(
    ("mbus", "flag"),
    [
        (0x04, GatewayStatus.WARNING),
        (0x08, GatewayStatus.METER_ERROR),
        (0x10, GatewayStatus.METER_ERROR),
        (0x02, GatewayStatus.METER_ERROR),
    ],
)
def test_a_meter_s_status_shows(mbus, flag):
    assert flag in gateway_half(wireless(mbus, time_valid=True))
    assert flag not in gateway_half(wireless(0x01, time_valid=True))
    assert wireless(mbus, time_valid=True) & 0xFFFFFFFF == mbus
    assert GatewayStatus.WIRELESS in gateway_half(wireless(0, time_valid=True))


def test_the_trap_of_bit_order():
    """OMS counts the bits of its status byte from the least significant one, the details' table does not.

    Low power is bit 2 of the byte on the air (0x04) and the sixth from the top; a permanent error is bit 3
    (0x08). Taken for each other's order, 0x08 would read as bit 4 of the byte: a temporary error.
    """
    assert reversed_bits(0x04) == 0x20
    assert reversed_bits(0x08) == 0x10
    for byte in range(256):
        oms = wireless(byte, time_valid=True)
        turned = wireless(byte, time_valid=True, order=BitOrder.REVERSED)
        assert gateway_half(oms) == gateway_half(turned), "flags are read from the air, whatever is written"
        assert turned & 0xFFFFFFFF == int(f"{byte:08b}"[::-1], 2)
        assert reversed_bits(turned & 0xFFFFFFFF) == oms & 0xFFFFFFFF


@given(st.integers(0, 2**32 - 1))
def test_bytes_stay_where_they_are_when_their_bits_are_turned(half):
    assert reversed_bits(reversed_bits(half)) == half
    assert [byte.bit_count() for byte in reversed_bits(half).to_bytes(4, "big")] == [
        byte.bit_count() for byte in half.to_bytes(4, "big")
    ]


def test_registration_writes_the_order_that_the_profile_names():
    arguments = (ID, ACTIVE_ENERGY_IMPORT, [reading(900, status=0x04)], at(900), REACH)
    assert register_value(*arguments).status & 0xFF == 0x04
    assert register_value(*arguments, status_bits=BitOrder.REVERSED).status & 0xFF == 0x20


@pytest.mark.parametrize(
    ("flags", "step", "counts"),
    [
        (GatewayStatus.FIXED, PtbStatus.VALID, True),
        (GatewayStatus.WIRELESS | GatewayStatus.TRIGGERED, PtbStatus.VALID, True),
        (GatewayStatus.WARNING, PtbStatus.WARNING, True),
        (GatewayStatus.NO_VALUE, PtbStatus.TEMPORARY_ERROR, False),
        (GatewayStatus.METER_TAMPER, PtbStatus.CRITICAL_TEMPORARY_ERROR, False),
        (GatewayStatus.TIME_INVALID | GatewayStatus.NO_VALUE, PtbStatus.CRITICAL_TEMPORARY_ERROR, False),
        (GatewayStatus.FATAL | GatewayStatus.WARNING, PtbStatus.FATAL_ERROR, False),
        (GatewayStatus.NOT_VALIDATED, PtbStatus.VALID, False),
    ],
)
def test_what_a_status_means_for_billing(flags, step, counts):
    """The mapping of the reference's 5.6: fatal 4, time and tampering 3, no value 2, warning 1."""
    assert (ptb(combine(flags, 0xFFFFFFFF)), billable(combine(flags, 0))) == (step, counts)


# ------------------------------------------------------------------ 13 + 6 digits


@pytest.mark.parametrize(
    ("text", "millionths"),
    [
        ("0", 0),
        ("-0.000000", 0),
        ("0E+30", 0),
        ("1", 10**6),
        ("1E+3", 10**9),
        ("-1.000001", -1_000_001),
        ("9999999999999.999999", 10**19 - 1),
        ("-9999999999999.999999", 1 - 10**19),
        ("1.0000000000", 10**6),
    ],
)
def test_a_value_of_13_and_6_digits_is_exact(text, millionths):
    assert scaled(Decimal(text)) == millionths
    assert unscaled(millionths) == Decimal(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("10000000000000", "13 digits before"),
        ("1E+13", "13 digits before"),
        ("-1E+400000", "13 digits before"),
        ("0.0000001", "6 digits behind"),
        ("1E-400000", "6 digits behind"),
        ("1.0000001", "6 digits behind"),
        ("NaN", "finite"),
        ("Infinity", "finite"),
    ],
)
def test_a_larger_or_finer_value_is_refused_by_name(text, complaint):
    with pytest.raises(QuantityRefused, match=complaint):
        scaled(Decimal(text))


def test_a_sum_past_13_digits_is_refused_by_name():
    with pytest.raises(QuantityRefused, match="13 digits before"):
        unscaled(10**19)


@given(st.integers(1 - 10**19, 10**19 - 1))
def test_scaling_loses_nothing(quantity):
    assert scaled(unscaled(quantity)) == quantity


@pytest.mark.parametrize("text", ["12345678901234", "0.0000001", "NaN"])
def test_a_value_out_of_range_becomes_an_entry_without_value(text):
    value = register_value(ID, ACTIVE_ENERGY_IMPORT, [reading(900, text)], at(900), REACH)
    assert value.value is None
    assert GatewayStatus.NO_VALUE | GatewayStatus.METER_ERROR in gateway_half(value.status)
    beside = [reading(900, text), reading(905, "7")]
    assert register_value(ID, ACTIVE_ENERGY_IMPORT, beside, at(900), REACH).value == 7


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("5249170", "5249170"),
        ("5249170.00", "5249170"),
        ("0.50", "0.5"),
        ("1E+3", "1000"),
        ("-0.0", "0"),
        ("100", "100"),
    ],
)
def test_decimal_text(value, text):
    assert decimal_text(Decimal(value)) == text


def test_a_document():
    dataset = Dataset("series", 7, "household", at(0), at(1800), (entry(900, "17.50"), entry(1800, None, "")))
    text = to_document(dataset, identity="id", gateway="esgw0100000001", communication="billing")
    assert json.loads(text) == {
        "message_id": "id",
        "gateway": "esgw0100000001",
        "profile": "billing",
        "taf": 7,
        "period": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:30:00Z"},
        "entries": [
            {
                "obis": "1-0:1.8.0*255",
                "meter": METER,
                "time_utc": "2026-01-01T00:15:00Z",
                "value": "17.5",
                "unit": "Wh",
                "status": "0000000000000000",
            },
            {
                "obis": "1-0:1.8.0*255",
                "meter": METER,
                "time_utc": "2026-01-01T00:30:00Z",
                "value": None,
                "unit": "",
                "status": "0000000000000000",
            },
        ],
    }
    assert "17.5" not in repr(dataset)


def test_names():
    assert message_id("esgw0100000001", "billing", at(0)) == "esgw0100000001-billing-20260101T000000Z"
    assert utc_text(at(0.5)) == "2026-01-01T00:00:00.500000Z"
