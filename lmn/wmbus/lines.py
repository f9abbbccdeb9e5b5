"""Bytes to lines, for receivers that speak text. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lmn.wmbus.inbox import Inbox
from lmn.wmbus.link import StickStatistics

MAX_LINE: Final = 2048
"""A longer line is garbage: a telegram of 256 bytes has at most 600 digits with its checksums."""
GAP_S: Final = 2.0


class Lines:
    """Cuts lines, whatever ends them; each with the instant of its first byte."""

    def __init__(self, statistics: StickStatistics, max_line: int = MAX_LINE) -> None:
        self._inbox, self._max_line = Inbox(statistics, GAP_S), max_line

    def feed(self, data: bytes, at: float) -> Iterator[tuple[str, float]]:
        """Take the bytes of one read; give the lines that became whole, stripped, without empty ones."""
        inbox = self._inbox
        inbox.add(data, at)
        while (end := inbox.data.find(b"\n")) >= 0:
            text, first = bytes(inbox.data[:end]).strip(), inbox.first_byte_at
            if end > self._max_line:
                inbox.discard(end + 1)
                continue
            inbox.remove(end + 1)
            if text:
                yield text.decode("ascii", "replace"), first
        if len(inbox.data) > self._max_line:
            inbox.discard(len(inbox.data))


def hex_bytes(text: str) -> bytes | None:
    """Bytes of a hexadecimal number without spaces; None for anything else."""
    if len(text) % 2 or not text.isalnum():
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None
