"""What all stick cores share: a table of transitions, what to send, how a failure is told. No I/O."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import ClassVar

from lmn.errors import UnexpectedMessage
from lmn.wmbus.link import ReceivedFrame, StickState, StickStatistics


class Core(ABC):
    """Runs the messages that a stick's own module cuts through that module's table.

    A subclass names its `title`, its `baudrate` and its table `NEXT`, cuts bytes in `_messages` and acts in
    `_act`. It never does input or output.
    """

    title: ClassVar[str]
    baudrate: int
    NEXT: ClassVar[Mapping[tuple[StickState, Enum], StickState]]
    """The whole protocol: what is not listed is an error."""

    def __init__(self, statistics: StickStatistics) -> None:
        self.state = StickState.PROBING
        self.statistics = statistics
        self._outbox = bytearray()
        self._failure: UnexpectedMessage | None = None

    def start(self) -> bytes:
        """Return what opens the talk, b"" for nothing."""
        self.statistics.opened += 1
        return self._greeting()

    @property
    def undecided(self) -> bool:
        """Whether a message is whole if nothing follows: then `receive(b"", at)` says that nothing did."""
        return False

    @property
    def recognised(self) -> bool:
        """Whether the stick is of this kind beyond doubt."""
        return self.state is not StickState.PROBING

    def farewell(self) -> bytes:
        """Return what leaves a stick, that was only asked who it is, as it was before; b"" for nothing."""
        return b""

    def to_send(self) -> bytes:
        """Return and forget what is due.

        Raises:
            UnexpectedMessage: as `receive`, for a message behind telegrams that it returned.
        """
        self._check()
        data = bytes(self._outbox)
        self._outbox.clear()
        return data

    def receive(self, data: bytes, at: float) -> list[ReceivedFrame]:
        """Take bytes in any cut; return the telegrams that became whole. No bytes: nothing came by `at`.

        Raises:
            UnexpectedMessage: a message that the state does not allow.
        """
        self._check()
        frames: list[ReceivedFrame] = []
        for kind, message in self._messages(data, at):
            following = self.NEXT.get((self.state, kind))
            if following is None:
                self._fail(f"{kind.value} while {self.state.value}")
                break
            frame = self._act(kind, message)
            if isinstance(frame, ReceivedFrame):
                frames.append(frame)
            if self._failure is not None:
                break
            self.state = following
        if not frames:
            self._check()  # otherwise these telegrams are delivered first
        return frames

    def _fail(self, what: str) -> None:
        self._failure = UnexpectedMessage(f"{self.title}: {what}")

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _deliver(self, data: bytes, at: float, rssi_dbm: int | None = None) -> ReceivedFrame | None:
        """Count a telegram and wrap it; None where the stick's mode is not known yet."""
        if self.state is not StickState.LISTENING:
            self.statistics.dropped += 1
            return None
        self.statistics.frames += 1
        return ReceivedFrame(data, at, rssi_dbm, self.statistics.link_mode)

    @abstractmethod
    def _greeting(self) -> bytes:
        """What to send first."""

    @abstractmethod
    def _messages(self, data: bytes, at: float) -> Iterable[tuple[Enum, object]]:
        """Cut the bytes of one read; lazily, because what follows may depend on the state reached."""

    @abstractmethod
    def _act(self, kind: Enum, message: object) -> ReceivedFrame | None:
        """Do what a message asks for that the state allows."""
