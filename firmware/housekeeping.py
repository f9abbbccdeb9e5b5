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
CHECKPOINT_LOOK_S: Final = 60.0
"""Pause between two looks whether a checkpoint is due."""
CHECKPOINT_GAP_S: Final = 300.0
"""No checkpoint follows the last one sooner, whatever happens: the cells of the module's counter wear."""
_AT_ONCE: Final = 8
"""Kinds of a day that are forgotten at one look at most. More are not due in a day; after a jump of the clock
by years there is time to notice before much is gone."""


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What the configuration says about the stores."""

    interval_months: int = 24
    consumption_months: int = 36
    checkpoint_s: float = 3600.0
    """Longest time between two checkpoints."""
    checkpoint_commits: int = 10_000
    """After so many transactions one is due before."""
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
        orders: how many orders of the administrator were carried out: after one a checkpoint is due, so that
            no older copy undoes it.
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
        orders: Callable[[], int] = lambda: 0,
    ) -> None:
        self._time_valid, self._orders = time_valid, orders
        self._stores, self._logs, self._clock, self._upkeep = stores, logs, clock, upkeep
        self._checkpoint_s, self._seen = clock.monotonic(), self._marks()

    async def run(self) -> None:
        """Look after the stores until cancelled.

        Raises:
            StoreUnavailable, StoreCorrupt, HsmError: what was not done is done when the service runs again.
        """
        while True:
            await self.step()
            for _ in range(round(LOOK_S / CHECKPOINT_LOOK_S)):
                await self._clock.sleep(CHECKPOINT_LOOK_S)
                await self.checkpoint_if_due()

    async def step(self) -> None:
        """Do what is due. First what needs no module, so that without one the rest is done all the same."""
        await self.forget_expired()
        if await self._keys_are_due():
            await self.change_keys()
        else:
            await self.checkpoint_if_due()

    async def checkpoint_if_due(self) -> None:
        """Move on to the next epoch after enough time, enough transactions, or an order.

        Raises:
            StoreUnavailable, StoreCorrupt, HsmError: it is due again.
        """
        (commits, orders), (commits_then, orders_then) = self._marks(), self._seen
        since_s = self._clock.monotonic() - self._checkpoint_s
        much = orders != orders_then or commits - commits_then >= self._upkeep.checkpoint_commits
        if since_s >= (CHECKPOINT_GAP_S if much else self._upkeep.checkpoint_s):
            await self._stores.checkpoint()
            self._is_checked((commits, orders))

    def _marks(self) -> tuple[int, int]:
        return self._stores.commits, self._orders()

    def _is_checked(self, marks: tuple[int, int]) -> None:
        self._checkpoint_s, self._seen = self._clock.monotonic(), marks

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
        marks = self._marks()
        rows = await self._stores.change_keys()
        self._is_checked(marks)
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
