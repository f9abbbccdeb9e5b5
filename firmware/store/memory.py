"""Whether memory is critical: partitions over their limit, too little room on the disk. The one watcher.

The limit of the partitions is the configuration's until the administrator sets another. What is critical
becomes the state of the gateway, log entries and an alarm in `firmware.life`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from firmware.errors import StoreCorrupt
from firmware.store.stores import Stores

_KEY: Final = ("stores", "critical-percent")
_AGAIN_PERCENT: Final = 95
"""Once critical, memory is enough again below this part of the limit: otherwise a store at its limit would
come and go, and each time is an entry in the calibration log, which forgets nothing."""


class MemoryWatch:
    """Looks when it is asked to; remembers only whether memory was critical then.

    Args:
        stores: open.
        critical_percent: of a partition's quota, until the administrator sets another limit.
        critical_bytes: less free on the disk is critical.
        free: bytes that can still be written; the stores' own look if None.
    """

    def __init__(
        self,
        stores: Stores,
        *,
        critical_percent: int,
        critical_bytes: int,
        free: Callable[[], int] | None = None,
    ) -> None:
        self._stores, self._percent, self._bytes = stores, critical_percent, critical_bytes
        self._free = free or stores.disk_free_bytes
        self._critical = False

    async def critical(self) -> str:
        """Return what is critical, "" if nothing is.

        Raises:
            OSError: nobody can say how much room the disk has.
            StoreUnavailable, StoreCorrupt: the stores cannot be asked.
        """
        part = _AGAIN_PERCENT / 100 if self._critical else 1.0
        limit, reserve = await self.limit_percent() * part, self._bytes / part
        found = []
        for partition in self._stores.partitions:
            usage = await partition.usage()
            if usage.percent >= limit:
                found.append(f"{partition.name} at or over {limit:g} % of {usage.quota_bytes} bytes")
        free = self._free()
        if free < reserve:
            found.append(f"{free} bytes are free on the disk, less than {reserve:.0f}")
        self._critical = bool(found)
        return "; ".join(found)

    async def limit_percent(self) -> int:
        """Return the limit in force: the administrator's, else the configuration's."""
        kept = await self._stores.system.get(*_KEY)
        if kept is None:
            return self._percent
        if len(kept) != 1:
            raise StoreCorrupt("the administrator's limit cannot be read")
        return kept[0]

    async def set_limit(self, percent: int) -> None:
        """Keep the administrator's limit; durable on return, and again changes nothing. It holds at once.

        Raises:
            ValueError: not from 1 to 100.
        """
        if not 1 <= percent <= 100:
            raise ValueError("a limit is from 1 to 100 percent")
        await self._stores.system.put(*_KEY, bytes((percent,)))
        self._critical = False
