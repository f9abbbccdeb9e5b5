"""Care of the stores while the gateway runs: checkpoints, keys, retention, memory. A service."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from firmware.clock.clock import Clock
from firmware.errors import StoreCorrupt
from firmware.log.entry import Event, Level, Outcome
from firmware.log.journal import Logs
from firmware.store.operations import Forget
from firmware.store.retention import CONSUMPTION, INTERVALS, expired
from firmware.store.stores import Stores

_LOG = logging.getLogger("smgw.store")
LOOK_S: Final = 600.0
"""Pause between two looks."""
_AT_ONCE: Final = 8
"""Kinds of a day that are forgotten at one look at most. More are not due in a day; after a jump of the clock
by years there is time to notice before much is gone."""


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What the configuration says about the stores."""

    interval_months: int = 24
    consumption_months: int = 36
    checkpoint_s: float = 6 * 3600.0
    key_change_days: int = 365
    """0: keys are changed on demand only."""
    critical_percent: int = 90
    """Until the administrator sets another limit."""
    disk_reserve_bytes: int = 32 * 2**20


class Housekeeping:
    """Looks after the stores.

    Args:
        stores: open.
        logs: told of what was done and of memory that runs out.
        clock: the gateway's time.
        upkeep: limits and periods.
        time_valid: whether the clock can be trusted now; nothing is forgotten by one that cannot.
    """

    name = "firmware.housekeeping"

    def __init__(
        self,
        stores: Stores,
        logs: Logs,
        clock: Clock,
        upkeep: Upkeep,
        *,
        time_valid: Callable[[], bool] = lambda: True,
    ) -> None:
        self._time_valid = time_valid
        self._stores, self._logs, self._clock, self._upkeep = stores, logs, clock, upkeep
        self._checkpoint_s = clock.monotonic()
        self.critical: frozenset[str] = frozenset()
        """Partitions over the limit, and "disk"; for whoever decides on the state of the gateway."""

    async def run(self) -> None:
        """Look after the stores until cancelled.

        Raises:
            StoreUnavailable, StoreCorrupt, HsmError: what was not done is done when the service runs again.
        """
        while True:
            await self.step()
            await self._clock.sleep(LOOK_S)

    async def step(self) -> None:
        """Do what is due. First what needs no module, so that without one the rest is done all the same."""
        await self.watch_memory()
        await self.forget_expired()
        if await self._keys_are_due():
            await self.change_keys()
        elif self._clock.monotonic() - self._checkpoint_s >= self._upkeep.checkpoint_s:
            await self._stores.checkpoint()
            self._checkpoint_s = self._clock.monotonic()

    async def forget_expired(self) -> int:
        """Forget values that were kept long enough; return how many days of a profile went."""
        if not self._time_valid():
            return 0
        months = {INTERVALS: self._upkeep.interval_months, CONSUMPTION: self._upkeep.consumption_months}
        partition = self._stores.consumer
        kinds = expired(await partition.kinds(), self._clock.now_utc().date(), months)[:_AT_ONCE]
        if kinds:
            await partition.commit([Forget(kind) for kind in kinds])
        return len(kinds)

    async def watch_memory(self) -> None:
        """Compare how full the partitions and the disk are with the limit; tell each crossing, both ways."""
        limit = await self.limit_percent()
        critical, told = set(), dict[str, str]()
        for partition in self._stores.partitions:
            usage = await partition.usage()
            if usage.percent >= limit:
                critical.add(partition.name)
                told[partition.name] = f"{usage.percent:.0f} % of {usage.quota_bytes} bytes"
        free = self._stores.disk_free_bytes()
        if free < self._upkeep.disk_reserve_bytes:
            critical.add("disk")
            told["disk"] = f"{free} bytes are free"
        # Noted one by one, once told: what a full partition did not take is told at the next look.
        for subject in sorted(critical - self.critical):
            await self._tell(subject, Outcome.FAILURE, told[subject], limit)
            self.critical |= {subject}
        for subject in sorted(self.critical - critical):
            await self._tell(subject, Outcome.SUCCESS, "below the limit again", limit)
            self.critical -= {subject}

    async def _tell(self, subject: str, outcome: Outcome, text: str, limit: int) -> None:
        _LOG.warning("memory of %s: %s", subject, text)
        level = Level.ERROR if outcome is Outcome.FAILURE else Level.INFO
        for journal in (self._logs.system, self._logs.calibration):
            await journal.write(
                Event.MEMORY_CRITICAL,
                outcome,
                level=level,
                subject=subject,
                text=text,
                limit_percent=str(limit),
            )

    async def limit_percent(self) -> int:
        """Return the limit in force: the administrator's, else the configuration's."""
        kept = await self._stores.system.get("stores", "critical-percent")
        if kept is None:
            return self._upkeep.critical_percent
        if len(kept) != 1:
            raise StoreCorrupt("the administrator's limit cannot be read")
        return kept[0]

    async def set_limit(self, percent: int, user: str) -> None:
        """Set the limit for the administrator; logged, and looked at at once.

        Raises:
            ValueError: not from 1 to 100.
        """
        if not 1 <= percent <= 100:
            raise ValueError("a limit is from 1 to 100 percent")
        await self._stores.system.put("stores", "critical-percent", bytes((percent,)))
        await self._logs.system.write(
            Event.MEMORY_CRITICAL,
            sub_event="limit-set",
            subject="stores",
            user=user,
            limit_percent=str(percent),
        )
        await self.watch_memory()

    async def change_keys(self) -> int:
        """Change the partition keys and log it; return how many rows were sealed anew."""
        rows = await self._stores.change_keys()
        self._checkpoint_s = self._clock.monotonic()
        await self._logs.system.write(Event.KEY_CHANGE, subject="stores", rows=str(rows))
        await self._note_keys(self._clock.now_utc())
        return rows

    async def _keys_are_due(self) -> bool:
        if not self._upkeep.key_change_days:
            return False
        now_utc = self._clock.now_utc()
        kept = await self._stores.system.get("stores", "keys-changed")
        if kept is None:  # the first look: the keys are of the first start
            await self._note_keys(now_utc)
            return False
        try:
            changed_utc = datetime.fromisoformat(kept.decode())
        except ValueError as error:
            raise StoreCorrupt("when the keys were changed cannot be read") from error
        return now_utc - changed_utc >= timedelta(days=self._upkeep.key_change_days)

    async def _note_keys(self, now_utc: datetime) -> None:
        await self._stores.system.put("stores", "keys-changed", now_utc.isoformat().encode())
