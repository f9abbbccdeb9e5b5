"""Bad input to the card: every flipped bit of a recorded run, random APDUs, doubled and missing objects."""

from __future__ import annotations

import contextlib
import random

import pytest

from hsm import tlv
from hsm.apdu import CommandApdu, ResponseApdu
from hsm.api import Curve, KeySlot
from hsm.emulator.card import Card, PowerEvent
from hsm.emulator.entropy import FixedEntropy
from hsm.errors import HsmError, MalformedCommand, MalformedTlv
from hsm.messaging import SecureMessaging
from hsm.pace import Password, Scalars, establish
from hsm.suites import AES128
from tests.support.card import PIN, Terminal, make_card

CURVE = Curve.BRAINPOOL_P256


class Recorded:
    """A run that is the same each time: fixed entropy in the card, fixed scalars in the terminal."""

    def __init__(self) -> None:
        self.card, self.memory = make_card(entropy=FixedEntropy(b"recorded"))
        self.sent: list[bytes] = []
        self.answers: list[bytes] = []
        terminal = Terminal(self.card)
        terminal.tamper = self._note
        scalars = Scalars(12345, lambda: 54321)
        terminal.run(terminal.client.establish(PIN, scalars, suite=AES128, curve=CURVE))
        for operation in (
            terminal.client.random(16),
            terminal.client.generate_key_pair(KeySlot.WAN_SIG, CURVE),
            terminal.client.sign(KeySlot.WAN_SIG, bytes(32)),
            terminal.client.delete_key(KeySlot.WAN_SIG),
        ):
            terminal.run(operation)
        self.sent = list(terminal.sent)

    def _note(self, answer: bytes) -> bytes:
        self.answers.append(answer)
        return answer


RUN = Recorded()
PACE_STEPS = 5


def replayed(count: int) -> Card:
    """A card in the state after the first `count` recorded commands."""
    card, _ = make_card(entropy=FixedEntropy(b"recorded"))
    for command, answer in zip(RUN.sent[:count], RUN.answers, strict=False):
        assert card.apdu(command) == answer
    return card


def alive(card: Card, index: int) -> bool:
    """Whether the recorded run would simply go on after the spoiled command."""
    following = RUN.sent[index]
    return card.apdu(following) == RUN.answers[index]


@pytest.mark.parametrize("index", range(PACE_STEPS, len(RUN.sent)))
def test_every_flipped_bit_of_a_protected_command_ends_the_session(index: int) -> None:
    """The MAC covers header and objects; the outer Le, which it cannot cover, has one value only."""
    command = RUN.sent[index]
    card = replayed(index)
    snapshot = Snapshot(card)
    for bit in range(8 * len(command)):
        spoiled = flipped(command, bit)
        snapshot.restore()
        answer = card.apdu(spoiled)
        if answer == RUN.answers[index]:
            raise AssertionError(f"bit {bit} makes no difference")
        assert answer[-2:] != b"\x90\x00", f"bit {bit}"
        # Chaining inside secure messaging and ENVELOPE carry bytes on; everything else is a dead session.
        assert not alive(card, index), f"bit {bit} leaves the session alive"


class Snapshot:
    """Puts a card back to where it was: its volatile state, without running PACE again each time."""

    def __init__(self, card: Card) -> None:
        self._card, self._context = card, card._context
        messaging = self._context.messaging
        assert messaging is not None
        self._messaging, self._counter = messaging, messaging._counter
        self._environment = {
            name: getattr(self._context.environment, name) for name in self._context.environment.__slots__
        }
        self._state = self._context.state

    def restore(self) -> None:
        context = self._context
        context.end_session()
        context.messaging = self._messaging
        self._messaging._counter = self._counter
        for name, chosen in self._environment.items():
            setattr(context.environment, name, chosen)
        context.state = self._state
        self._card._rest = b""
        self._card._chain = self._card._envelope = None


