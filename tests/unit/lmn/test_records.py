from __future__ import annotations

import random
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmn.errors import ChecksumMismatch, LmnError, MalformedRecords, SecurityUnsupported
from lmn.mbus.compact import MAX_FORMATS, FormatCache
from lmn.mbus.known_formats import KNOWN_FORMATS
from lmn.mbus.records import Record, describe, parse
from lmn.mbus.values import shortest_decimal, to_text
from tests.support.vectors import load, vectors


def short(records: tuple[Record, ...]) -> list[list[str | None]]:
    return [[r.quantity, r.unit, r.value_text] for r in records]


@vectors("lmn/records.json")
def test_examples(case: dict[str, Any]) -> None:
    assert short(parse(bytes.fromhex(case["data"]))) == case["records"]


@pytest.mark.parametrize("rule", [1, 2, 3, 4, 5, 6, 7, 9])
def test_each_rule_that_others_get_wrong_has_examples(rule: int) -> None:
    """Of docs/lmn.md 1.8; rules 8 and 10 are about whole telegrams (test_security)."""
    assert any(case["id"].startswith(f"rule{rule} ") for case in load("lmn/records.json")["cases"])


@vectors("lmn/records.json")
def test_headers_and_data_make_the_telegram_again(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["data"])
    again = b"".join(r.header.dib_vib + r.raw for r in parse(data))
    assert again in data


def test_storage_tariff_subunit_and_function() -> None:
    # DIF 94: maximum, extension; DIFE D5: storage 5, tariff 1, subunit 1; DIFE 11: storage 1, tariff 1
    (record,) = parse(bytes.fromhex("94D51103") + bytes(4))
    information = record.header.information
    assert information.function == "max"
    assert (information.storage, information.tariff, information.subunit) == (5 << 1 | 1 << 5, 1 | 1 << 2, 1)


@pytest.mark.parametrize(("bits", "name"), [(0x04, "inst"), (0x14, "max"), (0x24, "min"), (0x34, "error")])
def test_functions(bits: int, name: str) -> None:
    assert parse(bytes((bits, 0x03, 1, 0, 0, 0)))[0].header.information.function == name


@pytest.mark.parametrize(
    "data", ["04", "0413", "041301", "84", "0493", "3F", "6F", "7F", "8F01", "0D13", "0DFD10FF", "0DFD1005AB"]
)
def test_what_cannot_be_cut_is_refused(data: str) -> None:
    with pytest.raises(MalformedRecords):
        parse(bytes.fromhex(data))


def test_endless_extensions_are_refused() -> None:
    with pytest.raises(MalformedRecords):
        parse(b"\x84" + b"\x80" * 40 + b"\x13\x00\x00\x00\x00")
    with pytest.raises(MalformedRecords):
        parse(b"\x04" + b"\x93" * 40 + b"\x00\x00\x00\x00\x00")


def test_zero_padding_is_no_record() -> None:
    assert len(parse(bytes.fromhex("011305") + bytes(7))) == 1


def test_values_are_not_in_the_repr() -> None:
    assert "987654" not in repr(parse(bytes.fromhex("0C0354769800")))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1.500"), "1.5"),
        (Decimal("1E+6"), "1000000"),
        (Decimal("-0.0"), "0"),
        (Decimal("0.000001"), "0.000001"),
    ],
)
def test_plain_decimal_text(value: Decimal, text: str) -> None:
    assert to_text(value) == text


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_real_numbers_survive(value: float) -> None:
    import struct

    data = struct.pack("<f", value)
    number = shortest_decimal(data)
    assert number is not None
    assert struct.unpack("<f", struct.pack("<f", float(number)))[0] == value


@given(st.integers(-(2**31) + 1, 2**31 - 1))
def test_integers_are_exact(number: int) -> None:
    (record,) = parse(b"\x04\x10" + number.to_bytes(4, "little", signed=True))
    expected = (
        None if number.to_bytes(4, "little", signed=True) == b"\xfe" * 4 else Decimal(number).scaleb(-6)
    )
    assert record.value == expected


def test_mutated_records_give_a_value_or_a_named_error() -> None:
    rng = random.Random(2)
    seeds = [bytes.fromhex(c["data"]) for c in load("lmn/records.json")["cases"]]
    for _ in range(10_000):
        data = bytearray(b"".join(rng.choices(seeds, k=rng.randrange(1, 4))))
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with suppress(LmnError):
            for record in parse(bytes(data)):
                assert record.value_text is None or isinstance(record.value_text, str)


@given(st.binary(max_size=250))
def test_any_bytes(data: bytes) -> None:
    with suppress(MalformedRecords):
        parse(data)


