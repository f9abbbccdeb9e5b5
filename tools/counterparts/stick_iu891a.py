"""An emulated IMST iU891A-XL on a pseudo terminal."""

from __future__ import annotations

import asyncio

from lmn.crc import crc16_x25
from lmn.wmbus.sticks.iu891a import BAUDRATE, END, Message, ServicePoint, build_message, unescape
from tools.counterparts.stick_pty import PtyStick

_DONE = b"\x00"
_REFUSED = b"\x01"
_MODES = (3, 6)


class VirtualIu891a(PtyStick):
    """The stick; see `PtyStick`."""

    BAUDRATE = BAUDRATE

    def _cut(self) -> bytes | None:
        inbox = self._inbox
        start = inbox.find(END)
        end = inbox.find(END, start + 1) if start >= 0 else -1
        if end < 0:
            return None
        body = unescape(bytes(inbox[start + 1 : end]))
        good = body is not None and len(body) >= 4
        good = good and crc16_x25(body[:-2]) == int.from_bytes(body[-2:], "little")  # type: ignore[index]  # checked
        del inbox[: end + 1 if good else end]
        return body[:-2] if good and body is not None else b""

    def _handle(self, request: bytes) -> None:
        match tuple(request[:2]):
            case (ServicePoint.MANAGEMENT, Message.DEVICE_INFO_REQUEST):
                info = _DONE + bytes((0x6E,)) + bytes.fromhex("0102030450000012")
                self._answer(build_message(ServicePoint.MANAGEMENT, Message.DEVICE_INFO_ANSWER, info))
            case (ServicePoint.RADIO, Message.SET_CONFIG_REQUEST):
                known = request[2:3] in (bytes((mode,)) for mode in _MODES)
                answer = build_message(
                    ServicePoint.RADIO, Message.SET_CONFIG_ANSWER, _DONE if known else _REFUSED
                )
                self._answer(answer, then_listen=known)

    def _heard(self, telegram: bytes, dbm: int) -> bytes:
        now_ms = int(asyncio.get_running_loop().time() * 1000) & 0xFFFFFFFF
        header = now_ms.to_bytes(4, "little") + b"\x00\x00\x03" + dbm.to_bytes(1, "big", signed=True)
        return build_message(ServicePoint.RADIO, Message.RADIO_INDICATION, header + telegram)
