"""SML transport protocol version 1: frames out of a byte stream, and into one. No I/O, no clock.

A frame is 1B1B1B1B 01010101, the messages with a literal 1B1B1B1B doubled and zeros up to a multiple of four,
then 1B1B1B1B 1A, the number of zeros, and a CRC-16/X-25 over everything before it, low byte first.
Spec: SML 1.04; sections of it are known here through public captures only (docs/references.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lmn.crc import crc16_kermit, crc16_x25
from lmn.errors import ChecksumMismatch, LengthMismatch, LmnError, MalformedFrame

ESCAPE: Final = b"\x1b\x1b\x1b\x1b"
START: Final = ESCAPE + b"\x01\x01\x01\x01"
_END_MARK: Final = 0x1A
_END_BYTES: Final = 8
_PADDING_MAX: Final = 4
"""Three are enough; one public frame, right in all checksums, has a whole word more."""
_TURNING_POINT: Final = re.compile(rb"\x1b{4}(?:\x1a|\x01{4})")
Checksum = Callable[[bytes], bytes]
"""Data -> the two bytes as sent behind them."""


def x25(data: bytes) -> bytes:
    """The checksum of the standard."""
    return crc16_x25(data).to_bytes(2, "little")


def kermit(data: bytes) -> bytes:
    """The checksum of some firmware, in frames and messages alike."""
    return crc16_kermit(data).to_bytes(2, "big")


STANDARD: Final[tuple[Checksum, ...]] = (x25,)
ANY_CHECKSUM: Final[tuple[Checksum, ...]] = (x25, kermit)
"""For tools that look at a meter nobody has told them of."""
MAX_FRAME_BYTES: Final = 65536
"""A longer frame is broken off. Pushed lists have some 300 bytes; a load profile may have thousands."""


@dataclass(slots=True)
class TransportStatistics:
    """What `smgw doctor` shows of one line; counted since the gateway started."""

    bytes: int = 0
    frames: int = 0
    rejected: int = 0
    """Frames that were broken off or whose checksum was wrong."""
    garbage_bytes: int = 0
    """Bytes between frames."""
    last_byte_at: float | None = None
    """Loop time of the last byte, None before the first."""
    opened: int = 0
    """How often the port was opened."""
    is_open: bool = False
    """Whether it is open now."""


@dataclass(frozen=True, slots=True)
class ReceivedSml:
    """One intact transport frame."""

    data: bytes
    """From the first escape up to and including the checksum, which is right."""
    first_byte_at: float
    """Time of the read that brought the frame's first byte."""
    checksum: Checksum = x25
    """The one that is right; that of its messages must be the same."""

    def __repr__(self) -> str:
        return f"ReceivedSml({len(self.data)} bytes)"


