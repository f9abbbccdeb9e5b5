"""CUL and nanoCUL (culfw): lines of text. No I/O, no clock.

"V" asks for the version; "brt", "brc", "brs" set mode T, C or S; "X21" lets signal bytes follow. A
telegram is a line "b" + hexadecimal, in frame format A, or "bY" + hexadecimal, in format B, both with link
CRCs, then two bytes: link quality and signal. The firmware's memory ends at 148 bytes (110 in old ones):
longer telegrams come cut off.
Source: docs/lmn.md 2.4 (as public host software speaks it; no such stick was at hand).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Final

from lmn.errors import ChecksumMismatch, LmnError
from lmn.wmbus.core import Core
from lmn.wmbus.frame import from_format_a, from_format_b
from lmn.wmbus.lines import Lines, hex_bytes
from lmn.wmbus.link import ReceivedFrame, StickState, StickStatistics
from lmn.wmbus.sticks.bare import signal_dbm

BAUDRATE: Final = 38400
VERSION: Final = b"V\r\n"
REPORT: Final = b"X21\r\n"
MODES: Final = {"T1": ("brt", "TMODE"), "C1": ("brc", "CMODE"), "S1": ("brs", "SMODE")}
"""Mode -> command, answer."""
_SIGNAL_BYTES: Final = 2
_IS_VERSION: Final = re.compile(r"V .*CUL")


class _Kind(Enum):
    VERSION = "version"
    MODE_SET = "mode set"
    FRAME = "frame"


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    first_byte_at: float


class Cul(Core):
    """Finds the stick, sets its mode, then turns its lines into telegrams."""

    title = "CUL"
    NEXT: ClassVar = {
        (StickState.PROBING, _Kind.VERSION): StickState.CONFIGURING,
        (StickState.CONFIGURING, _Kind.MODE_SET): StickState.LISTENING,
        (StickState.LISTENING, _Kind.FRAME): StickState.LISTENING,
        (StickState.PROBING, _Kind.FRAME): StickState.PROBING,
        (StickState.CONFIGURING, _Kind.FRAME): StickState.CONFIGURING,
    }

    def __init__(self, statistics: StickStatistics, mode: str = "T1") -> None:
        super().__init__(statistics)
        self.baudrate = BAUDRATE
        self._mode = mode
        self._lines = Lines(statistics)

    def _greeting(self) -> bytes:
        return b"\r\n" + VERSION  # ends whatever the last host left half written

    def _messages(self, data: bytes, at: float) -> Iterator[tuple[_Kind, _Line]]:
        for text, first in self._lines.feed(data, at):
            if text.startswith("b"):
                yield _Kind.FRAME, _Line(text, first)
            elif self.state is StickState.PROBING and _IS_VERSION.match(text):
                yield _Kind.VERSION, _Line(text, first)
            elif self.state is StickState.CONFIGURING and text == MODES[self._mode][1]:
                yield _Kind.MODE_SET, _Line(text, first)
            else:
                self.statistics.garbage_bytes += len(text)  # other radio services of this firmware
            if self._failure is not None:
                return

    def _act(self, kind: Enum, message: object) -> ReceivedFrame | None:
        assert isinstance(message, _Line)
        if kind is _Kind.VERSION:
            self.statistics.device = message.text[:60]
            self._outbox += MODES[self._mode][0].encode() + b"\r\n"
        elif kind is _Kind.MODE_SET:
            self.statistics.link_mode = self._mode
            self._outbox += REPORT
        else:
            return self._telegram(message)
        return None

    def _telegram(self, line: _Line) -> ReceivedFrame | None:
        b_format = line.text.startswith("bY")
        data = hex_bytes(line.text[1 + b_format :])
        if data is None or len(data) <= _SIGNAL_BYTES:
            self.statistics.garbage_bytes += len(line.text)
            return None
        frame, rssi = data[:-_SIGNAL_BYTES], data[-1]
        try:
            telegram = (from_format_b if b_format else from_format_a)(frame)
        except ChecksumMismatch:
            self.statistics.crc_failures += 1
            return None
        except LmnError:
            self.statistics.truncated += 1
            return None
        return self._deliver(telegram, line.first_byte_at, signal_dbm(rssi))
