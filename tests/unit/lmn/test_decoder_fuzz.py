from __future__ import annotations

import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmn.errors import LmnError, MalformedRecords
from lmn.mbus import records
from lmn.mbus.compact import FormatCache
from lmn.mbus.decoder import decode
from lmn.mbus.transport import parse, parse_upper
from lmn.model import MeterId
from lmn.ports import MeterAccess, ReceptionMode
from lmn.wmbus.frame import from_format_a, from_format_b, to_format_a, to_format_b
from tests.support.vectors import load
from tools.counterparts import meter_wmbus_telegram as build

METER = MeterId("SMG", "12345678", 1, 2)
KEY = bytes(range(16))


def seeds() -> list[bytes]:
    published = [
        bytes.fromhex(c["telegram"]) if "telegram" in c else from_format_a(bytes.fromhex(c["frame_a"]))
        for c in load("lmn/telegrams.json")["cases"]
    ]
    who = build.Sender(METER)
    content = bytes.fromhex("0403D2040000 02FD170000 0DFD1003414243")
    return [
        *published,
        build.plain(who, content),
        build.link_ctr(who, KEY, 1, b"\x78" + content),
        build.mode10(who, KEY, 1, content),
    ]


def hostile(rounds: int, seed: int) -> set[str]:
    rng = random.Random(seed)
    corpus = seeds()
    cache = FormatCache()
    codes: set[str] = set()
    for _ in range(rounds):
        data = bytearray(rng.choice(corpus))
        for _ in range(rng.randrange(1, 6)):
            kind = rng.randrange(4)
            place = rng.randrange(len(data))
            if kind == 0:
                data[place] = rng.randrange(256)
            elif kind == 1:
                data[place] ^= 1 << rng.randrange(8)
            elif kind == 2 and len(data) > 2:
                del data[place]
            else:
                data.insert(place, rng.randrange(256))
        if rng.random() < 0.8:
            data[0] = len(data) - 1 & 0xFF
        try:
            layers = parse(bytes(data))
            meter = layers.meter
            decode(
                bytes(data),
                MeterAccess(meter, rng.choice((KEY, None)), rng.choice(list(ReceptionMode))),
                None,
                cache,
            )
        except LmnError as error:
            codes.add(error.code)
    return codes


def hostile_records(rounds: int, seed: int) -> None:
    """Application data of any shape: values, or the one named error; an intact telegram never gives more."""
    rng = random.Random(seed)
    corpus = [bytes.fromhex(case["data"]) for case in load("lmn/records.json")["cases"]]
    for _ in range(rounds):
        data = bytearray(rng.choice(corpus) + rng.choice(corpus))
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        kept = None
        with suppress(MalformedRecords):
            kept = [r.value for r in records.parse(bytes(data), intact=True)]
        try:
            assert [r.value for r in records.parse(bytes(data))] == kept
        except MalformedRecords:
            assert kept is None or kept[-1] is None


def hostile_frames(rounds: int, seed: int) -> None:
    """Frames with checksums: a changed one is refused, and what passes is what was sent."""
    rng = random.Random(seed)
    for _ in range(rounds):
        telegram = rng.choice(seeds())
        wrap, unwrap = rng.choice(((to_format_a, from_format_a), (to_format_b, from_format_b)))
        frame = bytearray(wrap(telegram))
        for _ in range(rng.randrange(3)):
            frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.2:
            del frame[rng.randrange(len(frame)) :]
        with suppress(LmnError):
            assert unwrap(bytes(frame)) == telegram


def test_mutated_telegrams_give_a_value_or_a_named_error() -> None:
    assert hostile(20_000, 3) >= {"length", "mac", "key", "unsupported", "malformed", "downgrade"}


def test_mutated_records_give_values_or_a_named_error() -> None:
    hostile_records(25_000, 5)


def test_mutated_frames_are_refused() -> None:
    hostile_frames(2_000, 6)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(4))
def test_mutated_for_long(seed: int) -> None:
    hostile(500_000, seed)
    hostile_records(1_000_000, seed)
    hostile_frames(20_000, seed)


@given(st.binary(max_size=260))
def test_any_bytes(data: bytes) -> None:
    for function in (parse, parse_upper, decode):
        with suppress(LmnError):
            function(data)


@given(st.binary(max_size=200))
def test_any_upper_layer(data: bytes) -> None:
    body = b"\x44" + bytes(8) + data
    with suppress(LmnError):
        decode(bytes((len(body),)) + body, formats=FormatCache())