def flipped(data: bytes, bit: int) -> bytes:
    spoiled = bytearray(data)
    spoiled[bit // 8] ^= 0x80 >> bit % 8
    return bytes(spoiled)


@pytest.mark.parametrize("index", range(PACE_STEPS))
def test_every_flipped_bit_of_pace_commands_is_refused(index: int) -> None:
    """No session comes of a run with a flipped bit in one command, if only because a later token tells."""
    for bit in range(8 * len(RUN.sent[index])):
        check_pace_flip(index, bit)


def check_pace_flip(index: int, bit: int) -> None:
    card, _ = make_card(entropy=FixedEntropy(b"recorded"))
    for command in RUN.sent[:index]:
        card.apdu(command)
    spoiled = flipped(RUN.sent[index], bit)
    card.apdu(spoiled)
    for following in RUN.sent[index + 1 : PACE_STEPS]:
        card.apdu(following)
    assert card._context.messaging is None, f"command {index}, bit {bit}: a session was made"


def test_every_flipped_bit_of_an_answer_is_refused_by_the_terminal() -> None:
    terminal = Terminal(replayed(0))
    run = establish(Password(3, PIN), Scalars(12345, lambda: 54321))
    keys = terminal.run(run)
    for index in range(PACE_STEPS, len(RUN.answers)):
        for bit in range(8 * len(RUN.answers[index])):
            messaging = SecureMessaging(keys)
            messaging._ssc = 2 * (index - PACE_STEPS) + 1
            messaging._waiting = True
            with pytest.raises(HsmError):
                messaging.unwrap(ResponseApdu.from_bytes(flipped(RUN.answers[index], bit)))
            messaging._waiting = False
    assert not messaging.alive


def test_every_flipped_bit_of_pace_answers_is_refused_by_the_terminal() -> None:
    for index in range(PACE_STEPS):
        for bit in range(8 * len(RUN.answers[index])):
            with pytest.raises(HsmError):
                run_against(index, flipped(RUN.answers[index], bit))


def run_against(index: int, spoiled: bytes) -> None:
    """Our terminal against the recorded answers, one of them spoiled."""
    answers = iter([*RUN.answers[:index], spoiled, *RUN.answers[index + 1 :]])

    class Player:
        def apdu(self, _: bytes) -> bytes:
            return next(answers)

    terminal = Terminal(Player())  # type: ignore[arg-type]  # it only calls apdu
    scalars = Scalars(12345, lambda: 54321)
    terminal.run(terminal.client.establish(PIN, scalars, suite=AES128, curve=CURVE))
    for operation in (
        terminal.client.random(16),
        terminal.client.generate_key_pair(KeySlot.WAN_SIG, CURVE),
        terminal.client.sign(KeySlot.WAN_SIG, bytes(32)),
        terminal.client.delete_key(KeySlot.WAN_SIG),
    ):
        terminal.run(operation)


def test_reflected_points_are_refused() -> None:
    """The card's own points sent back to it: known in advance here, as the entropy is fixed."""
    for index, tag in ((2, 0x81), (3, 0x83)):
        card = make_card(entropy=FixedEntropy(b"recorded"))[0]
        for command in RUN.sent[:index]:
            card.apdu(command)
        own = tlv.parse(tlv.unwrap(0x7C, RUN.answers[index][:-2]))[0][1]
        body = tlv.encode(0x7C, tlv.encode(tag, own))
        assert card.apdu(CommandApdu(0x10, 0x86, 0, 0, body, 256).to_bytes()) == b"\x6a\x80"


@pytest.mark.parametrize(
    "change",
    [
        lambda body: tlv.encode(0x7C, body + body),
        lambda body: tlv.encode(0x7C, b""),
        lambda body: tlv.encode(0x7D, body),
        lambda body: tlv.encode(0x7C, body) + b"\x00",
        lambda body: tlv.encode(0x7C, b"\x85" + body[1:]),
        lambda body: b"\x7c\x81" + bytes((len(body),)) + body,
        lambda body: b"",
        lambda body: body,
    ],
)
@pytest.mark.parametrize("index", [2, 3, 4])
def test_wrong_objects_in_pace(index: int, change) -> None:  # type: ignore[no-untyped-def]
    card = make_card(entropy=FixedEntropy(b"recorded"))[0]
    for command in RUN.sent[:index]:
        card.apdu(command)
    command = CommandApdu.from_bytes(RUN.sent[index])
    body = change(tlv.unwrap(0x7C, command.data))
    if body == command.data:
        return
    wrong = CommandApdu(command.cla, 0x86, 0, 0, body, 256).to_bytes()
    assert card.apdu(wrong)[-2:] in (b"\x6a\x80",)
    assert card.apdu(RUN.sent[index]) == b"\x69\x82"


# --- noise -------------------------------------------------------------------------------------------------


def noise(count: int, seed: int) -> None:
    """Random, mutated and spliced APDUs, in the clear and under secure messaging, at a card with secrets."""
    source = random.Random(seed)
    card, memory = make_card()
    terminal = Terminal(card)
    terminal.log_in()
    terminal.run(terminal.client.generate_key_pair(KeySlot.STORE, CURVE))
    before = memory.state
    secrets = [before.pin, *(key.scalar for key in before.keys.values())]
    corpus = [*RUN.sent, *(CommandApdu(0, ins, 0, 0, b"", 256).to_bytes() for ins in range(256))]
    protected = terminal
    for number in range(count):
        if number % 1000 == 0:
            # In blocks: a command in the clear ends the session, and PACE takes longer than a command.
            kind = source.randrange(4)
        if kind == 0:
            raw = source.randbytes(source.randrange(40))
        elif kind == 1:
            raw = mutated(source, source.choice(corpus))
        else:
            if not protected.channel.protected or card._context.messaging is None:
                if memory.state.pin_left < 2:
                    card._context.state.pin_left = 3  # the noise has used the tries up, as it may
                protected = Terminal(card)
                card.power(PowerEvent.RESET)
                protected.log_in()
            command = inside(source, number)
            try:
                answer = protected.run(single(command))
            except HsmError:
                continue
            check(answer.to_bytes(), secrets)
            continue
        answer_bytes = card.apdu(raw)
        assert len(answer_bytes) >= 2
        check(answer_bytes, secrets)
    after = memory.state
    assert after.pin == before.pin
    assert after.keys[KeySlot.STORE] == before.keys[KeySlot.STORE]
    assert after.life_cycle is before.life_cycle


def single(command: CommandApdu):  # type: ignore[no-untyped-def]
    return (yield command)


def mutated(source: random.Random, raw: bytes) -> bytes:
    data = bytearray(raw)
    for _ in range(source.randrange(1, 4)):
        match source.randrange(4):
            case 0 if data:
                data[source.randrange(len(data))] = source.randrange(256)
            case 1 if data:
                del data[source.randrange(len(data)) :]
            case 2:
                at = source.randrange(len(data) + 1)
                data[at:at] = source.randbytes(source.randrange(4))
            case _:
                data += source.randbytes(source.randrange(8))
    return bytes(data)


# Not PIN changes, key deletion and life-cycle steps that succeed: they would be no accident but a right.
_SPARED = frozenset({0x24, 0x44, 0xE4, 0x46})
_PARAMETERS = (0, 0x41B6, 0x81B6, 0x41A6, 0x41B8, 0x9E9A, 0x00A8, 0x00BE, 0x8680)
_INSTRUCTIONS = [ins for ins in range(256) if ins not in _SPARED and ins >> 4 not in (6, 9)]


def inside(source: random.Random, number: int) -> CommandApdu:
    ins = source.choice((0x84, 0xB0, 0xB1, 0xD6, 0x22, 0x2A, 0x86, 0x88, 0x82, 0x2C, 0x32, 0xA4, 0xE0))
    if number % 3 == 0:
        ins = source.choice(_INSTRUCTIONS)
    p1p2 = source.choice(
        (0, 0x41B6, 0x81B6, 0x41A6, 0x41B8, 0x9E9A, 0x00A8, 0x00BE, 0x8680, source.randrange(65536))
    )
    body = source.choice((b"", source.randbytes(source.randrange(80)), b"\x84\x01\x08", b"\x83\x01\x32"))
    return CommandApdu(0, ins, p1p2 >> 8, p1p2 & 0xFF, body, source.choice((None, 1, 256)))


def check(answer: bytes, secrets: list[bytes]) -> None:
    ResponseApdu.from_bytes(answer)
    assert not any(secret in answer for secret in secrets)


def test_a_hundred_thousand_random_commands() -> None:
    noise(100_000, 20260101)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_a_million_random_commands() -> None:
    noise(1_000_000, 20260102)


def test_parsers_of_the_card_are_total() -> None:
    """The same mutator at the two parsers that every byte passes through."""
    source = random.Random(7)
    for _ in range(20_000):
        raw = mutated(source, source.choice(RUN.sent))
        with contextlib.suppress(MalformedCommand):
            CommandApdu.from_bytes(raw)
        with contextlib.suppress(MalformedTlv):
            tlv.parse(raw)
