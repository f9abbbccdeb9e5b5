"""The parts that carry a gateway's state, on real stores, with a host's clock that a test sets."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from firmware.clock.clock import AdjustableClock
from firmware.clock.time_sync import DisciplinedClock
from firmware.life.health import Health
from firmware.life.lifecycle import LifeCycle
from firmware.life.manifest import take
from firmware.life.selftest import SelfTest
from firmware.log.entry import Event
from firmware.log.journal import Logs
from firmware.log.notices import Notices
from firmware.store.stores import Stores
from tests.support.soft_module import SoftModule

START = datetime(2026, 1, 1, tzinfo=UTC)
TREE = Path(__file__).parent
"""Stands for the program's tree: nothing in it is named like one of the packages that are watched."""
PROGRAM = take(TREE)


class World:
    def __init__(self, stores: Stores, module: SoftModule, **options) -> None:
        self.stores, self.module = stores, module
        self.host = AdjustableClock(START)
        self.clock = DisciplinedClock(self.host)
        self.notices = Notices(stores.system, self.clock)
        self.logs = Logs(stores, self.clock, **options)
        self.life = LifeCycle(self.logs, self.notices, stores.system)
        self.free = 1000
        common = {"memory": self._memory}
        self.test = SelfTest(
            module, stores, self.logs, self.clock, self.life,
            time_state=lambda: self.clock.state.value, program=PROGRAM, root=TREE, **common,
        )  # fmt: skip
        self.health = Health(module, stores, self.logs, self.clock, self.life, **common)

    async def _memory(self) -> str:
        return f"{self.free} bytes are free" if self.free < 100 else ""

    async def events(self) -> list[Event]:
        return [entry.event for entry in await self.logs.system.entries()]


async def turns(count: int = 6) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
