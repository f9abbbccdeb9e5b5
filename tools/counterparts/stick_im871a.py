"""An emulated IMST iM871A on a pseudo terminal: real protocol, real pacing, faults on demand.

It answers ping, device information and configuration as the stick does, and hands out telegrams only once
it was configured. It knows nothing of the gateway's driver; both share the message builder of the HCI.
"""

from __future__ import annotations

import asyncio
import os
import tty
from pathlib import Path
from typing import Final, Self

from lmn.crc import crc16_x25
from lmn.wmbus.sticks.im871a import BAUDRATE, RADIO_INDICATION, Endpoint, Message, build_message

_BITS_PER_BYTE: Final = 10
_CHUNK: Final = 16
"""Bytes written at once; the pause after them keeps the line's rate."""
_DEVICE_ID: Final = 0x50001234
DEFAULT_RSSI: Final = 95
"""Raw value of the stick; -75 dBm."""


class VirtualStick:
    """One stick behind a stable link, as `/dev/serial/by-id` has them.

    Use: `async with VirtualStick(path) as stick: await stick.transmit(telegram)`.
    """

    def __init__(self, link: Path, *, baudrate: int = BAUDRATE, chunk: int = _CHUNK) -> None:
        """Prepare a stick; it appears with `plug`.

        Args:
            link: path of the symbolic link that a driver opens.
            baudrate: of the imitated line; 0 for one without limit.
            chunk: bytes that arrive together; 1 cuts everything into single bytes.
        """
        self.link = link
        self.heard: list[bytes] = []
        """Requests of the host, in order."""
        self.lost_bytes = 0
        """What the host did not take in time."""
        self.unheard = 0
        """Telegrams sent on the air while the stick was not configured."""
        self._baudrate, self._chunk = baudrate, chunk
        self._master = self._slave = -1
        self._inbox = bytearray()
        self._listening = asyncio.Event()
        self._line = asyncio.Lock()
        self._answers: set[asyncio.Task[None]] = set()
        self._config = bytes(9)

    async def __aenter__(self) -> Self:
        self.plug()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def plugged(self) -> bool:
        """Whether the device is there."""
        return self._master >= 0

    def plug(self) -> None:
        """Make the device and publish its link in one step."""
        master, slave = os.openpty()  # the slave stays open here, so that a host may come and go
        tty.setraw(master)
        tty.setraw(slave)
        os.set_blocking(master, False)
        self._master, self._slave = master, slave
        self.link.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.link.with_name(self.link.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(slave))
        fresh.replace(self.link)
        asyncio.get_running_loop().add_reader(master, self._on_readable)

    def vanish(self) -> None:
        """Pull the stick: link and device are gone, its configuration is lost."""
        if not self.plugged:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        self.link.unlink(missing_ok=True)
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1
        self._inbox.clear()
        self._listening.clear()

    async def aclose(self) -> None:
        """Pull the stick and wait for answers still on their way."""
        self.vanish()
        await asyncio.gather(*self._answers)

    async def listening(self) -> None:
        """Wait until a host has configured the stick."""
        await self._listening.wait()

    async def transmit(self, telegram: bytes, *, rssi: int = DEFAULT_RSSI) -> bool:
        """Let a telegram (L field in front, no link CRCs) come out of the air.

        Returns:
            Whether the stick was listening; if not, nobody heard it.
        """
        if not self._listening.is_set():
            self.unheard += 1
            return False
        now_ms = int(asyncio.get_running_loop().time() * 1000) & 0xFFFFFFFF
        await self.write(
            build_message(
                Endpoint.RADIO, RADIO_INDICATION, telegram[1:], crc=True, timestamp=now_ms, rssi=rssi
            )
        )
        return True

    async def write(self, data: bytes) -> None:
        """Send raw bytes to the host, at the line's rate; also for garbage and cut-off messages."""
        loop = asyncio.get_running_loop()
        async with self._line:
            due = loop.time()
            for start in range(0, len(data), self._chunk):
                chunk = data[start : start + self._chunk]
                if not self.plugged:
                    return
                try:
                    taken = os.write(self._master, chunk)
                except BlockingIOError:
                    taken = 0
                self.lost_bytes += len(chunk) - taken
                if self._baudrate:
                    due += len(chunk) * _BITS_PER_BYTE / self._baudrate
                await asyncio.sleep(max(due - loop.time(), 0))

    def _on_readable(self) -> None:
        try:
            self._inbox += os.read(self._master, 4096)
        except OSError:
            return
        while (request := self._cut()) is not None:
            self._handle(request)

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
        self.heard.append(request)
        payload = request[4 : 4 + request[3]]
        match request[2]:
            case Message.PING_REQUEST:
                self._answer(Message.PING_ANSWER, b"")
            case Message.DEVICE_INFO_REQUEST:
                # module type iM871A, device mode "other", firmware 1.3, HCI 1.6, device id
                info = bytes((0x33, 0x00, 0x13, 0x16)) + _DEVICE_ID.to_bytes(4, "little")
                self._answer(Message.DEVICE_INFO_ANSWER, info)
            case Message.GET_CONFIG_REQUEST:
                self._answer(Message.GET_CONFIG_ANSWER, self._config)
            case Message.SET_CONFIG_REQUEST:
                self._config = payload[1:]
                self._answer(Message.SET_CONFIG_ANSWER, b"", then_listen=True)

    def _answer(self, message: int, payload: bytes, *, then_listen: bool = False) -> None:
        async def send() -> None:
            await self.write(build_message(Endpoint.MANAGEMENT, message, payload, crc=True))
            if then_listen and self.plugged:
                self._listening.set()

        task = asyncio.get_running_loop().create_task(send())
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)
