"""Recorded telegrams, one a line, with or without times. No I/O, no clock.

Line: {seconds since the start;} telegram in hexadecimal, from L on, without link CRCs. # starts a comment.
Whoever feeds the lines keeps the times (`lmn.wmbus.transport`); this core only reads telegrams.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Final

from lmn.errors import LmnError, MalformedFrame
from lmn.wmbus.core import Core
from lmn.wmbus.frame import check_bare
from lmn.wmbus.lines import Lines, hex_bytes
from lmn.wmbus.link import ReceivedFrame, StickState, StickStatistics

MODES: Final = {"recorded": None}
MAX_OFFSET_S: Final = 10 * 366 * 86400.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """One line of a recording."""

    telegram: bytes
    offset_s: float | None
    """Seconds since the start of the recording; None: as soon as the one before it is out."""


def parse_line(text: str) -> Recorded | None:
    """Read one line; None for an empty one or a comment.

    Raises:
        MalformedFrame: it is none, or its telegram's length is wrong.
    """
    content = text.split("#")[0].strip()
    if not content:
        return None
    when, _, digits = content.rpartition(";")
    telegram = hex_bytes(digits.strip().removeprefix("0x"))
    if telegram is None:
        raise MalformedFrame("no hexadecimal telegram")
    try:
        offset_s = float(when) if when.strip() else None
    except ValueError as error:
        raise MalformedFrame("no number of seconds before the semicolon") from error
    if offset_s is not None and not 0 <= offset_s <= MAX_OFFSET_S:
        raise MalformedFrame(f"seconds from 0 to {MAX_OFFSET_S:.0f} are expected before the semicolon")
    return Recorded(check_bare(telegram), offset_s)


class _Kind(Enum):
    FRAME = "frame"


class Replay(Core):
    """Listens from the start; a line that is none is counted and passed over."""

    title = "replay"
    baudrate = 0
    NEXT: ClassVar = {(StickState.LISTENING, _Kind.FRAME): StickState.LISTENING}

    def __init__(self, statistics: StickStatistics, mode: str = "recorded") -> None:
        super().__init__(statistics)
        self.state = StickState.LISTENING
        statistics.link_mode, statistics.device = mode, "recording"
        self._lines = Lines(statistics)

    def _greeting(self) -> bytes:
        return b""

    def _messages(self, data: bytes, at: float) -> Iterator[tuple[_Kind, tuple[bytes, float]]]:
        for text, first in self._lines.feed(data, at):
            try:
                recorded = parse_line(text)
            except LmnError:
                self.statistics.truncated += 1
                continue
            if recorded is not None:
                yield _Kind.FRAME, (recorded.telegram, first)

    def _act(self, _kind: Enum, message: object) -> ReceivedFrame | None:
        assert isinstance(message, tuple)
        return self._deliver(*message)
