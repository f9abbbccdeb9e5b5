"""How the gateway's last life ended, as its system log tells: in order, or by a kill or power cut."""

from __future__ import annotations

from typing import Any, Final

from firmware.log.entry import Event, Level
from firmware.log.journal import Journal

NOT_STOPPED: Final = "not-stopped"
_LOOKED_AT: Final = 100
_TEXT: Final = (
    "the last life ended without an orderly stop; a copy of the stores made since their last checkpoint and"
    " put back now would not be noticed"
)


async def last_end(system: Journal) -> dict[str, Any]:
    """Return what the entry of a start says besides: nothing after an orderly stop, or at the first start.

    An orderly stop moves the module's counter on, so every older copy is noticed after it. After a kill that
    is true of copies from before the last checkpoint alone: whoever judges this start should know.

    Raises:
        StoreUnavailable, StoreCorrupt: the log cannot be read.
    """
    _, newest = await system.span()
    events = [entry.event for entry in await system.entries(max(0, newest - _LOOKED_AT))]
    ends = [event for event in events if event in (Event.BOOT, Event.STOP)]
    # Little is written between a stop and the next start: so many entries without either are of a life.
    stopped = ends[-1] is Event.STOP if ends else newest <= _LOOKED_AT
    return {} if stopped else {"level": Level.WARNING, "sub_event": NOT_STOPPED, "text": _TEXT}
