"""A seeded plain mutator for each parser of the wired side: a value or a named error, none of them wrong."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmn.crc import crc16_x25
from lmn.errors import LmnError
from lmn.model import ACTIVE_ENERGY_EXPORT, ACTIVE_ENERGY_IMPORT
from lmn.sml.bodies import (
    Attention,
    CloseRequest,
    GetProcParameterResponse,
    OpenResponse,
    SetProcParameterRequest,
)
from lmn.sml.codec import octets
from lmn.sml.messages import Message, read_frame, read_messages, to_transport
from lmn.sml.readings import meter_of, pushed_list, to_values
from lmn.sml.transport import ESCAPE, START, ReceivedSml, SmlDeframer, contents, one_frame
from lmn.sml.values import SmlTime, TimeKind, parameter
from lmn.wired.discovery import Addresses, Discovered, Discovery
from lmn.wired.hdlc import HdlcDeframer, HdlcFrame, Kind
from lmn.wired.link import Primary, Secondary
from lmn.wired.registers import DONE, answers, confirm_write, register_tree
from tests.support.sml_frames import frame
from tools.counterparts.meter_sml import SmlMeter

SERVER = bytes.fromhex("0a01534d470000989683")
REGISTERS = (ACTIVE_ENERGY_IMPORT, ACTIVE_ENERGY_EXPORT)
ROUNDS = 100_000


@cache
def answer_file() -> bytes:
    """What a wired meter answers, and the messages of a write, without the transport frame."""
    time = SmlTime(TimeKind.SECONDS_INDEX, 100)
    bodies = (
        OpenResponse(b"f", SERVER, time),
        GetProcParameterResponse(
            SERVER, (REGISTERS[0].groups,), register_tree(REGISTERS[0], 5, -1, 30, status=4, time=time)
        ),
        SetProcParameterRequest((b"\x01",), parameter(b"\x01", octets(bytes(40)))),
        Attention(SERVER, DONE),
        CloseRequest(),
    )
    return b"".join(Message(body, bytes((at,))).to_bytes() for at, body in enumerate(bodies))


@cache
def intact_messages() -> tuple[Message, ...]:
    return tuple(message for body in BODIES for message in read_messages(body))


def mutated(rng: random.Random, good: bytes, tokens: tuple[bytes, ...], most: int = 4) -> bytes:
    """Change, cut, drop or insert up to `most` times."""
    data = bytearray(good)
    for _ in range(rng.randrange(most + 1)):
        place = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0 if place < len(data):
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                del data[place : place + rng.randrange(1, 5)]
            case 2:
                data[place:place] = rng.choice(tokens)
            case 3 if place < len(data):
                data[place] = rng.randrange(256)
            case 4 if rng.random() < 0.1:
                del data[place:]
    return bytes(data)


def sml_transport(rng: random.Random) -> None:
    good = SMALL
    data = mutated(rng, good, (ESCAPE, START, b"\x1b", b"\x1a\x00"))
    deframer = SmlDeframer(max_bytes=1024)
    for found in deframer.receive(data):
        if isinstance(found, ReceivedSml) and found.data != good:
            # One input in some hundred thousand has a right checksum by chance: the messages' own stop it.
            with pytest.raises(LmnError):
                read_frame(found.data)


SMALL = to_transport(
    [Message(CloseRequest(), b"\x01"), Message(Attention(SERVER, DONE), b"\x1b\x1b\x1b\x1b")]
)


def sml_messages(rng: random.Random) -> None:
    """Messages whose checksums are wrong are refused; `sml_fields` mutates under right ones."""
    good = BODIES[rng.randrange(len(BODIES))]
    data = mutated(rng, good, (b"\x00", b"\x01", b"\x7f", b"\x8f\x0f", b"\x63", b"\x76"), 3)
    with suppress(LmnError):
        messages = read_messages(data)
        assert all(each in intact_messages() for each in messages)
        answers(messages, SERVER, REGISTERS)


def sml_fields(rng: random.Random) -> None:
    body = BODIES[rng.randrange(len(BODIES))]
    inner = mutated(rng, body, (b"\x00", b"\x01", b"\x7f", b"\x8f\x0f", b"\xff" * 4, b"\x71"), 3)
    counted = inner[:-4] if len(inner) > 4 else inner
    crc = crc16_x25(counted).to_bytes(2, "little")
    with suppress(LmnError):
        messages = read_messages(counted + b"\x63" + crc + b"\x00")
        with suppress(LmnError):
            answers(messages, SERVER, REGISTERS)
        with suppress(LmnError):
            confirm_write(messages, SERVER)
        to_values(pushed_list(messages))


def _bodies() -> list[bytes]:
    meter = SmlMeter()
    pushed = [message.to_bytes() for message in read_frame(one_frame(meter.frame()).data)]
    return pushed + [message.to_bytes() for message in read_messages(answer_file())]


BODIES = _bodies()


def sml_frames(rng: random.Random) -> None:
    """One whole frame, as `smgw decode sml` takes it; with a right checksum half of the time."""
    good = FRAME if rng.random() < 0.1 else SMALL  # a small one takes a tenth of the time
    data = mutated(rng, good, (ESCAPE, b"\x1b", b"\x1a\x00", b"\x76", b"\x01"), 3)
    if rng.random() < 0.5 and len(data) > 2:
        data = data[:-2] + crc16_x25(data[:-2]).to_bytes(2, "little")
    with suppress(LmnError):
        pushed = pushed_list(read_frame(one_frame(data).data))
        assert data != FRAME or pushed.server_id is not None
    with suppress(LmnError):
        meter_of(mutated(rng, SERVER, (b"\x0a", b"A"), 3))


FRAME = frame()


def hdlc(rng: random.Random) -> None:
    good = HdlcFrame(1, 3, Kind.INFORMATION, b"\x7e\xa0\x09" + bytes(range(20)), 1, 2)
    data = mutated(rng, good.to_bytes(), (b"\x7e", b"\x7e\xa0", b"\x7e\xa7\xff"))
    deframer = HdlcDeframer()
    for found in deframer.receive(data):
        # A right checksum by chance, once in 65 536 changed frames: then it is the frame that was sent so.
        assert found == good or (isinstance(found, HdlcFrame) and found.to_bytes() in data)


def link(rng: random.Random) -> None:
    """Frames of any kind and number at both ends of a link and of discovery."""
    primary, secondary, addresses = Primary(1, 3), Secondary(3), Addresses()
    primary.connect()
    secondary.receive(primary.command())
    discovery, discovered = Discovery(addresses), Discovered(addresses, SERVER)
    for _ in range(3):
        information = rng.choice((b"", SERVER, b"\x01\x08", b"\x02" + SERVER, b"\x03" + SERVER + b"\x00\x05"))
        frame_ = HdlcFrame(
            rng.choice((1, 2, 3, 127)), rng.choice((1, 2, 3)), rng.choice(list(Kind)),
            mutated(rng, information, (b"\x00",), 1), rng.randrange(8), rng.randrange(8),
            segmented=rng.random() < 0.3,
        )  # fmt: skip
        with suppress(LmnError):
            primary.receive(frame_)
        secondary.receive(frame_)
        heard = discovery.heard(frame_)
        assert heard is None or len(heard) == 10
        discovered.slots(frame_)
        discovered.take(frame_)
        discovered.released(frame_)


PARSERS: tuple[Callable[[random.Random], None], ...] = (
    sml_transport,
    sml_messages,
    sml_fields,
    sml_frames,
    hdlc,
    link,
)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.__name__)
def test_mutated_inputs(parser: Callable[[random.Random], None]) -> None:
    rng = random.Random(20)
    for _ in range(ROUNDS):
        parser(rng)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.__name__)
def test_mutated_inputs_for_long(parser: Callable[[random.Random], None], seed: int) -> None:
    rng = random.Random(1000 + seed)
    for _ in range(400_000):
        parser(rng)


@given(st.lists(st.sampled_from([frame(), frame()[:40], b"\x1b" * 4, b"abc"]), max_size=5), st.data())
def test_cuts_of_a_pushed_stream_do_not_matter(parts: list[bytes], data: st.DataObject) -> None:
    """From the bytes of a head to its values, not only to frames."""

    def values(cuts: bool) -> list[object]:
        deframer, stream, place, found = SmlDeframer(), b"".join(parts), 0, []
        while place < len(stream):
            step = data.draw(st.integers(1, 50)) if cuts else len(stream)
            for each in deframer.receive(stream[place : place + step]):
                if isinstance(each, ReceivedSml):
                    found.append(to_values(pushed_list(read_frame(each.data))))
            place += step
        return found  # type: ignore[return-value]

    assert values(True) == values(False)


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for function in (one_frame, contents, read_messages, HdlcFrame.from_bytes):
        with suppress(LmnError):
            function(data)
