"""The gateway's own clock and the service that keeps it right by a time source. No I/O of its own.

`DisciplinedClock` is a `Clock` over another one, of which it uses only what never jumps. `TimeSync` asks a
`TimeSource` and tells logs and operating state what came of it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

from firmware.clock.clock import LOOK_AGAIN_S, Clock
from firmware.clock.timekeeping import Discipline, Outcome, Taken, TimeKeeper, TimeSample, TimeState
from firmware.errors import FirmwareError
from firmware.life.lifecycle import LifeCycle
from firmware.life.states import Cause
from firmware.log.entry import Event, Level
from firmware.log.entry import Outcome as LogOutcome
from firmware.log.journal import Logs

POLL_S: Final = 16.0
_TRIES: Final = 8


class TimeUnavailable(FirmwareError):
    """The time source does not answer, or not so that it can be believed."""


class TimeSource(Protocol):
    """Something that says what time it is, authentically. The network's own ones come with the WAN."""

    @property
    def name(self) -> str:
        """How logs call it."""

    async def sample(self) -> TimeSample:
        """Ask once; TimeUnavailable or another error of a known family if there is no believable answer."""


class HostTime:
    """The time of the machine, for a gateway without a source of its own: as good as the host's clock.

    Args:
        clock: the operating system's, or a test's.
        error_s: how wrong it is at most (assumed: a parameter).
    """

    name = "host"

    def __init__(self, clock: Clock, error_s: float = 0.01) -> None:
        self._clock, self._error_s = clock, error_s

    async def sample(self) -> TimeSample:
        """Read wall clock and monotonic clock together; a reading that was interrupted is done again."""
        best: TimeSample | None = None
        for _ in range(_TRIES):
            before_s = self._clock.monotonic()
            at_utc = self._clock.now_utc()
            half_s = (self._clock.monotonic() - before_s) / 2
            if best is None or self._error_s + half_s < best.error_s:
                best = TimeSample(at_utc, before_s + half_s, self._error_s + half_s, self.name)
            if half_s < self._error_s / 10:
                break
        assert best is not None
        return best


class DisciplinedClock:
    """The gateway's time: `Clock`, and how far it can be trusted.

    Args:
        inner: only its monotonic clock and its waiting are used, but for what is shown before the first
        sample. discipline: parameters.
    """

    def __init__(self, inner: Clock, discipline: Discipline | None = None) -> None:
        self.inner = inner
        self.keeper = TimeKeeper(inner.now_utc(), inner.monotonic(), discipline)

    def now_utc(self) -> datetime:
        """Return the current time, aware, UTC; jumps only where a sample sets it."""
        return self.keeper.now_utc(self.inner.monotonic())

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never goes back."""
        return self.inner.monotonic()

    @property
    def state(self) -> TimeState:
        """Return how far the time can be trusted now."""
        return self.keeper.state(self.inner.monotonic())

    @property
    def error_s(self) -> float:
        """Return the bound of the error now."""
        return self.keeper.error_s(self.inner.monotonic())

    def valid(self) -> bool:
        """Whether values registered now are of a valid time (status bit 9 says no)."""
        return self.state is TimeState.SYNCED

    async def sleep(self, delay_s: float) -> None:
        """Wait `delay_s` seconds."""
        await self.inner.sleep(delay_s)

    async def sleep_until(self, instant_utc: datetime) -> None:
        """Wait until this clock is at or past `instant_utc`, also if it is set meanwhile."""
        while (left_s := (instant_utc - self.now_utc()).total_seconds()) > 0:
            await self.inner.sleep(min(left_s, LOOK_AGAIN_S))
        await self.inner.sleep(0)


class TimeSync:
    """Asks the source every `poll_s`; a service.

    Args:
        clock: is kept right.
        source: is asked.
        logs: get every step, every deviation and every change of trust.
        life: gets the causes that follow.
        period_s: the shortest registration period now, None while nothing is registered.
        poll_s: between two questions.
        stop_on_deviation: a deviation stops measuring until the next good sample, as one certified gateway
        does;
            else values go on and are marked, as the state machine of the time link says.
    """

    name = "firmware.clock"

    def __init__(
        self,
        clock: DisciplinedClock,
        source: TimeSource,
        logs: Logs,
        life: LifeCycle,
        *,
        period_s: Callable[[], float | None],
        poll_s: float = POLL_S,
        stop_on_deviation: bool = False,
    ) -> None:
        self._clock, self._source, self._logs, self._life = clock, source, logs, life
        self._period_s, self._poll_s = period_s, poll_s
        self._stop_on_deviation = stop_on_deviation

    async def run(self) -> None:
        """Ask, correct and tell until cancelled.

        Raises:
            TimeUnavailable, StoreUnavailable, WanError, OSError: tried again when it runs again.
        """
        while True:
            await self.once()
            await self._clock.sleep(self._poll_s)

    async def once(self) -> Taken:
        """Ask once and do what follows."""
        self._clock.keeper.set_period(self._period_s())
        before = self._clock.state
        try:
            taken = self._clock.keeper.take(await self._source.sample())
            if taken.outcome is Outcome.DEVIATION:
                await self._deviation(taken)
            elif taken.outcome is Outcome.SET:
                await self._logs.system.write(
                    Event.TIME_SYNCHRONISED,
                    subject=self._source.name,
                    text=f"was {before.value}",
                    offset_s=f"{taken.offset_s:.3f}",
                )
        finally:  # also while the source is silent, trust fades
            await self.look()
        return taken

    async def look(self) -> None:
        """Hold the operating state against the trust in the time: it also fades by itself."""
        state = self._clock.state
        if state is TimeState.SYNCED:
            await self._life.leave(Cause.TIME_INVALID)
            await self._life.leave(Cause.CLOCK_DEVIATION)
        else:
            await self._life.enter(Cause.TIME_INVALID, f"it is {state.value}")

    async def _deviation(self, taken: Taken) -> None:
        detail = f"{taken.offset_s:+.3f} s, at most {taken.limit_s:.3f} s are allowed"
        for journal in (self._logs.calibration, self._logs.system):
            if not await journal.is_full():
                await journal.write(
                    Event.TIME_DEVIATION,
                    LogOutcome.FAILURE,
                    level=Level.ERROR,
                    subject=self._source.name,
                    text=detail,
                    offset_s=f"{taken.offset_s:.3f}",
                )
        if self._stop_on_deviation:
            await self._life.enter(Cause.CLOCK_DEVIATION, detail)
        await self._life.enter(Cause.TIME_INVALID, detail)
