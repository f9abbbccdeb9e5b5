"""rtl_433: JSON lines of a receiver in software, from a named pipe. No I/O, no clock.

One object a line; those with "model": "Wireless-MBus" hold a telegram in "data", whose link CRCs the receiver
has checked ("mic": "CRC"). Format A comes with L two too small and the last block's link CRC still behind it;
it is taken for that only if this CRC is right. Format B comes bare from version 22.11; from 25.02 with L as
it was sent, which counts the CRCs that were taken off. All found by giving both versions recordings:
tests/unit/lmn/test_rtl_433.py. Its signal numbers are no dBm and are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Final

from lmn.crc import crc16_en13757
from lmn.errors import LengthMismatch, LmnError
from lmn.wmbus.core import Core
from lmn.wmbus.frame import check_bare
from lmn.wmbus.lines import Lines, hex_bytes
from lmn.wmbus.link import ReceivedFrame, StickState, StickStatistics

MODES: Final = {"C1+T1": None}
MODEL: Final = "Wireless-MBus"
MAX_LINE: Final = 8192
"""The receiver adds what it believes to have decoded to each line."""
_NESTED: Final = 8
"""More brackets than any of its lines has; nothing deeper is given to the parser."""
_FIRST_BLOCK, _BLOCK, _CRC = 10, 16, 2
_ONE_CRC: Final = 127
"""A telegram of format B whose L is larger has a second link CRC (EN 13757-4); both versions print it without
two bytes of its content, so it is refused."""


class _Kind(Enum):
    FRAME = "frame"


@dataclass(frozen=True, slots=True)
class _Heard:
    data: bytes
    mode: str
    first_byte_at: float


def to_telegram(data: bytes, mode: str = "") -> bytes:
    """Turn what the receiver prints into a bare telegram.

    Args:
        data: the bytes that it prints.
        mode: the mode that it prints with them; only in "C" there is format B.

    Raises:
        LmnError: it is none of its forms.
    """
    if len(data) > _FIRST_BLOCK + _CRC and data[0] == len(data) - 1 - 2 * _CRC:
        telegram = bytes((data[0] + _CRC,)) + data[1:-_CRC]
        last = (len(telegram) - _FIRST_BLOCK - 1) // _BLOCK * _BLOCK + _FIRST_BLOCK
        if crc16_en13757(telegram[last:]) != int.from_bytes(data[-_CRC:], "big"):
            raise LengthMismatch("neither bare nor format A as rtl_433 prints it")
        return check_bare(telegram)
    if mode == "C" and data and data[0] == len(data) - 1 + _CRC and data[0] <= _ONE_CRC:
        return check_bare(bytes((len(data) - 1,)) + data[1:])
    return check_bare(data)


class Rtl433(Core):
    """Listens from the start; there is nothing to configure."""

    title = "rtl_433"
    baudrate = 0
    NEXT: ClassVar = {(StickState.LISTENING, _Kind.FRAME): StickState.LISTENING}

    def __init__(self, statistics: StickStatistics, mode: str = "C1+T1") -> None:
        super().__init__(statistics)
        self.state = StickState.LISTENING
        statistics.link_mode, statistics.device = mode, "rtl_433"
        self._lines = Lines(statistics, MAX_LINE)

    def _greeting(self) -> bytes:
        return b""

    def _messages(self, data: bytes, at: float) -> Iterator[tuple[_Kind, _Heard]]:
        for text, first in self._lines.feed(data, at):
            document = _flat_object(text)
            if document is None:
                self.statistics.garbage_bytes += len(text)
            elif document.get("model") == MODEL:  # anything else is a neighbour's thermometer
                telegram = hex_bytes(str(document.get("data", "")))
                if document.get("mic") != "CRC":
                    self.statistics.crc_failures += 1
                elif telegram is None:
                    self.statistics.garbage_bytes += len(text)
                else:
                    yield _Kind.FRAME, _Heard(telegram, str(document.get("mode", ""))[:1] + "1", first)

    def _act(self, _kind: Enum, message: object) -> ReceivedFrame | None:
        assert isinstance(message, _Heard)
        try:
            telegram = to_telegram(message.data, message.mode[:1])
        except LmnError:
            self.statistics.truncated += 1
            return None
        self.statistics.frames += 1
        return ReceivedFrame(telegram, message.first_byte_at, None, message.mode)


def _flat_object(text: str) -> dict[str, object] | None:
    if text.count("{") + text.count("[") > _NESTED:
        return None
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
