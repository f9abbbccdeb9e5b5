"""`smgw meter --rs485`: a virtual wired meter on a virtual RS-485 line, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

from rich.console import Console

from lmn.model import MeterId
from tools.counterparts.meter_sml import SmlMeter, server_id
from tools.counterparts.meter_wired import DEFAULT_METER, WiredMeterStation, make_identity
from tools.counterparts.rs485_hub import Rs485Hub


async def run_wired(
    link: Path,
    gateway_certificate: Path,
    interval_ms: int,
    meter: MeterId | None,
    seed: int,
    console: Console,
    stop: asyncio.Event | None = None,
    master: bytes | None = None,
) -> None:
    """Answer until `stop`, or until a signal ends it where none is given.

    The meter's key and certificate are made beside `link` at the first start, in a folder of its name with
    "-meter" behind it. `gateway_certificate` is read whenever a gateway calls. With a `master` key the meter
    has no key and certificate at the first start, and waits for a gateway that pairs it.
    """
    if stop is None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
    chosen = meter if meter is not None else DEFAULT_METER
    identity = link.with_name(f"{link.name}-meter")
    if master is None and not (identity / "meter.pem").exists():
        make_identity(identity, chosen)
    async with Rs485Hub(link) as hub:
        station = WiredMeterStation(
            hub, identity, gateway_certificate if master is None else None, master=master,
            registers=SmlMeter(chosen, seed=seed), seed=seed,
        )  # fmt: skip
        how = f"certificate {identity / 'meter.pem'}" if master is None else "to be paired under its key"
        console.print(f"line {link}: meter {chosen}, server id {server_id(chosen).hex()}, {how}")
        while not stop.is_set():
            station.registers.step()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), interval_ms / 1000)
