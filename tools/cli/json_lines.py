"""One JSON object a line in, one a line out: what `--jsonl` of the decoders has in common."""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn

from lmn.errors import LmnError


class BadLine(LmnError):
    """A line of the batch that is no task."""


def task_of(line: str) -> dict[str, Any]:
    """Read one line; of a key that comes twice the last counts.

    Raises:
        BadLine: no JSON object, or one with a number that JSON cannot say back (NaN, 1e999).
    """
    try:
        task = json.loads(line, parse_constant=_no_number, parse_float=_finite)
    except ValueError as error:
        raise BadLine(f"no JSON: {error}") from error
    except RecursionError as error:
        raise BadLine("no JSON: nested too deeply") from error
    if not isinstance(task, dict):
        raise BadLine("a JSON object is expected")
    return task


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError("a number too large")
    return number


_UNSPEAKABLE: Final = BadLine("its name is nested too deeply to say it back")


def written(outcome: dict[str, Any]) -> str:
    """Write one answer, always as one line of JSON."""
    try:
        return json.dumps(outcome, allow_nan=False) + "\n"
    except RecursionError:
        error = {"code": _UNSPEAKABLE.code, "message": str(_UNSPEAKABLE)}
        return json.dumps({"name": None, "ok": False, "error": error}) + "\n"
