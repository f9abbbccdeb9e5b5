"""The card's memory: old or new after a failure at any step, damage is noticed, private to its owner."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from hsm.emulator import load_card
from hsm.emulator.card import Card, PowerEvent
from hsm.emulator.drbg import Drbg
from hsm.emulator.entropy import FixedEntropy, OperatingSystemEntropy
from hsm.emulator.personalise import new_card, new_state
from hsm.emulator.state import LifeCycle, decode_state, encode_state
from hsm.emulator.storage import FileStorage, MemoryStorage, seal, unseal
from hsm.errors import ModuleFailed, ModuleUnavailable, PinRefused
from tests.support.card import PIN, Terminal


def test_round_trip_and_mode(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path)
    assert not storage.exists()
    with pytest.raises(ModuleUnavailable):
        storage.load()
    storage.save(b"one")
    storage.save(b"two")
    assert FileStorage(tmp_path).load() == b"two"
    path = tmp_path / FileStorage.NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert unseal(path.read_bytes()) == (2, b"two")
    assert [entry.name for entry in tmp_path.iterdir()] == [FileStorage.NAME]


def test_sequence_goes_on_after_a_restart(tmp_path: Path) -> None:
    FileStorage(tmp_path).save(b"one")
    again = FileStorage(tmp_path)
    again.load()
    again.save(b"two")
    assert unseal((tmp_path / FileStorage.NAME).read_bytes())[0] == 2


def test_any_damage_is_noticed() -> None:
    blob = seal(b"content", 7)
    for index in range(len(blob)):
        spoiled = bytearray(blob)
        spoiled[index] ^= 1
        with pytest.raises(ModuleFailed):
            unseal(bytes(spoiled))
        with pytest.raises(ModuleFailed):
            unseal(blob[:index])
    with pytest.raises(ModuleFailed):
        unseal(blob + b"\x00")


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hsm.emulator.storage._VERSION", 2)
    blob = seal(b"content", 1)
    monkeypatch.undo()
    with pytest.raises(ModuleFailed, match="form"):
        unseal(blob)


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
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
    (tmp_path / FileStorage.NAME).write_bytes(b"garbage")
    with pytest.raises(ModuleFailed):
        load_card(tmp_path)
    (tmp_path / FileStorage.NAME).write_bytes(seal(b"not a state", 1))
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
