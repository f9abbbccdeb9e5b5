"""Runs one radio stick: opens its port, talks it into listening, passes on what it hears."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Final, Self

from lmn.errors import LineDisturbed, LmnError, PortClosed
from lmn.ports import BytePort
from lmn.wmbus.kinds import KINDS, PROBE_ORDER, Kind, Line
from lmn.wmbus.link import ReceivedFrame, StickCore, StickState, StickStatistics
from lmn.wmbus.transport import nature, open_pipe, open_replay

PROBE_TIMEOUT_S: Final = 1.0
"""Time within which a stick that is asked who it is must have answered."""
_LOG = logging.getLogger("smgw.lmn")
CONFIGURE_TIMEOUT_S: Final = 5.0
"""Time within which a stick must have answered everything and listen."""
SILENCE_S: Final = 0.1
"""So long nothing follows a message that is whole only then; the slowest stick sends 96 bytes in it."""
NOISE_PAUSE_S: Final = 60.0
"""A disturbed line is told once in this time, with the number of bytes since."""


def opener(kind: Kind, path: str, *, exclusive: bool = True) -> Callable[[], Awaitable[BytePort]]:
    """Return what opens the port of a receiver of this kind."""
    if kind.line is Line.PIPE:
        return partial(open_pipe, path)
    if kind.line is Line.RECORDING:
        return partial(open_replay, path)
    from lmn.serial_port import open_port  # pyserial is loaded only where there is a serial stick

    baudrate = kind.make(StickStatistics(), kind.modes[0]).baudrate
    return partial(open_port, path, baudrate, exclusive=exclusive)


async def recognise(path: str) -> Kind | None:
    """Return the kind of receiver behind a port that its owner named; None if it answers to none.

    A named pipe and a file are known by what they are; a serial device is asked (`probe`).

    Raises:
        PortClosed: it is not there, not ours, or another process has it.
    """
    by_nature = None if "://" in path else nature(path)
    return KINDS[by_nature] if by_nature is not None else await probe(path)


async def probe(path: str, kinds: Iterable[str] = PROBE_ORDER) -> Kind | None:
    """Ask a serial device which kind of stick it is; None if it is none.

    Each kind is asked by its own greeting alone, at its own rate, and bid farewell; afterwards the line has
    the settings that it had. Call this only for devices that may be written to: one that its owner named, or
    `lmn.wmbus.kinds.candidates`. docs/meters.md 3 says what a device that is no stick gets to hear.

    Raises:
        PortClosed: it is not there, not ours, or another process has it; nothing was sent.
    """
    if "://" in path:
        return await _ask(path, kinds, exclusive=True)
    from lmn.serial_port import borrowed

    with borrowed(path):
        return await _ask(path, kinds, exclusive=False)


async def _ask(path: str, kinds: Iterable[str], *, exclusive: bool) -> Kind | None:
    for name in kinds:
        kind = KINDS[name]
        core = kind.make(StickStatistics(), kind.modes[0])
        port = await opener(kind, path, exclusive=exclusive)()
        try:
            with suppress(TimeoutError, LmnError):
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    await port.write(core.start())
                    while not core.recognised and (data := await port.read()):
                        core.receive(data, asyncio.get_running_loop().time())
                        if not core.recognised:
                            await port.write(core.to_send())
            if core.state is not StickState.PROBING:
                with suppress(LmnError):
                    await port.write(core.farewell())
            if core.recognised:
                return kind
        finally:
            port.close()
    return None


class UnknownStick:
    """A service: a stick whose kind nobody said. Asks its port at each start, then runs what it found."""

    def __init__(self, path: str, of_kind: Callable[[Kind], WmbusStick]) -> None:
        """Prepare; `of_kind` makes the service once the kind is known."""
        self.name = f"lmn.wmbus {path}"
        self._path, self._of_kind = path, of_kind

    async def run(self) -> None:
        """Ask, then serve as `WmbusStick.run`.

        Raises:
            PortClosed: also for a device that answers to no kind.
        """
        kind = await recognise(self._path)
        if kind is None:
            raise PortClosed(f"{self._path} answers to no kind of stick; set its kind, or see docs/meters.md")
        _LOG.info("%s: it is a %s", self.name, kind.title)
        await self._of_kind(kind).run()


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
        # What an earlier service of the same stick skipped was told then.
        self._noise, self._quiet_until = self._statistics.garbage_bytes, float("-inf")
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
        self._statistics.is_open = True
        try:
            await self._serve(port)
        finally:
            self._statistics.is_open = False
            port.close()
        raise PortClosed(f"{self.name}: the stick went away")

    async def _serve(self, port: BytePort) -> None:
        core = self._core()
        async with asyncio.timeout(CONFIGURE_TIMEOUT_S) as guard:
            await port.write(core.start())
            if core.state is StickState.LISTENING:
                guard.reschedule(None)  # a receiver that needs no configuration
                _LOG.info("%s: listening", self.name)
            while (data := await self._read(port, core)) != b"":
                for frame in core.receive(data or b"", self._now()):
                    self._emit(frame)
                self._listen_for_noise()
                if answer := core.to_send():
                    await port.write(answer)
                if core.state is StickState.LISTENING and guard.when() is not None:
                    guard.reschedule(None)  # configured: silence is normal from here
                    _LOG.info("%s: listening", self.name)

    @staticmethod
    async def _read(port: BytePort, core: StickCore) -> bytes | None:
        """Read; None where the core wants to know whether something follows, and nothing did."""
        if not core.undecided:
            return await port.read()
        try:
            async with asyncio.timeout(SILENCE_S):
                return await port.read()
        except TimeoutError:
            return None

    def _listen_for_noise(self) -> None:
        skipped, now_s = self._statistics.garbage_bytes - self._noise, self._now()
        if self._report is None or not skipped or now_s < self._quiet_until:
            return
        self._noise, self._quiet_until = self._statistics.garbage_bytes, now_s + NOISE_PAUSE_S
        self._report(self.name, LineDisturbed(f"{skipped} byte(s) that are no whole message"))
