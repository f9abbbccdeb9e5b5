"""An emulated IMST iM871A on a pseudo terminal: real protocol, real pacing, faults on demand.

It answers ping, device information and configuration as the stick does, and hands out telegrams only once
it was configured. It knows nothing of the gateway's driver; both share the message builder of the HCI.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from lmn.crc import crc16_x25
from lmn.wmbus.sticks.im871a import BAUDRATE, RADIO_INDICATION, Endpoint, Message, build_message
from lmn.wmbus.sticks.im871a_config import DeviceInformation
from tools.counterparts.stick_pty import CHUNK, PtyStick

_DEVICE_ID: Final = 0x50001234


class VirtualStick(PtyStick):
    """The stick; see `PtyStick`."""

    BAUDRATE = BAUDRATE

    def __init__(self, link: Path, *, baudrate: int | None = None, chunk: int = CHUNK) -> None:
        super().__init__(link, baudrate=baudrate, chunk=chunk)
        self._config = bytes(9)

    def _heard(self, telegram: bytes, dbm: int) -> bytes:
        now_ms = int(asyncio.get_running_loop().time() * 1000) & 0xFFFFFFFF
        rssi = min(max(2 * (dbm + 100) + 45, 0), 255)
        return build_message(
            Endpoint.RADIO, RADIO_INDICATION, telegram[1:], crc=True, timestamp=now_ms, rssi=rssi
        )

    def _cut(self) -> bytes | None:
        """Take one request off the inbox: A5, endpoint, message, length, payload, CRC only if announced."""
        inbox = self._inbox
        while inbox and inbox[0] != 0xA5:
            del inbox[0]
        if len(inbox) < 4:
            return None
        has_crc = bool(inbox[1] & 0x80)
        total = 4 + inbox[3] + 2 * has_crc
        if len(inbox) < total:
            return None
        request = bytes(inbox[:total])
        del inbox[:total]
        if has_crc and crc16_x25(request[1:-2]) != int.from_bytes(request[-2:], "little"):
            return b""
        return request

    def _handle(self, request: bytes) -> None:
        if not request or request[1] & 0x0F != Endpoint.MANAGEMENT:
            return
        payload = request[4 : 4 + request[3]]
        match request[2]:
            case Message.PING_REQUEST:
                self._reply(Message.PING_ANSWER, b"")
            case Message.DEVICE_INFO_REQUEST:
                info = DeviceInformation(module=0x33, role=0, firmware=0x13, hci=0x16, device_id=_DEVICE_ID)
                self._reply(Message.DEVICE_INFO_ANSWER, info.to_payload())
            case Message.GET_CONFIG_REQUEST:
                self._reply(Message.GET_CONFIG_ANSWER, self._config)
            case Message.SET_CONFIG_REQUEST:
                self._config = payload[1:]
                self._reply(Message.SET_CONFIG_ANSWER, b"", then_listen=True)

    def _reply(self, message: int, payload: bytes, *, then_listen: bool = False) -> None:
        data = build_message(Endpoint.MANAGEMENT, message, payload, crc=True)
        self._answer(data, then_listen=then_listen)
