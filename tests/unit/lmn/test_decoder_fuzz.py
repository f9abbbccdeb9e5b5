from __future__ import annotations

import random
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from lmn.errors import LmnError
from lmn.mbus.compact import FormatCache
from lmn.mbus.decoder import decode
from lmn.mbus.transport import parse, parse_upper
from lmn.model import MeterId
from lmn.ports import MeterAccess, ReceptionMode
from lmn.wmbus.frame import from_format_a
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
    records = bytes.fromhex("0403D2040000 02FD170000 0DFD1003414243")
    return [
        *published,
        build.plain(who, records),
        build.link_ctr(who, KEY, 1, b"\x78" + records),
        build.mode10(who, KEY, 1, records),
    ]


def test_mutated_telegrams_give_a_value_or_a_named_error() -> None:
    rng = random.Random(3)
    corpus = seeds()
    cache = FormatCache()
    codes: set[str] = set()
    for _ in range(10_000):
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
    assert codes >= {"length", "mac", "key", "unsupported", "malformed", "downgrade"}


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
