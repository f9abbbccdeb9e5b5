"""Every radio parser is total: any bytes give a value or a named error, and never anything else.

One plain seeded mutator; `PARSERS` lists who is fed: 10^5 inputs each in every run, 10^7 in all nightly.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmn.crc import crc16_en13757
from lmn.errors import LmnError, MalformedRecords
from lmn.mbus import records
from lmn.mbus.compact import FormatCache
from lmn.mbus.decoder import decode, decode_layers
from lmn.mbus.fragments import MAX_SENDERS, Fragments
from lmn.mbus.transport import parse, parse_upper
from lmn.mbus.wired_frame import layers_of
from lmn.model import MeterId
from lmn.ports import MeterAccess, ReceptionMode
from lmn.wmbus.frame import check_bare, from_format_a, from_format_b, to_format_a, to_format_b
from lmn.wmbus.sticks.im871a import LinkMode
from lmn.wmbus.sticks.im871a_config import DeviceInformation, SetConfiguration
from lmn.wmbus.sticks.replay import parse_line
from tests.support.vectors import load
from tools.cli.decode import Decoder, Defaults, answer, answer_bare
from tools.counterparts import meter_wmbus_telegram as build

ROUNDS = 100_000
METER = MeterId("SMG", "12345678", 1, 2)
KEY = bytes(range(16))
WHO = build.Sender(METER)
CONTENT = bytes.fromhex("0403D2040000 02FD170000 0DFD1003414243")
PUBLISHED = [
    bytes.fromhex(c["telegram"]) if "telegram" in c else from_format_a(bytes.fromhex(c["frame_a"]))
    for c in load("lmn/telegrams.json")["cases"]
]
TELEGRAMS = [
    *PUBLISHED,
    build.plain(WHO, CONTENT),
    build.mode5(WHO, KEY, CONTENT),
    build.mode7(WHO, KEY, 1, CONTENT, with_length=True, key_information=b"\x01\x02"),
    build.mode10(WHO, KEY, 1, CONTENT),
    build.link_ctr(WHO, KEY, 1, b"\x78" + CONTENT),
]
PIECES = build.in_fragments(build.mode7(WHO, KEY, 1, CONTENT * 6), 30)
RECORDS = [bytes.fromhex(case["data"]) for case in load("lmn/records.json")["cases"]]
FULL = bytes.fromhex("02FF207100 0413F8180000 4413F4180000 615B7F 616717")
VALUES = bytes.fromhex("7100 F8180000 F4180000 7F 17")
COMPACT = b"\xed\xa8" + crc16_en13757(FULL).to_bytes(2, "little") + VALUES
HEADERS = bytes.fromhex("02FF20 0413 4413 615B 6167")
FORMAT = bytes((len(HEADERS) + 2,)) + crc16_en13757(HEADERS).to_bytes(2, "little") + HEADERS
WIRED = [bytes.fromhex(case["frame"]) for case in load("lmn/wired_frame.json")["cases"]]

DEVICE = DeviceInformation(0x33, 0, 0x12, 0x13, 7).to_payload()
CONFIGURATION = SetConfiguration(LinkMode.T1).to_payload()

Feed = Callable[[bytes, random.Random], object]


def mutated(rng: random.Random, data: bytes) -> bytes:
    """One to five changes: a byte, a bit, a byte less, a byte more, the end cut off."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        kind, place = rng.randrange(9), rng.randrange(len(changed))
        if kind < 3:
            changed[place] = rng.randrange(256)
        elif kind < 5:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 5 and len(changed) > 2:
            del changed[place]
        elif kind == 6 and place > 1:
            del changed[place:]
        else:
            changed.insert(place, rng.randrange(256))
    return bytes(changed)


def fitting(data: bytes, rng: random.Random) -> bytes:
    """Mostly with an L field that fits, so that the layers behind it are reached."""
    return bytes((len(data) - 1 & 0xFF,)) + data[1:] if rng.random() < 0.8 else data


def _telegram(data: bytes, rng: random.Random) -> object:
    telegram = fitting(data, rng)
    access = MeterAccess(parse(telegram).meter, rng.choice((KEY, None)), rng.choice(list(ReceptionMode)))
    return decode(telegram, access, rng.choice((None, 0)), FormatCache() if rng.random() < 0.1 else None)


def _records(data: bytes, _rng: random.Random) -> object:
    """Without an odd end an intact telegram gives what any other gives; it never gives more values."""
    kept = None
    with suppress(MalformedRecords):
        kept = [r.value for r in records.parse(data, intact=True)]
    try:
        found = [r.value for r in records.parse(data)]
    except MalformedRecords:
        assert kept is None or kept[-1] is None
        raise
    assert found == kept
    return found


