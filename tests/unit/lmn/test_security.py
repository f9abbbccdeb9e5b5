from __future__ import annotations

import re
from typing import Any

import pytest

from lmn.errors import (
    ChecksumMismatch,
    CounterRefused,
    DowngradeRefused,
    KeyRefused,
    LengthMismatch,
    LmnError,
    MacRefused,
    MalformedRecords,
    SecurityUnsupported,
    UnknownMeter,
)
from lmn.mbus import records
from lmn.mbus.control_information import REFUSED
from lmn.mbus.decoder import Security, decode, sender
from lmn.mbus.security import link_ctr, mode5, mode7, mode10
from lmn.mbus.security.derivation import aes_cmac, wired_keys, wireless_keys
from lmn.mbus.transport import parse, parse_upper
from lmn.mbus.wired_frame import application_of
from lmn.model import MeterId
from lmn.ports import MeterAccess, ReceptionMode
from lmn.wmbus.frame import from_format_a
from tests.support.vectors import load, vectors
from tools.counterparts import meter_wmbus_telegram as build

CASES = {case["id"]: case for case in load("lmn/telegrams.json")["cases"]}
METER = MeterId("SMG", "12345678", 1, 2)
KEY = bytes(range(16))
RECORDS = bytes.fromhex("0403D2040000")
STRICT, OPEN = ReceptionMode.STRICT, ReceptionMode.OPEN


def bare(case: dict[str, Any]) -> bytes:
    return (
        bytes.fromhex(case["telegram"])
        if "telegram" in case
        else from_format_a(bytes.fromhex(case["frame_a"]))
    )


def access_of(case: dict[str, Any]) -> MeterAccess:
    meter = MeterId.from_text(case["meter"])
    return MeterAccess(meter, bytes.fromhex(case["key"]), ReceptionMode(case["mode"]))


def access(key: bytes | None = KEY, mode: ReceptionMode = STRICT) -> MeterAccess:
    return MeterAccess(METER, key, mode)


@vectors("lmn/aes_cmac.json")
def test_aes_cmac(case: dict[str, str]) -> None:
    assert aes_cmac(bytes.fromhex(case["key"]), bytes.fromhex(case["message"])).hex() == case["mac"]


@vectors("lmn/wired_keys.json")
def test_wired_keys(case: dict[str, Any]) -> None:
    keys = wired_keys(bytes.fromhex(case["master"]), case["counter"], bytes.fromhex(case["server_id"]))
    assert keys.encryption == bytes.fromhex(case["kenc"])
    assert keys.authentication == bytes.fromhex(case["kmac"])
    assert keys.gateway_encryption == bytes.fromhex(case["lenc"])
    assert keys.gateway_authentication == bytes.fromhex(case["lmac"])
    with pytest.raises(ValueError, match="10 bytes"):
        wired_keys(bytes(16), 1, b"short")


@vectors("lmn/telegrams.json")
def test_published_telegrams(case: dict[str, Any]) -> None:
    telegram = decode(bare(case), access_of(case))
    assert str(telegram.meter) == case["meter"]
    assert (telegram.access_no, telegram.status) == (case["access_no"], case["status"])
    assert (telegram.security.value, telegram.counter) == (case["security"], case.get("counter"))
    got = [[r.quantity, r.unit, r.value_text, r.header.dib_vib.hex(), r.raw.hex()] for r in telegram.records]
    assert got == case["records"]


@pytest.mark.parametrize("name", ["V1", "V4"])
def test_stages_of_mode5(name: str) -> None:
    case = CASES[name]
    layers = parse(bare(case))
    transport = layers.transport
    assert transport is not None
    assert transport.access_no is not None
    vector = mode5.initialisation_vector(layers.address, transport.access_no)
    assert vector == bytes.fromhex(case["vector"])
    blocks = mode5.block_count(transport.configuration)
    plain = mode5.decrypt_cbc(
        bytes.fromhex(case["key"]), vector, transport.raw[transport.after_header :], blocks
    )
    assert plain == bytes.fromhex(case["plain"])


