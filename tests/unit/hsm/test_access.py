"""Every command in every state of the life cycle, with every right: one table, judged from outside."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from hsm.apdu import CommandApdu
from hsm.api import Curve, LifeCycle, PublicSlot
from hsm.emulator import access
from hsm.emulator.access import Right
from hsm.emulator.state import CardState, StoredKey, StoredPublic
from hsm.profile import PROJECT
from tests.support.card import PIN, Memory, Terminal, make_card
from tests.support.soft_module import SoftModule, public_of

OWNER = ec.derive_private_key(4711, ec.BrainpoolP256R1())
ADMINISTRATOR = StoredPublic(Curve.BRAINPOOL_P256.value, public_of(OWNER).point)
STATES = tuple(LifeCycle)


def stored(private: int) -> StoredKey:
    point = public_of(ec.derive_private_key(private, ec.BrainpoolP256R1())).point
    return StoredKey(Curve.BRAINPOOL_P256.value, private.to_bytes(32, "big"), point)


def card_in(state: LifeCycle, *, pace: bool, administrator: bool = False) -> tuple[Terminal, Memory]:
    """A card with something in every kind of slot."""

    def change(card: CardState) -> None:
        card.life_cycle = state
        card.keys = {0x01: stored(5), 0x81: stored(6), 0x10: stored(7), 0x90: stored(8), 0x50: stored(9)}
        card.receivers = {0x50: ADMINISTRATOR}
        card.public = {PublicSlot.ROOT: ADMINISTRATOR, PublicSlot.ADMINISTRATOR: ADMINISTRATOR}
        card.public[PublicSlot.ROOT_NEXT] = ADMINISTRATOR
        card.created = {0x0201: 16}

    card, memory = make_card(change=change)
    terminal = Terminal(card)
    if pace:
        terminal.log_in()
    if administrator:
        message = terminal.run(terminal.client.administrator_challenge())
        assert terminal.run(terminal.client.authenticate_administrator(signed(message)))
    return terminal, memory


def signed(message: bytes) -> bytes:
    return SoftModule._signed(OWNER, hashlib.sha256(message).digest())


def raw(command: CommandApdu):  # type: ignore[no-untyped-def]  # a generator of one command
    return (yield command)


def ask(terminal: Terminal, header: str, body: str = "", le: int | None = None) -> int:
    return terminal.run(raw(CommandApdu(*bytes.fromhex(header), bytes.fromhex(body), le))).sw


POINT = public_of(OWNER).point.hex()
RECEIVER = "7f4946" + "80010d" + "8641" + POINT
OK, NO, NOT_NOW, GONE = 0x9000, 0x6982, 0x6985, 0x6985
# Answers by state: initialised, pre-personalised, personalised, operational; in three columns: in the clear,
# after PACE, with the administrator (who is there from pre-personalised on). 0 is the row's good answer.
TABLE: dict[str, tuple[str, str, int | None, int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    # name: header, body, le, good answer, clear, PACE, PACE + administrator
    "read status": ("00b08600", "", 200, 0x6282, (NO, NO, NO, NO), (0, 0, 0, 0), (0, 0, 0)),
    "read a free file": ("00b09c00", "", 2, OK, (0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0)),
    "update own data": ("00d68400", "0000", None, OK, (NO,) * 4, (0, 0, 0, 0), (0, 0, 0)),
    "update certificates": ("00d68300", "0000", None, OK, (NO,) * 4, (0, 0, 0, NO), (0, 0, 0)),
    "update identifiers": ("00d68100", "0000", None, OK, (NO,) * 4, (0, 0, 0, NOT_NOW), (0, 0, NOT_NOW)),
    "create a file": ("00e00000", "6208830202028002 0010", None, OK, (NO,) * 4, (0, 0, NO, NO), (0, 0, 0)),
    "delete a file": ("00e40000", "620483020201", None, OK, (NO,) * 4, (0, 0, NO, NO), (0, 0, 0)),
    "random": ("00840000", "", 8, OK, (NO,) * 4, (0, 0, 0, 0), (0, 0, 0)),
    "ephemeral key": (
        "00468200",
        "b60684016080010d",
        256,
        OK,
        (NO,) * 4,
        (NOT_NOW, 0, 0, 0),
        (0, 0, 0),
    ),
    "read a public key": ("00468100", "b603840101", 256, OK, (NO,) * 4, (NOT_NOW, 0, 0, 0), (0, 0, 0)),
    "choose a key to sign": ("002241b6", "840101", None, OK, (NO,) * 4, (NOT_NOW, 0, 0, 0), (0, 0, 0)),
    "choose a key to agree": ("002241a6", "840101", None, OK, (NO,) * 4, (NOT_NOW, 0, 0, 0), (0, 0, 0)),
    "choose an internal key": ("002241a4", "840101", None, OK, (NO,) * 4, (NOT_NOW, 0, 0, 0), (0, 0, 0)),
    "choose a public key": ("002281b6", "830132", None, OK, (NO,) * 4, (NOT_NOW, 0, 0, 0), (0, 0, 0)),
    "verify": (
        "002a00a8",
        "9a20" + "00" * 32 + "9e40" + "01" * 64 + RECEIVER,
        None,
        0x6300,
        (NO,) * 4,
        (NOT_NOW, 0, 0, 0),
        (0, 0, 0),
    ),
    "a new current key": (
        "0046c200",
        "b60684010180010d",
        256,
        OK,
        (NO,) * 4,
        (NOT_NOW, 0, NO, NO),
        (0, 0, NOT_NOW),
    ),
    "a new pending key": (
        "0046c200",
        "b60684018180010d",
        256,
        OK,
        (NO,) * 4,
        (NOT_NOW, 0, NO, NO),
        (0, 0, 0),
    ),
    "activate a pending key": ("00442001", "", None, OK, (NO,) * 4, (NOT_NOW, 0, NO, NO), (0, 0, 0)),
    "delete a key": ("00e40000", "840101", None, OK, (NO,) * 4, (NOT_NOW, 0, NO, NO), (0, 0, 0)),
    "deactivate a key": (
        "00042101",
        "",
        None,
        OK,
        (NO,) * 4,
        (NOT_NOW, NOT_NOW, NO, NO),
        (NOT_NOW, 0, 0),
    ),
    "a store key where there is none": (
        "00468200",
        "b60684010880010d",
        256,
        OK,
        (NO,) * 4,
        (NOT_NOW, 0, 0, 0),
        (0, 0, 0),
    ),
    "a new key of a net": ("0046c200", "b60684011080010d", 256, OK, (NO,) * 4, (NOT_NOW, 0, 0, 0), (0, 0, 0)),
    "activate a net's key": ("00442010", "", None, OK, (NO,) * 4, (NOT_NOW, 0, 0, 0), (0, 0, 0)),
    "delete a net's key": ("00e40000", "840110", None, OK, (NO,) * 4, (NOT_NOW, 0, 0, 0), (0, 0, 0)),
    "a service key": (
        "00468200",
        "b64f" + "840151" + "80010d" + RECEIVER,
        256,
        OK,
        (NO,) * 4,
        (NOT_NOW, 0, 0, 0),
        (0, 0, 0),
    ),
    "choose a service key": ("002241b8", "840150", None, OK, (NO,) * 4, (NOT_NOW, 0, 0, 0), (0, 0, 0)),
    "activate the next root": ("00442031", "", None, OK, (NO,) * 4, (NOT_NOW, 0, NO, NO), (0, 0, 0)),
    "delete an imported key": ("00e40000", "8301b1", None, OK, (NO,) * 4, (NOT_NOW, 0, NO, NO), (0, 0, 0)),
    "name the administrator": ("002281a4", "830132", None, OK, (NO,) * 4, (NOT_NOW, 0, 0, 0), (0, 0, 0)),
    "change the PIN with the old one": (
        "00240003",
        (PIN + b"0987654321").hex(),
        None,
        OK,
        (NO,) * 4,
        (0, 0, NO, NO),
        (0, 0, 0),
    ),
    "set a PIN": (
        "00240103",
        b"0987654321".hex(),
        None,
        OK,
        (NO,) * 4,
        (NOT_NOW, NOT_NOW, NO, NO),
        (NOT_NOW, 0, 0),
    ),
    "reset the counter": ("002c0303", "", None, OK, (NO,) * 4, (NOT_NOW, NOT_NOW, NO, NO), (NOT_NOW, 0, 0)),
    "deactivate the PIN": ("00041003", "", None, OK, (NO,) * 4, (NOT_NOW, NOT_NOW, NO, NO), (NOT_NOW, 0, 0)),
    "increase the counter": ("00320001", "", 8, OK, (NO,) * 4, (NOT_NOW, 0, 0, 0), (0, 0, 0)),
    "terminate": (
        "00fe0000",
        "",
        None,
        OK,
        (NO,) * 4,
        (NOT_NOW, NOT_NOW, NOT_NOW, NO),
        (NOT_NOW, NOT_NOW, 0),
    ),
    "terminate the application": (
        "00e60000",
        "",
        None,
        OK,
        (NO,) * 4,
        (NOT_NOW, NOT_NOW, NOT_NOW, NO),
        (NOT_NOW, NOT_NOW, 0),
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_rights(name: str) -> None:
    header, body, le, good, clear, pace, administrator = TABLE[name]
    for state, expected in zip(STATES, clear, strict=False):
        terminal, memory = card_in(state, pace=False)
        before = memory.content
        assert ask(terminal, header, body, le) == (expected or good), (state, "in the clear")
        if expected:
            assert memory.content == before
    for state, expected in zip(STATES, pace, strict=False):
        terminal, memory = card_in(state, pace=True)
        before = memory.content
        assert ask(terminal, header, body, le) == (expected or good), (state, "after PACE")
        if expected:
            assert memory.content == before
    for state, expected in zip(STATES[1:], administrator, strict=False):
        terminal, _ = card_in(state, pace=True, administrator=True)
        assert ask(terminal, header, body, le) == (expected or good), (state, "with the administrator")
    terminal, memory = card_in(LifeCycle.TERMINATED, pace=False)
    before = memory.content
    assert ask(terminal, header, body, le) == GONE
    assert memory.content == before


def test_no_command_reads_a_private_key() -> None:
    """Every instruction with every first parameter, as the most powerful user: no scalar comes out."""
    terminal, memory = card_in(LifeCycle.OPERATIONAL, pace=True, administrator=True)
    secrets = [key.scalar for key in memory.state.keys.values()]
    spared = {PROJECT.ins_terminate_card, PROJECT.ins_terminate_application}
    for ins in range(256):
        if ins in spared or ins >> 4 in (6, 9):
            continue
        for body in ("", "840101", "b603840101"):
            answer = terminal.run(raw(CommandApdu(0, ins, 0, 0, bytes.fromhex(body), 256)))
            assert not any(secret in answer.data for secret in secrets)


def test_life_cycle_goes_one_way() -> None:
    terminal, _ = card_in(LifeCycle.INITIALISED, pace=True)
    assert ask(terminal, "00440015") == 0x6985  # not by skipping
    assert ask(terminal, "00440003") == OK  # where it is
    assert ask(terminal, "00440013") == OK
    assert ask(terminal, "00440013") == OK  # repeating changes nothing
    assert ask(terminal, "00440003") == 0x6985  # never back
    assert ask(terminal, "0044000c") == 0x6A86
    assert ask(terminal, "00440015") == OK
    assert ask(terminal, "00440005") == NO  # the administrator's to decide
    message = terminal.run(terminal.client.administrator_challenge())
    assert terminal.run(terminal.client.authenticate_administrator(signed(message)))
    assert ask(terminal, "00440005") == OK
    assert ask(terminal, "00440015") == 0x6985
    assert terminal.card.life_cycle is LifeCycle.OPERATIONAL


def test_no_personalisation_without_root_and_administrator() -> None:
    card, _ = make_card()
    terminal = Terminal(card)
    terminal.log_in()
    assert ask(terminal, "00440015") == 0x6985


def test_a_terminated_card_has_erased_everything() -> None:
    terminal, memory = card_in(LifeCycle.OPERATIONAL, pace=True, administrator=True)
    terminal.run(terminal.client.terminate())
    state = memory.state
    assert (state.pin, state.keys, state.public, state.files) == (b"", {}, {}, {})
    assert ask(terminal, "00840000", "", 8) == 0x6985  # still under secure messaging
    again = Terminal(terminal.card)
    for header in ("00a4000c", "0022c1a4", "00840000", "00c20000"):
        assert ask(again, header, "", 256) == 0x6985


# --- the administrator -------------------------------------------------------------------------------------


def test_a_challenge_is_used_once_and_by_the_right_key() -> None:
    terminal, _ = card_in(LifeCycle.OPERATIONAL, pace=True)
    client, run = terminal.client, terminal.run
    assert ask(terminal, "00820000", "00" * 64) == 0x6985  # no challenge
    message = run(client.administrator_challenge())
    assert not run(client.authenticate_administrator(bytes(64)))  # 6300
    assert ask(terminal, "00820000", signed(message).hex()) == 0x6985  # used up by the failure
    assert ask(terminal, "00442001") == NO
    message = run(client.administrator_challenge())
    run(client.random(8))  # the random number service does not disturb it
    assert run(client.authenticate_administrator(signed(message)))
    assert ask(terminal, "00820000", signed(message).hex()) == 0x6985
    assert ask(terminal, "00442001") == OK
    run(client.select())  # ends the administrator's rights, not the session
    assert ask(terminal, "00442010") == OK
    assert ask(terminal, "00042101") == NO
    assert ask(terminal, "002281a4", "830138") == 0x6A88  # another key is nobody's


def test_the_signature_is_bound_to_this_card() -> None:
    terminal, _ = card_in(LifeCycle.OPERATIONAL, pace=True)
    message = terminal.run(terminal.client.administrator_challenge())
    other = message[: len(PROJECT.application)] + b"otherone" + message[len(PROJECT.application) + 8 :]
    assert not terminal.run(terminal.client.authenticate_administrator(signed(other)))


def test_the_administrators_rights_end_with_the_session() -> None:
    terminal, _ = card_in(LifeCycle.OPERATIONAL, pace=True, administrator=True)
    terminal.card.apdu(bytes.fromhex("0084000008"))
    again = Terminal(terminal.card)
    again.log_in()
    assert ask(again, "00442001") == NO


def test_a_blocked_pin_has_one_way_out() -> None:
    def blocked(state: CardState) -> None:
        state.life_cycle = LifeCycle.OPERATIONAL
        state.public = {PublicSlot.ADMINISTRATOR: ADMINISTRATOR}
        state.pin_left = 0

    card, memory = make_card(change=blocked)
    terminal = Terminal(card)
    assert ask(terminal, "002c0303") == NO
    assert ask(terminal, "002281a4", "830132") == OK
    assert ask(terminal, "00840000", "", 16) == NO  # no random number service in the clear
    challenge = card.apdu(bytes.fromhex("0084000008"))[:-2]
    message = PROJECT.application + memory.state.serial + challenge
    assert ask(terminal, "00820000", signed(message).hex()) == OK
    assert ask(terminal, "002c0203", b"0987654321".hex()) == NO  # no new PIN in the clear
    assert ask(terminal, "00442001") == NO  # nor anything else
    assert ask(terminal, "002c0303") == OK
    assert memory.state.pin_left == 3
    assert ask(terminal, "002c0303") == NO
    terminal.log_in()


def test_a_deactivated_pin_refuses_pace() -> None:
    terminal, memory = card_in(LifeCycle.OPERATIONAL, pace=True, administrator=True)
    assert ask(terminal, "00041003") == OK
    again = Terminal(terminal.card)
    assert ask(again, "0022c1a4", "800a04007f0007020204020283010384010d") == 0x6283
    assert ask(again, "10860000", "7c00", 256) == 0x6984
    assert memory.state.pin_left == 3


# --- the PIN -----------------------------------------------------------------------------------------------


def test_changing_the_pin() -> None:
    card, memory = make_card()
    terminal = Terminal(card)
    terminal.log_in()
    change = terminal.client.change_pin
    for new in (b"", b"123456789", b"12345678901234567890123456789012 3", b"0123456789" * 4):
        assert ask(terminal, "00240003", (PIN + new).hex()) == 0x6A80
    assert memory.state.pin_left == 3  # nothing was compared
    wrong = b"0000000000"
    assert ask(terminal, "00240003", (wrong + wrong).hex()) == 0x63C2
    assert memory.state.pin_left == 2
    terminal.run(change(PIN, b"99999999990"))
    assert memory.state.pin_left == 3
    assert ask(terminal, "00240003", (PIN + b"1" * 11).hex()) == 0x63C2  # the old one is old
    again = Terminal(card)
    again.log_in(b"99999999990")


def test_three_wrong_old_pins_block() -> None:
    card, memory = make_card()
    terminal = Terminal(card)
    terminal.log_in()
    assert [ask(terminal, "00240003", "30" * 20) for _ in range(4)] == [0x63C2, 0x63C1, 0x6983, 0x6983]
    assert memory.state.pin_left == 0


# --- slots -------------------------------------------------------------------------------------------------


def test_a_pending_key_signs_its_request_and_takes_over() -> None:
    terminal, memory = card_in(LifeCycle.OPERATIONAL, pace=True, administrator=True)
    client, run = terminal.client, terminal.run
    assert ask(terminal, "002241b6", "840181") == OK
    pending = terminal.run(raw(CommandApdu(0, 0x2A, 0x9E, 0x9A, bytes(32), 256))).data
    assert ask(terminal, "002241b6", "840101") == OK
    assert terminal.run(raw(CommandApdu(0, 0x2A, 0x9E, 0x9A, bytes(32), 256))).data != pending
    assert ask(terminal, "00442001") == OK
    assert terminal.run(raw(CommandApdu(0, 0x2A, 0x9E, 0x9A, bytes(32), 256))).data == pending
    assert 0x81 not in memory.state.keys
    assert ask(terminal, "00442001") == 0x6A88
    assert ask(terminal, "00442081") == 0x6A88
    assert ask(terminal, "00442008") == 0x6A88
    assert ask(terminal, "002241b6", "840181") == 0x6A88
    del client, run


def test_a_deactivated_key_is_unusable() -> None:
    terminal, _ = card_in(LifeCycle.OPERATIONAL, pace=True, administrator=True)
    assert ask(terminal, "002241b6", "840101") == OK
    assert ask(terminal, "00042101") == OK
    assert ask(terminal, "002a9e9a", "00" * 32, 256) == 0x6984
    assert ask(terminal, "00042150") == OK  # any stored key
    assert ask(terminal, "00042105") == 0x6A88
    assert ask(terminal, "00442101") == OK
    assert ask(terminal, "002a9e9a", "00" * 32, 256) == OK


def test_a_store_key_is_replaced_by_the_administrator_only() -> None:
    terminal, _ = card_in(LifeCycle.OPERATIONAL, pace=True)
    assert ask(terminal, "00468200", "b60684010880010d", 256) == OK
    assert ask(terminal, "00468200", "b60684010880010d", 256) == 0x6A89
    assert ask(terminal, "0046c200", "b60684010880010d", 256) == NO
    assert ask(terminal, "00e40000", "840108") == NO


def test_the_document_says_what_the_card_does() -> None:
    text = (Path(__file__).parents[3] / "docs" / "security-module.md").read_text(encoding="utf-8")
    letters = {Right.ALWAYS: "A", Right.PACE: "P", Right.GWA: "G", Right.NEVER: "-"}
    for action, rights in access.TABLE.items():
        row = f"| {action.value} | " + " | ".join(letters[needed] for needed in rights) + " | - |"
        assert row in text
