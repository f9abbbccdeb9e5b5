from __future__ import annotations

import random
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmn.crc import crc16_x25
from lmn.errors import ChecksumMismatch, LmnError, MalformedRecords, UnknownMeter
from lmn.model import MeterId
from lmn.sml import codec
from lmn.sml.codec import boolean, decode, octets, sequence, signed, unsigned
from lmn.sml.messages import (
    Attention,
    Body,
    CloseRequest,
    CloseResponse,
    GetListRequest,
    GetListResponse,
    GetProcParameterRequest,
    GetProcParameterResponse,
    GetProfilePackRequest,
    GetProfilePackResponse,
    Message,
    OpenRequest,
    OpenResponse,
    OtherBody,
    ProfileColumn,
    ProfilePeriod,
    SetProcParameterRequest,
    read_frame,
    read_message,
    read_messages,
)
from lmn.sml.readings import Quirk, meter_of, number, pushed_list, scaled, server_id_of, to_text, value_of
from lmn.sml.transport import to_frame
from lmn.sml.values import Parameter, ParameterKind, SmlTime, TimeKind, parameter, to_time
from tests.support.sml_frames import ENTRIES, SERVER_ID, entry, frame, pushed

TIME = SmlTime(TimeKind.TIMESTAMP, 1_700_000_000)
LOCAL = SmlTime(TimeKind.LOCAL, 1_700_000_000, 60, -60)
TREE = Parameter(
    b"\x01\x00\x01\x08\x00\xff",
    children=(
        parameter(b"\x02", unsigned(5, 4)),
        parameter(b"\x03", octets(b"x" * 40)),
        Parameter(b"\x04", TIME, ParameterKind.TIME, TIME.to_bytes()),
    ),
)
BODIES: list[Body] = [
    OpenRequest(b"c", b"f", SERVER_ID, b"u", b"p", 1, b"\x09"),
    OpenRequest(b"c", b"f"),
    OpenResponse(b"f", SERVER_ID, TIME, b"c", 1),
    CloseRequest(b"sig"),
    CloseResponse(),
    GetListRequest(b"c", SERVER_ID, b"u", b"p", b"l"),
    GetProcParameterRequest((b"\x01", b"\x02"), SERVER_ID, b"u", b"p", b"\x02"),
    GetProcParameterResponse(SERVER_ID, (b"\x01",), TREE),
    SetProcParameterRequest((b"\x01",), TREE),
    GetProfilePackRequest((b"\x01",), TIME, LOCAL, (b"\x02",), True, None, None, None, TREE),
    GetProfilePackResponse(
        SERVER_ID,
        TIME,
        900,
        (b"\x01",),
        (ProfileColumn(b"\x02", 30, -1),),
        (ProfilePeriod(TIME, 4, ((17, None), (b"\x01", b"s")), b"t"),),
        b"raw",
        b"sig",
    ),
    Attention(SERVER_ID, b"\x81\x81\xc7\xc7\xfd\x00", b"done", TREE),
    OtherBody(0x0400, sequence(octets(b"x"), unsigned(1, 1))),
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_a_message_comes_back(body: Body) -> None:
    message = Message(body, b"\x07\x08", 3, 0xFF)
    encoded = message.to_bytes()
    assert read_message(encoded) == (message, len(encoded))
    for end in range(len(encoded)):
        with pytest.raises(LmnError):
            read_message(encoded[:end])


def test_a_list_comes_back_byte_by_byte() -> None:
    found = pushed_list(read_frame(frame()))
    assert found.server_id == SERVER_ID
    assert [each.encoded for each in found.entries] == [each.encoded for each in ENTRIES]
    assert [each.name for each in found.entries] == [each.name for each in ENTRIES]
    assert [each.status for each in found.entries] == [each.status for each in ENTRIES]
    assert [each.time for each in found.entries] == [each.time for each in ENTRIES]
    assert [number(each) for each in found.entries] == [
        None,
        None,
        123456,
        7,
        -1500,
        None,
        None,
        None,
        99,
        None,
    ]
    assert [to_text(value_of(each)) for each in found.entries][2:5] == ["12345.6", "7000", "-15"]


def test_a_damaged_message_is_refused_by_its_own_checksum() -> None:
    encoded = bytearray(Message(CloseResponse(), b"\x01").to_bytes())
    encoded[2] ^= 1
    with pytest.raises(ChecksumMismatch):
        read_frame(to_frame(bytes(encoded)))


def test_a_checksum_with_a_leading_zero_may_be_shortened() -> None:
    for number_ in range(2000):
        message = Message(CloseResponse(), number_.to_bytes(2, "big")).to_bytes()
        if message[-3] == 0:
            short = message[:-4] + b"\x62" + message[-2:]
            assert read_message(short)[0].transaction == number_.to_bytes(2, "big")
            return
    pytest.fail("no such checksum in two thousand messages")


def test_a_choice_may_have_four_bytes() -> None:
    content = CloseResponse().to_bytes()
    head = sequence(
        b"\x02\x01", unsigned(0, 1), unsigned(0, 1), sequence(unsigned(0x0201, 4), content), b"", b""
    )
    crc = crc16_x25(head).to_bytes(2, "little")
    message, _ = read_message(head + b"\x63" + crc + b"\x00")
    assert message.body == CloseResponse()


def test_zeros_between_messages_are_filling() -> None:
    one = Message(CloseResponse()).to_bytes()
    assert len(read_messages(b"\x00" + one + b"\x00\x00" + one + b"\x00\x00\x00")) == 2


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        ("01", None),
        ("7262016500000005", SmlTime(TimeKind.SECONDS_INDEX, 5)),
        ("6500000005", SmlTime(TimeKind.SECONDS_INDEX, 5)),
        ("72620262ff", SmlTime(TimeKind.TIMESTAMP, 255)),
        ("7262037365000000055300785300ff", SmlTime(TimeKind.LOCAL, 5, 120, 255)),
        ("726202736500000005530000530000", SmlTime(TimeKind.LOCAL, 5)),
        ("72620101", None),
    ],
)
def test_times(encoded: str, expected: SmlTime | None) -> None:
    field, _ = decode(bytes.fromhex(encoded))
    assert to_time(field) == expected


