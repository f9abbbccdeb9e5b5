"""Care of the stores while the gateway runs: checkpoints, keys, retention. A service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from firmware.clock.clock import Clock
from firmware.errors import StoreCorrupt
from firmware.log.entry import Event
from firmware.log.journal import Logs
from firmware.store.operations import Forget
from firmware.store.retention import CONSUMPTION, INTERVALS, expired
from firmware.store.stores import Stores

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


class Housekeeping:
    """Looks after the stores.

    Args:
        stores: open.
        logs: told of what was done.
        clock: the gateway's time.
        upkeep: periods.
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
