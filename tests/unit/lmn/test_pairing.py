"""Symmetric pairing messages: the published keys, each check with what it refuses, both ends of them."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given
from hypothesis import strategies as st

from lmn.errors import (
    CounterRefused,
    KeyRefused,
    LengthMismatch,
    LmnError,
    MacRefused,
    MalformedFrame,
    MalformedRecords,
    UnexpectedMessage,
    UnknownMeter,
)
from lmn.mbus.security.derivation import aes_cmac, wired_keys
from lmn.wired.pairing import Identity, Pairing, Reason, following_counter, split_der
from lmn.wired.sym import Direction, SymFormat, SymKind, SymMessage, seal, unseal
from tests.support.vectors import load
from tools.counterparts.meter_pairing import MeterMemory, SymEnd

MASTER = bytes(range(16))
SERVER = bytes.fromhex("0a01534d470000989683")
FORM = SymFormat()
UP, DOWN = Direction.FROM_METER, Direction.TO_METER


def made(
    kind: SymKind = SymKind.ACCEPTED, counter: int = 7, content: bytes = b"", **settings: object
) -> bytes:
    return seal(SymMessage(kind, counter, SERVER, content), MASTER, SymFormat(**settings))  # type: ignore[arg-type]


def test_the_published_block_gives_the_keys_of_a_message() -> None:
    [case] = load("lmn/wired_keys.json")["cases"]
    server = bytes.fromhex(case["server_id"])
    content = b"key and certificates"
    for kind, encryption, authentication in (
        (SymKind.DELIVER, "lenc", "lmac"),
        (SymKind.ACCEPTED, "kenc", "kmac"),
    ):
        message = SymMessage(kind, case["counter"], server, content)
        data = seal(message, bytes.fromhex(case["master"]), FORM)
        assert data[:16] == bytes((0x10, FORM.numbers[kind])) + bytes.fromhex("00000200") + server
        mac = CMAC(AES(bytes.fromhex(case[authentication])))
        mac.update(data[:-16])
        assert data[-16:] == mac.finalize()
        reader = Cipher(AES(bytes.fromhex(case[encryption])), CBC(bytes(16))).decryptor()
        assert reader.update(data[16:-16]) == content + b"\x80" + bytes(11)


@given(
    st.binary(max_size=2000), st.sampled_from(SymKind), st.integers(0, 0xFFFFFFFF), st.sampled_from([8, 16])
)
def test_what_was_sealed_comes_out(content: bytes, kind: SymKind, counter: int, mac_bytes: int) -> None:
    form = SymFormat(mac_bytes=mac_bytes)
    message = SymMessage(kind, counter, SERVER, content)
    sender = DOWN if kind in (SymKind.DELIVER, SymKind.RESET) else UP
    assert unseal(seal(message, MASTER, form), MASTER, SERVER, sender, counter - 1, form) == message


def test_a_message_does_not_show_its_content() -> None:
    assert "secret" not in repr(SymMessage(SymKind.DELIVER, 1, SERVER, b"secret"))
    assert "\\x05" not in repr(Identity(b"\x05" * 32, b""))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", MalformedFrame),
        (b"\x01" + made()[1:], MalformedFrame),
        (made()[:-1], LengthMismatch),
        (made()[:32], LengthMismatch),
        (made() + bytes(16), MacRefused),
        (made(mac_bytes=8), LengthMismatch),
        (made(SymKind.DELIVER), MacRefused),  # the other direction's keys
        (made(counter=6), CounterRefused),
        (made(counter=5), CounterRefused),
    ],
    ids=["empty", "protocol", "cut", "no-block", "longer", "short-mac", "direction", "replay", "old"],
)
def test_each_check_refuses(data: bytes, error: type[LmnError]) -> None:
    with pytest.raises(LmnError) as caught:
        unseal(data, MASTER, SERVER, UP, 6, FORM)
    assert type(caught.value) is error


def test_another_key_or_another_meter_is_refused() -> None:
    with pytest.raises(MacRefused):
        unseal(made(), bytes(16), SERVER, UP, 6, FORM)
    other = SERVER[:-1] + b"\x84"
    with pytest.raises(UnknownMeter):
        unseal(made(), MASTER, other, UP, 6, FORM)
    relabelled = made()[:6] + other + made()[16:]
    with pytest.raises(MacRefused):
        unseal(relabelled, MASTER, other, UP, 6, FORM)


def test_every_bit_counts() -> None:
    good = made(content=b"abc")
    for bit in range(8, len(good) * 8):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises((MacRefused, UnknownMeter)):
            unseal(bytes(bad), MASTER, SERVER, UP, -1, FORM)


def resealed(plain: bytes, kind: int = 2) -> bytes:
    keys = wired_keys(MASTER, 7, SERVER)
    head = bytes((0x10, kind)) + (7).to_bytes(4, "big") + SERVER
    body = head + Cipher(AES(keys.encryption), CBC(bytes(16))).encryptor().update(plain)
    return body + aes_cmac(keys.authentication, body)


@pytest.mark.parametrize("plain", [bytes(16), b"\x01" * 16, b"\x01\x80" + bytes(30)])
def test_padding_that_is_none(plain: bytes) -> None:
    with pytest.raises(KeyRefused):
        unseal(resealed(plain), MASTER, SERVER, UP, -1, FORM)


@pytest.mark.parametrize("kind", [1, 6, 0, 9])
def test_a_type_that_a_meter_does_not_send(kind: int) -> None:
    with pytest.raises(MalformedFrame, match="type"):
        unseal(resealed(b"\x80" + bytes(15), kind), MASTER, SERVER, UP, -1, FORM)


def test_numbers_and_lengths_are_parameters() -> None:
    form = SymFormat(mac_bytes=8, deliver=0x21, accepted=0x22)
    message = SymMessage(SymKind.DELIVER, 1, SERVER, b"x")
    data = seal(message, MASTER, form)
    assert (data[1], len(data)) == (0x21, 16 + 16 + 8)
    assert unseal(data, MASTER, SERVER, DOWN, 0, form) == message
    with pytest.raises(ValueError, match="8 or 16"):
        SymFormat(mac_bytes=4)
    with pytest.raises(ValueError, match="number of its own"):
        SymFormat(deliver=6)
    with pytest.raises(ValueError, match="32 bits"):
        seal(replace(message, counter=1 << 32), MASTER, FORM)


def test_counters_only_rise() -> None:
    assert following_counter(-1, 1_700_000_000) == 1_700_000_000
    assert following_counter(1_700_000_005, 1_700_000_000) == 1_700_000_006
    assert following_counter(5, 1 << 40) < 0xFFFFFFFF
    assert following_counter(0xFFFFFFFE, 0) == 0xFFFFFFFF
    with pytest.raises(CounterRefused):
        following_counter(0xFFFFFFFF, 0)


# ------------------------------------------------------------------ the exchange


def asked(counter: int = 9) -> Pairing:
    pairing = Pairing(MASTER, SERVER, FORM)
    pairing.deliver(counter, Identity(bytes(32), b""), b"")
    return pairing


NINE = (9).to_bytes(4, "big")


def test_answers_that_count() -> None:
    assert asked().answered(made(content=NINE), 6) == (7, None)
    assert asked().answered(made(SymKind.REFUSED, content=NINE + b"\x01"), 6) == (7, Reason.PAIRED)
    pairing = asked()
    pairing.reset(10)
    assert pairing.answered(made(SymKind.RESET_DONE, content=(10).to_bytes(4, "big")), 6) == (7, None)


@pytest.mark.parametrize(
    "data",
    [
        made(content=(8).to_bytes(4, "big")),
        made(content=NINE + b"x"),
        made(content=b""),
        made(SymKind.RESET_DONE, content=NINE),
        made(SymKind.REFUSED, content=NINE),
        made(SymKind.REFUSED, content=NINE + b"\x63"),
        made(SymKind.REFUSED, content=NINE + b"\x01\x01"),
    ],
)
def test_answers_that_do_not_fit(data: bytes) -> None:
    with pytest.raises(UnexpectedMessage):
        asked().answered(data, 6)


def test_an_answer_without_a_question() -> None:
    with pytest.raises(UnexpectedMessage):
        Pairing(MASTER, SERVER, FORM).answered(made(content=bytes(4)), 6)


@pytest.mark.parametrize(
    "data", [b"\x31\x00", b"\x30", b"\x30\x02\x00", b"\x30\x80", b"\x30\x83\x00\x00\x00", b"\x30\x82\x00"]
)
def test_der_that_cannot_be_cut(data: bytes) -> None:
    with pytest.raises(MalformedRecords):
        split_der(data)


def test_der_is_cut_where_it_ends() -> None:
    long = b"\x30\x81\x80" + bytes(128)
    assert split_der(b"\x30\x01\x00" + long + b"\x30\x00") == [b"\x30\x01\x00", long, b"\x30\x00"]


# ------------------------------------------------------------------ the meter's end


def meter(folder: Path) -> SymEnd:
    return SymEnd(MeterMemory(folder, "1smg0010000003.sm", None), MASTER, SERVER)


def test_the_meter_refuses_what_is_forged_old_or_its_own(tmp_path: Path) -> None:
    end = meter(tmp_path)
    good = made(SymKind.RESET, 5)
    answer = end.receive(good)
    assert answer is not None
    assert unseal(answer, MASTER, SERVER, UP, 0, FORM).kind is SymKind.RESET_DONE
    assert end.receive(good) == answer  # its answer was lost: the same again, nothing done twice
    other = seal(SymMessage(SymKind.RESET, 9, SERVER[:-1] + b"\x99"), MASTER, FORM)
    bad = [
        made(SymKind.RESET, 4), made(SymKind.RESET, 9)[:-1], made(SymKind.ACCEPTED, 9), other,
        seal(SymMessage(SymKind.RESET, 9, SERVER), bytes(16), FORM), answer,
    ]  # fmt: skip
    assert [end.receive(each) for each in bad] == [None] * len(bad)
    assert end.refused == len(bad)
    assert meter(tmp_path).receive(good) is None  # also after a power cut


def test_the_meter_names_what_it_does_not_keep(tmp_path: Path) -> None:
    end = meter(tmp_path)
    for counter, content in enumerate((b"", b"\x30\x00", b"junk", b"\x30\x00\x30\x00\x30\x00"), 1):
        answer = end.receive(made(SymKind.DELIVER, counter, content))
        assert answer is not None
        told = unseal(answer, MASTER, SERVER, UP, 0, FORM)
        assert (told.kind, told.content[4:]) == (SymKind.REFUSED, bytes((Reason.CONTENT,)))
    assert end._memory.identity is None


# ------------------------------------------------------------------ hostile


ROUNDS = 100_000


def hostile(rounds: int, seed: int) -> int:
    """Mutated answers at the gateway's end; return how many were taken: only what was sent."""
    rng = random.Random(seed)
    corpus = [
        made(content=NINE), made(SymKind.REFUSED, content=NINE + b"\x01"), made(content=bytes(100)),
        made(SymKind.DELIVER, content=NINE), resealed(bytes(16)),
    ]  # fmt: skip
    taken, pairing = 0, asked()
    for _ in range(rounds):
        data = bytearray(rng.choice(corpus))
        for _ in range(rng.randrange(4)):
            match rng.randrange(4):
                case 0:
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                case 1:
                    del data[rng.randrange(len(data)) :]
                case 2:
                    data += rng.randbytes(rng.randrange(17))
                case _:
                    data[rng.randrange(len(data))] = rng.randrange(256)
            if not data:
                break
        with suppress(LmnError):
            pairing.answered(bytes(data), 6)
            assert bytes(data) in corpus[:2]
            taken += 1
    return taken


def hostile_der(rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    good = b"\x30\x03\x02\x01\x01" + b"\x30\x81\x80" + bytes(128) + b"\x30\x82\x01\x00" + bytes(256)
    for _ in range(rounds):
        data = bytearray(good[: rng.randrange(1, len(good))] if rng.random() < 0.3 else good)
        for _ in range(rng.randrange(4)):
            data[min(rng.choice((0, 1, 5, 6, 7, rng.randrange(len(data)))), len(data) - 1)] = rng.randrange(
                256
            )
        with suppress(MalformedRecords):
            assert b"".join(split_der(bytes(data))) == bytes(data)


def test_mutated_answers_pair_nobody() -> None:
    assert hostile(ROUNDS, 1) > 500
    hostile_der(ROUNDS, 2)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(10, 20))
def test_mutated_answers_for_long(seed: int) -> None:
    hostile(1_000_000, seed)
    hostile_der(1_000_000, seed)
