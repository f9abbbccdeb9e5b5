"""Secure messaging: a published session byte by byte at both ends, then every way to break one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsm import tlv
from hsm.apdu import CommandApdu, ResponseApdu
from hsm.emulator.messaging import CardMessaging
from hsm.emulator.status import Refused
from hsm.errors import ChannelBroken, MalformedCommand
from hsm.messaging import SecureMessaging
from hsm.suites import AES128, AES192, AES256, SUITES, SessionKeys, Suite, cbc, cmac, pad, session_keys
from tests.support.vectors import vectors

KEYS = session_keys(AES128, bytes(range(32)))
READ = CommandApdu(0x00, 0xB0, 0, 0, b"", 16)
SAY = CommandApdu(0x00, 0xD6, 0, 0, b"hello, card", 16)


def pair(suite: Suite = AES128) -> tuple[SecureMessaging, CardMessaging]:
    keys = session_keys(suite, bytes(range(32)))
    return SecureMessaging(keys), CardMessaging(keys)


def plain(exchange: dict[str, Any]) -> CommandApdu:
    header = bytes.fromhex(exchange["header"])
    return CommandApdu(*header, bytes.fromhex(exchange["data"]), exchange["le"])


@vectors("hsm/secure_messaging.json")
def test_terminal(case: dict[str, Any]) -> None:
    messaging = SecureMessaging(SessionKeys(AES128, bytes.fromhex(case["enc"]), bytes.fromhex(case["mac"])))
    for exchange in case["exchanges"]:
        assert messaging.wrap(plain(exchange)).to_bytes().hex() == exchange["command"]
        response = messaging.unwrap(ResponseApdu.from_bytes(bytes.fromhex(exchange["response"])))
        assert response.data.hex() == exchange["response_data"]
        assert f"{response.sw:04x}" == exchange["sw"]


@vectors("hsm/secure_messaging.json")
def test_card(case: dict[str, Any]) -> None:
    messaging = CardMessaging(SessionKeys(AES128, bytes.fromhex(case["enc"]), bytes.fromhex(case["mac"])))
    for exchange in case["exchanges"]:
        command = messaging.open(CommandApdu.from_bytes(bytes.fromhex(exchange["command"])))
        assert command == plain(exchange)
        response = ResponseApdu(bytes.fromhex(exchange["response_data"]), int(exchange["sw"], 16))
        assert messaging.close(response).to_bytes().hex() == exchange["response"]


@given(
    st.sampled_from(SUITES),
    st.binary(max_size=600),
    st.one_of(st.none(), st.integers(1, 65536)),
    st.binary(max_size=600),
    st.sampled_from([0xB0, 0xB1]),
)
@settings(max_examples=150, deadline=None)
def test_both_ends(suite: Suite, data: bytes, le: int | None, reply: bytes, ins: int) -> None:
    terminal, card = pair(suite)
    for _ in range(3):
        command = CommandApdu(0x00, ins, 1, 2, data, le)
        wrapped = CommandApdu.from_bytes(terminal.wrap(command).to_bytes())
        assert wrapped.cla == 0x0C
        assert card.open(wrapped) == command
        response = ResponseApdu(reply, 0x9000)
        assert terminal.unwrap(ResponseApdu.from_bytes(card.close(response).to_bytes())) == response


def test_no_data_object_at_all_is_one_padded_header() -> None:
    terminal, card = pair()
    command = CommandApdu(0x00, 0x46, 1, 2)
    wrapped = terminal.wrap(command)
    assert wrapped.data[:2] == b"\x8e\x08"
    assert card.open(wrapped) == command


def test_short_and_extended_form() -> None:
    terminal, _ = pair()
    assert len(terminal.wrap(CommandApdu(0, 0xD6, 0, 0, bytes(0xDF))).to_bytes()) <= 5 + 255 + 1
    terminal, _ = pair()
    raw = terminal.wrap(CommandApdu(0, 0xD6, 0, 0, bytes(300), 16)).to_bytes()
    assert raw[4] == 0
    assert raw.endswith(b"\x00\x00")


# --- the card's checks -------------------------------------------------------------------------------------


def test_every_bit_of_a_command_matters() -> None:
    size = len(pair()[0].wrap(SAY).to_bytes())
    for bit in range(size * 8):
        terminal, card = pair()
        raw = bytearray(terminal.wrap(SAY).to_bytes())
        raw[bit // 8] ^= 1 << bit % 8
        try:
            command = CommandApdu.from_bytes(bytes(raw))
        except MalformedCommand:
            continue
        if bit // 8 == size - 1:
            continue  # the outer Le is not protected, and decides nothing but what fits
        with pytest.raises(Refused) as caught:
            card.open(command)
        assert caught.value.sw in (0x6987, 0x6988)


def seal(objects: bytes, keys: SessionKeys = KEYS, ssc: int = 1, header: str = "0cd60000") -> CommandApdu:
    """A command whose MAC is right whatever its objects are."""
    head = bytes.fromhex(header)
    message = ssc.to_bytes(16, "big") + pad(head) + (pad(objects) if objects else b"")
    return CommandApdu(*head, objects + b"\x8e\x08" + cmac(keys.mac, message)[:8], 256)


def cryptogram(padded: bytes, ssc: int = 1) -> bytes:
    iv = cbc(KEYS.encryption, bytes(16)).encryptor().update(ssc.to_bytes(16, "big"))
    return cbc(KEYS.encryption, iv).encryptor().update(padded)


GOOD = cryptogram(b"abc\x80" + bytes(12))


@pytest.mark.parametrize(
    ("objects", "sw"),
    [
        (tlv.encode(0x97, b"\x00") + tlv.encode(0x87, b"\x01" + GOOD), 0x6988),  # order
        (tlv.encode(0x97, b"\x00") * 2, 0x6988),  # twice
        (tlv.encode(0x99, b"\x90\x00"), 0x6988),  # not for a command
        (tlv.encode(0x85, GOOD), 0x6987),  # odd instructions only
        (tlv.encode(0x87, b"\x02" + GOOD), 0x6988),  # padding indicator
        (tlv.encode(0x87, b""), 0x6988),
        (tlv.encode(0x87, b"\x01"), 0x6988),
        (tlv.encode(0x87, b"\x01" + GOOD[:-1]), 0x6988),  # no whole blocks
        (tlv.encode(0x87, b"\x01" + cryptogram(b"a" * 16)), 0x6988),  # no padding
        (tlv.encode(0x87, b"\x01" + cryptogram(bytes(16))), 0x6988),
        (tlv.encode(0x87, b"\x01" + cryptogram(b"\x80" + bytes(31))), 0x6988),  # a block too much
        (tlv.encode(0x97, b""), 0x6988),
        (tlv.encode(0x97, b"\x00\x00\x00"), 0x6988),
    ],
)
def test_objects_the_card_refuses_though_the_mac_is_right(objects: bytes, sw: int) -> None:
    with pytest.raises(Refused) as caught:
        CardMessaging(KEYS).open(seal(objects))
    assert caught.value.sw == sw


def test_a_well_formed_command_of_the_same_making_is_taken() -> None:
    command = CardMessaging(KEYS).open(seal(tlv.encode(0x87, b"\x01" + GOOD) + tlv.encode(0x97, b"\x00")))
    assert (command.data, command.le) == (b"abc", 256)


@pytest.mark.parametrize(
    ("body", "sw"),
    [("", 0x6987), ("970100", 0x6987), ("8e00", 0x6988), ("8e08", 0x6988), ("8e0700112233445566", 0x6988)],
)
def test_missing_and_short_macs(body: str, sw: int) -> None:
    with pytest.raises(Refused) as caught:
        CardMessaging(KEYS).open(CommandApdu(0x0C, 0xD6, 0, 0, bytes.fromhex(body), 256))
    assert caught.value.sw == sw


def test_a_replayed_or_skipped_command_is_refused() -> None:
    terminal, card = pair()
    first = terminal.wrap(SAY)
    card.open(first)
    card.close(ResponseApdu(b"", 0x9000))
    with pytest.raises(Refused):
        card.open(first)
    _, fresh = pair()
    fresh.close(ResponseApdu(b"", 0x9000))
    with pytest.raises(Refused):
        fresh.open(first)


def test_another_suite_does_not_understand() -> None:
    with pytest.raises(Refused):
        pair(AES256)[1].open(pair(AES192)[0].wrap(SAY))


# --- the terminal's checks ---------------------------------------------------------------------------------


def answered(data: bytes = b"answer", sw: int = 0x9000) -> tuple[SecureMessaging, bytes]:
    terminal, card = pair()
    card.open(terminal.wrap(READ))
    return terminal, card.close(ResponseApdu(data, sw)).to_bytes()


def test_every_bit_of_a_response_matters() -> None:
    size = len(answered()[1])
    for bit in range(size * 8):
        terminal, raw = answered()
        spoiled = bytearray(raw)
        spoiled[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ChannelBroken):
            terminal.unwrap(ResponseApdu(bytes(spoiled[:-2]), int.from_bytes(spoiled[-2:], "big")))
        assert not terminal.alive
        with pytest.raises(ChannelBroken):
            terminal.wrap(READ)


def test_every_cut_of_a_response_is_noticed() -> None:
    size = len(answered()[1]) - 2
    for cut in range(size):
        terminal, raw = answered()
        with pytest.raises(ChannelBroken):
            terminal.unwrap(ResponseApdu(raw[:cut], 0x9000))


def test_a_replayed_response_is_refused() -> None:
    terminal, card = pair()
    card.open(terminal.wrap(READ))
    old = card.close(ResponseApdu(b"old", 0x9000))
    terminal.unwrap(old)
    card.open(terminal.wrap(READ))
    with pytest.raises(ChannelBroken, match="MAC"):
        terminal.unwrap(old)


def test_a_plain_answer_ends_the_session() -> None:
    for sw in (0x6988, 0x9000):
        terminal, _ = answered()
        with pytest.raises(ChannelBroken, match=f"{sw:04X}"):
            terminal.unwrap(ResponseApdu(b"", sw))
        assert not terminal.alive


def test_status_outside_must_be_the_one_inside() -> None:
    terminal, raw = answered()
    with pytest.raises(ChannelBroken, match="status word"):
        terminal.unwrap(ResponseApdu(raw[:-2], 0x6282))


def test_a_protected_refusal_does_not_end_the_session() -> None:
    terminal, raw = answered(b"", 0x6A82)
    assert terminal.unwrap(ResponseApdu.from_bytes(raw)).sw == 0x6A82
    assert terminal.alive
    terminal.close()
    assert not terminal.alive
