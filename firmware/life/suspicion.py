"""Reads the system log as it grows and alarms where several entries together suggest an attack. A service."""

from __future__ import annotations

from typing import Final

from firmware.clock.clock import Clock
from firmware.log.analysis import Analysis, Suspicion
from firmware.log.entry import Event, Level, Outcome
from firmware.log.journal import Journal
from firmware.log.notices import Notices
from firmware.store.partition import Partition

LOOK_S: Final = 30.0
_PAGE: Final = 200
_TOLD: Final = ("analysis", "told")


class SuspicionWatch:
    """Follows the system log.

    Args:
        system: the log; suspicions are written to it, too, and never counted.
        notices: get an alarm for the administrator.
        partition: the system partition, remembers the entry that was told of last.
        clock: paces.
    """

    name = "firmware.life.suspicion"

    def __init__(self, system: Journal, notices: Notices, partition: Partition, clock: Clock) -> None:
        self._system, self._notices, self._partition, self._clock = system, notices, partition, clock
        self._analysis = Analysis()
        self._after: int | None = None

    async def run(self) -> None:
        """Look until cancelled.

        Raises:
            StoreUnavailable, StoreCorrupt: what was not told is told when the service runs again.
        """
        self._analysis, self._after = Analysis(), None
        while True:
            await self.step()
            await self._clock.sleep(LOOK_S)

    async def step(self) -> None:
        """Take the entries that came since the last look; at start those that still matter are counted."""
        told = int.from_bytes(await self._partition.get(*_TOLD) or b"", "big")
        if self._after is None:
            self._after = await self._start()
        while entries := await self._system.entries(self._after, _PAGE):
            for entry in entries:
                for found in self._analysis.take(entry):
                    if found.last > told:
                        await self._tell(found)
                self._after = entry.number

    async def _start(self) -> int:
        """Return the entry behind which everything is younger than the longest window."""
        oldest, last = await self._system.span()
        limit_utc = self._clock.now_utc() - self._analysis.longest
        while last >= oldest:
            page = await self._system.entries(max(oldest - 1, last - _PAGE), min(_PAGE, last))
            if not page or page[0].at_utc < limit_utc:
                return max(oldest - 1, last - _PAGE)
            last = page[0].number - 1
        return oldest - 1

    async def _tell(self, found: Suspicion) -> None:
        text = f"{found.rule.text}: {found.count} within {int(found.rule.within.total_seconds())} s"
        await self._notices.put(Event.ATTACK_SUSPECTED, found.subject or found.rule.name, text)
        await self._system.write(
            Event.ATTACK_SUSPECTED,
            Outcome.FAILURE,
            level=Level.ERROR,
            sub_event=found.rule.name,
            subject=found.subject,
            parent=found.last,
            text=text,
        )
        await self._partition.put(*_TOLD, found.last.to_bytes(8, "big"))
