"""What README and docs tell to type exists: words, options, files; and each event is written or says not."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from firmware.log.entry import Event
from firmware.log.vocabulary import MEANINGS
from tests.architecture.source import ROOT, modules
from tools.cli.main import _COMMANDS

OF_THE_SCRIPT = {
    "test": set(
        re.findall(r'"(--[a-z0-9-]+)"', (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    ),
    "lock": set(),
    "lint": set(),
    "run": {"-c", "--config"},
}
"""Options of the words that click does not know."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = ("firmware/", "hsm/", "lmn/", "wan/", "han/", "tools/", "tests/", "docs/", "requirements/")


@cache
def command(word: str) -> Any:
    """Return the click command behind a word."""
    return typer.main.get_command(importlib.import_module(f"tools.cli.{word}").app)


def calls(text: str) -> Iterator[list[str]]:
    """Yield the arguments of each `smgw ...` in the code of a page: fenced lines, and spans in backquotes."""
    fenced = re.findall(r"^```(?:sh|text)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in fenced for line in block.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    for line in (*lines, *spans):
        if match := re.match(r"\s*(?:\$ )?(?:\./)?smgw(?: +(.*))?$", line):
            yield (match[1] or "").partition("#")[0].replace("[", " ").replace("]", " ").split()


def faults(words: list[str]) -> list[str]:
    """Return what is wrong with one call: a word or an option that does not exist."""
    if not words or words[0].startswith("-"):
        return []
    word, *rest = words
    options = {part.partition("=")[0] for part in rest if re.match(r"--?[a-z]", part)} - {"--help"}
    if word in OF_THE_SCRIPT:
        return [f"{word} {option}" for option in sorted(options - OF_THE_SCRIPT[word])]
    if word not in _COMMANDS:
        return [f"no word {word}"]
    found = command(word)
    known = {name for each in found.params for name in (*each.opts, *each.secondary_opts)}
    if getattr(found, "commands", None) and rest and not rest[0].startswith("-"):
        if not re.fullmatch(r"[a-z|]+", rest[0]):
            return []
        for name in rest[0].split("|"):
            if name in found.commands:
                inner = found.commands[name]
                known |= {one for each in inner.params for one in (*each.opts, *each.secondary_opts)}
            elif not getattr(found, "invoke_without_command", False):
                return [f"no word {word} {name}"]
    return [f"{word} {option}" for option in sorted(options - known)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [fault for words in calls(text) for fault in faults(words)] == []


def test_the_commands_of_the_readme_are_found() -> None:
    found = list(calls((ROOT / "README.md").read_text(encoding="utf-8")))
    assert ["init", "my-gateway"] in found
    assert {"demo", "init", "meter", "run", "status", "log"} <= {words[0] for words in found if words}


def test_the_readme_lists_every_word() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| words | for |") :].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z]+)`", table)) == set(_COMMANDS)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("`smgw dmeo`", "no word dmeo"),
        ("`./smgw demo --hsn pcsc`", "demo --hsn"),
        ("```sh\n./smgw log syslog -c x   # what\n```", "no word log syslog"),
        ("```sh\n./smgw log system --export f --fast\n```", "log --fast"),
        ("`smgw run --fast`", "run --fast"),
    ],
)
def test_a_command_that_is_not_there_is_found(text: str, fault: str) -> None:
    assert [found for words in calls(text) for found in faults(words)] == [fault]


def lost_paths(text: str) -> list[str]:
    """Return the files and folders of ours that a page names in backquotes and that are not there."""
    named = {
        name.partition("::")[0]
        for name in re.findall(r"`([\w./-]+(?:::\w+)?)`", text)
        if name.startswith(FOLDERS)
    }
    return sorted(name for name in named if not (ROOT / name).exists())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    assert lost_paths(page.read_text(encoding="utf-8")) == []


def test_a_file_that_is_not_there_is_found() -> None:
    assert lost_paths("`firmware/pipeline.py`, `firmware/boot.py`, `tests/nothing.py::test`") == [
        "firmware/pipeline.py",
        "tests/nothing.py",
    ]


def test_the_vocabulary_says_which_events_are_written() -> None:
    elsewhere = "\n".join(
        each.text for each in modules() if each.name not in ("firmware.log.entry", "firmware.log.vocabulary")
    )
    used = {event for event in Event if re.search(rf"\bEvent\.{event.name}\b", elsewhere)}
    assert used == {event for event, meaning in MEANINGS.items() if meaning.written}
