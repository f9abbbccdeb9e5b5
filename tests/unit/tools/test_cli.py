"""`smgw`: words, help, exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.whole_gateway import ROOT
from tools.cli import main as cli
from tools.cli.main import main


def ended(*words: str) -> object:
    with pytest.raises(SystemExit) as end:
        main(words)
    return end.value.code


@pytest.mark.parametrize("word", ["-h", "--help", "help"])
def test_help_lists_every_command(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(word) == 0
    said = capsys.readouterr().out
    assert all(f"  {command} " in said for command in cli._COMMANDS)


def test_nothing_is_wrong_usage_and_still_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended() == 2
    assert "usage: smgw" in capsys.readouterr().out


@pytest.mark.parametrize(("word", "hint"), [("dmeo", "'demo'"), ("profil", "'profile'"), ("xyzzy", "--help")])
def test_an_unknown_word(word: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(word) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert repr(word) in told.err
    assert hint in told.err


@pytest.mark.parametrize("word", cli._COMMANDS)
def test_every_command_has_help(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(word, "--help") == 0
    assert f"smgw {word}" in capsys.readouterr().out


@pytest.mark.parametrize("word", cli._COMMANDS)
def test_an_unknown_option_is_wrong_usage(word: str) -> None:
    assert ended(word, "--no-such-option") == 2


def test_a_commands_own_exit_code_comes_through(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path)
    assert ended("init", folder) == 0
    assert "smgw run -c" in capsys.readouterr().out
    assert ended("init", folder) == 1  # there is one already
    assert "holds a gateway already" in capsys.readouterr().err
    assert ended("init") == 2


def test_as_a_process() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.cli", "nope"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
