"""What a test draws by chance can be drawn again."""

from __future__ import annotations

import ast

import pytest

from tests.architecture.source import ROOT
from tests.support.chance import SEED, seed

TESTS = ROOT / "tests"
HOME = "support/chance.py"


def unseeded(tree: ast.AST) -> list[int]:
    """Lines on which a source of chance is made that nobody can make again."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [(call, ast.unparse(call.func).rpartition(".")[2]) for call in calls]
    return [
        call.lineno
        for call, name in named
        if name == "SystemRandom" or (name == "Random" and not call.args and not call.keywords)
    ]


def test_every_source_of_chance_has_a_seed() -> None:
    found = {
        path.relative_to(TESTS).as_posix(): lines
        for path in TESTS.rglob("*.py")
        if (lines := unseeded(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert found.keys() == {HOME}


@pytest.mark.parametrize("text", ["random.Random()", "x = Random()", "random.SystemRandom(3)"])
def test_one_without_is_seen(text: str) -> None:
    assert unseeded(ast.parse(text)) == [1]
    assert unseeded(ast.parse("random.Random(4)")) == []


def test_the_seed_is_in_the_report_and_can_be_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(SEED, raising=False)
    drawn = seed()
    assert seed() != drawn  # another run, another chance (the same by one in four thousand million)
    told = capsys.readouterr().out.splitlines()[0].partition(f"{SEED}=")[2]
    monkeypatch.setenv(SEED, told)
    assert seed() == drawn == int(told)
