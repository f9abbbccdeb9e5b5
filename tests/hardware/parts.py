"""The parts that the tests of this folder run on: emulated ones, or the real ones that the options name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from lmn.wmbus.driver import probe
from lmn.wmbus.kinds import KINDS
from tools.counterparts.meter_wmbus_virtual import VirtualMeter
from tools.counterparts.sticks import EMULATED

EMULATED_INTERVAL_S = 0.15
EMULATED_WAIT_S = 30.0


def there(part: str, where: str, *, real: bool, **seen: object) -> str:
    """A line of the summary: what a test found of a part, and whether it was a real one."""
    return json.dumps({"part": part, "really there": real, "where": where if real else "emulated", **seen})


@dataclass(frozen=True)
class Stick:
    """A stick to run on."""

    kind: str
    port: str
    wait_s: float
    meters: Path | None
    """Profiles of a meter in reach; None: none is known."""
    real: bool


@asynccontextmanager
async def real_stick(port: str, kind: str | None, wait_s: float, meters: str | None) -> AsyncIterator[Stick]:
    if kind is None:
        found = await probe(port)
        assert found is not None, f"{port} answers to no kind of stick"
        kind = found.name
    yield Stick(kind, port, wait_s, None if meters is None else Path(meters), real=True)


@asynccontextmanager
async def emulated_stick(kind: str, folder: Path, meter: VirtualMeter) -> AsyncIterator[Stick]:
    """A virtual stick on which `meter` can be heard."""
    async with EMULATED[kind](folder / "stick0") as stick:

        async def send() -> None:
            while True:
                meter.step()
                for telegram in meter.on_air():
                    await stick.transmit(telegram)
                await asyncio.sleep(EMULATED_INTERVAL_S)

        sending = asyncio.create_task(send())
        try:
            yield Stick(kind, str(stick.link), EMULATED_WAIT_S, None, real=False)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


assert set(EMULATED) <= set(KINDS)
