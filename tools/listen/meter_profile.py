"""A meter that was heard becomes a block of meters.toml. The file keeps its comments and its mode."""

from __future__ import annotations

import json
import os
from pathlib import Path

from firmware.config import load_meters
from firmware.errors import ConfigurationRefused
from lmn.mbus.decoder import Security, Telegram


def block(name: str, telegram: Telegram, key: bytes | None, consumer: str) -> str:
    """The TOML block; strict where the meter's telegrams allow that."""
    strict = telegram.security in (Security.MODE7, Security.MODE10)
    lines = [
        "[[meter]]",
        f"id = {json.dumps(name)}",
        f"meter = {json.dumps(str(telegram.meter))}",
        f"key_hex = {json.dumps('' if key is None else key.hex())}",
        f"mode = {json.dumps('strict' if strict else 'open')}",
        f"consumer = {json.dumps(consumer)}",
    ]
    return "\n".join(lines) + "\n"


def add(path: Path, text: str) -> None:
    """Append a block; the new file replaces the old one in one step, and only if it is right as a whole.

    Raises:
        ConfigurationRefused: the name or the meter is there already, or something in the file is wrong.
        OSError: it cannot be written.
    """
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if old and not old.endswith("\n"):
        old += "\n"
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # it holds keys
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(old + ("\n" if old else "") + text)
            stream.flush()
            os.fsync(stream.fileno())
        load_meters(fresh)
    except (ConfigurationRefused, OSError):
        fresh.unlink(missing_ok=True)
        raise
    fresh.replace(path)
