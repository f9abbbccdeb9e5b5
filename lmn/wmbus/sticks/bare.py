"""Telegrams that a stick sends bare, from L on, with nothing around them. No I/O, no clock.

Nothing marks where a telegram starts and nothing checks it on the line, so a lost byte is noticed by a
pause, by a control field that no meter sends, or by a length that cannot be; what passes is still under
the telegram's own protection. Used by the sticks whose modules name it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lmn.wmbus.frame import MIN_LENGTH
from lmn.wmbus.inbox import Inbox

GAP_S: Final = 0.5
"""These sticks send a telegram without pauses; a busy machine may read it in two."""
_CONTROL: Final = frozenset((0x44, 0x46, 0x47, 0x48, 0x08, 0x18, 0x28, 0x38, 0x00, 0x10, 0x20, 0x30))


def cut(inbox: Inbox, *, with_rssi: bool) -> Iterator[tuple[bytes, int | None, float]]:
    """Take whole telegrams off an inbox: the telegram, the raw signal byte behind it, when it began."""
    data = inbox.data
    while len(data) >= 2:
        if data[0] < MIN_LENGTH or data[1] not in _CONTROL:
            inbox.discard(_next_start(data))
            continue
        total = 1 + data[0]
        if len(data) < total + with_rssi:
            return
        telegram, at = bytes(data[:total]), inbox.first_byte_at
        rssi = data[total] if with_rssi else None
        inbox.remove(total + with_rssi)
        yield telegram, rssi, at


def _next_start(data: bytearray) -> int:
    """Where a telegram may begin behind the first byte; the last byte may always be one's first."""
    for place in range(1, len(data) - 1):
        if data[place] >= MIN_LENGTH and data[place + 1] in _CONTROL:
            return place
    return len(data) - 1


def signal_dbm(raw: int) -> int:
    """RSSI of CC1101 and like receivers: half decibels, signed, with an offset of 74."""
    return (raw - 256 if raw > 127 else raw) // 2 - 74
