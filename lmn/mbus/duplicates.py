"""Telegrams heard twice: repeaters, receivers with double output, replays in modes without a counter."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

DEFAULT_LIMIT: Final = 1024


class RecentTelegrams:
    """Remembers the telegrams accepted last; bounded, in memory only."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._recent: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, telegram: object) -> bool:
        return telegram in self._recent

    def add(self, telegram: bytes) -> None:
        """Remember an accepted telegram, as received."""
        self._recent[telegram] = None
        self._recent.move_to_end(telegram)
        if len(self._recent) > self._limit:
            self._recent.popitem(last=False)
