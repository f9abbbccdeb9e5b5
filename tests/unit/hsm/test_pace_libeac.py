"""libeac as the terminal against our card and as the card against our terminal: nobody here wrote it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hsm import curves, pace, tlv
from hsm.apdu import CommandApdu, ResponseApdu
from hsm.api import Curve
from hsm.errors import PinRefused, UnexpectedResponse
from hsm.host_random import host_random
from hsm.messaging import SecureMessaging
from hsm.pace import Password, Scalars, establish
from hsm.suites import SUITES, Suite, pad
from tests.peers.eac import Eac
from tests.support.card import PIN, make_card
from tests.unit.hsm.eac_sides import card_access, drive, terminal_pace, terminal_random, value

CURVES = (Curve.BRAINPOOL_P256, Curve.BRAINPOOL_P384)
EVERY = [pytest.param(s, c, id=f"AES-{8 * s.key_bytes}-{c.value}") for s in SUITES for c in CURVES]


@pytest.fixture
def parties() -> Iterator[list[Eac]]:
    """libeac's contexts of one test."""
    made: list[Eac] = []
    yield made
    for party in made:
        party.close()


@pytest.mark.parametrize(("suite", "curve"), EVERY)
def test_libeac_is_the_terminal(suite: Suite, curve: Curve, parties: list[Eac]) -> None:
    card, memory = make_card()
    parties.append(party := Eac(card_access(suite, curve), PIN))
    assert party.check(value(drive(terminal_pace(party, suite, curve), card.apdu), 0x86))
    assert memory.state.pin_left == 3
    party.start_messaging()
    for count in (8, 100):
        assert len(drive(terminal_random(party, count), card.apdu)) == count


@pytest.mark.parametrize(("suite", "curve"), EVERY)
def test_libeac_is_the_card(suite: Suite, curve: Curve, parties: list[Eac]) -> None:
    parties.append(party := Eac(card_access(suite, curve), PIN))
    keys = our_terminal(party, suite, curve, PIN)
    party.start_messaging()
    messaging = SecureMessaging(keys)
    data = os.urandom(40)
    sent = messaging.wrap(CommandApdu(0, 0xD6, 0, 0, data, 256))
    party.step()
    objects = tlv.parse(sent.data)
    assert party.decrypt(objects[0][1][1:]) == pad(data)
    assert party.authenticate(pad(sent.header) + pad(sent.data[:-10])) == objects[-1][1]
    party.step()
    answer = tlv.encode(0x87, b"\x01" + party.encrypt(pad(b"answer"))) + b"\x99\x02\x90\x00"
    answer += tlv.encode(0x8E, party.authenticate(pad(answer)))
    assert messaging.unwrap(ResponseApdu(answer, 0x9000)).data == b"answer"


def our_terminal(party: Eac, suite: Suite, curve: Curve, pin: bytes):  # type: ignore[no-untyped-def]
    run = establish(Password(3, pin), Scalars.draw(curve, host_random), suite=suite, curve=curve)
    next(run)  # MSE
    sent = run.send(ResponseApdu(b"", 0x9000))
    steps = iter(
        (
            (None, 0x80, lambda _: party.nonce()),
            (0x81, 0x82, lambda peer: (party.mapping(), party.map(peer))[0]),
            (0x83, 0x84, lambda peer: (party.ephemeral(), party.agree(peer))[0]),
            (0x85, 0x86, lambda token: party.token() if party.check(token) else None),
        )
    )
    try:
        for wanted, answered, act in steps:
            inner = tlv.unwrap(0x7C, sent.data)
            result = act(inner if wanted is None else tlv.unwrap(wanted, inner))
            if result is None:
                sent = run.send(ResponseApdu(b"", 0x63C2))
            sent = run.send(ResponseApdu(tlv.encode(0x7C, tlv.encode(answered, result)), 0x9000))
    except StopIteration as done:
        return done.value
    raise AssertionError("the terminal goes on")


def test_a_wrong_pin_is_seen_by_both_sides(parties: list[Eac]) -> None:
    suite, curve = SUITES[0], Curve.BRAINPOOL_P256
    card, memory = make_card()
    parties.append(party := Eac(card_access(suite, curve), b"0000000000"))
    assert drive(terminal_pace(party, suite, curve), card.apdu) == b"\x63\xc2"
    assert memory.state.pin_left == 2
    parties.append(other := Eac(card_access(suite, curve), PIN))
    with pytest.raises((PinRefused, UnexpectedResponse)):
        our_terminal(other, suite, curve, b"0000000000")


def test_leading_zeros_mean_the_same_to_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs until nonce, own scalar and shared x have each begun with a zero octet; about one in 256 does."""
    suite, curve = SUITES[0], CURVES[0]
    seen: set[str] = set()

    def spied(name: str, where: object, attribute: str, octets) -> None:  # type: ignore[no-untyped-def]
        real = getattr(where, attribute)

        def spy(*arguments, **named):  # type: ignore[no-untyped-def]
            result = real(*arguments, **named)
            if octets(arguments, result)[0] == 0:
                seen.add(name)
            return result

        monkeypatch.setattr(where, attribute, spy)

    spied("nonce", pace, "crypt_nonce", lambda _, result: result)
    spied("shared x", pace, "session_keys", lambda arguments, _: arguments[1])
    spied("scalar", curves, "draw_scalar", lambda _, result: result.to_bytes(32, "big"))
    runs = 0
    while len(seen) < 3:
        runs += 1
        assert runs < 5000, f"only {seen}"
        party = Eac(card_access(suite, curve), PIN)
        try:
            our_terminal(party, suite, curve, PIN)  # raises unless both tokens agree
        finally:
            party.close()
