"""IMST iM871A: the host controller interface (HCI) of this USB stick. No I/O, no clock.

Message: A5 | control and endpoint | message | length | payload | {time stamp 4} | {RSSI 1} | CRC 2.
The CRC is CRC-16/X-25, low byte first, over everything after A5.
Source: docs/lmn.md 2.1 (IMST "WMBus_HCI_Spec" 1.6 as public host software speaks it).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from lmn.crc import crc16_x25
from lmn.errors import MalformedFrame, UnexpectedMessage
from lmn.wmbus.cutter import Cutter
from lmn.wmbus.inbox import Inbox
from lmn.wmbus.link import ReceivedFrame, StickState, StickStatistics
from lmn.wmbus.sticks.im871a_config import DeviceInformation, SetConfiguration

START_OF_FRAME: Final = 0xA5
BAUDRATE: Final = 57600
GAP_S: Final = 0.5
"""The stick sends without pauses; behind one this long another message may begin."""

_HAS_TIMESTAMP, _HAS_RSSI, _HAS_CRC = 0x20, 0x40, 0x80


class Endpoint(IntEnum):
    """Whom in the stick a message belongs to."""

    MANAGEMENT = 1
    RADIO = 2


class Message(IntEnum):
    """Message numbers of the management endpoint; the answer to a request is the next number."""

    PING_REQUEST = 0x01
    PING_ANSWER = 0x02
    SET_CONFIG_REQUEST = 0x03
    SET_CONFIG_ANSWER = 0x04
    GET_CONFIG_REQUEST = 0x05
    GET_CONFIG_ANSWER = 0x06
    DEVICE_INFO_REQUEST = 0x0F
    DEVICE_INFO_ANSWER = 0x10


RADIO_INDICATION: Final = 0x03
"""The radio endpoint's only message: a telegram was heard."""


class LinkMode(IntEnum):
    """Radio modes of the stick's configuration."""

    S1 = 0
    S1_M = 1
    S2 = 2
    T1 = 3
    T2 = 4
    R2 = 5
    C1_A = 6
    C1_B = 7
    C2_A = 8
    C2_B = 9


MODES: Final = {"T1": LinkMode.T1, "C1": LinkMode.C1_A, "S1": LinkMode.S1}
"""Names of the configuration; this stick hears one mode at a time."""


class _Kind(Enum):
    PONG = "pong"
    DEVICE_INFO = "device info"
    CONFIG_SET = "config set"
    FRAME = "frame"


_KINDS: Final[dict[tuple[int, int], _Kind]] = {
    (Endpoint.MANAGEMENT, Message.PING_ANSWER): _Kind.PONG,
    (Endpoint.MANAGEMENT, Message.DEVICE_INFO_ANSWER): _Kind.DEVICE_INFO,
    (Endpoint.MANAGEMENT, Message.SET_CONFIG_ANSWER): _Kind.CONFIG_SET,
    (Endpoint.RADIO, RADIO_INDICATION): _Kind.FRAME,
}
_NEXT: Final = {  # the whole protocol: what is not listed is an error
    (StickState.PROBING, _Kind.PONG): StickState.IDENTIFYING,
    (StickState.IDENTIFYING, _Kind.DEVICE_INFO): StickState.CONFIGURING,
    (StickState.CONFIGURING, _Kind.CONFIG_SET): StickState.LISTENING,
    (StickState.LISTENING, _Kind.FRAME): StickState.LISTENING,
    # A stick that was already receiving goes on talking until it is configured; its mode is unknown.
    (StickState.PROBING, _Kind.FRAME): StickState.PROBING,
    (StickState.IDENTIFYING, _Kind.FRAME): StickState.IDENTIFYING,
    (StickState.CONFIGURING, _Kind.FRAME): StickState.CONFIGURING,
}


def build_message(
    endpoint: int,
    message: int,
    payload: bytes = b"",
    *,
    crc: bool = False,
    timestamp: int | None = None,
    rssi: int | None = None,
) -> bytes:
    """Assemble one HCI message, host or stick side.

    Raises:
        ValueError: the payload is longer than 255 bytes.
    """
    if len(payload) > 255:
        raise ValueError(f"HCI payload of {len(payload)} bytes")
    control = endpoint
    trailer = b""
    if timestamp is not None:
        control |= _HAS_TIMESTAMP
        trailer += timestamp.to_bytes(4, "little")
    if rssi is not None:
        control |= _HAS_RSSI
        trailer += bytes((rssi,))
    if crc:
        control |= _HAS_CRC
    body = bytes((control, message, len(payload))) + payload + trailer
    check = crc16_x25(body).to_bytes(2, "little") if crc else b""
    return bytes((START_OF_FRAME,)) + body + check


PING: Final = build_message(Endpoint.MANAGEMENT, Message.PING_REQUEST)
DEVICE_INFO: Final = build_message(Endpoint.MANAGEMENT, Message.DEVICE_INFO_REQUEST)


