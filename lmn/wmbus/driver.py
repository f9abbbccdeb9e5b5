"""Runs one radio stick: opens its port, talks it into listening, passes on what it hears."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from lmn.errors import PortClosed
from lmn.ports import BytePort
from lmn.wmbus.link import ReceivedFrame, StickCore, StickState

_LOG = logging.getLogger("smgw.lmn")
CONFIGURE_TIMEOUT_S: Final = 5.0
"""Time within which a stick must have answered everything and listen."""


class WmbusStick:
    """A service: serves until cancelled or until the stick is gone; a supervisor starts it anew."""

    def __init__(
        self,
        port_opener: Callable[[], Awaitable[BytePort]],
        core: Callable[[], StickCore],
        emit: Callable[[ReceivedFrame], None],
        now: Callable[[], float],
        *,
        name: str = "lmn.wmbus",
    ) -> None:
        """Prepare the service; nothing is opened before `run`.

        Args:
            port_opener: opens the stick's port; raises PortClosed while it is not there.
            core: makes a fresh core for each opening; all of them share one statistics object.
            emit: takes each telegram, at once and without waiting.
            now: the loop's clock in seconds.
            name: of the service, in reports.
        """
        self.name = name
        self._open, self._core, self._emit, self._now = port_opener, core, emit, now

    async def run(self) -> None:
        """Open, configure, listen.

        Raises:
            PortClosed: the stick is not there or went away.
            TimeoutError: it did not answer while being configured.
            UnexpectedMessage: it answered what its state does not allow.
        """
        port = await self._open()
        try:
            await self._serve(port)
        finally:
            port.close()
        raise PortClosed(f"{self.name}: the stick went away")

    async def _serve(self, port: BytePort) -> None:
        core = self._core()
        async with asyncio.timeout(CONFIGURE_TIMEOUT_S) as guard:
            await port.write(core.start())
            while data := await port.read():
                for frame in core.receive(data, self._now()):
                    self._emit(frame)
                if answer := core.to_send():
                    await port.write(answer)
                if core.state is StickState.LISTENING and guard.when() is not None:
                    guard.reschedule(None)  # configured: silence is normal from here
                    _LOG.info("%s: listening", self.name)
