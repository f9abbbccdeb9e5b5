"""Child process of the store tests: writes until it is killed, or reports what a hostile disk answers.

usage: python -m tests.unit.firmware.store_child write|full|readonly|second FOLDER
Prints one line per acknowledged write: "record NUMBER", "item KEY", "entry NUMBER".
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from datetime import UTC, datetime
from pathlib import Path

from firmware.clock.clock import AdjustableClock
from firmware.errors import StoreUnavailable
from firmware.log.entry import Event, LogKind
from firmware.log.journal import Journal
from firmware.store.operations import Append, Put
from firmware.store.partition import Partition
from tests.unit.firmware.fixed_module import module_of

CLOCK = AdjustableClock(datetime(2026, 1, 1, tzinfo=UTC))


def acknowledge(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def write(partition: Partition) -> None:
    journal = Journal(partition, LogKind.SYSTEM, CLOCK)

    async def records(writer: int) -> None:
        while True:
            number, _ = await partition.commit(
                (Append("reading", f"writer {writer}".encode()), Put("counter", str(writer), b"x"))
            )
            acknowledge("record", number, writer)

    async def items() -> None:
        position = 0
        while True:
            position += 1
            await partition.put("profile", f"key {position % 50}", str(position).encode())
            acknowledge("item", position % 50, position)

    async def entries() -> None:
        while True:
            acknowledge("entry", await journal.write(Event.BOOT, text="x" * 50))

    async with asyncio.TaskGroup() as group:
        for writer in range(4):
            group.create_task(records(writer))
        group.create_task(items())
        group.create_task(entries())


async def main(what: str, folder: Path) -> None:
    path = folder / "system.db"
    try:
        async with await Partition.open(path, "system", module_of()) as partition:
            acknowledge("open", partition.opening)
            if what == "write":
                await write(partition)
            elif what == "full":
                resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
                try:
                    while True:
                        acknowledge("record", await partition.append("reading", bytes(5000)))
                except StoreUnavailable as error:
                    acknowledge("unavailable", error)
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                acknowledge("record", await partition.append("reading", b"room again"))
    except StoreUnavailable as error:
        acknowledge("unavailable", error)


if __name__ == "__main__":
    if sys.argv[1] == "readonly" and os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
