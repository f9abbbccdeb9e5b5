"""Bytes that a stick sent and nobody has cut yet, each with the instant of its read. No I/O, no clock."""

from __future__ import annotations

from lmn.wmbus.link import StickStatistics


class Inbox:
    """A byte queue that knows when its first byte came, and counts what is thrown away.

    It holds what its owner leaves in it: an owner that cuts after each `add` is bounded by its longest
    message and the longest read.
    """

    def __init__(self, statistics: StickStatistics, gap_s: float) -> None:
        """Make an empty inbox.

        Args:
            statistics: counts bytes and garbage.
            gap_s: no stick pauses for this long inside a message; a busy host may read that late.
        """
        self.data = bytearray()
        self._statistics, self._gap_s = statistics, gap_s
        self._reads: list[tuple[int, float]] = []
        """(offset in `data`, loop time) of each read of which bytes are left."""
        self._last_at: float | None = None
        self.seam = 0
        """Offset of the first byte that came after such a pause; 0: none did. The owner may forget it."""

    def stale(self, at: float) -> bool:
        """Whether a message was begun and then nothing came until loop time `at`."""
        return bool(self.data) and self._last_at is not None and at - self._last_at > self._gap_s

    def add(self, data: bytes, at: float) -> None:
        """Take the bytes of one read; no bytes are no read."""
        if not data:
            return
        if self.stale(at):
            self.seam = len(self.data)
        self._statistics.bytes += len(data)
        self._statistics.last_byte_at = self._last_at = at
        self._reads.append((len(self.data), at))
        self.data += data

    @property
    def first_byte_at(self) -> float:
        """Loop time of the read that brought the first byte; only where there is one."""
        return self._reads[0][1]

    def came_at(self, place: int) -> float:
        """Loop time of the read that brought the byte at `place`; only where there is one."""
        return max(read for read in self._reads if read[0] <= place)[1]

    def discard(self, count: int) -> None:
        """Throw away what is no message."""
        self._statistics.garbage_bytes += count
        self.remove(count)

    def remove(self, count: int) -> None:
        """Take bytes off the front."""
        del self.data[:count]
        self.seam = max(self.seam - count, 0)
        moved = [(offset - count, at) for offset, at in self._reads]
        first = max((i for i, (offset, _) in enumerate(moved) if offset <= 0), default=0)
        self._reads = moved[first:] if self.data else []
