"""Telegrams heard twice: repeaters, receivers with double output, replays in modes without a counter.

No code and no encryption covers the radio link's own fields: a repeater may change some of them, and so may
anyone else. Telegrams that differ in nothing but those are one, or a replay would only need another access
number.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

DEFAULT_LIMIT: Final = 1024

REPEATER_WINDOW_S: Final = 60.0
"""How long after a telegram its copies are a repeater's; own knowledge: a repeater waits for up to 25 s.
Later the same bytes are a replay."""

_CONTROL: Final = 1
_MANUFACTURER_HIGH: Final = 3
_NOT_UNIQUE: Final = 0x80
_LINK_HEADER: Final = 10
_HOP, _REPEATED = 0x10, 0x02
_EXTENDED: Final = {0x8C: 3, 0x8E: 11}
"""Extended link layers without encryption -> their length; nothing protects any of it."""
_SEALED: Final = {0x8D: 3, 0x8F: 11}
"""The same with encryption -> where the session number begins, which with CC is a part of the vector."""
_AUTHENTICATION: Final = 0x90
_WITH_ACCESS_NO: Final = frozenset((0x72, 0x73, 0x7A, 0x7B, 0x6A, 0x6B, 0x8A, 0x8B))
_LONG: Final = frozenset((0x72, 0x73, 0x6B, 0x8B))
_MODE5: Final = 5
_MODE_BITS: Final = 0x1F
_BLOCK_BITS: Final = 0xF0


def essence(telegram: bytes) -> bytes:
    """The bare telegram without what anyone on the way may change, for comparing only.

    Left out: the link's control field and the mark of the manufacturer that is none of its letters; of the
    extended link layer the receiver, the access number where the transport layer has one of its own or the
    layer is encrypted, and the control bits that no vector contains; an adapter's address; in mode 5 the
    status and what else no vector contains of the configuration field.
    """
    if len(telegram) <= _LINK_HEADER:
        return telegram
    data = bytearray(telegram)
    data[_CONTROL] = 0
    data[_MANUFACTURER_HIGH] &= ~_NOT_UNIQUE & 0xFF
    kind = data[_LINK_HEADER]
    if (sealed := _SEALED.get(kind)) is not None and len(data) > _LINK_HEADER + sealed:
        data[_LINK_HEADER + 1] &= ~(_HOP | _REPEATED) & 0xFF
        data[_LINK_HEADER + 2 : _LINK_HEADER + sealed] = bytes(sealed - 2)
        return bytes(data)
    place = _LINK_HEADER + _EXTENDED.get(kind, 0)
    upper = place
    if upper + 1 < len(data) and data[upper] == _AUTHENTICATION:
        upper += 2 + data[upper + 1]
    ci = data[upper] if upper < len(data) else 0
    if place > _LINK_HEADER and place < len(data):
        access_no = data[_LINK_HEADER + 2]
        data[_LINK_HEADER + 1 : place] = bytes(place - _LINK_HEADER - 1)
        if ci not in _WITH_ACCESS_NO:
            data[_LINK_HEADER + 2] = access_no
    if ci in _LONG:
        data[2:_LINK_HEADER] = bytes(_LINK_HEADER - 2)
    status = upper + (10 if ci in _LONG else 2)
    if ci in _WITH_ACCESS_NO and status + 2 < len(data) and data[status + 2] & _MODE_BITS == _MODE5:
        data[status] = 0
        # No block announced means all of them to the decoder, so it does here.
        blocks = data[status + 1] & _BLOCK_BITS or (len(data) - status - 3 & _BLOCK_BITS)
        data[status + 1] = blocks
        data[status + 2] = _MODE5
    return bytes(data)


class RecentTelegrams:
    """Remembers the telegrams accepted last and when; bounded, in memory only."""

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._recent: OrderedDict[bytes, float] = OrderedDict()

    def accepted_at(self, telegram: bytes) -> float | None:
        """When this telegram or another copy of it was accepted, None if it was not."""
        return self._recent.get(essence(telegram))

    def add(self, telegram: bytes, at: float) -> None:
        """Remember an accepted telegram, as received; `at` in seconds of any clock that does not go back."""
        original = essence(telegram)
        self._recent[original] = at
        self._recent.move_to_end(original)
        if len(self._recent) > self._limit:
            self._recent.popitem(last=False)
