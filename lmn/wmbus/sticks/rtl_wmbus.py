"""rtl_wmbus: lines of a receiver in software, from a named pipe. No I/O, no clock.

Line: mode;checksums right;3-of-6 code right;date and time;signal;signal now;identification;0x and the
telegram in hexadecimal, from L on, without link CRCs. Both flags must be 1. The receiver runs two
demodulators and says many telegrams twice; the second is dropped here. Its signal numbers are no dBm and
are left out.
Source: docs/lmn.md 2.6 (README of rtl_wmbus).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Final

from lmn.errors import LmnError
from lmn.wmbus.core import Core
from lmn.wmbus.frame import check_bare
from lmn.wmbus.lines import Lines, hex_bytes
from lmn.wmbus.link import ReceivedFrame, StickState, StickStatistics

MODES: Final = {"C1+T1": None}
_FIELDS: Final = 8
_TWICE_WITHIN_S: Final = 0.5
"""A meter does not repeat itself this fast; the other demodulator does."""
_REMEMBERED: Final = 64


class _Kind(Enum):
    FRAME = "frame"


@dataclass(frozen=True, slots=True)
class _Heard:
    telegram: bytes
    mode: str
    first_byte_at: float


class RtlWmbus(Core):
    """Listens from the start; there is nothing to configure."""

    title = "rtl_wmbus"
    baudrate = 0
    NEXT: ClassVar = {(StickState.LISTENING, _Kind.FRAME): StickState.LISTENING}

    def __init__(self, statistics: StickStatistics, mode: str = "C1+T1") -> None:
        super().__init__(statistics)
        self.state = StickState.LISTENING
        statistics.link_mode, statistics.device = mode, "rtl_wmbus"
        self._lines = Lines(statistics)
        self._recent: OrderedDict[bytes, float] = OrderedDict()

    def _greeting(self) -> bytes:
        return b""

    def _messages(self, data: bytes, at: float) -> Iterator[tuple[_Kind, _Heard]]:
        for text, first in self._lines.feed(data, at):
            fields = text.split(";")
            if len(fields) != _FIELDS or not fields[-1].startswith("0x"):
                self.statistics.garbage_bytes += len(text)
                continue
            telegram = hex_bytes(fields[-1][2:])
            if fields[1:3] != ["1", "1"]:
                self.statistics.crc_failures += 1
            elif telegram is None:
                self.statistics.garbage_bytes += len(text)
            else:
                yield _Kind.FRAME, _Heard(telegram, fields[0], first)

    def _act(self, _kind: Enum, message: object) -> ReceivedFrame | None:
        assert isinstance(message, _Heard)
        telegram, at = message.telegram, message.first_byte_at
        try:
            check_bare(telegram)
        except LmnError:
            self.statistics.truncated += 1
            return None
        last_at = self._recent.pop(telegram, None)
        self._recent[telegram] = at
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)
        if last_at is not None and at - last_at < _TWICE_WITHIN_S:
            self.statistics.duplicates += 1
            return None
        self.statistics.frames += 1
        return ReceivedFrame(telegram, at, None, message.mode)
