"""kill -9 at every step of writing: the old state or the new one, never a mix, never a try given back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hsm.api import KeySlot
from hsm.emulator.personalise import new_card
from hsm.emulator.state import CardState, decode_state
from hsm.emulator.storage import FileStorage
from tests.support.card import PIN
from tests.unit.hsm.card_child import NEW_PIN

ROOT = Path(__file__).parents[3]


def state_of(folder: Path) -> CardState:
    storage = FileStorage(folder)
    state = decode_state(storage.load())
    assert not storage.lost  # a kill leaves no damaged generation behind
    return state


def judge(before: CardState, said: list[str], after: CardState) -> None:
    """Everything acknowledged holds; at most one step more has happened."""
    told = dict(line.split() for line in said if " " in line)
    counter = int(told.get("counter", before.counter))
    assert after.counter in (counter, counter + 1)
    assert after.pin in (PIN, NEW_PIN)
    if "pin" in told:
        assert after.pin == told["pin"].encode()
    if "counter" in told and "pin" not in told:
        assert after.pin in (before.pin, NEW_PIN if before.pin == PIN else PIN)
    tries = [int(line.split()[1]) for line in said if line.startswith("pin_left")]
    if tries and tries[-1] == 2:
        assert after.pin_left == 2
    assert 0 <= after.pin_left <= 3
    if not tries:
        assert after.pin_left in (2, 3)
    for key in after.keys.values():
        assert len(key.scalar) == 32
        assert len(key.point) == 65
    if told.get("pending") == "1" and "counter" not in told:
        waiting = KeySlot.DCNET_1_NEXT in after.keys
        assert waiting or KeySlot.DCNET_1 in after.keys


def tear(folder: Path, rounds: int) -> tuple[int, int]:
    """Kill a working card `rounds` times, one step later each time; returns (killed, finished)."""
    new_card(folder, PIN)
    killed = finished = 0
    command = [sys.executable, "-m", "tests.unit.hsm.card_child", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        step = 1
        for number in range(rounds):
            before = state_of(folder)
            child.stdin.write(f"{step} {number % 2}\n")
            child.stdin.flush()
            said: list[str] = []
            while (line := child.stdout.readline().strip()) not in ("killed", "finished"):
                assert line, "the child is gone"
                said.append(line)
            judge(before, said, state_of(folder))
            if line == "killed":
                killed, step = killed + 1, step + 1
            else:
                finished, step = finished + 1, 1
        child.stdin.close()
    return killed, finished


def test_killed_fifty_times(tmp_path: Path) -> None:
    killed, _ = tear(tmp_path / "card", 58)
    assert killed >= 50


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_killed_a_thousand_times(tmp_path: Path) -> None:
    killed, finished = tear(tmp_path / "card", 1060)
    assert killed >= 1000
    assert finished