@pytest.mark.parametrize("encoded", ["0261", "4201", "7162ff", "726204620 1", "72620302ff", "52ff"])
def test_other_shapes_are_no_time(encoded: str) -> None:
    field, _ = decode(bytes.fromhex(encoded.replace(" ", "")))
    with pytest.raises(MalformedRecords):
        to_time(field)


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        ("52ff", -1), ("62ff", 255), ("53ffff", -1), ("54800000", -(2**23)), ("560000000001", 1),
        ("59ffffffffffffffff", -1), ("69ffffffffffffffff", 2**64 - 1), ("4200", False), ("42ff", True),
        ("01", None), ("0141"[:2], None), ("810302", None), ("8001", None),
    ],
)  # fmt: skip
def test_fields(encoded: str, value: object) -> None:
    data = bytes.fromhex(encoded)
    if encoded in ("810302", "8001"):
        with pytest.raises(MalformedRecords):
            decode(data)
        return
    assert decode(data) == (value, len(data))


@pytest.mark.parametrize("length", [1, 14, 15, 253, 254, 4092, 4093])
def test_lengths_of_several_bytes(length: int) -> None:
    encoded = octets(b"x" * length)
    assert decode(encoded) == (b"x" * length, len(encoded))
    members = sequence(*[b"\x62\x01"] * length)
    assert decode(members) == ([1] * length, len(members))


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "00",
        "51",
        "61",
        "6a0000000000000000ff",
        "41",
        "430101",
        "1101",
        "0f",
        "f1",
        "ff0f0f0f0f0f",
        "8f70",
        "71",
    ],
)
def test_fields_that_are_none(encoded: str) -> None:
    with pytest.raises(MalformedRecords):
        decode(bytes.fromhex(encoded))


@pytest.mark.parametrize(
    "bomb", [b"\x71" * 5000, b"\xff\x0f" * 2000, b"\x7f" * 5000, b"\xff\x8f\x8f\x0f" + b"\x01" * 100]
)
def test_a_bomb_is_refused(bomb: bytes) -> None:
    with pytest.raises(MalformedRecords):
        decode(bomb)


def test_a_tree_bomb_is_refused() -> None:
    deep = b"\x01"
    for _ in range(60):
        deep = sequence(octets(b"n"), b"\x01", sequence(deep))
    message = Message(OtherBody(0x0501, sequence(b"\x01", sequence(), deep)))
    with pytest.raises(MalformedRecords, match="deep"):
        read_message(message.to_bytes())


def test_an_opening_of_another_shape_does_not_hide_the_values() -> None:
    messages = [Message(OtherBody(0x0101, sequence(octets(b"x")))), *pushed(*ENTRIES)[1:]]
    raw = to_frame(b"".join(each.to_bytes() for each in messages))
    assert len(pushed_list(read_frame(raw)).entries) == len(ENTRIES)


