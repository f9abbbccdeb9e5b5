"""Known answers say where they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.vectors import VECTORS


def faults(document: Any) -> list[str]:
    """Return what is wrong with a vector file: no source, no cases, cases without distinct ids."""
    if not isinstance(document, dict):
        return ["not an object"]
    found = []
    source = document.get("source")
    if not isinstance(source, str) or len(source.strip()) < 8:
        found.append("names no source")
    cases = document.get("cases")
    if not isinstance(cases, list) or not cases:
        return [*found, "has no cases"]
    ids = [case.get("id") if isinstance(case, dict) else None for case in cases]
    if None in ids or len(set(map(str, ids))) != len(ids):
        found.append("has cases without an id of their own")
    return found


@pytest.mark.parametrize(
    "path", sorted(VECTORS.rglob("*.json")), ids=lambda path: str(path.relative_to(VECTORS))
)
def test_every_vector_file_names_its_source(path: Path) -> None:
    assert faults(json.loads(path.read_text(encoding="utf-8"))) == []


def test_there_are_vector_files() -> None:
    assert list(VECTORS.rglob("*.json"))


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"cases": [{"id": "1"}]},
        {"source": "   ", "cases": [{"id": "1"}]},
        {"source": "RFC 4493, section 4"},
        {"source": "RFC 4493, section 4", "cases": []},
        {"source": "RFC 4493, section 4", "cases": [{"key": "00"}]},
        {"source": "RFC 4493, section 4", "cases": [{"id": "1"}, {"id": "1"}]},
    ],
)
def test_a_file_without_source_is_found(document: Any) -> None:
    assert faults(document)
