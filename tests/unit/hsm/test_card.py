"""The emulated card: what it allows when, and which status word it answers to everything else."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from hypothesis import given, settings
from hypothesis import strategies as st

from hsm import curves, tlv
from hsm.apdu import CommandApdu, ResponseApdu, Sw
from hsm.api import Curve, DataObject, KeySlot, LifeCycle
from hsm.channel import Operation
from hsm.emulator.card import PowerEvent
from hsm.emulator.entropy import OperatingSystemEntropy
from hsm.emulator.state import CardState
from hsm.errors import ChannelBroken, CommandRefused, ModuleFailed
from hsm.profile import PROJECT
from tests.support.card import PIN, Terminal, logged_in, make_card
from tests.unit.hsm.test_curves import OTHERS, bad_points

MSE = "0022c1a412800a04007f0007020204020283010384010d"
NONCE = "10860000027c0000"
EPHEMERAL = PROJECT.ephemeral_references[0]


def plain(card_apdu: object, text: str) -> str:
    return card_apdu(bytes.fromhex(text)).hex()  # type: ignore[operator]


def raw(command: CommandApdu) -> Operation[ResponseApdu]:
    return (yield command)


def ask(terminal: Terminal, header: str, data: bytes = b"", le: int | None = 256) -> int:
    return terminal.run(raw(CommandApdu(*bytes.fromhex(header), data, le))).sw


# --- before PACE -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "sw"),
    [
        ("00a4040c08f0534d47574853 4d", "9000"),
        ("00a4000c023f00", "9000"),
        ("00a4000c", "9000"),
        ("00a4040c03a00000", "6a82"),
        ("00a4040008f0534d475748534d", "6a86"),
        ("00a4020c02ffff", "6a82"),
        ("00a4020c0101", "6700"),
        ("00a4000c020101", "6a82"),
        ("0084000008", "6982"),  # random numbers would cross the link in the clear
        ("00d6000001aa", "6982"),
        ("002241b6038401 01", "6982"),
        ("002241a603840101", "6982"),
        ("002a9e9a20" + "00" * 32 + "00", "6982"),
        ("0046820008b606840101800100", "6982"),
        ("00468100 05b60384010100", "6982"),
        ("00e4000003840101", "6982"),
        ("00b0000010", "6986"),
        ("00b09f0010", "6a82"),
        ("00860000027c0000", "6982"),
        ("0086000102", "6a86"),
        ("00ca000000", "6d00"),
        ("00c0000000", "6d00"),
        ("80a4040c", "6e00"),
        ("ff00000000", "6e00"),
        ("01a4040c", "6881"),
        ("04a4040c", "6882"),
        ("08a4040c", "6882"),
        ("10a4040c", "6884"),
        ("0cb000000d9701048e08000000000000000000", "6988"),
        ("00a4", "6700"),
        ("00a4040c05aa", "6700"),
    ],
)
def test_status_before_pace(command: str, sw: str) -> None:
    card, _ = make_card()
    assert plain(card.apdu, command) == sw


def test_free_files_before_pace() -> None:
    card, _ = make_card()
    assert plain(card.apdu, "00a4020c02011c") == "9000"
    assert plain(card.apdu, "00b0000000") == "31143012060a04007f0007020204020202010202010d6282"
    assert plain(card.apdu, "00b0000002") == "31149000"
    assert plain(card.apdu, "00b0001600") == "6b00"
    assert plain(card.apdu, "00b00000") == "6700"
    assert plain(card.apdu, "00b09c0002") == "31149000"  # short file identifier 1C


@pytest.mark.parametrize(
    ("data", "sw"),
    [
        ("800a04007f00070202040202830103", "9000"),
        ("800a04007f0007020204020283010384010d", "9000"),
        ("800a04007f0007020204020383010384010d", "9000"),
        ("800a04007f000702020402098301038401 0d", "6a80"),
        ("800a04007f0007020204020283010484010d", "6a88"),
        ("800a04007f00070202040202830103840163", "6a88"),
        ("800a04007f00070202040202", "6a80"),
        ("830103", "6a80"),
        ("800a04007f0007020204020283010383010384010d", "6a80"),
        ("800a04007f000702020402028302030384010d", "6a80"),
        ("800a04007f000702020402028301039f", "6a80"),
        ("800a04007f00070202040202830103990100", "6a80"),
    ],
)
def test_selection_of_pace(data: str, sw: str) -> None:
    card, _ = make_card()
    body = bytes.fromhex(data)
    assert card.apdu(b"\x00\x22\xc1\xa4" + bytes((len(body),)) + body).hex() == sw


def test_steps_of_pace_belong_together() -> None:
    card, memory = make_card()
    assert plain(card.apdu, MSE) == "9000"
    assert plain(card.apdu, NONCE).endswith("9000")
    assert memory.state.pin_left == 2
    assert plain(card.apdu, "0084000008") == "6883"
    assert plain(card.apdu, "10860000027c0000") == "6982"  # that was the end of it
    assert plain(card.apdu, MSE) == "63c2"
    assert plain(card.apdu, NONCE).endswith("9000")
    assert plain(card.apdu, "00a4040c08f0534d475748534d") == "9000"  # a new start is allowed
    assert plain(card.apdu, NONCE) == "6982"


def test_the_pin_is_blocked_after_three_nonces() -> None:
    card, memory = make_card()
    for left in (2, 1, 0):
        plain(card.apdu, MSE)
        assert plain(card.apdu, NONCE).endswith("9000")
        assert memory.state.pin_left == left
    assert plain(card.apdu, MSE) == "63c0"
    assert plain(card.apdu, NONCE) == "6983"


def test_no_nonce_leaves_if_the_counter_cannot_be_stored() -> None:
    card, memory = make_card()
    plain(card.apdu, MSE)
    memory.broken = True
    assert plain(card.apdu, NONCE) == "6581"
    memory.broken = False
    assert plain(card.apdu, MSE) == "63c2"  # the try counts as used in memory


def test_wrong_token_at_the_last_try() -> None:
    def last(state: CardState) -> None:
        state.pin_left = 1

    card, memory = make_card(change=last)
    assert plain(card.apdu, MSE) == "63c1"
    plain(card.apdu, NONCE)
    point = curves.multiply(Curve.BRAINPOOL_P256, 5).hex()
    assert plain(card.apdu, f"10860000457c438141{point}00").endswith("9000")
    assert plain(card.apdu, f"10860000457c438341{point}00").endswith("9000")
    assert plain(card.apdu, "008600000c7c0a8508000000000000000000") == "6983"
    assert memory.state.pin_left == 0


def test_chaining_bits() -> None:
    card, _ = make_card()
    plain(card.apdu, MSE)
    assert plain(card.apdu, "00860000027c0000") == "6884"


# --- the session -------------------------------------------------------------------------------------------


def test_a_plain_command_ends_the_session() -> None:
    terminal, card, _ = logged_in()
    terminal.run(terminal.client.generate_ephemeral(EPHEMERAL, Curve.P256))
    assert plain(card.apdu, "0084000008") == "6982"
    with pytest.raises(ChannelBroken, match="6988"):
        terminal.run(terminal.client.random(8))
    again = Terminal(card)
    again.log_in()
    with pytest.raises(CommandRefused, match="6A88"):
        again.run(again.client.agree_reference(EPHEMERAL, curves.generator(Curve.P256)))


@pytest.mark.parametrize(
    "spoil", ["00a4", "80840000 08", "0c84000003970108", "0c8400000d9701088e08" + "00" * 9]
)
def test_an_error_of_messaging_ends_the_session(spoil: str) -> None:
    terminal, card, _ = logged_in()
    assert len(plain(card.apdu, spoil)) == 4
    with pytest.raises(ChannelBroken):
        terminal.run(terminal.client.random(8))


@pytest.mark.parametrize("event", PowerEvent)
def test_power_clears_everything_volatile(event: PowerEvent) -> None:
    terminal, card, _ = logged_in()
    terminal.run(terminal.client.generate_ephemeral(EPHEMERAL, Curve.P256))
    card.power(event)
    if event is PowerEvent.OFF:
        assert card.apdu(bytes.fromhex("0084000008")) == b""
        card.power(PowerEvent.ON)
    assert plain(card.apdu, "0084000008") == "6982"
    again = Terminal(card)
    again.log_in()
    again.run(again.client.generate_ephemeral(EPHEMERAL, Curve.P256))  # 6A89 if it were still there


def test_no_pace_inside_a_session() -> None:
    terminal, _, _ = logged_in()
    assert ask(terminal, "0022c1a4", bytes.fromhex(MSE)[5:], None) == 0x6985
    assert ask(terminal, "00860000", b"\x7c\x00") == 0x6985


def test_a_protected_refusal_keeps_the_session() -> None:
    terminal, _, _ = logged_in()
    assert ask(terminal, "00ca0000") == 0x6D00
    assert len(terminal.run(terminal.client.random(8))) == 8


def test_long_answers_come_in_parts() -> None:
    terminal, card, _ = logged_in()
    assert len(terminal.run(terminal.client.random(256))) == 256
    assert terminal.sent[-1][:2] == b"\x00\xc0"
    assert plain(card.apdu, "00c0000000") == "6d00"  # nothing left


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_bytes_get_an_answer(data: bytes) -> None:
    assert len(CARD.apdu(data)) >= 2


CARD = make_card()[0]


@given(st.binary(min_size=4, max_size=4), st.binary(max_size=40), st.sampled_from([None, 1, 256, 65536]))
@settings(max_examples=200, deadline=None)
def test_any_command_inside_a_session_gets_a_protected_answer(
    header: bytes, data: bytes, le: int | None
) -> None:
    command = CommandApdu(0x00, header[1] & 0xF6 if header[0] & 1 else 0x46, header[2], header[3], data, le)
    sw = INSIDE.run(raw(command)).sw
    assert sw >> 12 in (6, 9)
    assert sw != Sw.INTERNAL


INSIDE = logged_in()[0]


# --- commands after PACE -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "data", "le", "sw"),
    [
        ("00840000", "", None, 0x6700),
        ("00840000", "", 257, 0x6700),
        ("00840001", "", 8, 0x6A86),
        ("00840000", "aa", 8, 0x6700),
        ("00a4020c", "0101", None, 0x9000),
        ("00b00000", "", 16, 0x6986),
        ("00d60000", "", None, 0x6986),
        ("00d69c00", "aa", None, 0x6982),  # CardAccess is never written
        ("00d68100", "", None, 0x6700),
        ("00d681ff", "aa", None, 0x9000),
        ("002241b6", "840101", None, 0x6A88),
        ("002241a6", "840160", None, 0x6A88),
        ("002241b6", "84020101", None, 0x6A80),
        ("002241b6", "830101", None, 0x6A80),
        ("002241b8", "840101", None, 0x6A88),
        ("002241ba", "840101", None, 0x6A86),
        ("002a9e9a", "00" * 32, 256, 0x6985),
        ("002a9e9b", "00" * 32, 256, 0x6A86),
        ("00468000", "b60684010180010d", 256, 0x6A86),
        ("00468201", "b60684010180010d", 256, 0x6A86),
        ("00468200", "b60684010180010d", None, 0x6700),
        ("00468200", "b603840101", 256, 0x6A80),
        ("00468200", "b606840101800163", 256, 0x6A80),
        ("00468200", "b60684010180010e", 256, 0x6A80),
        ("00468200", "b6068401ff80010d", 256, 0x6A88),
        ("00468200", "a60684010180010d", 256, 0x6A80),
        ("00468200", "b6", 256, 0x6A80),
        ("00468100", "b603840101", 256, 0x6A88),
        ("00e40000", "840101", None, 0x6A88),
        ("00e40001", "840101", None, 0x6A86),
        ("00e40000", "8401", None, 0x6A80),
        ("10840000", "", 8, 0x6884),
    ],
)
def test_status_after_pace(header: str, data: str, le: int | None, sw: int) -> None:
    terminal, _, _ = logged_in()
    assert ask(terminal, header, bytes.fromhex(data), le) == sw


@pytest.mark.parametrize("curve", Curve)
def test_sign_and_agree_on_every_curve(curve: Curve) -> None:
    terminal, _, _ = logged_in()
    client, run = terminal.client, terminal.run
    key = run(client.generate_key_pair(KeySlot.WAN_SIG, curve))
    assert run(client.public_key(KeySlot.WAN_SIG)) == key
    digest = hashlib.new(curve.hash_name, b"message").digest()
    signature = run(client.sign(KeySlot.WAN_SIG, digest))
    size = curve.field_bytes
    der = utils.encode_dss_signature(
        int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    )
    algorithm = {32: hashes.SHA256(), 48: hashes.SHA384(), 64: hashes.SHA512()}[size]
    public = ec.EllipticCurvePublicKey.from_encoded_point(OTHERS[curve], key.point)
    public.verify(der, digest, ec.ECDSA(utils.Prehashed(algorithm)))
    assert run(client.sign(KeySlot.WAN_SIG, digest)) == signature  # deterministic nonce

    peer = ec.generate_private_key(OTHERS[curve])
    numbers = peer.public_key().public_numbers()
    point = b"\x04" + numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big")
    expected = peer.exchange(ec.ECDH(), public)
    assert run(client.agree(KeySlot.WAN_SIG, point)) == expected
    assert run(client.agree(KeySlot.WAN_SIG, point)) == expected  # a static key agrees again and again
    ephemeral = run(client.generate_ephemeral(EPHEMERAL, curve))
    theirs = ec.EllipticCurvePublicKey.from_encoded_point(OTHERS[curve], ephemeral.point)
    assert run(client.agree_reference(EPHEMERAL, point)) == peer.exchange(ec.ECDH(), theirs)
    with pytest.raises(CommandRefused, match="6A88"):
        run(client.agree_reference(EPHEMERAL, point))


def test_digests_of_a_wrong_length() -> None:
    terminal, _, _ = logged_in()
    terminal.run(terminal.client.generate_key_pair(KeySlot.WAN_SIG, Curve.P256))
    for size in (0, 20, 31, 33, 48, 64):
        with pytest.raises(CommandRefused, match="6A80"):
            terminal.run(terminal.client.sign(KeySlot.WAN_SIG, bytes(size)))


@pytest.mark.parametrize("curve", Curve)
def test_bad_points_and_ones_own_are_refused(curve: Curve) -> None:
    terminal, _, _ = logged_in()
    client, run = terminal.client, terminal.run
    own = run(client.generate_key_pair(KeySlot.WAN_ENC, curve))
    for _, point in [*bad_points(curve), ("own", own.point)]:
        with pytest.raises(CommandRefused, match="6A80"):
            run(client.agree(KeySlot.WAN_ENC, point))
        run(client.generate_ephemeral(EPHEMERAL, curve))
        with pytest.raises(CommandRefused):
            run(client.agree_reference(EPHEMERAL, point if point != own.point else b""))
        with pytest.raises(CommandRefused, match="6A88"):  # erased by the failure
            run(client.agree_reference(EPHEMERAL, curves.generator(curve)))


def test_an_ephemeral_slot_is_not_overwritten_and_signs_nothing() -> None:
    terminal, _, memory = logged_in()
    client, run = terminal.client, terminal.run
    saves = memory.saves
    run(client.generate_ephemeral(EPHEMERAL, Curve.P256))
    with pytest.raises(CommandRefused, match="6A89"):
        run(client.generate_ephemeral(EPHEMERAL, Curve.P256))
    assert ask(terminal, "002241b6", tlv.encode(0x84, bytes((EPHEMERAL,))), None) == 0x6A88
    run(client.delete(EPHEMERAL))
    run(client.delete(EPHEMERAL))
    assert memory.saves == saves  # nothing of it ever reached the memory
    assert len(PROJECT.ephemeral_references) >= 4


def test_static_keys_survive_and_a_failed_write_changes_nothing() -> None:
    terminal, card, memory = logged_in()
    client, run = terminal.client, terminal.run
    key = run(client.generate_key_pair(KeySlot.STORE, Curve.BRAINPOOL_P256))
    memory.broken = True
    with pytest.raises(ModuleFailed, match="6581"):
        run(client.generate_key_pair(KeySlot.STORE, Curve.BRAINPOOL_P256))
    with pytest.raises(ModuleFailed, match="6581"):
        run(client.generate_key_pair(KeySlot.WAN_TLS, Curve.BRAINPOOL_P256))
    with pytest.raises(ModuleFailed, match="6581"):
        run(client.delete(int(KeySlot.STORE)))
    with pytest.raises(ModuleFailed, match="6581"):
        run(client.write_object(DataObject.IDENTIFIERS, b"x"))
    memory.broken = False
    assert run(client.public_key(KeySlot.STORE)) == key
    with pytest.raises(CommandRefused, match="6A88"):
        run(client.public_key(KeySlot.WAN_TLS))
    assert run(client.read_object(DataObject.IDENTIFIERS)) == b""
    run(client.delete(int(KeySlot.STORE)))
    with pytest.raises(CommandRefused, match="6A88"):
        run(client.public_key(KeySlot.STORE))
    assert memory.state.keys == {}
    assert card.life_cycle is LifeCycle.PRE_PERSONALISED


def test_a_replaced_key_signs_as_the_new_one() -> None:
    terminal, _, _ = logged_in()
    client, run = terminal.client, terminal.run
    run(client.generate_key_pair(KeySlot.WAN_SIG, Curve.P256))
    first = run(client.sign(KeySlot.WAN_SIG, bytes(32)))
    run(client.generate_key_pair(KeySlot.WAN_SIG, Curve.P256))
    assert run(client.sign(KeySlot.WAN_SIG, bytes(32))) != first


# --- life cycle and faults ---------------------------------------------------------------------------------


class DyingEntropy(OperatingSystemEntropy):
    """Fails when told to."""

    dead = False

    def read(self, count: int) -> bytes:
        if self.dead:
            raise OSError("gone")
        return super().read(count)


def test_a_failing_source_stops_what_needs_randomness_and_nothing_else() -> None:
    entropy = DyingEntropy()
    card, _ = make_card(entropy=entropy)
    terminal = Terminal(card)
    terminal.log_in()
    client, run = terminal.client, terminal.run
    run(client.generate_key_pair(KeySlot.WAN_SIG, Curve.P256))
    entropy.dead = True
    with pytest.raises(ModuleFailed):
        card._context.drbg.reseed()
    for operation in (
        client.random(8),
        client.generate_ephemeral(EPHEMERAL, Curve.P256),
        client.generate_key_pair(KeySlot.WAN_TLS, Curve.P256),
    ):
        with pytest.raises(ModuleFailed, match="6F00"):
            run(operation)
    assert len(run(client.sign(KeySlot.WAN_SIG, bytes(32)))) == 64
    entropy.dead = False
    with pytest.raises(ModuleFailed, match="6F00"):  # the first failure is final
        run(client.random(8))
    card.power(PowerEvent.RESET)
    assert plain(card.apdu, MSE) == "9000"
    assert plain(card.apdu, NONCE) == "6f00"
    assert plain(card.apdu, MSE) == "9000"  # and no try was used


def test_nothing_secret_in_representations() -> None:
    terminal, card, memory = logged_in()
    terminal.run(terminal.client.generate_key_pair(KeySlot.WAN_SIG, Curve.P256))
    text = repr(memory.state) + repr(memory.state.keys) + repr(card)
    assert PIN.decode() not in text
    assert repr(memory.state.keys[2].scalar) not in text
