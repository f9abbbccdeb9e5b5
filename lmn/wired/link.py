"""Both ends of an HDLC link in normal response mode: transitions as tables. No I/O, no clock.

Unbalanced, modulo 8, window 1: the primary asks, the secondary answers, nothing else is ever on the line.
Spec: BSI TR-03109-1 v2.0 details, chapter 8; ISO/IEC 13239.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final

from lmn.errors import UnexpectedMessage
from lmn.wired.hdlc import MAX_INFORMATION, HdlcFrame, Kind

_MODULO: Final = 8
MAX_QUEUED_BYTES: Final = 65536
"""What one side may have waiting or assembling."""


class State(Enum):
    """Of a link, as one side sees it."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    DISCONNECTING = "disconnecting"


_PRIMARY: Final = {  # what a primary takes from a secondary; what is not listed is an error
    (State.CONNECTING, Kind.ACKNOWLEDGE): State.CONNECTED,
    (State.CONNECTING, Kind.DISCONNECTED_MODE): State.DISCONNECTED,
    (State.CONNECTED, Kind.INFORMATION): State.CONNECTED,
    (State.CONNECTED, Kind.RECEIVE_READY): State.CONNECTED,
    (State.CONNECTED, Kind.RECEIVE_NOT_READY): State.CONNECTED,
    (State.CONNECTED, Kind.DISCONNECTED_MODE): State.DISCONNECTED,
    (State.DISCONNECTING, Kind.ACKNOWLEDGE): State.DISCONNECTED,
    (State.DISCONNECTING, Kind.DISCONNECTED_MODE): State.DISCONNECTED,
}
_SECONDARY: Final = {  # command -> (next state, answer); None: answer by what is waiting
    (State.DISCONNECTED, Kind.SET_NORMAL_MODE): (State.CONNECTED, Kind.ACKNOWLEDGE),
    (State.DISCONNECTED, Kind.DISCONNECT): (State.DISCONNECTED, Kind.DISCONNECTED_MODE),
    (State.DISCONNECTED, Kind.INFORMATION): (State.DISCONNECTED, Kind.DISCONNECTED_MODE),
    (State.DISCONNECTED, Kind.RECEIVE_READY): (State.DISCONNECTED, Kind.DISCONNECTED_MODE),
    (State.DISCONNECTED, Kind.RECEIVE_NOT_READY): (State.DISCONNECTED, Kind.DISCONNECTED_MODE),
    (State.CONNECTED, Kind.SET_NORMAL_MODE): (State.CONNECTED, Kind.ACKNOWLEDGE),
    (State.CONNECTED, Kind.DISCONNECT): (State.DISCONNECTED, Kind.ACKNOWLEDGE),
    (State.CONNECTED, Kind.INFORMATION): (State.CONNECTED, None),
    (State.CONNECTED, Kind.RECEIVE_READY): (State.CONNECTED, None),
    (State.CONNECTED, Kind.RECEIVE_NOT_READY): (State.CONNECTED, None),
}


class _Numbered:
    """Sequence numbers and what waits, of either side."""

    def __init__(self) -> None:
        self.state = State.DISCONNECTED
        self._outbox: deque[bytes] = deque()
        self._waiting: bytes | None = None
        self._segments = bytearray()
        self._send = self._receive = 0

    def _reset(self) -> None:
        self._outbox.clear()
        self._waiting = None
        self._segments.clear()
        self._send = self._receive = 0

    def send(self, data: bytes) -> None:
        """Queue bytes for the other side; they go out in frames of at most 2034 bytes.

        Raises:
            UnexpectedMessage: more waits than may.
        """
        if sum(map(len, self._outbox)) + len(data) > MAX_QUEUED_BYTES:
            raise UnexpectedMessage("the other side takes nothing")
        for start in range(0, len(data), MAX_INFORMATION):
            self._outbox.append(data[start : start + MAX_INFORMATION])

    @property
    def idle(self) -> bool:
        """Whether everything that was queued has been acknowledged."""
        return self._waiting is None and not self._outbox

    def _acknowledged(self, receive_number: int) -> None:
        if self._waiting is not None and receive_number == (self._send + 1) % _MODULO:
            self._send, self._waiting = receive_number, None
        elif receive_number != self._send:
            raise UnexpectedMessage("an acknowledgement of what was not sent")

    def _take(self, frame: HdlcFrame) -> bytes:
        """The information of a frame that is new; empty for one that came again."""
        if frame.send_number != self._receive:
            if (frame.send_number + 1) % _MODULO == self._receive:
                return b""
            raise UnexpectedMessage("a frame was skipped")
        self._receive = (self._receive + 1) % _MODULO
        self._segments += frame.information
        if len(self._segments) > MAX_QUEUED_BYTES:
            raise UnexpectedMessage("segments without an end")
        if frame.segmented:
            return b""
        whole = bytes(self._segments)
        self._segments.clear()
        return whole

    def _next_information(self) -> bytes | None:
        if self._waiting is None and self._outbox:
            self._waiting = self._outbox.popleft()
        return self._waiting


