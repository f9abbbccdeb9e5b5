"""IMST iU891A-XL: the host interface of this USB stick. No I/O, no clock.

SLIP frame: C0 | service point | message | {status} | payload | CRC 2 | C0, with DB DC for C0 and DB DD for
DB. The CRC is CRC-16/X-25, low byte first, over everything between the two marks. Answers have a status
byte, 0 for "done"; indications have none.
Source: docs/lmn.md 2.2 (as public host software speaks it; no such stick was at hand).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import ClassVar, Final

from lmn.crc import crc16_x25
from lmn.wmbus.core import Core
from lmn.wmbus.inbox import Inbox
from lmn.wmbus.link import ReceivedFrame, StickState, StickStatistics

BAUDRATE: Final = 115200
GAP_S: Final = 0.5
END, ESCAPE, ESCAPED_END, ESCAPED_ESCAPE = 0xC0, 0xDB, 0xDC, 0xDD
MAX_FRAME: Final = 2 * (2 + 9 + 256 + 2)
"""Longest frame with every byte escaped; more without an end mark is garbage."""


class ServicePoint(IntEnum):
    """Whom in the stick a message belongs to."""

    MANAGEMENT = 0x01
    RADIO = 0x09


class Message(IntEnum):
    """Message numbers; the answer to a request is the next number."""

    DEVICE_INFO_REQUEST = 0x03
    DEVICE_INFO_ANSWER = 0x04
    GET_CONFIG_REQUEST = 0x01
    GET_CONFIG_ANSWER = 0x02
    SET_CONFIG_REQUEST = 0x03
    SET_CONFIG_ANSWER = 0x04
    RADIO_INDICATION = 0x20


class LinkMode(IntEnum):
    """Radio modes of the stick's active configuration."""

    C_T = 3
    T_ENHANCED = 6


MODES: Final = {"C1+T1": LinkMode.C_T, "T1": LinkMode.T_ENHANCED}
NOTIFY: Final = 0x02
"""Bit of the configuration's second byte: tell the host what is heard."""
_SLEEP: Final = 0x01
_HEADER: Final = 8
"""Of a radio indication: time 4, two bytes of which nothing is known, link mode, signal."""


class _Kind(Enum):
    DEVICE_INFO = "device info"
    CONFIG = "config"
    CONFIG_SET = "config set"
    FRAME = "frame"


_KINDS: Final[dict[tuple[int, int], _Kind]] = {
    (ServicePoint.MANAGEMENT, Message.DEVICE_INFO_ANSWER): _Kind.DEVICE_INFO,
    (ServicePoint.RADIO, Message.GET_CONFIG_ANSWER): _Kind.CONFIG,
    (ServicePoint.RADIO, Message.SET_CONFIG_ANSWER): _Kind.CONFIG_SET,
    (ServicePoint.RADIO, Message.RADIO_INDICATION): _Kind.FRAME,
}


def build_message(point: int, message: int, payload: bytes = b"") -> bytes:
    """Assemble one SLIP frame, host or stick side; a status byte is part of `payload`."""
    body = bytes((point, message)) + payload
    body += crc16_x25(body).to_bytes(2, "little")
    escaped = bytearray((END,))
    for byte in body:
        if byte == END:
            escaped += bytes((ESCAPE, ESCAPED_END))
        elif byte == ESCAPE:
            escaped += bytes((ESCAPE, ESCAPED_ESCAPE))
        else:
            escaped.append(byte)
    escaped.append(END)
    return bytes(escaped)


def unescape(data: bytes) -> bytes | None:
    """Undo the escaping between two marks; None where an escape is none."""
    plain = bytearray()
    source = iter(data)
    for byte in source:
        if byte == ESCAPE:
            following = next(source, None)
            if following not in (ESCAPED_END, ESCAPED_ESCAPE):
                return None
            plain.append(END if following == ESCAPED_END else ESCAPE)
        else:
            plain.append(byte)
    return bytes(plain)


DEVICE_INFO: Final = build_message(ServicePoint.MANAGEMENT, Message.DEVICE_INFO_REQUEST)


GET_CONFIG: Final = build_message(ServicePoint.RADIO, Message.GET_CONFIG_REQUEST)


