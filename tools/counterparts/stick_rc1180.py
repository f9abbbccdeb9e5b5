"""An emulated Radiocrafts RC1180-MBUS3 on a pseudo terminal."""

from __future__ import annotations

from pathlib import Path

from lmn.wmbus.sticks.rc1180 import AT_MODE, AT_SIGNAL, BAUDRATE, CALL, LEAVE, LIST, MEMORY_BYTES, PROMPT
from tools.counterparts.stick_pty import CHUNK, PtyStick


class VirtualRc1180(PtyStick):
    """The stick; see `PtyStick`. It receives whenever nobody is at its prompt."""

    BAUDRATE = BAUDRATE

    def __init__(
        self, link: Path, *, baudrate: int | None = None, chunk: int = CHUNK, signal: bool = True
    ) -> None:
        super().__init__(link, baudrate=baudrate, chunk=chunk)
        self._memory = bytearray(MEMORY_BYTES)
        self._memory[AT_MODE], self._memory[AT_SIGNAL] = 0x02, signal
        self._at_prompt = False

    def _cut(self) -> bytes | None:
        if not self._inbox:
            return None
        request = bytes(self._inbox[:1])
        del self._inbox[0]
        return request

    def _handle(self, request: bytes) -> None:
        if request == CALL:
            self._at_prompt = True
            self._listening.clear()
            self._answer(PROMPT)
        elif self._at_prompt and request == LIST:
            self._answer(bytes(self._memory) + PROMPT)
        elif self._at_prompt and request == LEAVE:
            self._reset()
            self._listening.set()

    def _reset(self) -> None:
        self._at_prompt = False

    def _heard(self, telegram: bytes, dbm: int) -> bytes:
        return telegram + (bytes((min(-2 * dbm, 255),)) if self._memory[AT_SIGNAL] else b"")
