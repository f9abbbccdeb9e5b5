"""Telegrams that a stick sends bare, from L on, with nothing around them. No I/O, no clock.

Nothing marks where a telegram starts and nothing checks it on the line, so a lost byte is noticed by a
pause (`lmn.wmbus.cutter`), by a control field that no meter sends, or by a length that cannot be; what
passes is still under the telegram's own protection. Used by the sticks whose modules name it.
"""

from __future__ import annotations

from typing import Final

from lmn.wmbus.frame import MIN_LENGTH

GAP_S: Final = 0.5
"""These sticks send a telegram without pauses; a busy machine may read it in two."""
CONTROL: Final = frozenset((0x44, 0x46, 0x47, 0x48, 0x08, 0x18, 0x28, 0x38, 0x00, 0x10, 0x20, 0x30))
"""What meters send as C field."""


class Bare:
    """The form of a bare telegram, with or without a signal byte behind it."""

    sure = False

    def __init__(self, *, signal: bool) -> None:
        self._signal = signal

    def length(self, data: bytes | bytearray) -> int | None:
        """Count what L says, L itself and the signal byte."""
        if data[0] < MIN_LENGTH:
            return 0
        if len(data) < 2:
            return None
        return 1 + data[0] + self._signal if data[1] in CONTROL else 0

    def right(self, message: bytes) -> bool:
        """Believe it: there is nothing to check."""
        return bool(message)

    def split(self, message: bytes) -> tuple[bytes, int | None]:
        """Return the telegram and the raw signal byte."""
        return (message[:-1], message[-1]) if self._signal else (message, None)


def signal_dbm(raw: int) -> int:
    """RSSI of CC1101 and like receivers: half decibels, signed, with an offset of 74."""
    return (raw - 256 if raw > 127 else raw) // 2 - 74
