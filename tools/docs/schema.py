"""JSON Schema of profile documents, from the same definition that reads them."""

from __future__ import annotations

import json
from inspect import cleandoc
from typing import Any, Final

import msgspec

from firmware.profile.model import ProfileSet

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_PYTHON_END: Final = r"\Z"
_ECMA_END: Final = "$"
"""JSON Schema's patterns are ECMA 262, where "$" is the end and nothing but the end."""


def profiles() -> str:
    """Return the schema of a set of meter, processing, communication and proxy profiles, as text."""
    schema = _translated(msgspec.json.schema(ProfileSet))
    return json.dumps({"$schema": DIALECT, **schema}, indent=1, ensure_ascii=False) + "\n"


def _translated(part: Any) -> Any:
    if isinstance(part, dict):
        return {
            key: _text(key, value) if isinstance(value, str) else _translated(value)
            for key, value in part.items()
        }
    return [_translated(value) for value in part] if isinstance(part, list) else part


def _text(key: str, value: str) -> str:
    if key == "pattern" and value.endswith(_PYTHON_END):
        return value.removesuffix(_PYTHON_END) + _ECMA_END
    return cleandoc(value) if key == "description" else value  # Python 3.13 does that by itself
