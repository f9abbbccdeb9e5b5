"""APDUs: seven cases, strict lengths."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsm.apdu import CommandApdu, ResponseApdu
from hsm.errors import CommandRefused, MalformedCommand, MalformedResponse

OCTET = st.integers(0, 255)


@given(
    st.tuples(OCTET, OCTET, OCTET, OCTET),
    st.one_of(st.binary(max_size=20), st.sampled_from([bytes(255), bytes(256), bytes(65535)])),
    st.one_of(st.none(), st.integers(1, 65536)),
)
@settings(max_examples=300, deadline=None)
def test_round_trip(header: tuple[int, int, int, int], data: bytes, le: int | None) -> None:
    command = CommandApdu(*header, data, le)
    assert CommandApdu.from_bytes(command.to_bytes()) == command


@given(st.binary(max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_command_or_the_named_error(raw: bytes) -> None:
    try:
        command = CommandApdu.from_bytes(raw)
    except MalformedCommand:
        return
    assert CommandApdu.from_bytes(command.to_bytes()) == command


@pytest.mark.parametrize(
    ("raw", "data", "le"),
    [
        ("00840000", "", None),
        ("0084000000", "", 256),
        ("0084000008", "", 8),
        ("00d6000002aabb", "aabb", None),
        ("00d6000002aabb00", "aabb", 256),
        ("00b00000000000", "", 65536),
        ("00b00000000100", "", 256),
        ("00d60000000002aabb", "aabb", None),
        ("00d60000000002aabb0000", "aabb", 65536),
    ],
)
def test_cases(raw: str, data: str, le: int | None) -> None:
    command = CommandApdu.from_bytes(bytes.fromhex(raw))
    assert (command.data.hex(), command.le) == (data, le)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "00a404",
        "00a4040002aa",  # Lc longer than the data
        "00a4040001aa0000",  # two bytes behind the data
        "00a40400000001",  # extended, then cut: reads as Le, see below
        "00a404000000",  # cut extended length
        "00a40400000003aabb",
        "00a40400000001aa00",  # extended Le of one byte
        "00a40400000000aa",  # extended Lc of zero
    ],
)
def test_refused(raw: str) -> None:
    if raw == "00a40400000001":
        assert CommandApdu.from_bytes(bytes.fromhex(raw)).le == 1
        return
    with pytest.raises(MalformedCommand):
        CommandApdu.from_bytes(bytes.fromhex(raw))


def test_too_long_to_send() -> None:
    with pytest.raises(ValueError, match="too long"):
        CommandApdu(0, 0, 0, 0, bytes(65536)).to_bytes()


@pytest.mark.parametrize("raw", ["", "90", "0000", "6000", "aabb1234"])
def test_response_refused(raw: str) -> None:
    with pytest.raises(MalformedResponse):
        ResponseApdu.from_bytes(bytes.fromhex(raw))


def test_response() -> None:
    response = ResponseApdu.from_bytes(bytes.fromhex("aabb9000"))
    assert (response.data, response.sw) == (b"\xaa\xbb", 0x9000)
    assert response.to_bytes().hex() == "aabb9000"


def test_attempts_left_of_a_refusal() -> None:
    assert CommandRefused("x", 0x63C2).attempts_left == 2
    assert CommandRefused("x", 0x6982).attempts_left is None
