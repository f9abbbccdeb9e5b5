"""An emulated Würth (Amber) AMB8465-M: bare telegrams or commands, with or without signal."""

from __future__ import annotations

from functools import reduce
from operator import xor
from pathlib import Path

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
        self._commands, self._signal = commands, signal

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
        match request[1:2]:
            case b"\x0a":
                memory = bytearray(MEMORY_BYTES)
                memory[AT_COMMAND_OUT], memory[AT_SIGNAL] = self._commands, self._signal
                first, count = request[3], min(request[4], 0x78)
                answer = bytes((first, count)) + memory[first : first + count]
                self._answer(build_command(Command.GET_MEMORY | 0x80, answer))
            case b"\x04":
                self._answer(build_command(Command.SET_MODE | 0x80, b"\x00"), then_listen=True)

    def _heard(self, telegram: bytes, dbm: int) -> bytes:
        signal = bytes((2 * (dbm + 74) & 0xFF,)) if self._signal else b""
        if not self._commands:
            return telegram + signal
        return build_command(Command.DATA, telegram[1:] + signal)
