"""Carries the operating state: logs each change, tells the administrator, remembers what outlasts a restart.

Services that a state forbids are stopped and started by `firmware.supervisor.Gated`, which asks here. No I/O
of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from firmware.errors import StoreUnavailable
from firmware.life.states import CAUSES, Cause, Change, End, Function, OperatingState, State
from firmware.log.entry import Event, Level, Outcome
from firmware.log.journal import Logs
from firmware.log.notices import Notices
from firmware.store.partition import Partition

_LOG = logging.getLogger("smgw.firmware")
_KIND: Final = "cause"
_EVENTS: Final = {
    Cause.TAMPERED: Event.TAMPER,
    Cause.TIME_INVALID: Event.TIME_INVALID,
    Cause.CLOCK_DEVIATION: Event.TIME_DEVIATION,
    Cause.MODULE_LOST: Event.MODULE_FAILED,
    Cause.STORE_CORRUPT: Event.STORE_CORRUPT,
    Cause.STORE_UNAVAILABLE: Event.STORE_UNAVAILABLE,
    Cause.MEMORY_CRITICAL: Event.MEMORY_CRITICAL,
    Cause.CALIBRATION_LOG_FULL: Event.LOG_FULL,
    Cause.SELF_TEST_FAILED: Event.SELF_TEST,
    Cause.DECOMMISSIONED: Event.DECOMMISSIONED,
}
_METROLOGY: Final = frozenset({Cause.STORE_CORRUPT, Cause.MEMORY_CRITICAL})
"""Also in the calibration log."""


class LifeCycle:
    """The gateway's operating state, and who is told of its changes.

    Args:
        logs: get each change.
        notices: get each change for the worse.
        partition: remembers causes that only an order ends.
    """

    def __init__(self, logs: Logs, notices: Notices, partition: Partition) -> None:
        self._logs, self._notices, self._partition = logs, notices, partition
        self._operating = OperatingState()
        self._untold: list[tuple[Change, str]] = []
        self._telling = False
        self._watchers: list[Callable[[], None]] = []

    @property
    def state(self) -> State:
        """Return the state."""
        return self._operating.state

    @property
    def causes(self) -> dict[Cause, str]:
        """Return the causes that are there, with what is known of each."""
        return self._operating.causes

    def allows(self, function: Function) -> bool:
        """Tell whether something may run now."""
        return self._operating.allows(function)

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called after every change."""
        self._watchers.append(changed)

    async def load(self) -> None:
        """Take up the causes that outlasted the restart; call once."""
        for key, text in await self._partition.items(_KIND):
            known = [cause for cause in Cause if cause.value == key]
            for cause in known:
                self._operating.enter(cause, text.decode())
        self._tell_watchers()

    async def enter(self, cause: Cause, detail: str = "") -> bool:
        """A cause is there; False if it was before. The state holds at once, logged or not."""
        change = self._operating.enter(cause, detail)
        if change is None:
            return False
        _LOG.error("%s: %s; the gateway is in state %s", cause.value, detail, change.after.name.lower())
        self._untold.append((change, detail))
        self._tell_watchers()
        if CAUSES[cause].end is End.ORDER:
            await self._partition.put(_KIND, cause.value, detail.encode())
        await self.tell()
        return True

    async def leave(self, cause: Cause, by: End = End.ITSELF) -> bool:
        """What caused it is mended; False if it was not there or `by` does not end it."""
        if CAUSES[cause].end is End.ORDER and by is End.ORDER:
            await self._partition.delete(_KIND, cause.value)  # first: a kill in between keeps nothing wrong
        change = self._operating.leave(cause, by)
        if change is None:
            return False
        _LOG.warning("%s is over; the gateway is in state %s", cause.value, change.after.name.lower())
        self._untold.append((change, ""))
        self._tell_watchers()
        await self.tell()
        return True

    async def tell(self) -> None:
        """Log what could not be logged before; a store that is full keeps it waiting in memory."""
        if self._telling:
            return  # whoever tells now goes on until nothing is left
        self._telling = True
        try:
            while self._untold:
                await self._write(*self._untold[0])
                del self._untold[0]
        except StoreUnavailable:
            return
        finally:
            self._telling = False

    async def _write(self, change: Change, detail: str) -> None:
        rule = CAUSES[change.cause]
        event = _EVENTS.get(change.cause, Event.SECURE_STATE)
        text = f"{rule.text}: {detail}" if change.there else f"over: {rule.text}"
        journals = [self._logs.system]
        metrology = change.there and change.cause in _METROLOGY
        if metrology and not await self._logs.calibration.is_full():  # which is a cause of its own
            journals.insert(0, self._logs.calibration)
        for journal in journals:
            await journal.write(
                event,
                Outcome.FAILURE if change.there else Outcome.SUCCESS,
                level=Level.ERROR if change.there else Level.INFO,
                sub_event=change.cause.value,
                subject="gateway",
                text=text,
                state=change.after.name.lower(),
                before=change.before.name.lower(),
            )
        if change.there:
            await self._notices.put(event, change.cause.value, text)

    def _tell_watchers(self) -> None:
        for changed in self._watchers:
            changed()