@pytest.mark.parametrize("name", ["V2", "V3"])
def test_stages_of_mode7(name: str) -> None:
    case = CASES[name]
    layers = parse(bare(case))
    authentication, transport = layers.authentication, layers.transport
    assert authentication is not None
    assert authentication.counter is not None
    assert transport is not None
    encryption, mac_key = wireless_keys(
        bytes.fromhex(case["key"]), authentication.counter, layers.address[2:6]
    )
    assert encryption == bytes.fromhex(case["kenc"])
    assert mac_key == bytes.fromhex(case["kmac"])
    covered = mode7.mac_input(authentication, transport)
    assert covered == bytes.fromhex(case["mac_input"])
    assert aes_cmac(mac_key, covered) == bytes.fromhex(case["cmac"])
    assert mode7.decrypt(encryption, authentication, transport) == bytes.fromhex(case["plain"])
    if "adapter" in case:
        assert layers.link_address[2:6] == bytes.fromhex("44332211")
        assert layers.extended is not None
        assert layers.extended.receiver is not None


def test_downlink_keys_of_the_same_message() -> None:
    """The counterpart keys of V2, as the project's LMN reference 1.7 computed them: constants 10 and 11."""
    case = CASES["V2"]
    tail = bytes.fromhex("B30A000078563412") + bytes((7,)) * 7
    keys = [aes_cmac(bytes.fromhex(case["key"]), bytes((use,)) + tail).hex().upper() for use in (0x10, 0x11)]
    assert keys == ["A9D4883E284217CAA4B6325F75B48444", "AE001B2FED6E042C3E6C4D8833D4BE1D"]


def test_stages_of_mode10() -> None:
    case = CASES["V5"]
    layers = parse(bare(case))
    assert layers.transport is not None
    sealed = mode10.split(layers.transport)
    assert int.from_bytes(sealed.counter, "little") == case["counter"]
    assert mode10.nonce(layers.address, sealed.counter) == bytes.fromhex(case["nonce"])
    assert sealed.associated_data == bytes.fromhex(case["associated_data"])
    assert sealed.tag == bytes.fromhex(case["tag"])
    encryption, _ = wireless_keys(bytes.fromhex(case["key"]), sealed.counter, layers.address[2:6])
    assert encryption == bytes.fromhex(case["kenc"])
    assert mode10.decrypt(encryption, layers.address, sealed) == bytes.fromhex(case["plain"])


def test_stages_of_link_encryption() -> None:
    case = CASES["V6"]
    layers = parse(bare(case))
    assert layers.extended is not None
    assert layers.sealed is not None
    vector = link_ctr.initialisation_vector(layers.link_address, layers.extended)
    assert vector == bytes.fromhex(case["vector"])
    plain = link_ctr.apply(bytes.fromhex(case["key"]), vector, layers.sealed)
    assert plain == bytes.fromhex(case["plain"])
    assert link_ctr.has_valid_crc(plain)


@vectors("lmn/wired_frame.json")
def test_wired_frame(case: dict[str, Any]) -> None:
    frame = bytes.fromhex(case["frame"])
    _, transport = parse_upper(application_of(frame))
    got = records.parse(transport.raw[transport.after_header :])
    assert [[r.quantity, r.unit, r.value_text, r.header.dib_vib.hex(), r.raw.hex()] for r in got] == case[
        "records"
    ]
    for size in range(len(frame)):
        with pytest.raises(LmnError):
            application_of(frame[:size])
    for position in range(len(frame)):
        damaged = bytearray(frame)
        damaged[position] ^= 0x10
        if position not in (4, 5):
            with pytest.raises(LmnError):
                application_of(bytes(damaged))
    with pytest.raises(ChecksumMismatch):
        application_of(frame[:4] + b"\x09" + frame[5:])


def test_each_flipped_bit_of_v2_is_refused() -> None:
    """No code covers the radio link's own header; a flip there must change nothing that is released."""
    case = CASES["V2"]
    good = bare(case)
    # C field, "address is not unique" mark of the manufacturer, control and access number of the ELL
    uncovered = {*range(8, 16), 31, *range(11 * 8, 13 * 8)}
    for bit in range(len(good) * 8):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        try:
            telegram = decode(bytes(bad), access_of(case))
        except LmnError:
            continue
        assert bit in uncovered
        assert telegram == decode(good, access_of(case))