FULL = bytes.fromhex("02FF207100 0413F8180000 4413F4180000 615B7F 616617")
VALUES = bytes.fromhex("7100 F8180000 F4180000 7F 17")
HEADERS = bytes.fromhex("02FF20 0413 4413 615B 6166")


def compact(values: bytes, full: bytes) -> bytes:
    from lmn.crc import crc16_en13757

    return crc16_en13757(HEADERS).to_bytes(2, "little") + crc16_en13757(full).to_bytes(2, "little") + values


def test_compact_frame_after_its_full_frame() -> None:
    cache = FormatCache()
    with pytest.raises(SecurityUnsupported):
        cache.expand(compact(VALUES, FULL))
    cache.learn_records(parse(FULL))
    assert short(cache.expand(compact(VALUES, FULL))) == short(parse(FULL))


def test_compact_frame_whose_checksum_is_wrong() -> None:
    cache = FormatCache()
    cache.learn_records(parse(FULL))
    with pytest.raises(ChecksumMismatch):
        cache.expand(compact(VALUES[:-1] + b"\x18", FULL))
    for size in range(4, 4 + len(VALUES)):
        with pytest.raises(LmnError):
            cache.expand(compact(VALUES, FULL)[:size])
    with pytest.raises(LmnError):
        cache.expand(compact(VALUES + b"\x01", FULL))


def test_format_frame() -> None:
    from lmn.crc import crc16_en13757

    frame = crc16_en13757(HEADERS).to_bytes(2, "little") + HEADERS
    cache = FormatCache()
    cache.learn_format_frame(bytes((len(frame),)) + frame)
    assert len(cache.expand(compact(VALUES, FULL))) == 5
    with pytest.raises(ChecksumMismatch):
        cache.learn_format_frame(bytes((len(frame),)) + frame[:-1] + b"\x67")
    with pytest.raises(LmnError):
        cache.learn_format_frame(bytes((len(frame) + 1,)) + frame)


@pytest.mark.parametrize("signature", sorted(KNOWN_FORMATS))
def test_a_known_format_proves_itself(signature: int) -> None:
    """The signature on the air is the checksum of the list; the frame's second checksum guards the values."""
    from lmn.crc import crc16_en13757

    headers = KNOWN_FORMATS[signature]
    assert crc16_en13757(b"".join(headers)) == signature
    sizes = [describe(header).information.size for header in headers]
    values = [bytes((number + 1,)) + bytes(size - 1) for number, size in enumerate(sizes)]
    full = b"".join(header + value for header, value in zip(headers, values, strict=True))
    frame = signature.to_bytes(2, "little") + crc16_en13757(full).to_bytes(2, "little") + b"".join(values)
    assert short(FormatCache().expand(frame)) == short(parse(full))
    for place in range(2, len(frame)):
        changed = bytearray(frame)
        changed[place] ^= 0x04
        with pytest.raises(LmnError):
            FormatCache().expand(bytes(changed))


def test_the_format_cache_is_bounded() -> None:
    cache = FormatCache()
    for number in range(3 * MAX_FORMATS):
        cache.learn((b"\x04\x13", bytes((0x84, 0x80 | number & 0x7F, number >> 7, 0x13))))
    assert len(cache._formats) == len(cache._known) == MAX_FORMATS


def test_an_odd_end_does_not_hide_what_stands_before_it_if_the_telegram_is_intact() -> None:
    data = bytes.fromhex("0403D2040000 0413E8030000 04")
    with pytest.raises(MalformedRecords):
        parse(data)
    records = parse(data, intact=True)
    assert short(records)[:2] == [["energy", "Wh", "1234"], ["volume", "m3", "1"]]
    assert [(r.raw, r.understood, r.value) for r in records[2:]] == [(b"\x04", False, None)]
    cache = FormatCache()
    cache.learn_records(records)
    assert cache._formats == {}


def test_trust_ends_at_the_first_record_that_is_not_understood() -> None:
    # VIF FF: the maker's own; its data may be longer than its DIF says, and "0413..." be a part of it.
    data = bytes.fromhex("0403D2040000 01FF00AA 0413E8030000 04")
    assert [r.value_text for r in parse(data, intact=True)] == ["1234", None]
    assert len(parse(data[:-1])) == 3  # without an odd end there is no reason to doubt


@pytest.mark.parametrize("data", ["04", "0413", "3F", "2F2F04", "0FAABB", "01FF00AA04"])
def test_nothing_to_trust_is_an_error_or_raw(data: str) -> None:
    with suppress(MalformedRecords):
        assert all(not record.understood for record in parse(bytes.fromhex(data), intact=True))


@vectors("lmn/second_judge.json")
def test_another_decoder_reads_the_same(case: dict[str, str]) -> None:
    (record,) = parse(bytes.fromhex(case["id"]))
    assert (record.value_text, record.unit) == (case["value"], case["unit"])
