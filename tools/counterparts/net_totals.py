"""The totals of all slots on disk, each once: a slot that is told again after a restart is known."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tools.counterparts.server import Emit

TOTAL: Final = "total"
_REMEMBERED: Final = 4096


class KeptTotals:
    """Appends events `total` to a file that `smgw aggregate` reads; passes on what is new.

    Args:
        path: the file; a last line that was cut off by a crash is dropped.
        emit: takes events.
    """

    def __init__(self, path: Path, emit: Emit) -> None:
        self._path, self._emit = path, emit
        self._told: dict[str, tuple[int, int]] = {}
        self._recent: deque[bytes] = deque(maxlen=_REMEMBERED)
        if path.exists():
            text = path.read_bytes()
            whole = text[: text.rfind(b"\n") + 1]
            if whole != text:
                os.truncate(path, len(whole))
            for line in whole.splitlines():
                self._note(json.loads(line), line)

    def told(self, net: str) -> tuple[int, int]:
        """Return how many totals of a net (id, hex) are kept, and the slot of the last one; -1 for none."""
        return self._told.get(net, (0, -1))

    def _note(self, event: Mapping[str, Any], line: bytes) -> None:
        self._told[event["net"]] = self.told(event["net"])[0] + 1, event["slot"]
        self._recent.append(hashlib.sha256(line).digest())

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take an event; a total is durable on return."""
        if event["event"] == TOTAL:
            line = json.dumps(event).encode()
            if hashlib.sha256(line).digest() in self._recent:
                return
            with self._path.open("ab") as file:
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
            self._note(event, line)
        self._emit(event)