def test_each_flipped_bit_of_v5_is_refused() -> None:
    case = CASES["V5"]
    good = bare(case)
    for bit in range(len(good) * 8):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        try:
            telegram = decode(bytes(bad), access_of(case))
        except LmnError:
            continue
        assert bit // 8 in (1, 11, 12), bit
        assert telegram == decode(good, access_of(case))


@pytest.mark.parametrize("name", sorted(CASES))
def test_truncated_telegrams_are_refused(name: str) -> None:
    good = bare(CASES[name])
    for size in range(len(good)):
        with pytest.raises(LengthMismatch):
            decode(good[:size], access_of(CASES[name]))
    with pytest.raises(LengthMismatch):
        decode(good + b"\x00", access_of(CASES[name]))


@pytest.mark.parametrize("name", ["V2", "V3", "V5", "V6"])
def test_truncated_telegrams_with_a_fitting_length_are_refused(name: str) -> None:
    good = bare(CASES[name])
    for size in range(1, len(good)):
        with pytest.raises(LmnError):
            decode(bytes((size - 1,)) + good[1:size], access_of(CASES[name]))


@pytest.mark.parametrize("name", sorted(CASES))
def test_wrong_and_missing_keys_are_refused(name: str) -> None:
    case = CASES[name]
    right = access_of(case)
    with pytest.raises((MacRefused, KeyRefused)):
        decode(bare(case), MeterAccess(right.meter, bytes(16), right.mode))
    with pytest.raises(KeyRefused):
        decode(bare(case), MeterAccess(right.meter, None, right.mode))
    with pytest.raises(KeyRefused):
        decode(bare(case))
    with pytest.raises(KeyRefused):
        decode(bare(case), MeterAccess(right.meter, b"short", right.mode))


@pytest.mark.parametrize("name", ["V2", "V3", "V5"])
def test_counters_must_rise(name: str) -> None:
    case = CASES[name]
    counter = case["counter"]
    assert decode(bare(case), access_of(case), counter - 1).counter == counter
    for last in (counter, counter + 1, 2**32 - 1):
        with pytest.raises(CounterRefused):
            decode(bare(case), access_of(case), last)


def test_the_code_is_checked_before_the_counter() -> None:
    case = CASES["V2"]
    bad = bare(case)[:-1] + b"\x00"
    with pytest.raises(MacRefused):
        decode(bad, access_of(case), case["counter"])


def test_another_meter_is_unknown() -> None:
    with pytest.raises(UnknownMeter):
        decode(bare(CASES["V2"]), access())


@pytest.mark.parametrize("name", ["V1", "V4", "V6"])
def test_a_strict_profile_takes_no_weaker_mode(name: str) -> None:
    case = CASES[name]
    with pytest.raises((DowngradeRefused, SecurityUnsupported)):
        decode(bare(case), MeterAccess(MeterId.from_text(case["meter"]), bytes.fromhex(case["key"]), STRICT))


@pytest.mark.parametrize("mode", list(ReceptionMode))
def test_a_meter_with_a_key_never_comes_in_clear(mode: ReceptionMode) -> None:
    who = build.Sender(METER)
    with pytest.raises(DowngradeRefused):
        decode(build.plain(who, RECORDS), access(mode=mode))
    announced = who.link(who.transport_header(0x0500) + b"\x2f\x2f" + RECORDS)
    with pytest.raises(DowngradeRefused):
        decode(announced, access(mode=mode))


def test_after_an_authenticated_telegram_no_mode_without_a_counter() -> None:
    who = build.Sender(METER)
    weak = build.mode5(who, KEY, RECORDS)
    assert decode(weak, access(mode=OPEN)).security is Security.MODE5
    with pytest.raises(DowngradeRefused):
        decode(weak, access(mode=OPEN), 7)
    inner = bytes.fromhex("78") + RECORDS
    with pytest.raises(DowngradeRefused):
        decode(build.link_ctr(who, KEY, 5, inner), access(mode=OPEN), 7)


