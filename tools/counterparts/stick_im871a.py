"""An emulated IMST iM871A on a pseudo terminal: real protocol, real pacing, faults on demand.

It answers ping, device information and configuration as the stick does, and hands out
telegrams only once it was configured, with time stamp and signal only if the configuration says so. It knows
nothing of the gateway's driver; both share the message builder of the HCI.
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
_GROUPS: Final = (
    (
        ("device mode", 1),
        ("link mode", 1),
        ("control", 1),
        ("maker", 2),
        ("device id", 4),
        ("version", 1),
        ("kind", 1),
        ("channel", 1),
    ),
    (
        ("power", 1),
        ("rate", 1),
        ("window", 1),
        ("power saving", 1),
        ("signal", 1),
        ("time stamp", 1),
        ("light", 1),
        ("clock", 1),
    ),
)
"""Fields of a configuration and their bytes: each group is led by a byte whose bits say which are there."""


class Configuration:
    """What the stick keeps; a request changes the fields that it names."""

    def __init__(self) -> None:
        self._fields = {name: bytes(size) for group in _GROUPS for name, size in group}
        self._fields["device id"] = _DEVICE_ID.to_bytes(4, "little")

    def __getitem__(self, name: str) -> bytes:
        return self._fields[name]

    def to_payload(self) -> bytes:
        """All fields, as the stick reports them."""
        return b"".join(b"\xff" + b"".join(self._fields[name] for name, _ in group) for group in _GROUPS)

    def change(self, payload: bytes) -> bool:
        """Carry out a request; False, and nothing is changed, if it is none."""
        fresh, position = {}, 1  # byte 0 says whether it outlasts a restart
        for group in _GROUPS:
            if position >= len(payload):
                return False
            present, position = payload[position], position + 1
            for bit, (name, size) in enumerate(group):
                if not present >> bit & 1:
                    continue
                fresh[name] = payload[position : position + size]
                position += size
        if position != len(payload) or payload[:1] not in (b"\x00", b"\x01"):
            return False
        self._fields.update(fresh)
        return True


class VirtualStick(PtyStick):
    """The stick; see `PtyStick`."""

    BAUDRATE = BAUDRATE

    def __init__(self, link: Path, *, baudrate: int | None = None, chunk: int = CHUNK) -> None:
        super().__init__(link, baudrate=baudrate, chunk=chunk)
        self.configuration = Configuration()

    def _reset(self) -> None:
        self.configuration = Configuration()

    def _heard(self, telegram: bytes, dbm: int) -> bytes:
        now_ms = int(asyncio.get_running_loop().time() * 1000) & 0xFFFFFFFF
        signal = min(max(round((dbm + 380 / 3) * 15 / 8), 0), 255)
        return build_message(
            Endpoint.RADIO,
            RADIO_INDICATION,
            telegram[1:],
            crc=True,
            timestamp=now_ms if any(self.configuration["time stamp"]) else None,
            rssi=signal if any(self.configuration["signal"]) else None,
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
                self._reply(Message.GET_CONFIG_ANSWER, self.configuration.to_payload())
            case Message.SET_CONFIG_REQUEST if self.configuration.change(payload):
                self._reply(Message.SET_CONFIG_ANSWER, b"", then_listen=True)

    def _reply(self, message: int, payload: bytes, *, then_listen: bool = False) -> None:
        data = build_message(Endpoint.MANAGEMENT, message, payload, crc=True)
        self._answer(data, then_listen=then_listen)
