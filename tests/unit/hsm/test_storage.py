"""The card's memory: old or new after a failure at any step, damage is noticed, private to its owner."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from hsm.api import LifeCycle
from hsm.emulator import load_card
from hsm.emulator.card import Card, PowerEvent
from hsm.emulator.drbg import Drbg
from hsm.emulator.entropy import FixedEntropy, OperatingSystemEntropy
from hsm.emulator.personalise import new_card, new_state
from hsm.emulator.state import CardState, decode_state, encode_state
from hsm.emulator.storage import FileStorage, MemoryStorage, seal, unseal
from hsm.errors import ModuleFailed, ModuleUnavailable, PinRefused
from tests.support.card import PIN, Terminal

KEY = bytes(range(32))


def test_round_trip_and_mode(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path)
    assert not storage.exists()
    with pytest.raises(ModuleUnavailable):
        storage.load()
    for content in (b"one", b"two", b"three"):
        storage.save(content)
        again = FileStorage(tmp_path)
        assert again.load() == content
        assert not again.lost
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert names == ["card.0", "card.1", "card.key"]
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names} == {0o600}


def test_two_generations_follow_each_other(tmp_path: Path) -> None:
    FileStorage(tmp_path).save(b"one")
    again = FileStorage(tmp_path)
    again.load()
    again.save(b"two")
    key = again._key()
    assert [unseal(key, (tmp_path / name).read_bytes()) for name in FileStorage.NAMES] == [
        (1, b"one"),
        (2, b"two"),
    ]


def test_any_damage_is_noticed() -> None:
    blob = seal(KEY, b"content", 7)
    assert unseal(KEY, blob) == (7, b"content")
    for index in range(len(blob)):
        spoiled = bytearray(blob)
        spoiled[index] ^= 1
        with pytest.raises(ModuleFailed):
            unseal(KEY, bytes(spoiled))
        with pytest.raises(ModuleFailed):
            unseal(KEY, blob[:index])
    with pytest.raises(ModuleFailed):
        unseal(KEY, blob + b"\x00")
    with pytest.raises(ModuleFailed):
        unseal(bytes(32), blob)


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("hsm.emulator.storage._VERSION", 3)
    blob = seal(KEY, b"content", 1)
    monkeypatch.undo()
    with pytest.raises(ModuleFailed, match="form"):
        unseal(KEY, blob)
    (tmp_path / FileStorage.OLD_NAME).write_bytes(b"SMGWHSM")
    with pytest.raises(ModuleFailed, match="older version"):
        load_card(tmp_path)
    with pytest.raises(ModuleFailed, match="already"):
        new_card(tmp_path, PIN)


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
def test_a_failure_at_any_step_leaves_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    storage = FileStorage(tmp_path)
    storage.save(b"old")

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("power")

    monkeypatch.setattr(Path if step == "replace" else os, step, fail)
    with pytest.raises(OSError, match="power"):
        storage.save(b"new")
    monkeypatch.undo()
    assert FileStorage(tmp_path).load() == b"old"
    storage.save(b"newer")
    assert FileStorage(tmp_path).load() == b"newer"


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_a_damaged_newest_generation_gives_no_try_back(tmp_path: Path, damage: str) -> None:
    """Falling back costs a try and moves the counter on, because the lost state may have done so."""
    new_card(tmp_path, PIN)
    card = load_card(tmp_path)
    card.power(PowerEvent.ON)
    card.apdu(bytes.fromhex("0022c1a412800a04007f0007020204020283010384010d"))
    card.apdu(bytes.fromhex("10860000027c0000"))  # one try used: generation 2
    newest = tmp_path / max(FileStorage.NAMES, key=lambda name: generation(tmp_path, name))
    blob = newest.read_bytes()
    if damage == "gone":
        newest.unlink()
    else:
        newest.write_bytes({"flip": b"\x00" + blob[1:], "cut": blob[:-1], "empty": b""}[damage])
    before = state_of(tmp_path)
    if damage == "gone":  # two files are what every card has after its first change
        (tmp_path / newest.name).write_bytes(b"")
    again = load_card(tmp_path)
    assert before.pin_left == 3
    state = state_of(tmp_path)
    assert (state.pin_left, state.counter) == (2, 1)
    again.power(PowerEvent.ON)
    assert again.apdu(bytes.fromhex("0022c1a412800a04007f0007020204020283010384010d")).hex() == "63c2"
    assert load_card(tmp_path) is not None
    assert state_of(tmp_path).pin_left == 2  # once, not at every start


def generation(folder: Path, name: str) -> int:
    storage = FileStorage(folder)
    path = folder / name
    return unseal(storage._key(), path.read_bytes())[0] if path.exists() else 0


def state_of(folder: Path) -> CardState:
    return decode_state(FileStorage(folder).load())


def test_both_generations_damaged_or_the_key_gone(tmp_path: Path) -> None:
    new_card(tmp_path, PIN)
    card = load_card(tmp_path)
    card.power(PowerEvent.ON)
    key = tmp_path / FileStorage.KEY_NAME
    secret = key.read_bytes()
    key.unlink()
    with pytest.raises(ModuleFailed, match="key"):
        load_card(tmp_path)
    key.write_bytes(bytes(32))
    with pytest.raises(ModuleFailed, match="damaged"):
        load_card(tmp_path)
    key.write_bytes(secret)
    load_card(tmp_path)


def test_two_owners_of_one_card_are_noticed(tmp_path: Path) -> None:
    new_card(tmp_path, PIN)
    first, second = FileStorage(tmp_path), FileStorage(tmp_path)
    first.load()
    second.load()
    first.save(b"one")
    with pytest.raises(OSError, match="another process"):
        second.save(b"two")
    assert FileStorage(tmp_path).load() == b"one"


def test_new_card_and_load(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "card"
    new_card(folder, PIN)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert load_card(folder).life_cycle is LifeCycle.PRE_PERSONALISED
    with pytest.raises(ModuleFailed, match="already"):
        new_card(folder, PIN)


def test_no_card_and_a_damaged_card(tmp_path: Path) -> None:
    with pytest.raises(ModuleUnavailable):
        load_card(tmp_path)
    FileStorage(tmp_path).save(b"not a state")
    with pytest.raises(ModuleFailed):
        load_card(tmp_path)
    (tmp_path / FileStorage.NAMES[0]).write_bytes(b"garbage")
    with pytest.raises(ModuleFailed):
        load_card(tmp_path)


@pytest.mark.parametrize(
    "pin", [b"", b"123456789", b"123456789x", b"12345 67890", "１２３４５６７８９０".encode()]
)
def test_a_pin_has_ten_digits(tmp_path: Path, pin: bytes) -> None:
    with pytest.raises(PinRefused):
        new_card(tmp_path / "card", pin)
    assert not (tmp_path / "card").exists()


def test_state_round_trip_shows_nothing() -> None:
    state = new_state(PIN)
    assert decode_state(encode_state(state)) == state
    assert PIN.decode() not in repr(state)
    with pytest.raises(ModuleFailed):
        decode_state(b"\x80")


def test_a_card_in_operation_refuses_a_test_generator() -> None:
    state = new_state(PIN)
    state.life_cycle = LifeCycle.OPERATIONAL
    with pytest.raises(ModuleFailed, match="entropy"):
        Card(MemoryStorage(encode_state(state)), Drbg(FixedEntropy(b"x")))
    Card(MemoryStorage(encode_state(state)), Drbg(OperatingSystemEntropy()))


def test_a_used_try_survives_the_process(tmp_path: Path) -> None:
    """The counter is down on the medium before the nonce leaves."""
    new_card(tmp_path, PIN)
    card = load_card(tmp_path)
    card.power(PowerEvent.ON)
    card.apdu(bytes.fromhex("0022c1a412800a04007f0007020204020283010384010d"))
    assert card.apdu(bytes.fromhex("10860000027c0000")).endswith(b"\x90\x00")
    again = load_card(tmp_path)  # the process died here
    again.power(PowerEvent.ON)
    sw = again.apdu(bytes.fromhex("0022c1a412800a04007f0007020204020283010384010d"))
    assert sw.hex() == "63c2"
    Terminal(again).log_in()
    final = load_card(tmp_path)
    final.power(PowerEvent.ON)
    assert final.apdu(bytes.fromhex("0022c1a412800a04007f0007020204020283010384010d")).hex() == "9000"