def test_a_time_of_unknown_shape_does_not_hide_the_values() -> None:
    odd = sequence(
        octets(b"x"), octets(SERVER_ID), b"\x01", octets(b"now"),
        sequence(sequence(octets(bytes(6)), b"\x01", octets(b"t"), unsigned(30, 1), unsigned(255, 1),
                          unsigned(7, 1), b"\x01")),
        b"\x01", sequence(b"\x62\x09"),
    )  # fmt: skip
    [found] = pushed_list(read_messages(Message(OtherBody(0x0701, odd)).to_bytes())).entries
    assert (found.time, found.value, found.scaler) == (None, 7, 255)
    assert value_of(found) is None, "a scaler of 255 may mean -1 and may not"


def test_quirk_of_the_sign() -> None:
    narrow = entry("0100100700ff", signed(-1500, 2), unit=27, scaler=0)
    wide = entry("0100100700ff", signed(-1500, 4), unit=27, scaler=0)
    energy = entry("0100010800ff", signed(-1500, 2), unit=30, scaler=0)
    found = pushed_list(read_frame(frame(narrow, wide, energy))).entries
    assert [number(each) for each in found] == [-1500, -1500, -1500]
    assert [number(each, frozenset({Quirk.DZG_SIGN})) for each in found] == [65536 - 1500, -1500, -1500]


@pytest.mark.parametrize(
    ("integer", "scaler", "text"),
    [(123, -1, "12.3"), (120, -1, "12"), (-5, -3, "-0.005"), (5, 3, "5000"), (0, -4, "0"), (0, 5, "0"),
     (2**64 - 1, -9, "18446744073.709551615"), (-0, -128, "0"), (10, 0, "10")],
)  # fmt: skip
def test_values_as_text(integer: int, scaler: int, text: str) -> None:
    assert to_text(scaled(integer, scaler)) == text


def test_scaling_is_exact() -> None:
    assert scaled(2**64 - 1, -30) * Decimal(10) ** 0 is not None
    assert str(scaled(12345678901234567890123456789012345, 0)) == "12345678901234567890123456789012345"


def test_a_server_id_names_a_meter() -> None:
    assert meter_of(SERVER_ID) == MeterId("SMG", "10000001", 0, 2)
    assert server_id_of(meter_of(SERVER_ID)) == SERVER_ID


@pytest.mark.parametrize(
    "other", ["", "06454d48010271513 69e", "0a01454d4800ffffffff", "0a0145004800000000 01"]
)
def test_other_server_ids_name_none(other: str) -> None:
    with pytest.raises(UnknownMeter):
        meter_of(bytes.fromhex(other.replace(" ", "")))


def seeds() -> list[bytes]:
    plain = [b"".join(each.to_bytes() for each in pushed(*ENTRIES))]
    return plain + [Message(body).to_bytes() for body in BODIES]


def test_mutated_messages_give_a_value_or_a_named_error() -> None:
    rng = random.Random(11)
    corpus = seeds()
    codes: set[str] = set()
    accepted = 0
    for _ in range(50_000):
        data = bytearray(rng.choice(corpus))
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[place] = rng.randrange(256)
                case 1:
                    data[place] ^= 1 << rng.randrange(8)
                case 2 if len(data) > 2:
                    del data[place]
                case _:
                    data.insert(place, rng.randrange(256))
        if rng.random() < 0.9:  # past the checksum, where the readers are
            with suppress(LmnError):
                data = bytearray(_sealed(bytes(data)))
        try:
            read_messages(bytes(data))
            accepted += 1
        except LmnError as error:
            codes.add(error.code)
    assert codes >= {"crc", "malformed"}
    assert accepted


def _sealed(data: bytes) -> bytes:
    """The first message of `data` with a checksum that is right."""
    _, _, place = codec.header(data, 0)
    for _ in range(4):
        _, place = decode(data, place)
    return data[:place] + b"\x63" + crc16_x25(data[:place]).to_bytes(2, "little") + b"\x00"


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for function in (read_messages, read_message, decode, lambda raw: read_frame(to_frame(raw))):
        with suppress(LmnError):
            function(data)


FIELDS = st.one_of(
    st.binary(min_size=1, max_size=40).map(octets),
    st.integers(0, 2**64 - 1).map(lambda n: unsigned(n, 8)),
    st.integers(-(2**31), 2**31 - 1).map(lambda n: signed(n, 4)),
    st.booleans().map(boolean),
)


@given(
    st.recursive(
        FIELDS, lambda inner: st.lists(inner, max_size=5).map(lambda each: sequence(*each)), max_leaves=20
    )
)
def test_what_was_encoded_is_decoded_to_its_end(encoded: bytes) -> None:
    _, end = decode(encoded)
    assert end == len(encoded)


def test_an_empty_value_list_is_fine() -> None:
    assert read_message(Message(GetListResponse(SERVER_ID, ())).to_bytes())[0].body == GetListResponse(
        SERVER_ID, ()
    )
