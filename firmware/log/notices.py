"""What the administrator must be told: alarms that wait, sealed, until he has taken them. No I/O of its own.

Rule: protection profile PP-0073, FAU_ARP.1/SYS and FAU_STG.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from firmware.clock.clock import Clock
from firmware.errors import StoreCorrupt
from firmware.log.entry import Event, cut
from firmware.store.operations import Append, Trim
from firmware.store.partition import Partition

KEPT: Final = 256
"""So many wait at most; of more the oldest go, because the system log has them all."""
_KIND: Final = "notice"


@dataclass(frozen=True, slots=True)
class Notice:
    """One alarm; holds no reading and no key."""

    number: int
    event: Event
    subject: str
    text: str
    at_utc: datetime


class Notices:
    """The alarms that wait.

    Args:
        partition: the system partition.
        clock: dates them.
    """

    def __init__(self, partition: Partition, clock: Clock) -> None:
        self._partition, self._clock = partition, clock

    async def put(self, event: Event, subject: str, text: str) -> int:
        """Keep an alarm, durable on return; return its number."""
        record = msgspec.json.encode(Notice(0, event, cut(subject), cut(text), self._clock.now_utc()))
        number = (await self._partition.commit((Append(_KIND, record),)))[0]
        if number > KEPT:
            await self._partition.commit((Trim(_KIND, number - KEPT),))
        return number

    async def waiting(self) -> list[Notice]:
        """Return what waits, oldest first; StoreCorrupt if one is damaged."""
        found = []
        for number, data in await self._partition.records(_KIND):
            try:
                notice = msgspec.json.decode(data, type=Notice)
            except msgspec.DecodeError as error:
                raise StoreCorrupt(f"notice {number} cannot be read") from error
            found.append(Notice(number, notice.event, notice.subject, notice.text, notice.at_utc))
        return found

    async def taken(self, number: int) -> None:
        """The administrator has everything up to `number`."""
        await self._partition.commit((Trim(_KIND, number),))
