"""Looks again and again whether module, stores and memory are there, and sets the operating state by it.

What is lost for an hour is a state and two log entries, not a stop: everything comes back without a hand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from firmware.clock.clock import Clock
from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.life.lifecycle import LifeCycle
from firmware.life.states import Cause
from firmware.log.entry import Event
from firmware.log.journal import Logs
from firmware.store.stores import Stores
from hsm.api import SecurityModule
from hsm.errors import HsmError, PinRefused

LOOK_S: Final = 15.0
_SOON_S: Final = 1.0
"""While something is missing: as soon as it is back, everything shall go on."""
_NO_ANSWER: Final = frozenset({Cause.STORE_CORRUPT})
"""Then the stores cannot say how full they are."""
_LOOKED_FOR: Final = frozenset({Cause.MODULE_LOST, Cause.STORE_UNAVAILABLE, Cause.MEMORY_CRITICAL})


class Health:
    """A service.

    Args:
        module: asked for a random number.
        stores: one record is written to each.
        logs: of which the calibration log may be full.
        clock: paces.
        life: gets what is found.
        memory: says what is critical of memory, "" for nothing.
        sessions: how many sessions with the module began so far.
        look_s: between two looks.
    """

    name = "firmware.life.health"

    def __init__(
        self,
        module: SecurityModule,
        stores: Stores,
        logs: Logs,
        clock: Clock,
        life: LifeCycle,
        *,
        memory: Callable[[], Awaitable[str]],
        sessions: Callable[[], int] = lambda: 0,
        look_s: float = LOOK_S,
    ) -> None:
        self._sessions, self._told_sessions = sessions, 0
        self._module, self._stores, self._logs = module, stores, logs
        self._clock, self._life = clock, life
        self._memory, self._look_s = memory, look_s

    async def run(self) -> None:
        """Look until cancelled.

        Raises:
            PinRefused: the module will not be asked again.
            OSError: nobody can say how much memory is free.
        """
        await self._tell_sessions()
        while True:
            missing = _LOOKED_FOR & self._life.causes.keys()
            await self._clock.sleep(min(_SOON_S, self._look_s) if missing else self._look_s)
            await self.look()

    async def look(self) -> None:
        """Look once."""
        await self._look_at_stores()
        await self._look_at_module()
        if not self._life.causes.keys() & _NO_ANSWER:
            await self.look_at_memory()
        if await self._logs.calibration.is_full():
            await self._life.enter(Cause.CALIBRATION_LOG_FULL, "it takes no more entries")

    async def look_at_memory(self) -> None:
        """Look whether memory is critical, by the limit in force now."""
        critical = await self._memory()
        if critical:
            await self._life.enter(Cause.MEMORY_CRITICAL, critical)
        else:
            await self._life.leave(Cause.MEMORY_CRITICAL)

    async def _look_at_stores(self) -> None:
        try:
            for partition in (self._stores.system, self._stores.consumer, self._stores.calibration):
                await partition.put("health", "probe", b"")
        except StoreUnavailable as fault:
            await self._life.enter(Cause.STORE_UNAVAILABLE, str(fault))
            return
        except StoreCorrupt as fault:
            await self._life.enter(Cause.STORE_CORRUPT, str(fault))
            return
        await self._life.leave(Cause.STORE_UNAVAILABLE)
        await self._life.tell()

    async def _look_at_module(self) -> None:
        try:
            await self._module.random(8)
        except PinRefused:
            raise
        except HsmError as fault:
            await self._life.enter(Cause.MODULE_LOST, str(fault))
            return
        await self._life.leave(Cause.MODULE_LOST)
        await self._tell_sessions()

    async def _tell_sessions(self) -> None:
        """Log that a session began: the first one, after a loss, or because the one before grew too old."""
        if (count := self._sessions()) > self._told_sessions:
            self._told_sessions = count
            await self._logs.system.write(Event.MODULE_SESSION, subject="hsm", sessions=str(count))
