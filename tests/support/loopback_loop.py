"""An event loop with real sockets on loopback whose time jumps while nobody has anything to do.

As `instant_loop`, and besides: before its time jumps it looks whether a socket has something, for as long as
loopback may take, and as long as a worker thread works. A jump that comes too early for a byte on its way
makes that byte late, no more: time is nothing that a network promises.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from tests.support.instant_loop import Stalled

_T = TypeVar("_T")
_ON_ITS_WAY_S: Final = 0.001
_WORKING_S: Final = 0.05
_STALLED_S: Final = 5.0
_LEAST_S: Final = 1e-6


class _Patient(selectors.DefaultSelector):
    """Waits for sockets and threads only; what it should have waited else is added to the loop's time."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s, self.working = 0.0, 0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout <= 0:
            return super().select(0)
        while self.working:
            if found := super().select(_WORKING_S):
                return found
        if found := super().select(_ON_ITS_WAY_S if timeout is not None else _STALLED_S):
            return found
        if timeout is None:
            raise Stalled("nothing is due any more")
        self.now_s += timeout
        return []


class LoopbackLoop(asyncio.SelectorEventLoop):
    """A loop that begins at 0 s and waits for nothing but sockets and threads."""

    def __init__(self) -> None:
        """Begin at 0 s."""
        self._patient = _Patient()
        super().__init__(self._patient)
        self._clock_resolution = _LEAST_S

    def time(self) -> float:
        """Return the virtual seconds that have passed."""
        return self._patient.now_s

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Let a thread do something; no time passes meanwhile."""
        work = super().run_in_executor(executor, func, *args)
        self._patient.working += 1
        work.add_done_callback(self._worked)
        return work

    def _worked(self, _work: object) -> None:
        self._patient.working -= 1


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run `main` in virtual time over real sockets. Raises `Stalled` if nothing can happen any more."""
    with asyncio.Runner(loop_factory=LoopbackLoop) as runner:
        return runner.run(main)
