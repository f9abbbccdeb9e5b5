"""A home whose gateway is a process of its own (`python -m firmware`), so that it can really be killed."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from firmware.clock.clock import SystemClock
from firmware.log.entry import Event
from firmware.log.journal import Logs
from firmware.metering.original import OriginalLists
from firmware.metering.register import RegisteredValue
from firmware.store.stores import Stores
from hsm.emulator import load_card
from hsm.emulator.transport import EmulatorTransport
from hsm.session import ModuleSession
from tools.demo.plan import BILLING, GROUP_TOTAL
from tools.homes.home import Home
from tools.homes.household import Household


class Killed(Home):
    """Switched on by a new process; `kill` is SIGKILL, at whatever it is doing."""

    def __init__(self, household: Household, folder: Path) -> None:
        super().__init__(household, folder, GROUP_TOTAL)
        self.process: asyncio.subprocess.Process | None = None
        self.lives = 0

    async def switch_on(self) -> None:
        with (self.folder / "gateway.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "firmware",
                "-c",
                str(self.folder / "gateway.toml"),
                stdout=log,
                stderr=log,
            )
        self.lives += 1
        self._gateway = self.process  # type: ignore[assignment]  # all that the meter asks is: is there one?

    async def kill(self) -> None:
        """Take the power away."""
        assert self.process is not None
        assert self.process.returncode is None, self.last_words()
        self.process.kill()
        await self.process.wait()

    async def switch_off(self) -> None:
        if self.process is None:
            return
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(self.process.wait(), 15)
        self._gateway = None

    def last_words(self) -> str:
        return (self.folder / "gateway.log").read_text(encoding="utf-8", errors="replace")[-3000:]

    @asynccontextmanager
    async def stores(self) -> AsyncIterator[Stores]:
        """Open what the dead gateway left behind."""
        card = load_card(self.folder / "module")
        pin = (self.folder / "pin").read_bytes()
        async with AsyncExitStack() as stack:
            session = ModuleSession(lambda: EmulatorTransport(card), lambda: pin)
            module = await stack.enter_async_context(session)
            yield await stack.enter_async_context(await Stores.open(self.folder / "state", module))

    async def autopsy(self, stores: Stores) -> list[RegisteredValue]:
        """Verify every log chain and return all registered values of the concealed series."""
        logs = Logs(stores, SystemClock())
        for journal in (logs.system, logs.calibration, logs.consumer(self.household.consumer)):
            await journal.verify()
        boots = [entry for entry in await logs.system.entries() if entry.event is Event.BOOT]
        assert 1 <= len(boots) <= self.lives
        originals = OriginalLists(stores.consumer)
        now_utc = datetime.now(UTC)
        hour = timedelta(hours=1)
        assert await originals.between(BILLING, now_utc - hour, now_utc)
        return await originals.between(GROUP_TOTAL, now_utc - hour, now_utc)