def test_mode7_with_nothing_encrypted_or_a_short_code() -> None:
    who = build.Sender(METER)
    with pytest.raises(DowngradeRefused):
        decode(build.mode7(who, KEY, 1, RECORDS, encrypted=False), access())
    for authentication_type in (3, 4):
        with pytest.raises(MacRefused):
            decode(build.mode7(who, KEY, 1, RECORDS, authentication_type=authentication_type), access())
    with pytest.raises(MacRefused):
        decode(build.mode10(who, KEY, 1, RECORDS, tag_bytes=4), access())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"key_information": b"\x01\x02"},
        {"with_length": True},
        {"authentication_type": 6},
        {"authentication_type": 7},
        {"key_information": b"\x01\x02", "with_length": True},
    ],
)
def test_optional_fields_of_mode7_are_authenticated(options: dict[str, Any]) -> None:
    who = build.Sender(METER, 9, 4)
    good = build.mode7(who, KEY, 77, RECORDS, **options)
    telegram = decode(good, access(), 76)
    assert (telegram.counter, telegram.status, telegram.access_no) == (77, 4, 9)
    assert telegram.records[0].value_text == "1234"
    for position in range(14, len(good)):
        bad = bytearray(good)
        bad[position] ^= 0x01
        with pytest.raises(LmnError):
            decode(bytes(bad), access(), 76)


@pytest.mark.parametrize("tag_bytes", [8, 12, 16])
@pytest.mark.parametrize("clear", [b"", bytes.fromhex("02FD170000")])
def test_mode10_forms(tag_bytes: int, clear: bytes) -> None:
    who = build.Sender(METER, adapter=MeterId("RAD", "00000001", 1, 0x37))
    telegram = decode(build.mode10(who, KEY, 5, RECORDS, tag_bytes=tag_bytes, clear=clear), access(), 4)
    assert telegram.meter == METER
    assert [r.value_text for r in telegram.records] == (["1234", "0"] if clear else ["1234"])


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        (1, "maker's own"), (2, "DES"), (3, "DES"), (4, "reserved"), (6, "reserved"), (8, "no public recipe"),
        (9, "AES-GCM"), (11, "reserved"), (13, "TLS"), (31, "reserved"),
    ],
)  # fmt: skip
def test_other_modes_are_refused_by_name(mode: int, name: str) -> None:
    who = build.Sender(METER)
    with pytest.raises(SecurityUnsupported, match=f"mode {mode} .*{name}"):
        decode(who.link(who.transport_header(mode << 8) + RECORDS), access())


@pytest.mark.parametrize("ci", range(0x100))
def test_every_control_information_is_read_or_refused_by_name(ci: int) -> None:
    """The table of the refused and that of the read share no code, and one of them answers."""
    telegram = build.Sender(METER).link(bytes((ci, 0, 0, 0, 0)) + RECORDS)
    if ci in READ:
        assert ci not in REFUSED
        return
    name = REFUSED.get(ci, "reserved")
    if ci in (0x8C, 0x8D, 0x8E, 0x8F, 0x90):
        telegram = build.Sender(METER).link(b"\x8c\x00\x00" + bytes((ci,)) + telegram[11:])
        if ci == 0x90:
            return  # an authentication layer is read; inside one another is none
    with pytest.raises(SecurityUnsupported, match=f"{ci:02X} .{re.escape(name)}"):
        decode(telegram)


READ = {0x69, 0x6A, 0x6B, 0x72, 0x73, 0x78, 0x79, 0x7A, 0x7B, 0x8A, 0x8B}


def test_fragments_and_foreign_codes_are_refused_by_name() -> None:
    who = build.Sender(METER)
    upper = who.transport_header(0) + RECORDS
    for fields in ("0040", "0120", "00242F"):
        data = bytes.fromhex(fields)
        with pytest.raises(LmnError):
            decode(who.link(bytes((0x90, len(data))) + data + upper))
    with pytest.raises(SecurityUnsupported, match="fragments"):
        decode(who.link(bytes.fromhex("90020040") + upper))


def test_a_strict_profile_without_a_key_takes_nothing() -> None:
    with pytest.raises(SecurityUnsupported):
        decode(build.plain(build.Sender(METER), RECORDS), access(None))


