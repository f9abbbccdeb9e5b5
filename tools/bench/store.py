"""What sealing costs, durable readings a second, and what a year of data costs at the start."""

from __future__ import annotations

import asyncio
import gc
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from firmware.clock.clock import AdjustableClock
from firmware.flow.pipeline import BATCH
from firmware.log.entry import Event
from firmware.log.journal import Logs
from firmware.metering.original import OriginalLists
from firmware.metering.register import RegisteredValue
from firmware.store.operations import Append
from firmware.store.partition import Partition
from firmware.store.seal import Places, Sealer
from firmware.store.stores import STORE_CURVE, Stores
from hsm.api import KeySlot, SecurityModule
from hsm.emulator import load_card
from hsm.emulator.transport import EmulatorTransport
from hsm.session import ModuleSession
from lmn.model import MeterId, Obis
from tools.bench.figure import Figure
from tools.cli.init import make_folder

SEAL_BAR_US: Final = 6.0
RATIO_BAR: Final = 0.8
START_BAR_S: Final = 1.0
MEMORY_BAR: Final = 1.1
VALUES: Final = 35_040
"""A year of quarter hours."""
ENTRIES: Final = 100_000
_SEALS: Final = 100 * BATCH
_ROOT: Final = Path(__file__).resolve().parents[2]
_READING: Final = b'["ELS-12345678-33-03","1-0:1.8.0","1000779","Wh","2026-01-01T00:00:00.123456Z",0,false]'
_METER, _OBIS = MeterId.from_text("ELS-12345678-33-03"), Obis.from_text("1-0:1.8.0")
_END_UTC: Final = datetime(2026, 1, 1, tzinfo=UTC)
_GIVE_UP_S: Final = 60.0


async def run(rounds: int) -> list[Figure]:
    """Measure in a folder of its own on the disk of temporary files; medians of `rounds` count."""
    figures = [_sealing(rounds)]
    with tempfile.TemporaryDirectory(prefix="smgw-bench-") as name:
        folder = Path(name)
        make_folder(folder / "empty", gateway_id="ESGW0100000001")
        async with _module(folder / "empty") as module:
            await module.generate_key_pair(KeySlot.STORE, STORE_CURVE)
            for batch in (1, 10, 100, BATCH):
                figures.append(await _durable(folder, module, batch, rounds))
            figures.append(await _checkpoint(folder / "stores", module, rounds))
    return figures + await _start(rounds)


def _sealing(rounds: int) -> Figure:
    sealer, places = Sealer(bytes(32), 1, bytes(32), lambda _: None), Places("consumer")
    cipher = AESGCM(bytes(32))

    def full() -> None:
        for first in range(0, _SEALS, BATCH):
            sealer.tally(sealer.seal_all(places.records("reading", first, BATCH), [_READING] * BATCH))

    def bare() -> None:
        for number in range(_SEALS):
            cipher.encrypt(number.to_bytes(12, "big"), _READING, None)

    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(_cpu_us(full))
        theirs.append(_cpu_us(bare))
    return Figure(
        "sealing a reading, tally included, CPU", median(ours), "us", bar=SEAL_BAR_US,
        reference="AES-256-GCM alone", reference_value=median(theirs),
    )  # fmt: skip


def _cpu_us(work: Callable[[], None]) -> float:
    gc.collect()
    began = process_time()
    work()
    return (process_time() - began) / _SEALS * 1e6


