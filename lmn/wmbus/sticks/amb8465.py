"""Würth (Amber) AMB8465-M and Metis: command interface and both ways of delivery. No I/O, no clock.

Command: FF | command | length | payload | XOR of all bytes before it; the answer has the command's top bit
set. A telegram comes bare (transparent) or as FF 03 L ... {signal} XOR, as the stick's memory says. The
signal byte is the stick's, not the meter's: it is taken off here.
Source: docs/lmn.md 2.3 (as public host software and its issues have it; no such stick was at hand).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from functools import reduce
from operator import xor
from typing import ClassVar, Final

from lmn.wmbus.core import Core
from lmn.wmbus.cutter import Cutter
from lmn.wmbus.frame import MIN_LENGTH
from lmn.wmbus.inbox import Inbox
from lmn.wmbus.link import ReceivedFrame, StickState, StickStatistics
from lmn.wmbus.sticks import bare

BAUDRATE: Final = 9600
START: Final = 0xFF
MEMORY_BYTES: Final = 0x80
AT_COMMAND_OUT: Final = 0x05
"""Place in the memory: 1 means that telegrams come as commands, 0 bare."""
AT_SIGNAL: Final = 0x45
"""Place in the memory: 1 means that a signal byte follows each telegram."""


class Command(IntEnum):
    """Commands; an answer has 80 added."""

    DATA = 0x03
    SET_MODE = 0x04
    GET_MEMORY = 0x0A


_ANSWER: Final = 0x80


class LinkMode(IntEnum):
    """Radio modes of the SET_MODE command, role "other"."""

    T2 = 0x08
    C2_T2 = 0x09


MODES: Final = {"C1+T1": LinkMode.C2_T2, "T1": LinkMode.T2}


class _Kind(Enum):
    MEMORY = "memory"
    MODE_SET = "mode set"
    FRAME = "frame"


@dataclass(frozen=True, slots=True)
class _Received:
    payload: bytes
    rssi: int | None
    first_byte_at: float


def build_command(command: int, payload: bytes) -> bytes:
    """Assemble one command or answer, host or stick side."""
    body = bytes((START, command, len(payload))) + payload
    return body + bytes((reduce(xor, body),))


class _Command:
    """The form of one command or answer: FF | number | length | payload | XOR."""

    sure = False

    def __init__(self, number: int, shortest: int = 0) -> None:
        self._start, self._shortest = bytes((START, number)), shortest

    def length(self, data: bytes | bytearray) -> int | None:
        """Count the payload and the four bytes around it."""
        if not self._start.startswith(data[:2]):
            return 0
        if len(data) < 3:
            return None
        return 4 + data[2] if data[2] >= self._shortest else 0

    def right(self, message: bytes) -> bool:
        """Check the XOR."""
        return reduce(xor, message) == 0


class _Indication(_Command):
    """The form of a telegram as a command; the payload is the telegram without L, then the signal."""

    def __init__(self, *, signal: bool) -> None:
        super().__init__(Command.DATA, MIN_LENGTH + signal)
        self._signal = signal

    def length(self, data: bytes | bytearray) -> int | None:
        """Know one more thing of a telegram: what its C field may be."""
        total = super().length(data)
        return 0 if total and len(data) > 3 and data[3] not in bare.CONTROL else total

    def split(self, message: bytes) -> tuple[bytes, int | None]:
        """Return the telegram from L on and the raw signal byte."""
        end = len(message) - 1 - self._signal
        telegram = bytes((end - 3,)) + message[3:end]
        return telegram, message[end] if self._signal else None


GET_MEMORY: Final = build_command(Command.GET_MEMORY, bytes((0x00, MEMORY_BYTES)))


class Amb8465(Core):
    """Reads how the stick delivers, sets its mode, then turns its byte stream into telegrams."""

    title = "AMB8465"
    NEXT: ClassVar = {
        (StickState.PROBING, _Kind.MEMORY): StickState.CONFIGURING,
        (StickState.CONFIGURING, _Kind.MODE_SET): StickState.LISTENING,
        (StickState.LISTENING, _Kind.FRAME): StickState.LISTENING,
    }

    def __init__(self, statistics: StickStatistics, mode: str = "C1+T1") -> None:
        super().__init__(statistics)
        self.baudrate = BAUDRATE
        self._mode = mode
        self._inbox = Inbox(statistics, bare.GAP_S)
        self._form: bare.Bare | _Indication = bare.Bare(signal=False)
        self._telegrams = Cutter(self._inbox, self._form, statistics)

    def _greeting(self) -> bytes:
        return GET_MEMORY

    @property
    def undecided(self) -> bool:
        """See `Core`."""
        return self.state is StickState.LISTENING and self._telegrams.undecided

    def _messages(self, data: bytes, at: float) -> Iterator[tuple[_Kind, _Received]]:
        self._inbox.add(data, at)
        while self.state is not StickState.LISTENING:
            found = self._answer()
            if found is None:
                return
            yield found
            if self._failure is not None:
                return
        for message in self._telegrams.take(nothing_followed=not data):
            yield _Kind.FRAME, _Received(*self._form.split(message.data), message.first_byte_at)

    def _answer(self) -> tuple[_Kind, _Received] | None:
        """Take the one answer that this state waits for; whatever else comes is not ours yet."""
        memory = self.state is StickState.PROBING
        form = _Command((Command.GET_MEMORY if memory else Command.SET_MODE) | _ANSWER)
        for message in Cutter(self._inbox, form, self.statistics).take(nothing_followed=True):
            received = _Received(message.data[3:-1], None, message.first_byte_at)
            return (_Kind.MEMORY if memory else _Kind.MODE_SET), received
        return None

    def _act(self, kind: Enum, message: object) -> ReceivedFrame | None:
        assert isinstance(message, _Received)
        payload = message.payload
        if kind is _Kind.FRAME:
            rssi_dbm = None if message.rssi is None else bare.signal_dbm(message.rssi)
            return self._deliver(payload, message.first_byte_at, rssi_dbm)
        if kind is _Kind.MEMORY:
            memory = payload[2:]  # behind the place and the count that were asked for
            if len(memory) <= AT_SIGNAL:
                self._fail(f"memory of {len(memory)} bytes")
                return None
            commands, signal = memory[AT_COMMAND_OUT] == 1, memory[AT_SIGNAL] == 1
            self._form = _Indication(signal=signal) if commands else bare.Bare(signal=signal)
            self._telegrams = Cutter(self._inbox, self._form, self.statistics)
            self.statistics.device = f"AMB8465, telegrams {'as commands' if commands else 'bare'}"
            self._outbox += build_command(Command.SET_MODE, bytes((MODES[self._mode],)))
        elif payload != b"\x00":
            self._fail(f"mode answered by status {payload.hex() or 'nothing'}")
        else:
            self.statistics.link_mode = self._mode
        return None
