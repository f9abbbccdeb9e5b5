"""Punctual tests have the machine to themselves, and are not kept waiting by a stream of others."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.support.alone import Floor, floor

SHORT_S, LONG_S = 0.05, 20.0


class Runner:
    """A test in a process of its own, as far as locked files tell."""

    def __init__(self, folder: Path, *, alone: bool) -> None:
        self._floor, self._alone = Floor(folder), alone
        self._inside, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._floor.entered(alone=self._alone):
            self._inside.set()
            assert self._leave.wait(LONG_S)

    def waits(self) -> bool:
        return not self._inside.wait(SHORT_S)

    def enters(self) -> bool:
        return self._inside.wait(LONG_S)

    def leaves(self) -> None:
        self._leave.set()
        self._thread.join(LONG_S)
        assert not self._thread.is_alive()


def test_ordinary_tests_run_beside_each_other(tmp_path: Path) -> None:
    one, other = (Runner(tmp_path, alone=False) for _ in range(2))
    assert one.enters()
    assert other.enters()
    one.leaves()
    other.leaves()


def test_a_punctual_test_waits_for_those_inside_and_comes_before_those_behind_it(tmp_path: Path) -> None:
    ordinary = Runner(tmp_path, alone=False)
    assert ordinary.enters()
    punctual = Runner(tmp_path, alone=True)
    assert punctual.waits()
    late = Runner(tmp_path, alone=False)
    assert late.waits()
    ordinary.leaves()
    assert punctual.enters()
    assert late.waits()
    punctual.leaves()
    assert late.enters()
    late.leaves()


def test_whoever_fails_inside_lets_others_in(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Floor(tmp_path).entered(alone=True):
        raise ZeroDivisionError
    other = Runner(tmp_path, alone=True)
    assert other.enters()
    other.leaves()


def test_a_run_inside_a_test_does_not_wait_for_it() -> None:
    assert floor() is None