def _checked(unwrap: Callable[[bytes], bytes], wrap: Callable[[bytes], bytes]) -> Feed:
    known = {wrap(telegram): telegram for telegram in TELEGRAMS}

    def feed(data: bytes, _rng: random.Random) -> object:
        bare = unwrap(data)
        assert known.get(data, bare) == bare
        assert wrap(bare) == data  # nothing passes but what its checksums say
        return bare

    return feed


def _fragments() -> Feed:
    fragments, at = Fragments(), 0.0

    def feed(data: bytes, rng: random.Random) -> object:
        nonlocal at
        at += 0.1
        layers = fragments.take(fitting(data, rng), at)
        assert len(fragments) <= MAX_SENDERS
        return layers and decode_layers(layers, MeterAccess(layers.meter, KEY, ReceptionMode.STRICT))

    return feed


def _compact(data: bytes, rng: random.Random) -> object:
    cache = FormatCache()
    if rng.random() < 0.5:
        cache.learn_format_frame(data)
        return cache.expand(COMPACT)
    found = cache.expand(data)
    assert data[:2] == COMPACT[:2]
    return found


def _line(data: bytes, _rng: random.Random) -> object:
    text = data.decode("latin-1")
    outcome = answer_bare(Decoder(), text, Defaults(KEY))
    assert outcome["ok"] or outcome["error"]["code"]
    return parse_line(text)


def _task(data: bytes, _rng: random.Random) -> object:
    outcome = answer(Decoder(), data.decode("latin-1"))
    if not outcome["ok"]:
        raise MalformedRecords(outcome["error"]["code"])
    return outcome


PARSERS: dict[str, tuple[Callable[[], Feed], list[bytes]]] = {
    "telegram": (lambda: _telegram, TELEGRAMS),
    "records": (lambda: _records, [a + b for a in RECORDS for b in RECORDS[::9]]),
    "bare frame": (lambda: lambda data, rng: check_bare(fitting(data, rng)), TELEGRAMS),
    "format A": (lambda: _checked(from_format_a, to_format_a), [to_format_a(t) for t in TELEGRAMS]),
    "format B": (lambda: _checked(from_format_b, to_format_b), [to_format_b(t) for t in TELEGRAMS]),
    "fragments": (_fragments, PIECES),
    "compact and format frames": (lambda: _compact, [COMPACT, FORMAT]),
    "wired frame": (lambda: lambda data, _: decode_layers(layers_of(data)), WIRED),
    "lines": (
        lambda: _line,
        [t.hex().encode() for t in TELEGRAMS[:3]] + [b"1.5;0x" + WIRED[0].hex().encode()],
    ),
    "device information": (lambda: lambda data, _: DeviceInformation.from_payload(data), [DEVICE]),
    "stick configuration": (lambda: lambda data, _: SetConfiguration.from_payload(data), [CONFIGURATION]),
    "tasks": (lambda: _task, [json.dumps({"name": "x", "telegram_hex": TELEGRAMS[-5].hex()}).encode()]),
}


def hostile(name: str, rounds: int, seed: int) -> dict[str, int]:
    """Feed one parser; return how often each error was named, and "ok" for values."""
    rng, codes = random.Random(seed), dict[str, int]()
    make, samples = PARSERS[name]
    feed = make()
    for number in range(rounds):
        sample = rng.choice(samples)
        data = sample if number % 50 == 0 else mutated(rng, sample)
        try:
            feed(data, rng)
            code = "ok"
        except LmnError as error:
            code = error.code
        codes[code] = codes.get(code, 0) + 1
    return codes


@pytest.mark.parametrize("name", PARSERS)
def test_any_bytes_give_a_value_or_a_named_error(name: str) -> None:
    codes = hostile(name, ROUNDS, 3)
    assert sum(codes.values()) == ROUNDS
    assert "ok" in codes  # the whole ones among them reach the end
    assert len(codes) > 1


def test_every_kind_of_refusal_is_reached() -> None:
    wanted = {"length", "mac", "key", "unsupported", "malformed", "downgrade", "ok"}
    assert set(hostile("telegram", 20_000, 5)) >= wanted


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", PARSERS)
def test_any_bytes_for_long(name: str) -> None:
    """A million inputs for each parser: more than 10^7 in all."""
    assert sum(hostile(name, 1_000_000, 7).values()) == 1_000_000


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
