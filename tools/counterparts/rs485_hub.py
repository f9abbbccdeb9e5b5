"""An RS-485 line in software: what one end says all others hear; two at once collide.

The host's end is a pseudo terminal behind a stable link; meters are attached in the same process.
"""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

_BITS_PER_BYTE: Final = 10
Listener = Callable[[bytes], None]


class Rs485Hub:
    """One line. Use: `async with Rs485Hub(path) as hub: hub.attach(listener)`."""

    def __init__(self, link: Path, *, baudrate: int = 921600, echo: bool = False) -> None:
        """Prepare a line; it appears with `plug`.

        Args:
            link: path of the symbolic link that a host opens.
            baudrate: of the imitated line.
            echo: the host's adapter hears itself, as cheap ones do.
        """
        self.link = link
        self.collisions = 0
        self.lose: Callable[[bytes], bytes] = lambda data: data
        """Changes what is on the line; for tests of losses and damage."""
        self.chunk = 0
        """The host gets so many bytes at a time; 0: all at once."""
        self._baudrate, self._echo = baudrate, echo
        self._master = self._slave = -1
        self._listeners: list[Listener] = []
        self._on_air: list[list[object]] = []

    async def __aenter__(self) -> Self:
        self.plug()
        return self

    def plug(self) -> None:
        """Make the device and publish its link in one step."""
        self._master, self._slave = os.openpty()
        tty.setraw(self._master)
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.link.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.link.with_name(self.link.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(self._slave))
        fresh.replace(self.link)
        asyncio.get_running_loop().add_reader(self._master, self._on_readable)

    async def __aexit__(self, *_: object) -> None:
        self.vanish()

    def vanish(self) -> None:
        """Pull the adapter: link and device are gone."""
        if self._master < 0:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        self.link.unlink(missing_ok=True)
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1

    def attach(self, listener: Listener) -> Callable[[bytes], None]:
        """Connect a meter; returns what it speaks with."""
        self._listeners.append(listener)
        return lambda data: self._say(data, listener)

    def _on_readable(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return
        self._say(data, None)

    def _say(self, data: bytes, speaker: Listener | None) -> None:
        """Put bytes on the line; they arrive when their last bit has passed."""
        message: list[object] = [data, speaker, False]
        others = [each for each in self._on_air if each[1] is not speaker]
        if others:
            self.collisions += 1
            message[2] = True
            for each in others:
                each[2] = True
        self._on_air.append(message)
        duration = len(data) * _BITS_PER_BYTE / self._baudrate
        asyncio.get_running_loop().call_later(duration, self._arrive, message)

    def _arrive(self, message: list[object]) -> None:
        self._on_air.remove(message)
        data, speaker, collided = message
        assert isinstance(data, bytes)
        heard = self.lose(bytes(byte & 0x55 for byte in data) if collided else data)
        if not heard:
            return
        for listener in list(self._listeners):
            if listener is not speaker:
                listener(heard)
        if (speaker is not None or self._echo) and self._master >= 0:
            size = self.chunk or len(heard)
            for start in range(0, len(heard), size):
                os.write(self._master, heard[start : start + size])
