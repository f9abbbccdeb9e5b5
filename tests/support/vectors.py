"""Known answers: each file under tests/vectors names its source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

VECTORS = Path(__file__).resolve().parents[1] / "vectors"


def load(name: str) -> dict[str, Any]:
    """Read a vector file; it must name its source."""
    document: dict[str, Any] = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    assert document["source"], f"{name} names no source"
    return document


def vectors(name: str) -> pytest.MarkDecorator:
    """Run the test once per case of tests/vectors/<name>."""
    return pytest.mark.parametrize("case", load(name)["cases"], ids=lambda case: str(case["id"]))