async def _durable(folder: Path, module: SecurityModule, batch: int, rounds: int) -> Figure:
    """Sealed readings a second beside plain SQLite with the same durability, in turns on the same disk."""
    commits = max(40, min(200, 6000 // batch))
    sealed, plain = [], []
    readings = [_READING] * batch
    operations = [Append("reading", reading) for reading in readings]
    async with await Partition.open(folder / f"{batch}.db", "consumer", module) as partition:
        await partition.append("reading", _READING)
        with _Plain(folder / f"{batch}.plain") as other:
            for _ in range(rounds * commits):  # turn about: both meet the same disk
                began = perf_counter()
                await partition.commit(operations)
                between = perf_counter()
                await other.commit(readings)
                sealed.append(batch / (between - began))
                plain.append(batch / (perf_counter() - between))
    own = batch == BATCH
    return Figure(
        f"durable sealed readings, {batch} a commit" + (" (the pipeline's own)" if own else ""),
        median(sealed), "1/s", bar=RATIO_BAR if own else None, at_least=True, bar_on_ratio=own,
        reference="plain SQLite, a row a reading, one executemany", reference_value=median(plain),
    )  # fmt: skip


async def _checkpoint(folder: Path, module: SecurityModule, rounds: int) -> Figure:
    """What binding the files to the module's counter anew takes: a note in each file, one count."""
    took, commit = [], []
    async with await Stores.open(folder, module) as stores:
        for _ in range(20 * rounds):
            began = perf_counter()
            await stores.checkpoint()
            between = perf_counter()
            await stores.consumer.put("bench", "key", _READING)
            took.append(1e3 * (between - began))
            commit.append(1e3 * (perf_counter() - between))
    return Figure(
        "a checkpoint with the emulated module", median(took), "ms",
        reference="one durable commit", reference_value=median(commit),
    )  # fmt: skip


class _Plain:
    """A table with nothing sealed: same log mode, same synchronisation, a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL", "cache_size=-512"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute(
            "CREATE TABLE record (kind INTEGER NOT NULL, number INTEGER NOT NULL, reading BLOB NOT NULL,"
            " PRIMARY KEY (kind, number)) STRICT, WITHOUT ROWID"
        )
        self._last = 0

    def __enter__(self) -> _Plain:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    async def commit(self, readings: Sequence[bytes]) -> None:
        await asyncio.to_thread(self._write, readings)

    def _write(self, readings: Sequence[bytes]) -> None:
        numbers = range(self._last + 1, self._last + 1 + len(readings))
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(
            "INSERT INTO record VALUES (1, ?, ?)", zip(numbers, readings, strict=True)
        )  # one prepared statement: the quickest plain way
        self._db.execute("COMMIT")
        self._last += len(readings)


# --- the start of a gateway ------------------------------------------------------------------------------


async def _start(rounds: int) -> list[Figure]:
    """Start whole gateways, in turns: one whose stores are empty, one with a year of data."""
    seconds: dict[str, list[float]] = {"empty": [], "year": []}
    memory: dict[str, list[float]] = {"empty": [], "year": []}
    with tempfile.TemporaryDirectory(prefix="smgw-bench-") as name:
        for kind in seconds:
            make_folder(Path(name) / kind, gateway_id="ESGW0100000001")
        await _a_year(Path(name) / "year")
        for _ in range(rounds):
            for kind in seconds:
                took, megabytes = await _boot(Path(name) / kind)
                seconds[kind].append(took)
                memory[kind].append(megabytes)
    more = median(seconds["year"]) - median(seconds["empty"])
    return [
        Figure(
            f"start with {VALUES} values and {ENTRIES} log entries, more than empty", more, "s",
            bar=START_BAR_S, reference="start with empty stores", reference_value=median(seconds["empty"]),
        ),
        Figure(
            "resident memory with them", median(memory["year"]), "MB", bar=MEMORY_BAR, bar_on_ratio=True,
            reference="with empty stores", reference_value=median(memory["empty"]),
        ),
    ]  # fmt: skip


async def _a_year(folder: Path) -> None:
    clock = AdjustableClock(_END_UTC)
    async with _module(folder) as module, await Stores.open(folder / "state", module) as stores:
        lists = OriginalLists(stores.consumer)
        quarter = timedelta(minutes=15)
        for day in range(VALUES // 96):
            first = _END_UTC - timedelta(days=VALUES // 96 - day)
            instants = [first + number * quarter for number in range(96)]
            values = [
                RegisteredValue(_METER, _OBIS, instant, Decimal(day * 96 + number), "Wh", 0)
                for number, instant in enumerate(instants)
            ]
            await lists.add("billing", values, instants[-1])
        journal = Logs(stores, clock).system
        for _ in range(ENTRIES // 1000):
            entry = journal.operation(Event.METER_OK, subject=str(_METER))
            await stores.system.commit([entry] * 1000)


async def _boot(folder: Path) -> tuple[float, float]:
    """Return seconds from process start to "is up", and resident memory in MB then."""
    began = perf_counter()
    gateway = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "firmware", "-c", str(folder / "gateway.toml"),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=_ROOT,
    )  # fmt: skip
    assert gateway.stderr is not None
    try:
        async with asyncio.timeout(_GIVE_UP_S):
            while line := await gateway.stderr.readline():
                if b" is up" in line:
                    took = perf_counter() - began
                    await asyncio.sleep(0.2)
                    return took, _resident_mb(gateway.pid)
    finally:
        if gateway.returncode is None:
            gateway.terminate()
        await gateway.communicate()
    raise RuntimeError("the gateway ended before it was up")


def _resident_mb(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1024


@asynccontextmanager
async def _module(folder: Path) -> AsyncIterator[ModuleSession]:
    card, pin = load_card(folder / "module"), (folder / "pin").read_bytes()
    async with ModuleSession(lambda: EmulatorTransport(card), lambda: pin) as module:
        yield module
