"""Runs one radio stick: opens its port, talks it into listening, passes on what it hears."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final, Self

from lmn.errors import LineDisturbed, LmnError, PortClosed
from lmn.ports import BytePort
from lmn.wmbus.kinds import KINDS, PROBE_ORDER, Kind, Line
from lmn.wmbus.link import ReceivedFrame, StickCore, StickState, StickStatistics
from lmn.wmbus.transport import open_pipe, open_replay

PROBE_TIMEOUT_S: Final = 1.0
"""Time within which a stick that is asked who it is must have answered."""
_LOG = logging.getLogger("smgw.lmn")
CONFIGURE_TIMEOUT_S: Final = 5.0
"""Time within which a stick must have answered everything and listen."""
NOISE_PAUSE_S: Final = 60.0
"""A disturbed line is told once in this time, with the number of bytes since."""


def opener(kind: Kind, path: str) -> Callable[[], Awaitable[BytePort]]:
    """Return what opens the port of a receiver of this kind."""
    if kind.line is Line.PIPE:
        return partial(open_pipe, path)
    if kind.line is Line.RECORDING:
        return partial(open_replay, path)
    from lmn.serial_port import open_port  # pyserial is loaded only where there is a serial stick

    return partial(open_port, path, kind.make(StickStatistics(), kind.modes[0]).baudrate)


async def probe(path: str, kinds: Iterable[str] = PROBE_ORDER) -> Kind | None:
    """Ask a serial device which kind of stick it is; None if it is none, or another process has it.

    Each kind is asked in its own way and at its own rate, and the port is given back in between: call this
    only for devices that may be written to (`lmn.wmbus.kinds.candidates`).
    """
    for name in kinds:
        kind = KINDS[name]
        core = kind.make(StickStatistics(), kind.modes[0])
        try:
            port = await opener(kind, path)()
        except PortClosed:
            return None
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await port.write(core.start())
                while core.state is StickState.PROBING and (data := await port.read()):
                    core.receive(data, asyncio.get_running_loop().time())
        except (TimeoutError, LmnError):
            continue
        finally:
            port.close()
        if core.state is not StickState.PROBING:
            return kind
    return None


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
        statistics: StickStatistics | None = None,
        report: Callable[[str, LineDisturbed], None] | None = None,
    ) -> None:
        """Prepare the service; nothing is opened before `run`.

        Args:
            port_opener: opens the stick's port; raises PortClosed while it is not there.
            core: makes a fresh core for each opening; all of them share one statistics object.
            emit: takes each telegram, at once and without waiting.
            now: the loop's clock in seconds.
            name: of the service, in reports.
            statistics: those that the cores share; looked at to notice a disturbed line.
            report: told of a disturbed line, at most once a minute.
        """
        self.name = name
        self._statistics, self._report = statistics or StickStatistics(), report
        self._noise, self._quiet_until = 0, float("-inf")
        self._open, self._core, self._emit, self._now = port_opener, core, emit, now

    @classmethod
    def of_kind(
        cls,
        kind: Kind,
        path: str,
        emit: Callable[[ReceivedFrame], None],
        now: Callable[[], float],
        *,
        mode: str | None = None,
        statistics: StickStatistics | None = None,
        report: Callable[[str, LineDisturbed], None] | None = None,
    ) -> Self:
        """Make the service of a receiver by its kind; `mode` None is the kind's default.

        Raises:
            ValueError: a mode that this kind cannot be set to.
        """
        chosen = mode or kind.modes[0]
        if chosen not in kind.modes:
            raise ValueError(f"{kind.title} can be set to {', '.join(kind.modes)}, not to {chosen}")
        seen = statistics or StickStatistics()
        core = partial(kind.make, seen, chosen)
        name = f"lmn.wmbus {path}"
        return cls(opener(kind, path), core, emit, now, name=name, statistics=seen, report=report)

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
            if core.state is StickState.LISTENING:
                guard.reschedule(None)  # a receiver that needs no configuration
            while data := await port.read():
                for frame in core.receive(data, self._now()):
                    self._emit(frame)
                self._listen_for_noise()
                if answer := core.to_send():
                    await port.write(answer)
                if core.state is StickState.LISTENING and guard.when() is not None:
                    guard.reschedule(None)  # configured: silence is normal from here
                    _LOG.info("%s: listening", self.name)

    def _listen_for_noise(self) -> None:
        skipped, now_s = self._statistics.garbage_bytes - self._noise, self._now()
        if self._report is None or not skipped or now_s < self._quiet_until:
            return
        self._noise, self._quiet_until = self._statistics.garbage_bytes, now_s + NOISE_PAUSE_S
        self._report(self.name, LineDisturbed(f"{skipped} byte(s) that are no whole message"))
