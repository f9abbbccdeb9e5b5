"""HDLC frames of type 3, as RS-485 meters use them: out of a byte stream and into one. No I/O.

7E, format (A, segmentation, 11 bits of length), destination, source, control, header checksum, information,
checksum, 7E; the length takes the place of stuffing. The header checksum is there if information is.
Spec: BSI TR-03109-1 v2.0 details, chapter 8; ISO/IEC 13239. How the two address bytes hold a station's number
is own knowledge.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from lmn.crc import crc16_x25
from lmn.errors import ChecksumMismatch, LengthMismatch, LmnError, MalformedFrame

FLAG: Final = 0x7E
MAX_INFORMATION: Final = 2034
MAX_ADDRESS: Final = 0x3FFF
_HEADER: Final = 7
_BARE: Final = _HEADER + 2
_SHORTEST_WITH_INFORMATION: Final = _HEADER + 2 + 2
_POLL: Final = 0x10


class Kind(Enum):
    """Frames of the command set; the value is the control byte without numbers and poll bit."""

    INFORMATION = 0x00
    RECEIVE_READY = 0x01
    RECEIVE_NOT_READY = 0x05
    UNNUMBERED_INFORMATION = 0x03
    SET_NORMAL_MODE = 0x83
    DISCONNECT = 0x43
    ACKNOWLEDGE = 0x63
    DISCONNECTED_MODE = 0x0F


_SUPERVISORY: Final = (Kind.RECEIVE_READY, Kind.RECEIVE_NOT_READY)
_UNNUMBERED: Final = {
    kind.value: kind for kind in Kind if kind is not Kind.INFORMATION and kind not in _SUPERVISORY
}


@dataclass(frozen=True, slots=True)
class HdlcFrame:
    """One frame."""

    destination: int
    source: int
    kind: Kind
    information: bytes = b""
    send_number: int = 0
    """N(S), of information frames."""
    receive_number: int = 0
    """N(R), of information and supervisory frames."""
    poll: bool = True
    """Poll bit of a command, final bit of a response."""
    segmented: bool = False
    """Whether the information goes on in the next frame."""

    def __repr__(self) -> str:
        return (
            f"HdlcFrame({self.source}>{self.destination} {self.kind.name} "
            f"s{self.send_number} r{self.receive_number}, {len(self.information)} bytes)"
        )

    @property
    def _control(self) -> int:
        control = self.kind.value | (_POLL if self.poll else 0)
        if self.kind is Kind.INFORMATION:
            return control | self.receive_number << 5 | self.send_number << 1
        return control | self.receive_number << 5 if self.kind in _SUPERVISORY else control

    def to_bytes(self) -> bytes:
        """Encode, with both flags.

        Raises:
            ValueError: the information is too long.
        """
        if len(self.information) > MAX_INFORMATION:
            raise ValueError(f"at most {MAX_INFORMATION} bytes of information")
        length = _BARE + (len(self.information) + 2 if self.information else 0)
        form = 0xA000 | (0x0800 if self.segmented else 0) | length
        head = form.to_bytes(2, "big") + _address(self.destination) + _address(self.source)
        head += bytes((self._control,))
        if self.information:
            head += crc16_x25(head).to_bytes(2, "little") + self.information
        return bytes((FLAG,)) + head + crc16_x25(head).to_bytes(2, "little") + bytes((FLAG,))

    @classmethod
    def from_bytes(cls, data: bytes) -> HdlcFrame:
        """Decode one frame with both flags.

        Raises:
            MalformedFrame: it is none, is damaged, or has a control byte outside the command set.
        """
        inner = data[1:-1]
        if len(inner) < _BARE or data[0] != FLAG or data[-1] != FLAG or inner[0] & 0xF0 != 0xA0:
            raise MalformedFrame("no type-3 frame")
        if int.from_bytes(inner[:2], "big") & 0x07FF != len(inner):
            raise LengthMismatch("length of a frame")
        if crc16_x25(inner[:-2]) != int.from_bytes(inner[-2:], "little"):
            raise ChecksumMismatch("FCS of a frame")
        information = b""
        if len(inner) >= _SHORTEST_WITH_INFORMATION:
            if crc16_x25(inner[:_HEADER]) != int.from_bytes(inner[_HEADER : _HEADER + 2], "little"):
                raise ChecksumMismatch("HCS of a frame")
            information = inner[_HEADER + 2 : -2]
        elif len(inner) != _BARE:
            raise LengthMismatch("a frame between two lengths")
        control = inner[6]
        kind, send, receive = _kind_of(control)
        return cls(
            _number(inner[2:4]), _number(inner[4:6]), kind, information, send, receive,
            bool(control & _POLL), bool(inner[0] & 0x08),
        )  # fmt: skip


def _kind_of(control: int) -> tuple[Kind, int, int]:
    if not control & 0x01:
        return Kind.INFORMATION, control >> 1 & 7, control >> 5
    if control & 0x03 == 0x01:
        for kind in _SUPERVISORY:
            if control & 0x0F == kind.value:
                return kind, 0, control >> 5
        raise MalformedFrame("a supervisory frame outside the command set")
    found = _UNNUMBERED.get(control & ~_POLL)
    if found is None:
        raise MalformedFrame("an unnumbered frame outside the command set")
    return found, 0, 0


def _address(number: int) -> bytes:
    if not 0 <= number <= MAX_ADDRESS:
        raise ValueError("an address has 14 bits")
    return bytes((number >> 7 << 1, (number & 0x7F) << 1 | 1))


def _number(address: bytes) -> int:
    if address[0] & 1 or not address[1] & 1:
        raise MalformedFrame("an address that has not two bytes")
    return address[0] >> 1 << 7 | address[1] >> 1


class HdlcDeframer:
    """Cuts frames out of bytes that arrive in any cut; holds one frame's maximum at most."""

    def __init__(self) -> None:
        self._inbox = bytearray()
        self.garbage_bytes = 0
        self.rejected = 0
        """Candidates whose checksum, length or control byte was wrong."""

    def reset(self) -> None:
        """Forget a frame that did not become whole in time."""
        self._inbox.clear()

    def receive(self, data: bytes) -> list[HdlcFrame]:
        """Take bytes; return the frames that became whole."""
        self._inbox += data
        frames = []
        while (found := self._step()) is not None:
            if isinstance(found, HdlcFrame):
                frames.append(found)
        return frames

    def _step(self) -> HdlcFrame | bool | None:
        """One frame; True: something was dropped, look again; None: more bytes are needed."""
        inbox = self._inbox
        place = inbox.find(FLAG)
        skip = place if place >= 0 else len(inbox)
        if skip:
            self.garbage_bytes += skip
            del inbox[:skip]
        if len(inbox) < 3:
            return None
        length = (inbox[1] << 8 | inbox[2]) & 0x07FF
        if inbox[1] & 0xF0 != 0xA0 or length < _BARE:
            del inbox[0]
            return True
        if len(inbox) < length + 2:
            return None
        try:
            frame = HdlcFrame.from_bytes(bytes(inbox[: length + 2]))
        except LmnError:
            self.rejected += 1
            del inbox[0]
            return True
        del inbox[: length + 1]  # the closing flag may open the next frame
        return frame
