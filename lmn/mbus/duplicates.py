"""Telegrams heard twice: repeaters, receivers with double output, replays in modes without a counter.

A repeater sends a telegram again with one bit more in the extended link layer's control byte, and nothing
protects that bit: two telegrams that differ in it alone are one.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

DEFAULT_LIMIT: Final = 1024

REPEATER_WINDOW_S: Final = 60.0
"""How long after a telegram its copies are a repeater's; own knowledge: a repeater waits for up to 25 s.
Later the same bytes are a replay."""

_CI: Final = 10
_CONTROL: Final = 11
_EXTENDED_LINK: Final = frozenset((0x8C, 0x8D, 0x8E, 0x8F))
_HOP, _REPEATED = 0x10, 0x02


def without_hops(telegram: bytes) -> bytes:
    """The bare telegram as its meter sent it: the bits that a repeater sets are cleared."""
    if len(telegram) <= _CONTROL or telegram[_CI] not in _EXTENDED_LINK:
        return telegram
    control = telegram[_CONTROL] & ~(_HOP | _REPEATED)
    return telegram[:_CONTROL] + bytes((control,)) + telegram[_CONTROL + 1 :]


class RecentTelegrams:
    """Remembers the telegrams accepted last and when; bounded, in memory only."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._recent: OrderedDict[bytes, float] = OrderedDict()

    def accepted_at(self, telegram: bytes) -> float | None:
        """When this telegram or another copy of it was accepted, None if it was not."""
        return self._recent.get(without_hops(telegram))

    def add(self, telegram: bytes, at: float) -> None:
        """Remember an accepted telegram, as received; `at` in seconds of any clock that does not go back."""
        original = without_hops(telegram)
        self._recent[original] = at
        self._recent.move_to_end(original)
        if len(self._recent) > self._limit:
            self._recent.popitem(last=False)
