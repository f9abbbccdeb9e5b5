"""An emulated nanoCUL (culfw) on a pseudo terminal, with the small memory of the real one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lmn.wmbus.frame import to_format_a, to_format_b
from lmn.wmbus.sticks.cul import BAUDRATE, MODES
from tools.counterparts.stick_pty import CHUNK, PtyStick

MEMORY_BYTES: Final = 148
"""What the firmware keeps of a frame, link CRCs included."""


class VirtualCul(PtyStick):
    """The stick; see `PtyStick`."""

    BAUDRATE = BAUDRATE

    def __init__(
        self, link: Path, *, baudrate: int | None = None, chunk: int = CHUNK, b_format: bool = False
    ) -> None:
        super().__init__(link, baudrate=baudrate, chunk=chunk)
        self._b_format = b_format

    def _cut(self) -> bytes | None:
        end = self._inbox.find(b"\n")
        if end < 0:
            return None
        line = bytes(self._inbox[:end]).strip()
        del self._inbox[: end + 1]
        return line

    def _handle(self, request: bytes) -> None:
        if request == b"V":
            self._answer(b"V 1.67 nanoCUL868\r\n")
        elif request == b"X21":
            self._listening.set()
        else:
            for command, answer in MODES.values():
                if request == command.encode():
                    self._answer(answer.encode() + b"\r\n")

    def _heard(self, telegram: bytes, dbm: int) -> bytes:
        frame = (to_format_b if self._b_format else to_format_a)(telegram)[:MEMORY_BYTES]
        signal = bytes((0x80, 2 * (dbm + 74) & 0xFF))
        return b"b" + b"Y" * self._b_format + (frame + signal).hex().upper().encode() + b"\r\n"
