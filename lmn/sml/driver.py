"""Runs one infrared head: opens its port, passes on what the meter in front of it pushes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from lmn.errors import LmnError, PortClosed, UnknownMeter
from lmn.model import MeterId
from lmn.ports import BytePort
from lmn.sml.messages import read_frame
from lmn.sml.readings import Quirk, pushed_list, to_values
from lmn.sml.transport import STANDARD, ReceivedSml, SmlDeframer, TransportStatistics, kermit
from lmn.wired_values import WiredRefusal, WiredValues

_LOG = logging.getLogger("smgw.lmn")
BAUDRATE: Final = 9600
"""8 data bits, no parity: the information interface of modern meters, as one vendor documents it."""


@dataclass(frozen=True, slots=True)
class HeadMeter:
    """Which meter is in front of a head."""

    meter: MeterId
    """As its meter profile names it."""
    server_id: bytes
    """What its frames must name."""
    quirks: frozenset[Quirk] = frozenset()


class SmlHead:
    """A service: serves until cancelled or until the head is gone; a supervisor starts it anew.

    What an infrared head brings is neither encrypted nor authenticated.
    """

    def __init__(
        self,
        port_opener: Callable[[], Awaitable[BytePort]],
        head: HeadMeter,
        emit: Callable[[WiredValues | WiredRefusal], None],
        now: Callable[[], float],
        *,
        name: str = "lmn.sml",
        statistics: TransportStatistics | None = None,
    ) -> None:
        """Prepare the service; nothing is opened before `run`.

        Args:
            port_opener: opens the head's port; raises PortClosed while it is not there.
            head: the meter in front of it.
            emit: takes each frame's outcome, at once and without waiting.
            now: the loop's clock in seconds.
            name: of the service, in reports.
            statistics: of the line.
        """
        self.name = name
        self.statistics = statistics if statistics is not None else TransportStatistics()
        self._open, self._head, self._emit, self._now = port_opener, head, emit, now

    async def run(self) -> None:
        """Open and listen.

        Raises:
            PortClosed: the head is not there or went away.
        """
        port = await self._open()
        checksums = (kermit,) if Quirk.CRC_KERMIT in self._head.quirks else STANDARD
        deframer = SmlDeframer(self.statistics, checksums=checksums)
        self.statistics.opened += 1
        self.statistics.is_open = True
        try:
            _LOG.info("%s: listening", self.name)
            while data := await port.read():
                for found in deframer.receive(data, self._now()):
                    self._emit(self._outcome(found))
        finally:
            self.statistics.is_open = False
            port.close()
        raise PortClosed(f"{self.name}: the head went away")

    def _outcome(self, found: ReceivedSml | LmnError) -> WiredValues | WiredRefusal:
        head = self._head
        if isinstance(found, LmnError):
            return WiredRefusal(head.meter, found)
        try:
            pushed = pushed_list(read_frame(found.data, found.checksum))
            if pushed.server_id != head.server_id:
                raise UnknownMeter("another meter than the configured one is in front of the head")
        except LmnError as error:
            return WiredRefusal(head.meter, error)
        values = to_values(pushed, head.quirks)
        return WiredValues(head.meter, values, found.first_byte_at, protected=False)
