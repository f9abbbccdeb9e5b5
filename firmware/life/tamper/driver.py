"""Watches the tamper contact. A service: what it means is decided by `firmware.life.states`."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from firmware.clock.clock import Clock
from firmware.life.tamper.gpio import (
    EVENT_BYTES,
    GET_LINE,
    GET_VALUES,
    is_active,
    line_descriptor,
    line_request,
    values_request,
)

LOOK_S: Final = 0.5
_EVENTS_AT_ONCE: Final = 16


class Contact(Protocol):
    """A tamper contact."""

    def __enter__(self) -> Self:
        """Get hold of it; OSError if it is not there."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of it."""

    def opened(self) -> str | None:
        """Return what was seen if the contact is open, or was since the last call; None if not."""


class FileContact:
    """The emulator's contact: open while the file is there. Its first line says what happened."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def opened(self) -> str | None:
        """Return the file's first line, or that it is there."""
        try:
            with self._path.open(encoding="utf-8", errors="replace") as file:
                return file.readline(200).strip() or "the file is there"
        except FileNotFoundError:
            return None


class GpioContact:
    """A line of a Linux GPIO chip. The kernel keeps short openings, too.

    Args:
        chip: e.g. /dev/gpiochip0.
        line: offset on the chip.
        active_low: a low level means "open".
        pull_up: use the line's own resistor.
    """

    def __init__(self, chip: Path, line: int, *, active_low: bool = False, pull_up: bool = True) -> None:
        self._chip, self._line = chip, line
        self._active_low, self._pull_up = active_low, pull_up
        self._descriptor = -1

    def __enter__(self) -> Self:
        chip = os.open(self._chip, os.O_RDONLY | os.O_CLOEXEC)
        try:
            request = line_request(self._line, active_low=self._active_low, pull_up=self._pull_up)
            fcntl.ioctl(chip, GET_LINE, request)
            self._descriptor = line_descriptor(bytes(request))
            os.set_blocking(self._descriptor, False)
        finally:
            os.close(chip)
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def opened(self) -> str | None:
        """Return what the line says now, or said since the last call."""
        happened = self._happened()
        values = values_request()
        fcntl.ioctl(self._descriptor, GET_VALUES, values)
        if is_active(bytes(values)):
            return f"line {self._line} is active"
        return f"line {self._line} was active for a moment" if happened else None

    def _happened(self) -> bool:
        try:
            return bool(os.read(self._descriptor, _EVENTS_AT_ONCE * EVENT_BYTES))
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
            return False


class TamperWatch:
    """Looks at the contact. A service; a contact that cannot be read is a fault of its own.

    Args:
        contact: the input.
        clock: paces.
        tampered: told what was seen, each time it is.
        look_s: between two looks.
    """

    name = "firmware.life.tamper"

    def __init__(
        self,
        contact: Contact,
        clock: Clock,
        tampered: Callable[[str], Awaitable[object]],
        *,
        look_s: float = LOOK_S,
    ) -> None:
        self._contact, self._clock, self._tampered, self._look_s = contact, clock, tampered, look_s

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            OSError: the contact cannot be read.
        """
        with self._contact as contact:
            while True:
                seen = contact.opened()
                if seen is not None:
                    await self._tampered(seen)
                await self._clock.sleep(self._look_s)
