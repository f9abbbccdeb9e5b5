"""DER-TLV: total, strict, and the same both ways."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsm import tlv
from hsm.errors import MalformedTlv

TAGS = st.sampled_from([0x04, 0x80, 0x87, 0x99, 0x30, 0x7F49, 0x5F37, 0x9F8101])


@given(st.lists(st.tuples(TAGS, st.binary(max_size=300)), max_size=5))
@settings(max_examples=200, deadline=None)
def test_round_trip(objects: list[tuple[int, bytes]]) -> None:
    assert tlv.parse(b"".join(tlv.encode(tag, value) for tag, value in objects)) == objects


@given(st.binary(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_value_or_the_named_error(data: bytes) -> None:
    try:
        objects = tlv.parse(data)
    except MalformedTlv:
        return
    assert b"".join(tlv.encode(tag, value) for tag, value in objects) == data


@pytest.mark.parametrize(
    "data",
    [
        "80",  # no length
        "8005aabb",  # value cut off
        "8080",  # indefinite length
        "80810100",  # long form for a short length
        "8082008001" + "00" * 128,  # leading zero in the length
        "808400000001aa",  # four length octets
        "1f1e00",  # long tag for a short number
        "1f8001aa00",  # leading zero in the tag
        "7f",
        "7f8182830100",  # tag of four octets
    ],
)
def test_refused(data: str) -> None:
    with pytest.raises(MalformedTlv):
        tlv.parse(bytes.fromhex(data))


def test_large_lengths() -> None:
    for size in (127, 128, 255, 256, 65535, 65536):
        assert tlv.unwrap(0x53, tlv.encode(0x53, bytes(size))) == bytes(size)
    with pytest.raises(ValueError, match="too long"):
        tlv.encode_length(1 << 24)


def test_unwrap_wants_one_object_of_one_tag() -> None:
    with pytest.raises(MalformedTlv):
        tlv.unwrap(0x80, b"\x81\x00")
    with pytest.raises(MalformedTlv):
        tlv.unwrap(0x80, b"\x80\x00\x80\x00")
    with pytest.raises(MalformedTlv):
        tlv.parse_unique(b"\x80\x00\x80\x00")


def test_nested_object_leaves_nothing_over() -> None:
    assert tlv.unwrap(0x82, tlv.unwrap(0x7C, bytes.fromhex("7c03820101"))) == b"\x01"
    for bad in ("7c0482010100", "7c058201018300", "7d03820101", "7c0482810101", "7c80", "7c0382010100"):
        with pytest.raises(MalformedTlv):
            tlv.unwrap(0x82, tlv.unwrap(0x7C, bytes.fromhex(bad)))
    long = tlv.encode(0x7C, tlv.encode(0x82, bytes(300)))
    assert tlv.unwrap(0x82, tlv.unwrap(0x7C, long)) == bytes(300)
