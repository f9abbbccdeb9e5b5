"""An emulated IMST iU891A-XL on a pseudo terminal."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from lmn.crc import crc16_x25
from lmn.wmbus.sticks.iu891a import (
    BAUDRATE,
    END,
    NOTIFY,
    Message,
    ServicePoint,
    build_message,
    unescape,
)
from tools.counterparts.stick_pty import CHUNK, PtyStick

_DONE: Final = b"\x00"
_REFUSED: Final = b"\x01"
_MODES: Final = range(1, 7)
_C_T: Final = 3
_OPTIONS: Final = 10
"""Bytes behind the link mode: flags, then how long the light flashes and how often it calibrates."""
_ADDRESS: Final = bytes.fromhex("b425341200500107")
"""Of the radio: maker, identification, version, kind."""
_VERSION: Final = bytes.fromhex("0301 2a00") + b"01.02.2024" + b"WMBus Emulated"


class VirtualIu891a(PtyStick):
    """The stick; see `PtyStick`."""

    BAUDRATE = BAUDRATE

    def __init__(self, link: Path, *, baudrate: int | None = None, chunk: int = CHUNK) -> None:
        super().__init__(link, baudrate=baudrate, chunk=chunk)
        self._reset()

    def _reset(self) -> None:
        self._config = bytes((_C_T,)) + bytes(_OPTIONS)

    def _cut(self) -> bytes | None:
        inbox = self._inbox
        while True:
            start = inbox.find(END)
            end = inbox.find(END, start + 1) if start >= 0 else -1
            if end < 0:
                return None
            body = unescape(bytes(inbox[start + 1 : end]))
            if not body:  # marks alone: hosts send many of them to wake a sleeping stick
                del inbox[:end]
                continue
            good = len(body) >= 4 and crc16_x25(body[:-2]) == int.from_bytes(body[-2:], "little")
            del inbox[: end + 1 if good else end]
            return body[:-2] if good else b""

    def _handle(self, request: bytes) -> None:
        point, message, payload = request[:1], request[1:2], request[2:]
        match (*point, *message):
            case (ServicePoint.MANAGEMENT, 0x01):
                self._reply(request, _DONE)
            case (ServicePoint.MANAGEMENT, Message.DEVICE_INFO_REQUEST):
                self._reply(request, _DONE + bytes((0x6E,)) + bytes.fromhex("0102030450000012"))
            case (ServicePoint.MANAGEMENT, 0x05):
                self._reply(request, _DONE + _VERSION)
            case (ServicePoint.RADIO, 0x81):
                self._reply(request, _DONE + _ADDRESS)
            case (ServicePoint.RADIO, Message.GET_CONFIG_REQUEST):
                self._reply(request, _DONE + self._config)
            case (ServicePoint.RADIO, Message.SET_CONFIG_REQUEST):
                known = len(payload) == len(self._config) and payload[0] in _MODES
                if known:
                    self._config = payload
                hears = known and bool(payload[1] & NOTIFY)
                self._reply(request, _DONE if known else _REFUSED, then_listen=hears)

    def _reply(self, request: bytes, content: bytes, *, then_listen: bool = False) -> None:
        self._answer(build_message(request[0], request[1] + 1, content), then_listen=then_listen)

    def _heard(self, telegram: bytes, dbm: int) -> bytes:
        now_ms = int(asyncio.get_running_loop().time() * 1000) & 0xFFFFFFFF
        header = now_ms.to_bytes(4, "little") + b"\x00\x00\x03" + dbm.to_bytes(1, "big", signed=True)
        return build_message(ServicePoint.RADIO, Message.RADIO_INDICATION, header + telegram)
