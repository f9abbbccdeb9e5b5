"""Bytes to messages on lines that check little or nothing. No I/O, no clock.

A pause tells such a line's messages apart, but a busy host reads late what came in time: then the pause is
the host's and the message whole. What decides is what follows the pause. If no message can begin there, it
continues the one from before. If a whole one begins there, the one from before was cut off, unless it alone
ends where the bytes end: on such lines a missing telegram is better than a mixed one. If one may begin
there and is not whole yet, nobody can tell, and the cutter waits: for more bytes, or for its owner to say
that none came.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from lmn.wmbus.inbox import Inbox
from lmn.wmbus.link import StickStatistics


class Form(Protocol):
    """What the messages of a line look like."""

    @property
    def sure(self) -> bool:
        """Whether the line's own check leaves no doubt, as a CRC does: then a whole message needs no more."""

    def length(self, data: bytes | bytearray) -> int | None:
        """Bytes of the message that starts `data`, None as long as that is open, 0 if none starts here."""

    def right(self, message: bytes) -> bool:
        """Whether the line's own check finds a whole message right; True where it has none."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One whole message."""

    data: bytes
    first_byte_at: float


class Cutter:
    """Cuts the messages of one form off an inbox; bounded by the longest message and the longest read."""

    def __init__(self, inbox: Inbox, form: Form, statistics: StickStatistics) -> None:
        self._inbox, self._form, self._statistics = inbox, form, statistics

    def take(self, *, nothing_followed: bool = False) -> Iterator[Cut]:
        """Take the messages that are whole; `nothing_followed` says that the line was asked and is silent."""
        inbox, form, data = self._inbox, self._form, self._inbox.data
        while data:
            total = form.length(data)
            if total == 0:
                inbox.discard(self._next_start())
                continue
            whole = total is not None and total <= len(data)
            if inbox.seam and (total is None or inbox.seam < total) and not (whole and form.sure):
                if self._cut_off():
                    inbox.discard(inbox.seam)
                    continue
                if inbox.seam and whole and not nothing_followed:
                    return  # whole, if nothing follows
            if total is None or total > len(data):
                return
            message = bytes(data[:total])
            if not form.right(message):
                self._statistics.crc_failures += 1
                inbox.discard(1)
                continue
            at = inbox.first_byte_at
            inbox.remove(total)
            yield Cut(message, at)

    @property
    def undecided(self) -> bool:
        """Whether a message is whole, if nothing follows."""
        if not self._inbox.seam or self._form.sure:
            return False
        total = self._form.length(self._inbox.data)
        return bool(total) and total is not None and self._inbox.seam < total <= len(self._inbox.data)

    def _cut_off(self) -> bool:
        """Judge the message across the seam; forgets the seam where no message begins behind it."""
        inbox = self._inbox
        behind = bytes(inbox.data[inbox.seam :])
        if not behind:
            return False
        following = self._form.length(behind)
        if following == 0:
            inbox.seam = 0
            return False
        if following is None or following > len(behind) or not self._form.right(behind[:following]):
            return False
        if self._ends_well(bytes(inbox.data)) and not self._ends_well(behind):
            inbox.seam = 0
            return False
        return True

    def _ends_well(self, data: bytes) -> bool:
        """Whether whole messages fill `data` to its end."""
        while data:
            total = self._form.length(data)
            if not total or total > len(data) or not self._form.right(data[:total]):
                return False
            data = data[total:]
        return True

    def _next_start(self) -> int:
        """Where a message may begin behind the first byte."""
        data, form = self._inbox.data, self._form
        return next((at for at in range(1, len(data)) if form.length(data[at : at + 4]) != 0), len(data))