def set_link_mode(config: bytes, mode: LinkMode) -> bytes:
    """Request for the active configuration, which is gone after a restart of the stick.

    Args:
        config: the active one; what is not the mode and not its two first flags stays as it is.
        mode: what to listen to; the stick stays awake and tells what it hears.
    """
    changed = bytes((mode, config[1] & ~_SLEEP | NOTIFY)) + config[2:]
    return build_message(ServicePoint.RADIO, Message.SET_CONFIG_REQUEST, changed)


@dataclass(frozen=True, slots=True)
class _Received:
    payload: bytes
    first_byte_at: float


class Iu891a(Core):
    """Finds the stick, sets its mode, then turns its byte stream into telegrams."""

    title = "iU891A"
    NEXT: ClassVar = {
        (StickState.PROBING, _Kind.DEVICE_INFO): StickState.IDENTIFYING,
        (StickState.IDENTIFYING, _Kind.CONFIG): StickState.CONFIGURING,
        (StickState.CONFIGURING, _Kind.CONFIG_SET): StickState.LISTENING,
        (StickState.LISTENING, _Kind.FRAME): StickState.LISTENING,
        # A stick that was already receiving goes on talking until it is configured; its mode is unknown.
        (StickState.PROBING, _Kind.FRAME): StickState.PROBING,
        (StickState.IDENTIFYING, _Kind.FRAME): StickState.IDENTIFYING,
        (StickState.CONFIGURING, _Kind.FRAME): StickState.CONFIGURING,
    }

    def __init__(self, statistics: StickStatistics, mode: str = "C1+T1") -> None:
        super().__init__(statistics)
        self.baudrate = BAUDRATE
        self._mode = mode
        self._inbox = Inbox(statistics, GAP_S)
        self._behind = 0
        """1 while the inbox begins with the end mark of a frame that was taken."""

    def _greeting(self) -> bytes:
        return DEVICE_INFO

    def _messages(self, data: bytes, at: float) -> Iterator[tuple[_Kind, _Received]]:
        inbox = self._inbox
        # A pause needs no rule: a frame that was cut off ends at the next one's mark, by a wrong checksum.
        inbox.add(data, at)
        while inbox.data:
            if inbox.data[0] != END:
                self._behind = 0
                start = inbox.data.find(END)
                inbox.discard(len(inbox.data) if start < 0 else start)
                continue
            end = inbox.data.find(END, 1)
            if end < 0:
                if len(inbox.data) > MAX_FRAME:
                    inbox.discard(len(inbox.data))
                    self._behind = 0
                return
            if end == 1:  # the end of one frame and the start of the next
                inbox.remove(1)
                self._behind = 0
                continue
            # The mark in front may be the end of the frame before, and hours old.
            body, first = unescape(bytes(inbox.data[1:end])), inbox.came_at(self._behind)
            if body is None or len(body) < 4 or crc16_x25(body[:-2]) != int.from_bytes(body[-2:], "little"):
                self.statistics.crc_failures += 1
                inbox.discard(end)  # its end mark may be the start of a good one
                self._behind = 0
                continue
            inbox.remove(end)  # this end mark too, if the one that was to come got lost
            self._behind = 1
            kind = _KINDS.get((body[0], body[1]))
            if kind is None:
                self._fail(f"message {body[0]:02X}.{body[1]:02X} while {self.state.value}")
                return
            yield kind, _Received(body[2:-2], first)

    def _act(self, kind: Enum, message: object) -> ReceivedFrame | None:
        assert isinstance(message, _Received)
        payload = message.payload
        if kind is _Kind.FRAME:
            telegram = payload[_HEADER:]
            if not telegram or telegram[0] != len(telegram) - 1:
                self.statistics.truncated += 1
                return None
            rssi_dbm = int.from_bytes(payload[_HEADER - 1 : _HEADER], "big", signed=True)
            return self._deliver(telegram, message.first_byte_at, rssi_dbm)
        if payload[:1] != b"\x00":
            self._fail(f"{kind.value} answered by status {payload[:1].hex() or 'nothing'}")
        elif kind is _Kind.DEVICE_INFO:
            self.statistics.device = f"iU891A {payload[1:9].hex()}"
            self._outbox += GET_CONFIG
        elif kind is _Kind.CONFIG:
            config = payload[1:]
            if len(config) < 2:
                self._fail(f"configuration of {len(config)} bytes")
                return None
            self._outbox += set_link_mode(config, MODES[self._mode])
        else:
            self.statistics.link_mode = self._mode
        return None
