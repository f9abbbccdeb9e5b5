"""Every parser of the module's link is total: any bytes give a value or a named error."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hsm import tlv
from hsm.administration import Administration
from hsm.apdu import CommandApdu, ResponseApdu
from hsm.emulator.state import decode_state
from hsm.emulator.status import Refused
from hsm.emulator.storage import unseal
from hsm.emulator.trust import read_certificate
from hsm.errors import HsmError, MalformedTlv
from hsm.profile import PROJECT
from hsm.whole_commands import WholeCommandSet

_SHAPED = st.recursive(
    st.binary(max_size=20),
    lambda inner: st.builds(
        lambda tag, parts: tlv.encode(tag, b"".join(parts)),
        st.sampled_from([0x02, 0x03, 0x06, 0x30, 0x7C, 0x80, 0x86, 0x87, 0xA3, 0x5F37, 0x7F49]),
        st.lists(inner, max_size=4),
    ),
    max_leaves=12,
)
ANY = st.one_of(st.binary(max_size=300), _SHAPED)


@given(ANY)
@example(b"\x81\xa2\x00\x80")  # text that is no UTF-8 in a card's state
@settings(max_examples=400, deadline=None)
def test_apdus_and_objects(data: bytes) -> None:
    commands = WholeCommandSet()
    for parse in (
        CommandApdu.from_bytes,
        ResponseApdu.from_bytes,
        tlv.parse,
        tlv.parse_unique,
        commands.public_point,
        commands.shared_secret,
        commands.exported,
        decode_state,
        lambda raw: unseal(bytes(32), raw),
    ):
        try:
            parse(data)
        except HsmError:
            continue


ROUNDS = 100_000
PARSERS: dict[str, Callable[[bytes], object]] = {
    "command": CommandApdu.from_bytes,
    "response": ResponseApdu.from_bytes,
    "objects": tlv.parse,
    "unique objects": tlv.parse_unique,
    "state of a card": decode_state,
    "certificate of a card": read_certificate,
}
GOOD = [
    bytes.fromhex("00A4040C07A0000002471001"),
    CommandApdu(0x0C, 0x2A, 0x9E, 0x9A, bytes(range(200)), 256).to_bytes(),
    CommandApdu(0x00, 0xCB, 0x3F, 0xFF, bytes(range(256)) * 2, 65536).to_bytes(),
    bytes(range(64)) + b"\x90\x00",
    tlv.encode(0x7C, tlv.encode(0x81, bytes(65)) + tlv.encode(0x82, bytes(8))),
    tlv.encode(0x7F49, tlv.encode(0x06, bytes(9)) + tlv.encode(0x86, bytes(300))),
    tlv.encode(0x87, b"\x01" + bytes(16)) + tlv.encode(0x99, b"\x90\x00") + tlv.encode(0x8E, bytes(8)),
]


@pytest.mark.parametrize("name", PARSERS)
def test_a_hundred_thousand_mutated_inputs(name: str) -> None:
    """A seeded plain mutator: bits, bytes, a byte less or more, the end cut off."""
    rng, parse, named = random.Random(name), PARSERS[name], 0
    for _ in range(ROUNDS):
        data = bytearray(rng.choice(GOOD))
        for _ in range(rng.randrange(5)):
            kind, place = rng.randrange(5), rng.randrange(len(data))
            if kind == 0:
                data[place] ^= 1 << rng.randrange(8)
            elif kind == 1:
                data[place] = rng.randrange(256)
            elif kind == 2 and len(data) > 1:
                del data[place]
            elif kind == 3:
                data.insert(place, rng.randrange(256))
            elif place:
                del data[place:]
        try:
            parse(bytes(data))
        except (HsmError, Refused):
            named += 1
    assert 0 < named <= ROUNDS


@given(ANY)
@settings(max_examples=400, deadline=None)
def test_certificates(data: bytes) -> None:
    with contextlib.suppress(Refused, MalformedTlv):
        read_certificate(data)


@given(ANY)
@settings(max_examples=200, deadline=None)
def test_the_status_of_a_module(data: bytes) -> None:
    run = Administration(PROJECT).status()
    next(run)
    run.send(ResponseApdu(b"", 0x9000))
    with contextlib.suppress(HsmError, StopIteration):
        run.send(ResponseApdu(data, 0x6282))


@given(st.binary(min_size=4, max_size=400))
@settings(max_examples=300, deadline=None)
def test_an_apdu_that_parses_builds_the_same_command(data: bytes) -> None:
    try:
        command = CommandApdu.from_bytes(data)
    except HsmError:
        return
    assert CommandApdu.from_bytes(command.to_bytes()) == command