class SmlDeframer:
    """Cuts frames out of bytes that arrive in any cut; never holds more than one frame's maximum."""

    def __init__(
        self,
        statistics: TransportStatistics | None = None,
        *,
        max_bytes: int = MAX_FRAME_BYTES,
        checksums: tuple[Checksum, ...] = STANDARD,
    ) -> None:
        """Start with nothing.

        Args:
            statistics: counted into; one of its own if None.
            max_bytes: a frame longer than this is broken off.
            checksums: any of which makes a frame intact.
        """
        self._checksums = checksums
        self.statistics = statistics if statistics is not None else TransportStatistics()
        self._max_bytes = max_bytes
        self._inbox = bytearray()
        self._began_at: list[tuple[int, float]] = []
        """(position in the inbox, time) of each read that the inbox still holds bytes of."""
        self._scanned = 0
        """So far into the inbox no turning point begins; 0: the inbox does not begin with a start."""
        self._doubt = False
        """Whether something that looked like an end was passed by."""
        self._later = 0
        """Where something that looked like a start was passed by last; 0: nowhere."""

    def receive(self, data: bytes, at: float = 0.0) -> list[ReceivedSml | LmnError]:
        """Take bytes read at time `at`; return frames that became whole and why others did not, in order."""
        self.statistics.bytes += len(data)
        self.statistics.last_byte_at = at
        found: list[ReceivedSml | LmnError] = []
        # A flood in one read is taken in parts, so that the inbox stays bounded.
        for start in range(0, len(data), self._max_bytes):
            part = data[start : start + self._max_bytes]
            self._began_at.append((len(self._inbox), at))
            self._inbox += part
            while self._step(found):
                pass
        return found

    def finish(self) -> list[LmnError]:
        """Say that nothing more will come: an unfinished frame is only an error if its end was seen."""
        return (
            [self._reject(LengthMismatch("a frame ends off its place"))] if self._doubt or self._later else []
        )

    def _step(self, found: list[ReceivedSml | LmnError]) -> bool:
        """Take one frame, or one thing that is none, off the inbox; False: more bytes are needed."""
        if not self._scanned and not self._find_start():
            return False
        inbox = self._inbox
        turn = _TURNING_POINT.search(inbox, self._scanned)
        if turn is None:
            self._scanned = max(len(START), len(inbox) - len(START) + 1)
            return self._too_long(found)
        at = turn.start()
        end = at + _END_BYTES
        if end > self._max_bytes:
            return self._too_long(found)
        if inbox[at + 4] != _END_MARK:
            if self._doubled(at):
                self._scanned = at + 1
            elif at % 4:  # a literal, or a start that lost bytes shifted: the next end will tell
                self._later, self._scanned = at, at + 1
            else:
                found.append(self._reject(LengthMismatch("a frame is broken off by the next one")))
                self._drop(at)
            return True
        if len(inbox) < end:
            self._scanned = at
            return False
        checksum = self._right_checksum(end) if inbox[at + 5] <= _PADDING_MAX else None
        if checksum is not None:
            found.append(ReceivedSml(bytes(inbox[:end]), self._began_at[0][1], checksum))
            self.statistics.frames += 1
            self._drop(end)
        elif self._later:
            found.append(self._reject(LengthMismatch("a frame is broken off by the next one")))
            self._drop(self._later)
        elif at % 4 or self._doubled(at):  # bytes of a value, or an end that lost bytes shifted
            self._doubt, self._scanned = True, at + 1
        else:
            found.append(self._reject(ChecksumMismatch("CRC of the transport frame")))
            self._drop(end)
        return True

    def _right_checksum(self, end: int) -> Checksum | None:
        data, sent = bytes(self._inbox[: end - 2]), self._inbox[end - 2 : end]
        return next((checksum for checksum in self._checksums if checksum(data) == sent), None)

    def _doubled(self, at: int) -> bool:
        """Whether the escape at `at` is the second half of a doubled one, so a literal."""
        before = 0
        while at - 4 * (before + 1) >= len(START) and (
            self._inbox[at - 4 * (before + 1) : at - 4 * before] == ESCAPE
        ):
            before += 1
        return before % 2 == 1

    def _too_long(self, found: list[ReceivedSml | LmnError]) -> bool:
        if len(self._inbox) < self._max_bytes:
            return False
        found.append(self._reject(LengthMismatch("a frame has no end")))
        self._drop(self._later or len(START))
        return True

    def _find_start(self) -> bool:
        """Drop everything before the next start; True if there is one."""
        place = self._inbox.find(START)
        garbage = place if place >= 0 else max(0, len(self._inbox) - len(START) + 1)
        self.statistics.garbage_bytes += garbage
        if garbage:
            self._drop(garbage)
        if place < 0:
            return False
        self._scanned = len(START)
        return True

    def _reject(self, error: LmnError) -> LmnError:
        self.statistics.rejected += 1
        self._doubt = False
        return error

    def _drop(self, count: int) -> None:
        del self._inbox[:count]
        moved = [(place - count, at) for place, at in self._began_at]
        keep = max((index for index, (place, _) in enumerate(moved) if place <= 0), default=0)
        self._began_at = moved[keep:] if self._inbox else []
        self._scanned = self._later = 0
        self._doubt = False


def contents(frame: bytes) -> list[bytes]:
    """Return what an intact frame carries, its padding still there: one reading, or two.

    Two only where it is not certain how the sender doubled its escapes: by words counted from the start of
    the frame, or wherever four such bytes stood. The messages' own checksums tell which one it was.

    Raises:
        MalformedFrame: neither reading is possible.
    """
    body = frame[len(START) : -_END_BYTES]
    if ESCAPE not in body:
        return [body]
    readings = [reading for reading in (_by_words(body), _anywhere(body)) if reading is not None]
    if not readings:
        raise MalformedFrame("an escape that is neither doubled nor an end")
    return readings[:1] if readings[0] == readings[-1] else readings


def _by_words(body: bytes) -> bytes | None:
    out, place = bytearray(), 0
    while place < len(body):
        word = body[place : place + 4]
        if word == ESCAPE:
            if body[place + 4 : place + 8] != ESCAPE:
                return None
            place += 4
        out += word
        place += 4
    return bytes(out)


def _anywhere(body: bytes) -> bytes | None:
    parts, place = [], 0
    while (found := body.find(ESCAPE, place)) >= 0:
        if body[found + 4 : found + 8] != ESCAPE:
            return None
        parts.append(body[place : found + 4])
        place = found + 8
    return b"".join((*parts, body[place:]))


def one_frame(data: bytes, checksums: tuple[Checksum, ...] = STANDARD) -> ReceivedSml:
    """Check that `data` is exactly one intact frame.

    Raises:
        LengthMismatch: bytes before or behind it, or it is cut off.
        ChecksumMismatch: the checksum is wrong.
        MalformedFrame: no frame begins here.
    """
    if not data.startswith(START):
        raise MalformedFrame("no transport frame begins here")
    deframer = SmlDeframer(max_bytes=max(MAX_FRAME_BYTES, len(data)), checksums=checksums)
    found = deframer.receive(data)
    if not found:
        raise LengthMismatch("the frame has no end where one must be")
    first = found[0]
    if isinstance(first, LmnError):
        raise first
    if len(first.data) != len(data):
        raise LengthMismatch("bytes behind the frame")
    return first


def to_frame(messages: bytes) -> bytes:
    """Wrap messages into a transport frame."""
    escaped = messages.replace(ESCAPE, ESCAPE * 2)
    padding = -len(escaped) % 4
    frame = START + escaped + bytes(padding) + ESCAPE + bytes((_END_MARK, padding))
    return frame + x25(frame)
