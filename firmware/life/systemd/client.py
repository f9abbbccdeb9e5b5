"""Tells the service manager: ready, alive, stopping. The datagrams of sd_notify(3), without its library.

A gateway that nobody started through a service manager tells nobody anything.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Final

from firmware.errors import FirmwareError

_MICROSECONDS: Final = 1_000_000


class ServiceManager:
    """The way to the service manager.

    Args:
        environment: of the process; NOTIFY_SOCKET and WATCHDOG_USEC are looked at.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        if path and path[0] not in "/@":
            raise FirmwareError(
                f"NOTIFY_SOCKET is {path!r}: a path, or a name that begins with @, is expected"
            )
        self._address = "\0" + path[1:] if path.startswith("@") else path
        try:
            self._watchdog_s = int(environment.get("WATCHDOG_USEC", "0")) / _MICROSECONDS
        except ValueError as error:
            raise FirmwareError("WATCHDOG_USEC is no number") from error

    @property
    def watchdog_s(self) -> float:
        """Return how often it wants to hear of us, in seconds; 0: never."""
        return self._watchdog_s if self._address else 0.0

    def tell(self, *lines: str) -> None:
        """Send a message, e.g. "READY=1"; one that cannot be sent holds up nothing."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.setblocking(False)
            try:
                line.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                return


class Watchdog:
    """Says that the gateway lives, twice in the time that the service manager allows. A service.

    It runs on the gateway's own event loop: a loop that hangs says nothing, and is started again.
    """

    name = "firmware.life.watchdog"

    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager

    async def run(self) -> None:
        """Serve until cancelled; without a watchdog, do nothing."""
        if not self._manager.watchdog_s:
            await asyncio.Event().wait()
        while True:
            self._manager.tell("WATCHDOG=1")
            await asyncio.sleep(self._manager.watchdog_s / 2)
