"""An emulated Radiocrafts RC1180-MBUS3 on a pseudo terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lmn.wmbus.sticks.rc1180 import AT_MODE, AT_SIGNAL, BAUDRATE, CALL, LEAVE, LIST, MEMORY_BYTES, PROMPT
from tools.counterparts.stick_pty import CHUNK, PtyStick

_MEMORY: Final = b"M"
"""Begins pairs of place and value; the place FF ends them."""
_NO_PLACE: Final = 0xFF
_FACTORY: Final = {
    0x01: "05",  # power
    0x02: "03",  # rate
    AT_MODE: "02",  # T
    0x12: "01",  # receives, as a collector
    0x19: "b425 12345678 01 31",  # maker, identification, version, kind of its own
    0x30: "05",  # 19200 bit/s
    0x61: b"RC1180-MBUS3".hex(),
    0x6E: b"1.00".hex(),
    0x73: b"2.00".hex(),
}
"""Place in the memory -> content; own knowledge, and what public host software looks at."""


class VirtualRc1180(PtyStick):
    """The stick; see `PtyStick`. It receives whenever nobody is at its prompt."""

    BAUDRATE = BAUDRATE

    def __init__(
        self, link: Path, *, baudrate: int | None = None, chunk: int = CHUNK, signal: bool = True
    ) -> None:
        super().__init__(link, baudrate=baudrate, chunk=chunk)
        self._memory = bytearray(MEMORY_BYTES)
        for place, content in _FACTORY.items():
            value = bytes.fromhex(content)
            self._memory[place : place + len(value)] = value
        self._memory[AT_SIGNAL] = signal
        self._reset()

    def _reset(self) -> None:
        self._at_prompt = self._writing = False
        self._place: int | None = None

    def _cut(self) -> bytes | None:
        if not self._inbox:
            return None
        request = bytes(self._inbox[:1])
        del self._inbox[0]
        return request

    def _handle(self, request: bytes) -> None:
        if self._writing:
            self._write(request[0])
        elif request == CALL:
            self._at_prompt = True
            self._listening.clear()
            self._answer(PROMPT)
        elif self._at_prompt and request == LIST:
            self._answer(bytes(self._memory) + PROMPT)
        elif self._at_prompt and request == _MEMORY:
            self._writing = True
            self._answer(PROMPT)
        elif self._at_prompt and request == LEAVE:
            self._reset()
            self._listening.set()

    def _write(self, byte: int) -> None:
        """Take one byte of the pairs that "M" announced."""
        if self._place is not None:
            self._memory[self._place], self._place = byte, None
        elif byte == _NO_PLACE:
            self._writing = False
            self._answer(PROMPT)
        else:
            self._place = byte

    def _heard(self, telegram: bytes, dbm: int) -> bytes:
        return telegram + (bytes((min(-2 * dbm, 255),)) if self._memory[AT_SIGNAL] else b"")
