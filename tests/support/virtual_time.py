"""An event loop whose time passes only by waiting, and then at once: for many parties with appointments."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

_T = TypeVar("_T")
BEGIN: Final = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
"""A full hour soon: certificates made during the test are valid then."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """When nothing is ready, it is later. Not for tests with sockets, processes or threads."""

    def __init__(self) -> None:
        selector = selectors.DefaultSelector()
        self._select = selector.select
        selector.select = lambda timeout=None: self._select(0)  # type: ignore[method-assign]  # never waits
        super().__init__(selector)
        self._virtual_s = 0.0

    def time(self) -> float:
        return self._virtual_s

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]  # asyncio's own
        if not ready and scheduled:
            self._virtual_s = max(self._virtual_s, scheduled[0]._when)
        super()._run_once()  # type: ignore[misc]  # as above


class VirtualClock:
    """The loop's time as UTC; implements `firmware.enforcement.dcnet.service.client.Clock`."""

    def now_utc(self) -> datetime:
        return BEGIN + timedelta(seconds=asyncio.get_running_loop().time())

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)

    async def sleep_until(self, instant_utc: datetime) -> None:
        await asyncio.sleep(max(0.0, (instant_utc - self.now_utc()).total_seconds()))


def run_virtually(test: Coroutine[Any, Any, _T]) -> _T:
    """Run a test on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(test)