class Primary(_Numbered):
    """The gateway's end of the link to one station: `command` is what to send, `receive` takes the answer."""

    def __init__(self, own: int, station: int) -> None:
        """Make a link that is not connected.

        Args:
            own: the primary's address.
            station: the secondary's.
        """
        super().__init__()
        self._own, self.station = own, station
        self.busy = False
        """Whether the station said last that it takes nothing now."""

    def connect(self) -> None:
        """Begin to connect; the sequence numbers start anew."""
        self._reset()
        self.state = State.CONNECTING

    def disconnect(self) -> None:
        """Begin to disconnect."""
        self.state = State.DISCONNECTING

    def command(self) -> HdlcFrame:
        """Return what to send now; the same again until its answer came.

        Raises:
            UnexpectedMessage: the link is not connected, nor about to be.
        """
        match self.state:
            case State.CONNECTING:
                return HdlcFrame(self.station, self._own, Kind.SET_NORMAL_MODE)
            case State.DISCONNECTING:
                return HdlcFrame(self.station, self._own, Kind.DISCONNECT)
            case State.DISCONNECTED:
                raise UnexpectedMessage("the link is not connected")
        information = None if self.busy else self._next_information()
        if information is None:
            return HdlcFrame(self.station, self._own, Kind.RECEIVE_READY, receive_number=self._receive)
        return HdlcFrame(self.station, self._own, Kind.INFORMATION, information, self._send, self._receive)

    def receive(self, frame: HdlcFrame) -> bytes:
        """Take a frame; return what the station sent, b"" for nothing or for a frame of someone else.

        Raises:
            UnexpectedMessage: a frame that its state does not allow; the link is then disconnected.
        """
        if frame.destination != self._own or frame.source != self.station:
            return b""
        after = _PRIMARY.get((self.state, frame.kind))
        if after is None:
            before, self.state = self.state, State.DISCONNECTED
            raise UnexpectedMessage(f"{frame.kind.name} while {before.value}")
        self.state = after
        if after is not State.CONNECTED or frame.kind is Kind.ACKNOWLEDGE:
            return b""
        try:
            self._acknowledged(frame.receive_number)
            self.busy = frame.kind is Kind.RECEIVE_NOT_READY
            return self._take(frame) if frame.kind is Kind.INFORMATION else b""
        except UnexpectedMessage:
            self.state = State.DISCONNECTED
            raise


class Secondary(_Numbered):
    """A meter's end: `receive` takes a command, and returns what it brought and the answer to send."""

    def __init__(self, address: int) -> None:
        super().__init__()
        self.address = address
        self.not_ready = False
        """Set to answer that nothing can be taken now."""
        self.asked: int | None = None
        """Whom `answer` is due to, once what was received has been worked on."""

    def receive(self, frame: HdlcFrame) -> tuple[bytes, HdlcFrame | None]:
        """Take a command; return what it brought, and the answer where that is settled at once."""
        self.asked = None
        found = _SECONDARY.get((self.state, frame.kind))
        if frame.destination != self.address or found is None:
            return b"", None
        self.state, answer = found
        if frame.kind is Kind.SET_NORMAL_MODE:
            self._reset()
        if answer is not None:
            return b"", HdlcFrame(frame.source, self.address, answer)
        try:
            self._acknowledged(frame.receive_number)
            if self.not_ready:
                return b"", self._supervisory(frame.source, Kind.RECEIVE_NOT_READY)
            brought = self._take(frame) if frame.kind is Kind.INFORMATION else b""
        except UnexpectedMessage:
            self.state = State.DISCONNECTED
            return b"", HdlcFrame(frame.source, self.address, Kind.DISCONNECTED_MODE)
        self.asked = frame.source
        return brought, None

    def answer(self) -> HdlcFrame:
        """Return the answer to the command that `asked` is about.

        Raises:
            ValueError: nobody asked.
        """
        if (destination := self.asked) is None:
            raise ValueError("nobody asked")
        self.asked = None
        information = self._next_information()
        if information is None:
            return self._supervisory(destination, Kind.RECEIVE_READY)
        return HdlcFrame(destination, self.address, Kind.INFORMATION, information, self._send, self._receive)

    def _supervisory(self, destination: int, kind: Kind) -> HdlcFrame:
        return HdlcFrame(destination, self.address, kind, receive_number=self._receive)
