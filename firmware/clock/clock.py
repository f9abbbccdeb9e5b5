"""The gateway's time: wall clock, monotonic clock, waiting, and the grid of registration instants."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

EPOCH_UTC: Final = datetime(1970, 1, 1, tzinfo=UTC)
LOOK_AGAIN_S: Final = 30.0
"""A wait looks at the wall clock at least this often, so that a clock that was set is followed."""


class Clock(Protocol):
    """What the gateway's parts need to know of time."""

    def now_utc(self) -> datetime:
        """Return the current time, aware, UTC."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never goes back, whatever the wall clock does."""

    async def sleep(self, delay_s: float) -> None:
        """Wait `delay_s` seconds of this clock."""

    async def sleep_until(self, instant_utc: datetime) -> None:
        """Wait until `now_utc()` is at or past `instant_utc`; returns at once if it already is."""


class SystemClock:
    """The operating system's clock."""

    def now_utc(self) -> datetime:
        """Return the current time, aware, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never goes back."""
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        """Wait `delay_s` seconds."""
        await asyncio.sleep(max(0.0, delay_s))

    async def sleep_until(self, instant_utc: datetime) -> None:
        """Wait until the wall clock is at or past `instant_utc`, also if it is set meanwhile."""
        # No event tells of a clock that was set, so it must be looked at again and again.
        while (left_s := (instant_utc - self.now_utc()).total_seconds()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(left_s, LOOK_AGAIN_S))


class AdjustableClock:
    """A clock for tests and for accelerated running: it moves when told, or at `rate` times real time.

    Args:
        start_utc: aware; what the clock shows first.
        rate: seconds of this clock per real second; 0 stands still between calls of `advance`.
    """

    def __init__(self, start_utc: datetime, rate: float = 0.0) -> None:
        if start_utc.tzinfo is None or rate < 0:
            raise ValueError("an aware start and a rate of at least 0")
        self._rate = rate
        self._wall_utc, self._elapsed_s = start_utc.astimezone(UTC), 0.0
        self._real_s = time.monotonic()
        self._sleepers: set[asyncio.Event] = set()

    def now_utc(self) -> datetime:
        """Return what the clock shows now."""
        self._follow()
        return self._wall_utc

    def monotonic(self) -> float:
        """Return the seconds this clock has run; `set_utc` does not change it."""
        self._follow()
        return self._elapsed_s

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass (at least 0) and wake whoever waited for it."""
        if seconds < 0:
            raise ValueError("time passes forwards; use set_utc to put the clock back")
        self._follow()
        self._pass(seconds)
        self._wake()

    def set_utc(self, instant_utc: datetime) -> None:
        """Set the wall clock, in either direction; the monotonic clock runs on."""
        self._follow()
        self._wall_utc = instant_utc.astimezone(UTC)
        self._wake()

    async def sleep(self, delay_s: float) -> None:
        """Wait `delay_s` seconds of this clock."""
        end_s = self.monotonic() + delay_s
        while (left_s := end_s - self.monotonic()) > 0:
            await self._wait(left_s)
        await asyncio.sleep(0)

    async def sleep_until(self, instant_utc: datetime) -> None:
        """Wait until this clock is at or past `instant_utc`."""
        while (left_s := (instant_utc - self.now_utc()).total_seconds()) > 0:
            await self._wait(left_s)
        await asyncio.sleep(0)

    def _follow(self) -> None:
        real_s = time.monotonic()
        self._pass((real_s - self._real_s) * self._rate)
        self._real_s = real_s

    def _pass(self, seconds: float) -> None:
        self._elapsed_s += seconds
        self._wall_utc += timedelta(seconds=seconds)

    def _wake(self) -> None:
        for sleeper in self._sleepers:
            sleeper.set()

    async def _wait(self, left_s: float) -> None:
        sleeper = asyncio.Event()
        self._sleepers.add(sleeper)
        try:
            # A microsecond more than asked: the wall clock resolves no less.
            async with asyncio.timeout(left_s / self._rate + 1e-6 if self._rate else None):
                await sleeper.wait()
        except TimeoutError:
            return
        finally:
            self._sleepers.discard(sleeper)


def slot_number(at_utc: datetime, t0_utc: datetime, slot_s: int) -> int:
    """Return n with `t0 + n * slot_s <= at < t0 + (n + 1) * slot_s`; negative before `t0_utc`.

    Raises:
        ValueError: slot_s is not at least 1 s.
    """
    if slot_s < 1:
        raise ValueError("a slot lasts at least 1 s")
    return (at_utc - t0_utc) // timedelta(seconds=slot_s)


def slot_start(slot: int, t0_utc: datetime, slot_s: int) -> datetime:
    """Return the first instant of a slot."""
    return t0_utc + slot * timedelta(seconds=slot_s)
