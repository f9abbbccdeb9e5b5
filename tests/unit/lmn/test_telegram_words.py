"""German words of `smgw decode wmbus` and `smgw listen`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lmn.wmbus.kinds import KINDS
from tests.support.vectors import load
from tests.unit.lmn.test_contract import QUANTITIES
from tools.cli import decode, listen
from tools.cli.decode import HINTS, app
from tools.cli.plain_words import Lang
from tools.cli.telegram_words import GERMAN, said

CASES = {case["id"]: case for case in load("lmn/telegrams.json")["cases"]}
RUN = CliRunner()
HOLE = re.compile(r"\{\w+\}")


def literals_said(path: Path) -> set[str]:
    """Texts that a module passes to `say` or `said` as they stand."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("say", "said"):
            first = node.args[0]
            if isinstance(first, ast.Constant):
                found.add(first.value)
    return found


def test_everything_that_is_said_has_german_words() -> None:
    said_there = {text for module in (decode, listen) for text in literals_said(Path(module.__file__))}
    assert len(said_there) > 15
    assert said_there | set(HINTS.values()) | set(QUANTITIES) <= set(GERMAN)


def test_the_same_holes_in_both_languages() -> None:
    for english, german in GERMAN.items():
        assert sorted(HOLE.findall(english)) == sorted(HOLE.findall(german)), english


def test_words_and_their_holes() -> None:
    assert said("{seconds} s ago", Lang.DE, seconds=4) == "vor 4 s"
    assert said("{seconds} s ago", Lang.EN, seconds=4) == "4 s ago"
    assert said("an owner's own word", Lang.DE) == "an owner's own word"


@pytest.mark.parametrize("how", [{"args": ["--lang", "de"]}, {"env": {"LC_ALL": "", "LANG": "de_DE.UTF-8"}}])
def test_a_telegram_in_german(how: dict[str, object]) -> None:
    case = CASES["V2"]
    arguments = ["wmbus", case["telegram"], "--key", case["key"], *how.get("args", [])]  # type: ignore[misc]
    environment = {"COLUMNS": "150", **how.get("env", {})}  # type: ignore[dict-item]
    shown = RUN.invoke(app, arguments, env=environment).stdout
    for word in ("Volumen", "28504.27", "Größe", "momentan", "Schutz: mode7, Zähler 2739"):
        assert word in shown
    assert "volume" not in shown


def test_a_refusal_in_german() -> None:
    case = CASES["V2"]
    refused = RUN.invoke(app, ["wmbus", case["telegram"], "--key", "00" * 16, "--lang", "de"])
    assert refused.exit_code == 1
    assert "abgelehnt (mac)" in refused.stderr
    assert "Nichts wurde entschlüsselt." in " ".join(refused.stderr.split())


def test_what_a_stick_hears_in_german() -> None:
    kind = KINDS["im871a"]
    session = listen.Session("stick0", kind, None, lambda _event: None)
    view = listen.table(session, 0.0, Lang.DE)
    assert view.title == f"{kind.title} an stick0, Modus ?: 0 Telegramme"
    assert [column.header for column in view.columns][1:4] == ["Hersteller", "Nummer", "Art"]
    assert str(view.caption).startswith("noch kein Byte vom Empfänger")
    session.trouble = "no answer"
    assert session.advice(Lang.DE) == "Störung: keine Antwort"
