"""Both ends of the module's line against a malicious other end."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count

import pytest

from hsm import curves
from hsm.api import Curve, DataObject, KeySlot
from hsm.emulator.card import Card, PowerEvent
from hsm.emulator.state import CardState
from hsm.errors import ChannelBroken, HsmError, MalformedResponse, PinRefused, UnexpectedResponse
from tests.support.card import PIN, Terminal, logged_in, make_card

START_TRIES = 3
FUZZED, A_CARD = 100_000, 2_000
OK, INTERNAL = b"\x90\x00", b"\x6f\x00"


def record() -> list[bytes]:
    """Every command of a session that uses all there is, as it goes over the line."""
    terminal, _, _ = logged_in()
    client, run = terminal.client, terminal.run
    run(client.generate_key_pair(KeySlot.WAN_SIG, Curve.BRAINPOOL_P256))
    run(client.generate_key_pair(KeySlot.WAN_ENC, Curve.P256))
    run(client.sign(KeySlot.WAN_SIG, bytes(32)))
    run(client.agree(KeySlot.WAN_ENC, curves.multiply(Curve.P256, 7)))
    run(client.random(64))
    run(client.write_object(DataObject.IDENTIFIERS, bytes(range(200))))
    run(client.read_object(DataObject.IDENTIFIERS))
    run(client.public_key(KeySlot.WAN_SIG))
    return terminal.sent


def mutate(command: bytes, others: list[bytes], source: random.Random) -> bytes:
    """Spoil a command: flip, cut, lengthen, splice, repeat, or change single fields."""
    data = bytearray(command)
    match source.randrange(7):
        case 0:
            data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        case 1:
            del data[source.randrange(len(data)) :]
        case 2:
            data += source.randbytes(source.randrange(1, 300))
        case 3:
            other = source.choice(others)
            data = data[: source.randrange(len(data) + 1)] + other[source.randrange(len(other)) :]
        case 4:
            data[source.randrange(min(7, len(data)))] = source.randrange(256)
        case 5:
            at = source.randrange(len(data))
            data[at : at + source.randrange(1, 9)] = source.randbytes(source.randrange(9))
        case _:
            data = bytearray(source.randbytes(source.randrange(40)))
    return bytes(data)


def test_a_hundred_thousand_spoiled_commands() -> None:
    """The card answers each, keeps everything it holds, and never counts the PIN's tries up without it."""
    recorded, source = record(), random.Random(20260301)
    for _ in range(FUZZED // A_CARD):
        card, memory = make_card()
        before, left = memory.state, START_TRIES
        for number in range(A_CARD):
            if number % 50 == 0:
                card.power(PowerEvent.ON)
            # Once in a while the recording goes on unspoiled, so that deeper states are reached.
            command = recorded[number % 50 % len(recorded)]
            if source.randrange(4) == 0:
                command = mutate(command, recorded, source)
            answer = card.apdu(command)
            assert 2 <= len(answer) <= 65538
            assert answer[-2:] != INTERNAL, command.hex()
            assert PIN not in answer
            state = memory.state
            assert state.pin_left <= left, "the tries of the PIN went up without the PIN"
            left = state.pin_left
        assert (state.pin, state.pin_start, state.life_cycle) == (PIN, START_TRIES, before.life_cycle)
        assert (state.keys, state.files) == (before.keys, before.files)
        fresh, _ = make_card(change=lambda new, old=state: _restore(new, old))  # type: ignore[misc]  # default binds
        Terminal(fresh).log_in()


def _restore(new: CardState, old: CardState) -> None:
    """What the medium holds, and as many tries as a human may give back."""
    new.pin, new.keys, new.files = old.pin, old.keys, old.files


def test_every_flipped_bit_of_a_pace_run_is_refused() -> None:
    """One bit, anywhere in the six commands, and there is no session."""
    terminal, _, _ = logged_in()
    lengths = [len(command) for command in terminal.sent]
    assert len(lengths) == 6
    survived = set()
    for number, length in enumerate(lengths):
        # Every bit of headers and of the small objects; of the long points every fifth.
        for bit in range(0, length * 8, 5 if length > 40 else 1):
            if not _refused(number, bit):
                survived.add((number, bit // 8))
    assert survived == set()


def _refused(spoiled: int, bit: int) -> bool:
    card, memory = make_card()
    sent = count()

    def spoil(command: bytes) -> bytes:
        if next(sent) != spoiled:
            return command
        data = bytearray(command)
        data[bit // 8] ^= 1 << bit % 8
        return bytes(data)

    terminal = Spoiling(card, spoil)
    try:
        terminal.log_in()
    except HsmError:
        assert memory.state.pin_left >= START_TRIES - 1
        return True
    return False


class Spoiling(Terminal):
    """A terminal on a line that changes what it sends."""

    def __init__(self, card: Card, spoil: Callable[[bytes], bytes]) -> None:
        super().__init__(card)
        apdu = card.apdu
        self.card = _Spoiled(lambda command: apdu(spoil(command)))  # type: ignore[assignment]  # apdu is all it needs


class _Spoiled:
    def __init__(self, apdu: Callable[[bytes], bytes]) -> None:
        self.apdu = apdu


# --- a malicious card --------------------------------------------------------------------------------------


def _against(answer: Callable[[int, bytes, bytes], bytes]) -> type[HsmError]:
    """Log in and ask for randomness while `answer(number, command, true answer)` speaks for the card."""
    card, _ = make_card()
    number = count()
    terminal = Terminal(card)
    terminal.card = _Spoiled(lambda command: answer(next(number), command, card.apdu(command)))  # type: ignore[assignment]  # as above
    with pytest.raises(HsmError) as caught:  # noqa: PT012 - which of the two it is depends on the attack
        terminal.log_in()
        terminal.run(terminal.client.random(16))
    assert len(terminal.sent) <= 1_100
    return type(caught.value)


POINT = curves.multiply(Curve.BRAINPOOL_P256, 7)


@pytest.mark.parametrize(
    "point",
    [
        bytes(65),
        b"\x04" + bytes(64),
        b"\x04" + b"\xff" * 64,
        b"\x00",
        b"",
        POINT[:-1] + bytes((POINT[-1] ^ 1,)),
        b"\x02" + POINT[1:33],
        b"\x06" + POINT[1:],
        POINT + b"\x00",
        POINT[:-1],
    ],
    ids=lambda point: f"{len(point)}-{point[:2].hex()}",
)
@pytest.mark.parametrize("step", [3, 4])
def test_wrong_points_of_the_card(step: int, point: bytes) -> None:
    tag = 0x82 if step == 3 else 0x84
    inner = bytes((tag, len(point))) + point
    forged = bytes((0x7C, len(inner))) + inner + OK
    error = _against(lambda number, _, true: forged if number == step else true)
    assert issubclass(error, (MalformedResponse, UnexpectedResponse))


@pytest.mark.parametrize("step", [2, 3, 4, 5, 6])
def test_responses_of_an_earlier_run_are_refused(step: int) -> None:
    answers: list[bytes] = []
    card, _ = make_card()
    terminal = Terminal(card)
    terminal.tamper = lambda answer: answers.append(answer) or answer  # type: ignore[func-returns-value]  # notes it
    terminal.log_in()
    terminal.run(terminal.client.random(16))
    error = _against(lambda number, _, true: answers[number] if number == step else true)
    assert issubclass(error, (UnexpectedResponse, MalformedResponse, ChannelBroken, PinRefused))


@pytest.mark.parametrize("step", range(7))
@pytest.mark.parametrize("piece", [b"", b"x", bytes(256)])
def test_an_answer_that_never_ends(step: int, piece: bytes) -> None:
    assert _against(lambda number, _, true: piece + b"\x61\xff" if number >= step else true)


@pytest.mark.parametrize("step", range(1, 7))
def test_an_answer_far_too_long(step: int) -> None:
    assert _against(lambda number, _, true: bytes(1 << 20) + OK if number == step else true)


@pytest.mark.parametrize("seed", range(100))
def test_any_nonsense_of_the_card_is_a_named_error(seed: int) -> None:
    source = random.Random(seed)
    step = source.randrange(1, 7)

    def answer(number: int, _command: bytes, true: bytes) -> bytes:
        if number != step:
            return true
        return (
            mutate(true, [OK, true], source)
            if source.randrange(2)
            else source.randbytes(source.randrange(90))
        )

    card, _ = make_card()
    number = count()
    terminal = Terminal(card)
    terminal.card = _Spoiled(lambda command: answer(next(number), command, card.apdu(command)))  # type: ignore[assignment]  # as above
    try:
        terminal.log_in()
        assert len(terminal.run(terminal.client.random(16))) == 16
    except HsmError:
        return
