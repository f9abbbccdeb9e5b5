"""From the start of the gateway process to its first accepted telegram, and what memory it takes."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from tools.bench.figure import Figure
from tools.cli.init import make_folder
from tools.counterparts.meter_wmbus import DEFAULT_KEY, DEFAULT_METER, ElectricityMeter
from tools.counterparts.stick_im871a import VirtualStick

BOOT_BAR_S: Final = 1.5
MEMORY_BAR_MB: Final = 64
INTERVAL_S: Final = 0.1
_GIVE_UP_S: Final = 30.0
_ROOT: Final = Path(__file__).resolve().parents[2]
_METERS: Final = f'''[[meter]]
id = "electricity"
meter = "{DEFAULT_METER}"
key_hex = "{DEFAULT_KEY.hex()}"
mode = "strict"
consumer = "consumer-1"
'''


async def run(rounds: int) -> list[Figure]:
    """Start `rounds` gateways, one after the other, each in a new folder; medians count.

    The meter sends every 100 ms and is started after the gateway. Importing the same modules without doing
    anything, and an interpreter that does nothing, are measured in between.
    """
    booted, imported, bare, memory = [], [], [], []
    for _ in range(rounds):
        seconds, megabytes = await _boot()
        booted.append(seconds)
        memory.append(megabytes)
        imported.append(await _spent("import firmware.boot, firmware.__main__, lmn.serial_port"))
        bare.append(await _spent("pass"))
    empty = median(bare)
    return [
        Figure(
            "start to first accepted telegram", median(booted), "s", bar=BOOT_BAR_S,
            reference="python -c pass", reference_value=empty,
        ),
        Figure(
            "of it imports", median(imported) - empty, "s",
            reference="start to first accepted telegram", reference_value=median(booted),
        ),
        Figure("resident memory, without HAN", median(memory), "MB", bar=MEMORY_BAR_MB),
    ]  # fmt: skip


async def _boot() -> tuple[float, float]:
    """Seconds from process start to the first accepted telegram, and resident memory in MB then."""
    with tempfile.TemporaryDirectory(prefix="smgw-bench-") as name:
        folder = Path(name) / "gateway"
        make_folder(folder, gateway_id="ESGW0100000001")
        (folder / "meters.toml").write_text(_METERS, encoding="utf-8")
        async with VirtualStick(folder / "stick0") as stick:
            began = perf_counter()
            gateway = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "firmware", "-c", str(folder / "gateway.toml"),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=_ROOT,
            )  # fmt: skip
            meter = asyncio.create_task(_meter(stick))
            try:
                async with asyncio.timeout(_GIVE_UP_S):
                    await _first_telegram(gateway)
                return perf_counter() - began, _resident_mb(gateway.pid)
            finally:
                meter.cancel()
                gateway.terminate()
                await gateway.communicate()


async def _meter(stick: VirtualStick) -> None:
    meter = ElectricityMeter()
    while True:
        meter.step()
        await stick.transmit(meter.telegram())
        await asyncio.sleep(INTERVAL_S)


async def _first_telegram(gateway: asyncio.subprocess.Process) -> None:
    assert gateway.stderr is not None
    while line := await gateway.stderr.readline():
        if b"first telegram of" in line:
            return
    raise RuntimeError("the gateway ended before it heard its meter")


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


async def _spent(statement: str) -> float:
    began = perf_counter()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", statement, cwd=_ROOT)
    await process.wait()
    return perf_counter() - began
