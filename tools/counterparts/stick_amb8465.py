"""An emulated Würth (Amber) AMB8465-M: bare telegrams or commands, with or without signal."""

from __future__ import annotations

from functools import reduce
from operator import xor
from pathlib import Path
from typing import Final

from lmn.wmbus.sticks.amb8465 import (
    AT_COMMAND_OUT,
    AT_SIGNAL,
    BAUDRATE,
    MEMORY_BYTES,
    START,
    Command,
    build_command,
)
from tools.counterparts.stick_pty import CHUNK, PtyStick

_RESET, _SET_MEMORY, _SERIAL, _FIRMWARE = 0x05, 0x09, 0x0B, 0x0C
_ANSWER: Final = 0x80
_AT_MODE: Final = 0x46
"""Place in the memory: radio mode after a restart."""
_DONE, _REFUSED = b"\x00", b"\x02"
_SERIAL_NUMBER: Final = bytes.fromhex("12345678")
_VERSION: Final = bytes.fromhex("030300")


class VirtualAmb8465(PtyStick):
    """The stick; see `PtyStick`."""

    BAUDRATE = BAUDRATE

    def __init__(
        self,
        link: Path,
        *,
        baudrate: int | None = None,
        chunk: int = CHUNK,
        commands: bool = True,
        signal: bool = True,
    ) -> None:
        super().__init__(link, baudrate=baudrate, chunk=chunk)
        self._memory = bytearray(MEMORY_BYTES)
        self._memory[AT_COMMAND_OUT], self._memory[AT_SIGNAL] = commands, signal

    def _cut(self) -> bytes | None:
        inbox = self._inbox
        while inbox and inbox[0] != START:
            del inbox[0]
        if len(inbox) < 3 or len(inbox) < 4 + inbox[2]:
            return None
        request = bytes(inbox[: 4 + inbox[2]])
        del inbox[: len(request)]
        return request if reduce(xor, request) == 0 else b""

    def _handle(self, request: bytes) -> None:
        if not request:
            return
        command, payload = request[1], request[3:-1]
        if command == Command.GET_MEMORY and len(payload) == 2:
            first, count = payload[0], min(payload[1], 0x78)
            self._reply(command, bytes((first, count)) + self._memory[first : first + count])
        elif command == _SET_MEMORY:
            self._reply(command, self._remember(payload), then_listen=payload[:1] == bytes((_AT_MODE,)))
        elif command == Command.SET_MODE:
            self._reply(command, _DONE, then_listen=True)
        elif command == _RESET:
            self._reply(command, _DONE)
        elif command == _SERIAL:
            self._reply(command, _SERIAL_NUMBER)
        elif command == _FIRMWARE:
            self._reply(command, _VERSION)

    def _remember(self, payload: bytes) -> bytes:
        """Write place, count and bytes into the memory, which outlasts a restart; return the status."""
        if len(payload) < 3 or payload[1] != len(payload) - 2 or payload[0] + payload[1] > MEMORY_BYTES:
            return _REFUSED
        self._memory[payload[0] : payload[0] + payload[1]] = payload[2:]
        return _DONE

    def _reply(self, command: int, payload: bytes, *, then_listen: bool = False) -> None:
        self._answer(build_command(command | _ANSWER, payload), then_listen=then_listen)

    def _heard(self, telegram: bytes, dbm: int) -> bytes:
        signal = bytes((2 * (dbm + 74) & 0xFF,)) if self._memory[AT_SIGNAL] else b""
        if not self._memory[AT_COMMAND_OUT]:
            return telegram + signal
        return build_command(Command.DATA, telegram[1:] + signal)