def test_clear_telegrams_of_a_meter_without_key() -> None:
    who = build.Sender(METER, 3, 0x10)
    telegram = decode(build.plain(who, RECORDS))
    assert (telegram.security, telegram.access_no, telegram.status) == (Security.NONE, 3, 0x10)
    decrypted = who.link(who.transport_header(0x0510) + b"\x2f\x2f" + RECORDS + b"\x2f" * 8)
    assert decode(decrypted).security is Security.NONE
    with pytest.raises(KeyRefused):
        decode(who.link(who.transport_header(0x0500) + RECORDS))


def test_mode7_that_someone_decrypted() -> None:
    """As published telegrams are: in an open profile without a key worth as much as one in clear, no more."""
    sealed = build.mode7(build.Sender(METER), KEY, 9, RECORDS)
    clear = sealed[:-16] + (b"\x2f\x2f" + RECORDS).ljust(16, b"\x2f")
    telegram = decode(clear)
    assert (telegram.security, telegram.counter) == (Security.NONE, None)
    assert [record.raw.hex() for record in telegram.records] == ["d2040000"]
    with pytest.raises(KeyRefused):
        decode(sealed)
    with pytest.raises(KeyRefused):
        decode(clear, MeterAccess(METER, None, ReceptionMode.STRICT))
    with pytest.raises(MacRefused):
        decode(clear, MeterAccess(METER, KEY, ReceptionMode.OPEN))
    with pytest.raises(KeyRefused):  # it was authenticated before
        decode(clear, MeterAccess(METER, None, ReceptionMode.OPEN), 8)
    cut = bytes((len(clear) - 2,)) + clear[1:-1]
    with pytest.raises(KeyRefused):  # shorter than the blocks announced
        decode(cut)


def test_link_encryption_hides_the_meter_behind_an_adapter() -> None:
    adapter = MeterId("RAD", "00000001", 1, 0x37)
    inner = build.Sender(METER, adapter=adapter).transport_header(0) + RECORDS
    sealed = build.link_ctr(build.Sender(adapter), KEY, 5, inner)
    layers = parse(sealed)
    assert layers.meter == adapter
    assert sender(layers, KEY) == METER
    # Whoever knows the adapter's key must not speak for another meter.
    with pytest.raises(UnknownMeter):
        decode(sealed, MeterAccess(adapter, KEY, OPEN))


def test_only_meters_are_listened_to() -> None:
    good = bytearray(build.plain(build.Sender(METER), RECORDS))
    for control in (0x40, 0x53, 0x06, 0x5B, 0x00, 0xFF):
        good[1] = control
        with pytest.raises(LmnError):
            decode(bytes(good))


def test_no_key_in_any_repr_or_error() -> None:
    case = CASES["V2"]
    key = "000102030405060708090a0b0c0d0e0f"
    assert key not in repr(access_of(case))
    with pytest.raises(MacRefused) as caught:
        decode(bare(case)[:-1] + b"\x00", access_of(case))
    assert key not in str(caught.value)
    assert "28504" not in repr(decode(bare(case), access_of(case)))


@pytest.mark.parametrize("protection", ["none", "mode5", "mode7", "mode10", "ell-ctr"])
def test_an_odd_end_counts_only_where_the_telegram_is_known_to_be_whole(protection: str) -> None:
    meter, key = MeterId("SMG", "12345678", 1, 2), bytes(range(16))
    sender, records = build.Sender(meter), bytes.fromhex("0403D2040000 2F2F04")
    telegram = {
        "none": build.plain(sender, records),
        "mode5": build.mode5(sender, key, records[:-1] + b"\x3f"),
        "mode7": build.mode7(sender, key, 1, records[:-1] + b"\x3f"),
        "mode10": build.mode10(sender, key, 1, records),
        "ell-ctr": build.link_ctr(sender, key, 1, b"\x78" + records),
    }[protection]
    access = MeterAccess(meter, None if protection == "none" else key, ReceptionMode.OPEN)
    if protection in ("none", "mode5"):
        with pytest.raises(MalformedRecords):
            decode(telegram, access)
    else:
        assert [record.value_text for record in decode(telegram, access).records] == ["1234", None]
