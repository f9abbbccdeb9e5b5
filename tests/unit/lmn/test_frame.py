from __future__ import annotations

import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmn.errors import ChecksumMismatch, LengthMismatch, LmnError, MalformedFrame
from lmn.wmbus.frame import check_bare, from_format_a, from_format_b, to_format_a, to_format_b
from tests.support.vectors import load

FORMAT_B = bytes.fromhex("1444AE0C7856341201078C2027780B134365877AC5")

bare = st.binary(min_size=9, max_size=250).map(lambda body: bytes((len(body),)) + body)


@pytest.mark.parametrize(
    "case", [c for c in load("lmn/telegrams.json")["cases"] if "frame_a" in c], ids=lambda c: c["id"]
)
def test_format_a_of_published_telegrams(case: dict[str, str]) -> None:
    frame = bytes.fromhex(case["frame_a"])
    telegram = from_format_a(frame)
    if "telegram" in case:
        assert telegram == bytes.fromhex(case["telegram"])
    assert to_format_a(telegram) == frame


def test_format_b_of_a_published_frame() -> None:
    telegram = from_format_b(FORMAT_B)
    assert telegram[0] == len(telegram) - 1 == 18
    assert to_format_b(telegram) == FORMAT_B


@given(bare)
def test_what_is_wrapped_is_unwrapped(telegram: bytes) -> None:
    assert from_format_a(to_format_a(telegram)) == telegram
    assert from_format_b(to_format_b(telegram)) == telegram
    assert check_bare(telegram) == telegram


@pytest.mark.parametrize("size", [9, 10, 25, 26, 124, 125, 126, 127, 140, 251])
def test_block_borders(size: int) -> None:
    telegram = bytes((size,)) + bytes(i & 0xFF for i in range(size))
    assert from_format_a(to_format_a(telegram)) == telegram
    assert from_format_b(to_format_b(telegram)) == telegram


@pytest.mark.parametrize("unwrap", [from_format_a, from_format_b])
def test_every_flipped_bit_is_noticed(unwrap) -> None:
    telegram = bytes((140,)) + bytes(range(140))
    frame = (to_format_a if unwrap is from_format_a else to_format_b)(telegram)
    for bit in range(len(frame) * 8):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((ChecksumMismatch, LengthMismatch)):
            unwrap(bytes(damaged))


@pytest.mark.parametrize("unwrap", [from_format_a, from_format_b, check_bare])
def test_truncated_and_lengthened_frames_are_refused(unwrap) -> None:
    telegram = bytes((60,)) + bytes(range(60))
    frame = {from_format_a: to_format_a, from_format_b: to_format_b, check_bare: check_bare}[unwrap](telegram)
    for size in range(len(frame)):
        with pytest.raises(MalformedFrame):
            unwrap(frame[:size])
    with pytest.raises(LengthMismatch):
        unwrap(frame + b"\x00")


def test_a_frame_too_long_for_format_b_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="format B"):
        to_format_b(bytes((255,)) + bytes(255))


def test_mutated_frames_give_a_value_or_a_named_error() -> None:
    rng = random.Random(1)
    seeds = [to_format_a(bytes((50,)) + bytes(50)), FORMAT_B]
    for number in range(10_000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        cut = bytes(data[: rng.randrange(len(data) + 1)]) if number % 3 == 0 else bytes(data)
        for unwrap in (from_format_a, from_format_b, check_bare):
            with suppress(LmnError):
                assert unwrap(cut)[0] >= 9
