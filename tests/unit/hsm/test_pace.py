"""PACE byte by byte against ICAO and BSI, both ends; then everything a peer can do wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsm import curves, tlv
from hsm.apdu import CommandApdu, ResponseApdu
from hsm.api import Curve
from hsm.emulator.pace import CardPace
from hsm.emulator.status import Refused
from hsm.errors import (
    CommandRefused,
    HsmError,
    MalformedResponse,
    PinRefused,
    PointRefused,
    UnexpectedResponse,
)
from hsm.pace import Password, Scalars, establish
from hsm.suites import AES128, SUITES, SessionKeys, Suite, crypt_nonce, derive
from tests.support.card import PIN, Terminal, make_card
from tests.support.vectors import load, vectors
from tests.unit.hsm.test_curves import bad_points

CURVE = Curve.BRAINPOOL_P256


def answer(tag: int, value: bytes) -> ResponseApdu:
    return ResponseApdu(tlv.encode(0x7C, tlv.encode(tag, value)), 0x9000)


def run_terminal(
    case: dict[str, str], change: Callable[[int, ResponseApdu], ResponseApdu] = lambda step, r: r
) -> tuple[list[str], SessionKeys]:
    """Let our terminal run against the published card, whose answers `change` may spoil."""
    value = {key: bytes.fromhex(case[key]) for key in ("password", "z", "pk_map_ic", "pk_ic", "t_ic")}
    scalars = Scalars(int(case["sk_map_ifd"], 16), lambda: int(case["sk_ifd"], 16))
    terminal = establish(Password(int(case["password_reference"]), value["password"]), scalars)
    answers = [
        ResponseApdu(b"", 0x9000),
        answer(0x80, value["z"]),
        answer(0x82, value["pk_map_ic"]),
        answer(0x84, value["pk_ic"]),
        answer(0x86, value["t_ic"]),
    ]
    sent = []
    try:
        command = next(terminal)
        for step, response in enumerate(answers):
            sent.append(command.to_bytes().hex())
            command = terminal.send(change(step, response))
    except StopIteration as done:
        return sent, done.value
    raise AssertionError("the terminal goes on")


@pytest.fixture(name="icao")
def _icao() -> dict[str, str]:
    case: dict[str, str] = load("hsm/pace_icao.json")["cases"][0]
    return case


@vectors("hsm/pace_icao.json")
def test_terminal_icao(case: dict[str, str]) -> None:
    check_terminal(case)


@vectors("hsm/pace_bsi.json")
def test_terminal_bsi(case: dict[str, str]) -> None:
    check_terminal(case)


def check_terminal(case: dict[str, str]) -> None:
    sent, keys = run_terminal(case)
    assert sent == [
        case["mse"],
        "10860000027c0000",
        f"10860000457c438141{case['pk_map_ifd']}00",
        f"10860000457c438341{case['pk_ifd']}00",
        f"008600000c7c0a8508{case['t_ifd']}00",
    ]
    assert (keys.encryption.hex(), keys.mac.hex()) == (case["ks_enc"], case["ks_mac"])


@vectors("hsm/pace_icao.json")
def test_steps_icao(case: dict[str, str]) -> None:
    check_steps(case)


@vectors("hsm/pace_bsi.json")
def test_steps_bsi(case: dict[str, str]) -> None:
    check_steps(case)


def check_steps(case: dict[str, str]) -> None:
    """The values in between."""
    password = bytes.fromhex(case["password"])
    assert derive(AES128, password, 3).hex() == case["kpi"]
    nonce = bytes.fromhex(case["s"])
    assert crypt_nonce(AES128, password, nonce, encrypt=True).hex() == case["z"]
    assert crypt_nonce(AES128, password, bytes.fromhex(case["z"]), encrypt=False) == nonce
    shared = curves.multiply(CURVE, int(case["sk_map_ifd"], 16), bytes.fromhex(case["pk_map_ic"]))
    assert shared.hex() == case["h"]
    base = curves.map_generator(CURVE, nonce, shared)
    assert base.hex() == case["g"]
    point = curves.multiply(CURVE, int(case["sk_ic"], 16), bytes.fromhex(case["pk_ifd"]))
    assert curves.x_of(CURVE, point).hex() == case["x"]


@vectors("hsm/pace_icao.json")
def test_card_icao(case: dict[str, str]) -> None:
    check_card(case)


@vectors("hsm/pace_bsi.json")
def test_card_bsi(case: dict[str, str]) -> None:
    check_card(case)


def card_of(case: dict[str, str]) -> CardPace:
    scalars = [int(case["sk_map_ic"], 16), int(case["sk_ic"], 16)]
    return CardPace(
        AES128,
        CURVE,
        bytes.fromhex(case["password"]),
        draw_nonce=lambda count: bytes.fromhex(case["s"]),
        draw_scalar=lambda: scalars.pop(0),
        wrong=lambda: 0x63C2,
    )


def check_card(case: dict[str, str]) -> None:
    card = card_of(case)
    assert card.answer(bytes.fromhex("7c00"), chained=True).hex() == f"7c128010{case['z']}"
    sent = bytes.fromhex(f"7c438141{case['pk_map_ifd']}")
    assert card.answer(sent, chained=True).hex() == f"7c438241{case['pk_map_ic']}"
    sent = bytes.fromhex(f"7c438341{case['pk_ifd']}")
    assert card.answer(sent, chained=True).hex() == f"7c438441{case['pk_ic']}"
    sent = bytes.fromhex(f"7c0a8508{case['t_ifd']}")
    assert card.answer(sent, chained=False).hex() == f"7c0a8608{case['t_ic']}"
    assert card.keys is not None
    assert (card.keys.encryption.hex(), card.keys.mac.hex()) == (case["ks_enc"], case["ks_mac"])


# --- both ends ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("curve", Curve)
def test_every_suite_on_every_curve(suite: Suite, curve: Curve) -> None:
    card, _ = make_card()
    terminal = Terminal(card)
    terminal.log_in(suite=suite, curve=curve)
    assert len(terminal.run(terminal.client.random(8))) == 8


@given(st.binary(min_size=1, max_size=32), st.integers(1, 2**255), st.integers(1, 2**255))
@settings(max_examples=20, deadline=None)
def test_loopback(password: bytes, first: int, second: int) -> None:
    card = CardPace(
        AES128,
        CURVE,
        password,
        draw_nonce=lambda count: b"\x00" * 8 + b"\x01" * 8,
        draw_scalar=lambda: second,
        wrong=lambda: 0x6300,
    )
    terminal = establish(Password(3, password), Scalars(first, lambda: first))
    next(terminal)
    try:
        command = terminal.send(ResponseApdu(b"", 0x9000))
        while True:
            data = card.answer(command.data, chained=bool(command.cla & 0x10))
            command = terminal.send(ResponseApdu(data, 0x9000))
    except StopIteration as done:
        keys = done.value
    except (Refused, UnexpectedResponse):
        keys = None
    # If both ends drew the same key it is refused as reflected.
    assert (keys is None) == (first == second)
    assert keys is None or keys == card.keys


# --- a card that is no card --------------------------------------------------------------------------------


def test_wrong_token_of_the_card(icao: dict[str, str]) -> None:
    spoiled = icao | {"t_ic": "00" * 8}
    with pytest.raises(UnexpectedResponse, match="token"):
        run_terminal(spoiled)
    with pytest.raises(UnexpectedResponse, match="token"):
        run_terminal(icao | {"t_ic": icao["t_ic"][:14]})


@pytest.mark.parametrize(
    ("name", "point"), list(bad_points(CURVE)), ids=lambda v: v if type(v) is str else ""
)
def test_bad_points_of_the_card(icao: dict[str, str], name: str, point: bytes) -> None:
    for key in ("pk_map_ic", "pk_ic"):
        with pytest.raises((UnexpectedResponse, MalformedResponse)):
            run_terminal(icao | {key: point.hex()})


def test_reflected_points_of_the_card(icao: dict[str, str]) -> None:
    with pytest.raises(UnexpectedResponse, match="mapping"):
        run_terminal(icao | {"pk_map_ic": icao["pk_map_ifd"]})
    with pytest.raises(UnexpectedResponse, match="ephemeral"):
        run_terminal(icao | {"pk_ic": icao["pk_ifd"]})


@pytest.mark.parametrize("z", ["", "00" * 15, "00" * 17, "00" * 80])
def test_nonce_of_a_wrong_length(icao: dict[str, str], z: str) -> None:
    with pytest.raises(MalformedResponse):
        run_terminal(icao | {"z": z})


@pytest.mark.parametrize(
    "data", ["", "7c", "7c00", "7c028000", "7c0381000000", "7d128010" + "00" * 16, "7c128010" + "00" * 17]
)
def test_nonsense_in_each_step(icao: dict[str, str], data: str) -> None:
    for step in range(1, 5):
        with pytest.raises((MalformedResponse, UnexpectedResponse)):
            run_terminal(
                icao, lambda at, r, bad=step: ResponseApdu(bytes.fromhex(data), 0x9000) if at == bad else r
            )


def refuse(icao: dict[str, str], step: int, sw: int) -> HsmError:
    with pytest.raises(HsmError) as caught:
        run_terminal(icao, lambda at, r: ResponseApdu(b"", sw) if at == step else r)
    return caught.value


def test_few_tries_left_and_nothing_is_tried(icao: dict[str, str]) -> None:
    for sw, left in ((0x63C1, 1), (0x63C0, 0), (0x6983, 0)):
        error = refuse(icao, 0, sw)
        assert isinstance(error, PinRefused)
        assert (error.attempts_left, error.tried) == (left, False)


def test_two_tries_left_is_enough(icao: dict[str, str]) -> None:
    run_terminal(icao, lambda at, r: ResponseApdu(b"", 0x63C2) if at == 0 else r)


def test_refusals_that_are_the_pin_and_those_that_are_not(icao: dict[str, str]) -> None:
    for sw, left in ((0x63C2, 2), (0x6300, None), (0x6983, None)):
        error = refuse(icao, 4, sw)
        assert isinstance(error, PinRefused)
        assert (error.attempts_left, error.tried) == (left, True)
    assert isinstance(refuse(icao, 1, 0x6983), PinRefused)
    for step, sw in (
        (0, 0x6A88),
        (0, 0x6A80),
        (1, 0x6982),
        (2, 0x6A80),
        (3, 0x6F00),
        (4, 0x6982),
        (4, 0x6985),
    ):
        assert isinstance(refuse(icao, step, sw), CommandRefused)


# --- a terminal that is no terminal ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "point"), list(bad_points(CURVE)), ids=lambda v: v if type(v) is str else ""
)
def test_bad_points_of_the_terminal(icao: dict[str, str], name: str, point: bytes) -> None:
    card = card_of(icao)
    card.answer(bytes.fromhex("7c00"), chained=True)
    with pytest.raises(Refused) as caught:
        card.answer(tlv.encode(0x7C, tlv.encode(0x81, point)), chained=True)
    assert caught.value.sw == 0x6A80
    with pytest.raises(Refused) as caught:
        card.answer(bytes.fromhex(f"7c438141{icao['pk_map_ifd']}"), chained=True)
    assert caught.value.sw == 0x6985
    card = card_of(icao)
    card.answer(bytes.fromhex("7c00"), chained=True)
    card.answer(bytes.fromhex(f"7c438141{icao['pk_map_ifd']}"), chained=True)
    with pytest.raises(Refused) as caught:
        card.answer(tlv.encode(0x7C, tlv.encode(0x83, point)), chained=True)
    assert caught.value.sw == 0x6A80
    assert card.keys is None


def test_reflection_steps_and_objects(icao: dict[str, str]) -> None:
    for data, chained, sw in (
        ("7c00", False, 0x6884),
        ("7c028000", True, 0x6A80),
        ("7c", True, 0x6A80),
        ("", True, 0x6A80),
    ):
        with pytest.raises(Refused) as caught:
            card_of(icao).answer(bytes.fromhex(data), chained=chained)
        assert caught.value.sw == sw
    card = card_of(icao)
    card.answer(bytes.fromhex("7c00"), chained=True)
    with pytest.raises(Refused) as caught:
        card.answer(bytes.fromhex(f"7c438141{icao['pk_map_ic']}"), chained=True)
    assert caught.value.sw == 0x6A80


def test_every_bit_of_every_step_matters(icao: dict[str, str]) -> None:
    """One flipped bit in what the terminal sends never ends in a session."""
    steps = [
        (f"7c438141{icao['pk_map_ifd']}", True),
        (f"7c438341{icao['pk_ifd']}", True),
        (f"7c0a8508{icao['t_ifd']}", False),
    ]
    for spoiled in range(3):
        size = len(bytes.fromhex(steps[spoiled][0])) * 8
        for bit in range(0, size, 13):
            card = card_of(icao)
            card.answer(bytes.fromhex("7c00"), chained=True)
            refused = False
            for index, (text, chained) in enumerate(steps):
                data = bytearray.fromhex(text)
                if index == spoiled:
                    data[bit // 8] ^= 1 << bit % 8
                try:
                    card.answer(bytes(data), chained=chained)
                except Refused:
                    refused = True
            assert refused
            assert card.step.value == "failed"


def test_wrong_pin_against_the_card() -> None:
    card, memory = make_card()
    with pytest.raises(PinRefused) as caught:
        Terminal(card).log_in(b"0987654321")
    assert (caught.value.attempts_left, caught.value.tried) == (2, True)
    assert memory.state.pin_left == 2
    with pytest.raises(PinRefused) as caught:
        Terminal(card).log_in(b"0987654321")
    assert caught.value.attempts_left == 1
    terminal = Terminal(card)
    with pytest.raises(PinRefused) as caught:
        terminal.log_in(PIN)  # right, but the last try is a human's
    assert (caught.value.attempts_left, caught.value.tried) == (1, False)
    assert memory.state.pin_left == 1
    assert len(terminal.sent) == 2  # SELECT and MSE, no GENERAL AUTHENTICATE


def test_right_pin_restores_the_counter() -> None:
    card, memory = make_card()
    with pytest.raises(PinRefused):
        Terminal(card).log_in(b"0987654321")
    Terminal(card).log_in()
    assert memory.state.pin_left == 3


def test_point_error_names_no_secret() -> None:
    with pytest.raises(PointRefused) as caught:
        curves.check_point(CURVE, b"\x04" + b"\xab" * 64)
    assert "ab" * 4 not in str(caught.value)


def test_command_type() -> None:
    assert isinstance(next(establish(Password(3, PIN), Scalars(5, lambda: 7))), CommandApdu)
    assert PIN.decode() not in repr(Password(3, PIN))
