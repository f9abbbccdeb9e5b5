"""Whatever is in a file: compute, leak and aggregate answer, or say which file it is and what is wrong."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from tests.unit.tools.test_dcnet_compute import form
from tests.unit.tools.test_dcnet_leak import recorded
from tools.cli import aggregate, dcnet
from tools.dcnet.compute import computed

RUNS: Final = 60
JUNK: Final[list[Any]] = [
    None, True, 0, -1, 1, 2**32, 2**64, 2**80, 1.5, 1e400, "", "0", "zz", "00" * 8, "00" * 16, "00" * 32, "ü",
    "1-2", [], [0], [[]], {}, {"1": 1}, {"1": [1]}, {"a": "b"}, "\x00",
]  # fmt: skip


def places(item: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    found = [path] if path else []
    pairs = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list) else ()
    return found + [one for name, value in pairs for one in places(value, (*path, name))]


def spoilt(document: Any, source: random.Random) -> Any:
    """The document with one to three places taken out, doubled or replaced."""
    made = copy.deepcopy(document)
    for _ in range(source.randint(1, 3)):
        path = source.choice(places(made) or [()])
        if not path:
            return source.choice(JUNK)
        holder = made
        for name in path[:-1]:
            holder = holder[name]
        if source.random() < 0.25:
            del holder[path[-1]]
        elif source.random() < 0.2 and isinstance(holder, dict):
            holder[str(source.choice(JUNK))] = holder.pop(path[-1])
        else:
            holder[path[-1]] = copy.deepcopy(source.choice(JUNK))
    return made


def broken(text: str, source: random.Random) -> str:
    """The text with a piece cut out, doubled, or a character changed."""
    at, length = source.randrange(len(text)), source.randrange(1, 40)
    return source.choice(
        (
            lambda: text[:at] + text[at + length :],
            lambda: text[:at] + text[at : at + length] + text[at:],
            lambda: text[:at] + source.choice('{}[]",:0x\n\u2028') + text[at + 1 :],
        )
    )()


def answers(app: Any, arguments: list[str]) -> int:
    """Exit code of a word that neither fell over nor left one alone with an error."""
    done = CliRunner().invoke(app, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), (arguments, done.exception)
    if done.exit_code == 2:
        assert len(done.stderr.strip()) > 10
        assert "Traceback" not in done.stderr
    return done.exit_code


def search(app: Any, first: list[str], original: str, path: Path, lines: bool) -> dict[int, int]:
    """Answers to many spoilt copies of a file."""
    codes: dict[int, int] = {}
    for number in range(RUNS):
        source = random.Random(number)
        if number % 3 == 0:
            text = broken(original, source)
        elif lines:
            rows = original.splitlines()
            at = source.randrange(len(rows))
            rows[at] = json.dumps(spoilt(json.loads(rows[at]), source))
            text = "\n".join(rows)
        else:
            text = json.dumps(spoilt(json.loads(original), source))
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        code = answers(app, [*first, str(path.parent if lines else path), "--json"])
        codes[code] = codes.get(code, 0) + 1
    return codes


@pytest.mark.parametrize("name", ["nets.json", "totals.jsonl", "r/messages.jsonl"])
@pytest.mark.parametrize(
    ("app", "first"), [(dcnet.app, ["compute"]), (dcnet.app, ["leak"]), (aggregate.app, [])]
)
def test_brackets_without_end(tmp_path: Path, name: str, app: Any, first: list[str]) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("[" * 200_000 + "\n")
    source = path.parent if "/" in name or first == ["leak"] else path
    assert answers(app, [*first, str(source)]) == 2


@pytest.fixture
def nets() -> str:
    """Two small nets, with a kdf, a prf and a graph."""
    return json.dumps({name: part[:1] if isinstance(part, list) else part for name, part in form().items()})


def test_compute(tmp_path: Path, nets: str) -> None:
    codes = search(dcnet.app, ["compute"], nets, tmp_path / "nets.json", lines=False)
    assert set(codes) <= {0, 2}
    assert codes[2] > RUNS // 3


def test_aggregate_of_nets(tmp_path: Path, nets: str) -> None:
    text = json.dumps(computed(json.loads(nets)))
    codes = search(aggregate.app, [], text, tmp_path / "nets.json", lines=False)
    assert set(codes) <= {0, 1, 2}
    assert codes[2] > RUNS // 10


@pytest.mark.parametrize(("app", "first"), [(dcnet.app, ["leak"]), (aggregate.app, [])])
def test_records(tmp_path: Path, app: Any, first: list[str]) -> None:
    recorded(tmp_path / "r")
    text = (tmp_path / "r/messages.jsonl").read_text(encoding="utf-8")
    codes = search(app, first, text, tmp_path / "r/messages.jsonl", lines=True)
    assert set(codes) <= {0, 1, 2}
    assert codes[2] > RUNS // 4


def test_events_of_a_supplier(tmp_path: Path) -> None:
    def event(slot: int) -> dict[str, Any]:
        told = {"event": "total", "net": "00" * 8, "slot": slot, "members": ["a", "b"], "left_out": ["c"]}
        return told | {"lanes": [30, 0, 2], "verdict": "totalled"}

    text = "\n".join(json.dumps(event(slot)) for slot in range(6))
    codes = search(aggregate.app, [], text, tmp_path / "totals.jsonl", lines=True)
    assert set(codes) <= {0, 1, 2}
    assert codes[2] > RUNS // 4
