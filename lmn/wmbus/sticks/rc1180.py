"""Radiocrafts RC1180-MBUS3: configuration prompt and bare telegrams. No I/O, no clock.

00 calls the prompt ">"; "0" lists the memory of 256 bytes, then ">" again; "X" leaves, and telegrams come
bare, with a signal byte behind each where the memory says so. Its radio mode is a setting of the memory
that lasts: it is read and reported here, never changed.
Source: docs/lmn.md 2.5 (as public host software speaks it; places in the memory from memory; no stick was
at hand).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Final

from lmn.wmbus.core import Core
from lmn.wmbus.cutter import Cutter
from lmn.wmbus.inbox import Inbox
from lmn.wmbus.link import ReceivedFrame, StickState, StickStatistics
from lmn.wmbus.sticks import bare

BAUDRATE: Final = 19200
CALL, LIST, LEAVE, PROMPT = b"\x00", b"0", b"X", b">"
MEMORY_BYTES: Final = 256
AT_MODE: Final = 0x03
"""Place in the memory: radio mode."""
AT_SIGNAL: Final = 0x05
"""Place in the memory: 1 means that a signal byte follows each telegram."""
MODES: Final = {"as set": None}


class _Kind(Enum):
    PROMPT = "prompt"
    MEMORY = "memory"
    FRAME = "frame"


@dataclass(frozen=True, slots=True)
class _Received:
    payload: bytes
    rssi: int | None
    first_byte_at: float


class Rc1180(Core):
    """Reads how the stick delivers, then turns its byte stream into telegrams."""

    title = "RC1180"
    NEXT: ClassVar = {
        (StickState.PROBING, _Kind.PROMPT): StickState.IDENTIFYING,
        (StickState.IDENTIFYING, _Kind.MEMORY): StickState.LISTENING,
        (StickState.LISTENING, _Kind.FRAME): StickState.LISTENING,
    }

    def __init__(self, statistics: StickStatistics, mode: str = "as set") -> None:
        super().__init__(statistics)
        self.baudrate = BAUDRATE
        self._mode = mode
        self._inbox = Inbox(statistics, bare.GAP_S)
        self._form = bare.Bare(signal=False)
        self._telegrams = Cutter(self._inbox, self._form, statistics)

    def _greeting(self) -> bytes:
        return CALL

    @property
    def recognised(self) -> bool:
        """A prompt alone is too little: many devices have one. The memory behind it is enough."""
        return self.state is StickState.LISTENING

    def farewell(self) -> bytes:
        """Leave the prompt: at it the stick hears nothing."""
        return LEAVE

    @property
    def undecided(self) -> bool:
        """See `Core`."""
        return self.state is StickState.LISTENING and self._telegrams.undecided

    def _messages(self, data: bytes, at: float) -> Iterator[tuple[_Kind, _Received]]:
        inbox = self._inbox
        inbox.add(data, at)
        if self.state is StickState.PROBING:
            end = inbox.data.find(PROMPT)
            inbox.discard(len(inbox.data) if end < 0 else end)
            if end < 0:
                return
            first = inbox.first_byte_at
            inbox.remove(1)
            yield _Kind.PROMPT, _Received(b"", None, first)
        if self.state is StickState.IDENTIFYING:
            if len(inbox.data) <= MEMORY_BYTES:
                return
            memory, first = bytes(inbox.data[: MEMORY_BYTES + 1]), inbox.first_byte_at
            inbox.remove(MEMORY_BYTES + 1)
            yield _Kind.MEMORY, _Received(memory, None, first)
        if self.state is StickState.LISTENING:
            for message in self._telegrams.take(nothing_followed=not data):
                yield _Kind.FRAME, _Received(*self._form.split(message.data), message.first_byte_at)

    def _act(self, kind: Enum, message: object) -> ReceivedFrame | None:
        assert isinstance(message, _Received)
        if kind is _Kind.FRAME:
            rssi_dbm = None if message.rssi is None else -message.rssi // 2
            return self._deliver(message.payload, message.first_byte_at, rssi_dbm)
        if kind is _Kind.PROMPT:
            self._outbox += LIST
        elif message.payload[-1:] != PROMPT:
            self._fail("the memory does not end with a prompt")
        else:
            self._form = bare.Bare(signal=message.payload[AT_SIGNAL] == 1)
            self._telegrams = Cutter(self._inbox, self._form, self.statistics)
            self.statistics.device = "RC1180"
            self.statistics.link_mode = f"memory {message.payload[AT_MODE]:02x}"
            self._outbox += LEAVE
        return None
