"""An event loop whose time passes only when nobody can run, and then at once: whole days in milliseconds.

Everything runs in one thread without sockets, in an order that depends on nothing but the program.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

_T = TypeVar("_T")
_LEAST_S = 1e-6


class Stalled(Exception):
    """Everybody waits for somebody, and nothing is due any more."""


class _Jump(selectors.SelectSelector):
    """Waits for nothing: what it should have waited is added to the loop's time."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise Stalled("nothing is due any more")
        self.now_s += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that begins at 0 s and never really waits."""

    def __init__(self) -> None:
        """Begin at 0 s."""
        self._jump = _Jump()
        super().__init__(self._jump)
        self._clock_resolution = _LEAST_S  # a float of a year's seconds is no finer than that

    def time(self) -> float:
        """Return the virtual seconds that have passed."""
        return self._jump.now_s


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run `main` in virtual time. Raises `Stalled` if it waits for something that cannot happen."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class VirtualClock:
    """The `Clock` of a gateway in virtual time; `ahead` is how wrong it goes."""

    def __init__(self, start: datetime, ahead: timedelta = timedelta(0)) -> None:
        """Begin at `start`, aware, when the loop is at 0 s."""
        self._start, self.ahead = start, ahead

    def now_utc(self) -> datetime:
        """Return the current time."""
        return self._start + timedelta(seconds=asyncio.get_running_loop().time()) + self.ahead

    async def sleep(self, delay_s: float) -> None:
        """Wait."""
        await asyncio.sleep(delay_s)

    async def sleep_until(self, instant_utc: datetime) -> None:
        """Wait until an instant."""
        while (left_s := (instant_utc - self.now_utc()).total_seconds()) > 0:  # noqa: ASYNC110 - no event
            await asyncio.sleep(max(left_s, _LEAST_S))