def set_link_mode(mode: LinkMode) -> bytes:
    """Configuration request, in RAM only: link mode, RSSI and time stamp attached to each telegram."""
    payload = SetConfiguration(mode).to_payload()
    return build_message(Endpoint.MANAGEMENT, Message.SET_CONFIG_REQUEST, payload)


@dataclass(frozen=True, slots=True)
class HciMessage:
    """One message whose checksum was right."""

    endpoint: int
    message: int
    payload: bytes
    rssi: int | None
    first_byte_at: float


class _Hci:
    """The form of the stick's messages."""

    sure = True

    def length(self, data: bytes | bytearray) -> int | None:
        """Count from A5 to the CRC."""
        return _message_length(data) if data[0] == START_OF_FRAME else 0

    def right(self, message: bytes) -> bool:
        """Check the CRC."""
        return crc16_x25(message[1:-2]) == int.from_bytes(message[-2:], "little")


def _message_length(inbox: bytes | bytearray) -> int | None:
    """Bytes of the message that starts here, None as long as that is open, 0 if none starts here."""
    if len(inbox) < 2:
        return None
    control = inbox[1]
    # Without a checksum a message could not be told from garbage: this stick always sends one.
    if not control & _HAS_CRC or control & 0x10 or control & 0x0F not in (1, 2):
        return 0
    if len(inbox) < 4:
        return None
    trailer = (4 if control & _HAS_TIMESTAMP else 0) + (1 if control & _HAS_RSSI else 0)
    return 4 + inbox[3] + trailer + 2


def _read_message(body: bytes, at: float) -> HciMessage:
    control, message, length = body[:3]
    payload = body[3 : 3 + length]
    rssi = body[-1] if control & _HAS_RSSI else None
    return HciMessage(control & 0x0F, message, payload, rssi, at)


class Im871a:
    """Finds the stick, sets its mode, then turns its byte stream into telegrams."""

    baudrate = BAUDRATE
    undecided = False

    def __init__(self, statistics: StickStatistics, mode: LinkMode = LinkMode.T1) -> None:
        self.state = StickState.PROBING
        self.statistics = statistics
        self._mode = mode
        self._inbox = Inbox(statistics, GAP_S)
        self._cutter = Cutter(self._inbox, _Hci(), statistics)
        self._outbox = bytearray()
        self._failure: UnexpectedMessage | None = None
        self._actions: dict[_Kind, Callable[[HciMessage], ReceivedFrame | None]] = {
            _Kind.PONG: self._on_pong,
            _Kind.DEVICE_INFO: self._on_device_info,
            _Kind.CONFIG_SET: self._on_config_set,
            _Kind.FRAME: self._on_frame,
        }

    def start(self) -> bytes:
        """Return the ping that opens the talk."""
        self.statistics.opened += 1
        return PING

    @property
    def recognised(self) -> bool:
        """Whether a right pong came."""
        return self.state is not StickState.PROBING

    def farewell(self) -> bytes:
        """Return nothing: a ping leaves no trace."""
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
        """Take bytes in any cut; return the telegrams that became whole.

        Raises:
            UnexpectedMessage: a message that the state does not allow.
        """
        self._check()
        frames: list[ReceivedFrame] = []
        self._inbox.add(data, at)
        for cut in self._cutter.take():
            message = _read_message(cut.data[1:-2], cut.first_byte_at)
            kind = _KINDS.get((message.endpoint, message.message))
            following = _NEXT.get((self.state, kind)) if kind is not None else None
            if kind is None or following is None:
                self._failure = UnexpectedMessage(
                    f"iM871A: message {message.endpoint}.{message.message:02X} while {self.state.value}"
                )
                break
            if (frame := self._actions[kind](message)) is not None:
                frames.append(frame)
            self.state = following
        if not frames:
            self._check()  # otherwise these telegrams are delivered first
        return frames

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _on_pong(self, _message: HciMessage) -> None:
        self._outbox += DEVICE_INFO

    def _on_device_info(self, message: HciMessage) -> None:
        try:
            device = DeviceInformation.from_payload(message.payload)
        except MalformedFrame:
            self.statistics.device = "iM871A that does not say which"
        else:
            self.statistics.device = f"iM871A type {device.module:02x} id {device.device_id:08x}"
        self._outbox += set_link_mode(self._mode)

    def _on_config_set(self, _message: HciMessage) -> None:
        self.statistics.link_mode = self._mode.name

    def _on_frame(self, message: HciMessage) -> ReceivedFrame | None:
        if self.state is not StickState.LISTENING:
            self.statistics.dropped += 1
            return None
        self.statistics.frames += 1
        rssi_dbm = None if message.rssi is None else round((8 * message.rssi - 1900) / 15)
        data = bytes((len(message.payload),)) + message.payload  # the HCI length byte is the L field
        return ReceivedFrame(data, message.first_byte_at, rssi_dbm, self._mode.name)
