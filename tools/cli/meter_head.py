"""`smgw meter --head`: a virtual meter that pushes SML through a virtual infrared head, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

from rich.console import Console

from lmn.model import MeterId
from tools.counterparts.meter_sml import DEFAULT_METER, SmlMeter, VirtualHead, server_id


async def run_head(
    link: Path, interval_ms: int, meter: SmlMeter, console: Console, stop: asyncio.Event | None = None
) -> None:
    """Push until `stop`, or until a signal ends it where none is given."""
    if stop is None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
    async with VirtualHead(link) as head:
        console.print(f"head {link}: meter {meter.meter}, server id {server_id(meter.meter).hex()}")
        while not stop.is_set():
            meter.step()
            await head.push(meter.frame())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), interval_ms / 1000)


def sml_meter(meter: MeterId | None, seed: int) -> SmlMeter:
    """Make the meter in front of the head.

    Raises:
        ValueError: its identification is no number.
    """
    chosen = meter if meter is not None else DEFAULT_METER
    server_id(chosen)
    return SmlMeter(chosen, seed=seed)
