"""Tells each consumer once a day what its nets did: how often, among how many, and what left in plain.

A service. A day is a UTC day by the times of the log's entries. A statement and the mark that it was made are
one commit, so a kill neither loses nor doubles one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from firmware.clock.clock import Clock
from firmware.log.concealment import state
from firmware.log.diagnostics import INSECURE_SMALL_NET
from firmware.log.entry import Entry, Event, Level, Outcome
from firmware.log.journal import Journal, Logs
from firmware.profile.model import MIN_SECURE_MEMBERS, NetPolicy
from firmware.profile.registry import Registry
from firmware.store.operations import Put
from firmware.store.partition import Partition

LOOK_S: Final = 600.0
"""Pause between two looks at the date."""
MOST_DAYS: Final = 7
"""So many days are made up for after a pause; of older ones the single entries are there."""
_KIND: Final = "concealment-stated"
_PAGE: Final = 200
_DAY: Final = timedelta(days=1)


class ConsumerStatements:
    """Writes the statements.

    Args:
        registry: knows which net conceals whose values.
        logs: the consumers' logs are read and written.
        partition: the consumer partition, remembers the last day stated.
        clock: the gateway's.
        time_valid: no day is closed by a clock that cannot be trusted.
    """

    name = "firmware.consumer-statements"

    def __init__(
        self,
        registry: Registry,
        logs: Logs,
        partition: Partition,
        clock: Clock,
        time_valid: Callable[[], bool],
    ) -> None:
        self._registry, self._logs, self._partition = registry, logs, partition
        self._clock, self._time_valid = clock, time_valid

    async def run(self) -> None:
        """Look at the date until cancelled.

        Raises:
            StoreUnavailable, StoreCorrupt: what was not stated is stated when the service runs again.
        """
        while True:
            if self._time_valid():
                await self.step()
            await self._clock.sleep(LOOK_S)

    async def step(self) -> None:
        """State every day that has ended and was not stated before."""
        today = self._clock.now_utc().date()
        active = self._registry.active
        for profile in active.communication:
            processing = active.processing_of(profile)
            if profile.net is None or processing is None or not processing.consumer:
                continue
            key = f"{processing.consumer}/{profile.id}/{profile.net.net_id}"
            kept = await self._partition.get(_KIND, key)
            if kept is None or date.fromisoformat(kept.decode()) >= today:
                # Its first day, or a clock that was put back: counted from today on.
                await self._partition.put(_KIND, key, (today - _DAY).isoformat().encode())
                continue
            day = max(date.fromisoformat(kept.decode()) + _DAY, today - MOST_DAYS * _DAY)
            while day < today:
                await self._state(processing.consumer, profile.id, profile.net, day, key)
                day += _DAY

    async def _state(self, consumer: str, profile: str, policy: NetPolicy, day: date, key: str) -> None:
        journal = self._logs.consumer(consumer)
        begin, net = datetime.combine(day, time(), UTC), policy.net_id
        small = policy.n_min < MIN_SECURE_MEMBERS
        said = state(await entries_between(journal, begin, begin + _DAY), net, profile)
        entry = journal.operation(
            Event.CONCEALMENT_STATEMENT,
            Outcome.FAILURE if said.plain else Outcome.SUCCESS,
            level=Level.WARNING if said.plain or small else None,
            subject=net,
            text=f"[{INSECURE_SMALL_NET}]" if small else "",
            day=day.isoformat(),
            profile=profile,
            **said.evidence(),  # type: ignore[arg-type]  # names of its own, none of the parameters above
        )
        await self._partition.commit((entry, Put(_KIND, key, day.isoformat().encode())))


async def entries_between(journal: Journal, begin: datetime, end: datetime) -> list[Entry]:
    """Return the entries of a log with begin <= time < end, looked for from the newest backwards."""
    oldest, last = await journal.span()
    found: list[Entry] = []
    while last >= oldest:
        after = max(oldest - 1, last - _PAGE)
        page = await journal.entries(after, last - after)
        found = [entry for entry in page if begin <= entry.at_utc < end] + found
        if all(entry.at_utc < begin for entry in page):
            break
        last = after
    return found
