"""Damage of files: every outcome is a named error or right data; what is readable is read.

And the disk and the module as they fail: full, read-only, used twice, absent. FPT_FLS.1, FDP_SDI.2.
"""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pytest

from firmware.clock.clock import AdjustableClock
from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.log.entry import Event
from firmware.log.journal import Logs
from firmware.store.operations import Append, Put, Trim
from firmware.store.partition import Partition
from firmware.store.stores import Quotas, Stores
from hsm.errors import ModuleUnavailable
from tests.support.chance import seed
from tests.support.read_only import by_modes, by_mount
from tests.support.soft_module import SoftModule
from tests.unit.firmware.fixed_module import module_of

CLOCK = AdjustableClock(datetime(2026, 1, 1, tzinfo=UTC))
RECORDS = {number: b"record %d " % number + b"x" * (number % 400) for number in range(1, 301)}
ITEMS = {f"key {number}": b"item %d " % number + b"y" * (number % 200) for number in range(100)}


async def filled(path):
    async with await Partition.open(path, "consumer", module_of()) as one:
        await one.commit([Append("list", plaintext) for plaintext in RECORDS.values()])
        await one.commit([Put("item", key, plaintext) for key, plaintext in ITEMS.items()])
    return path.read_bytes()


async def examine(path, chance):
    """Read everything in random order; return what was right, and how often an error was named."""
    right = named = 0
    try:
        async with await Partition.open(path, "consumer", module_of()) as one:
            for number in chance.sample(sorted(RECORDS), 40):
                try:
                    found = await one.records("list", number - 1, 1)
                except StoreCorrupt:
                    named += 1
                else:
                    assert found == [(number, RECORDS[number])]
                    right += 1
            for key in chance.sample(sorted(ITEMS), 20):
                try:
                    found = await one.get("item", key)
                except StoreCorrupt:
                    named += 1
                    continue
                assert found == ITEMS[key]
                right += 1
            if named or one.fault is not None or await one.damage():
                assert one.fault is not None
                assert await one.damage()
                with pytest.raises((StoreCorrupt, StoreUnavailable)):
                    await one.put("item", "key 0", b"more")
    except (StoreCorrupt, StoreUnavailable):
        return 0, 1
    return right, named


@pytest.mark.parametrize(
    "times", [40, pytest.param(3000, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)])]
)
async def test_damage_anywhere_is_a_named_error_or_right_data(tmp_path, times):
    path = tmp_path / "consumer.db"
    pristine = await filled(path)
    chance = random.Random(seed())
    untouched = noticed = salvaged = 0
    for _ in range(times):
        damaged = bytearray(pristine)
        at, length = chance.randrange(len(damaged)), chance.choice([1, 1, 2, 16, 300, 4096])
        how = chance.randrange(4)
        if how == 0:
            damaged[at : at + length] = chance.randbytes(len(damaged[at : at + length]))
        elif how == 1:
            damaged[at] ^= 1 << chance.randrange(8)
        elif how == 2:  # a page of the same file in another's place, as a confused memory card does
            page, other = (4096 * chance.randrange(len(damaged) // 4096) for _ in range(2))
            damaged[page : page + 4096] = damaged[other : other + 4096]
        else:
            damaged[at : at + length] = bytes(len(damaged[at : at + length]))
        for old in tmp_path.glob("consumer.db-*"):
            old.unlink()
        path.write_bytes(damaged)
        right, named = await examine(path, chance)
        untouched += right > 0 and not named
        noticed += named > 0
        salvaged += right > 0 and named > 0
    assert noticed > times / 40
    assert untouched + noticed == times
    print(f"{times} damaged files: {noticed} noticed, {salvaged} of them read in part, {untouched} untouched")


async def test_damage_in_the_log_of_a_kill_is_noticed_or_left_out(tmp_path):
    """A torn write-ahead log ends where its checksums end: what lies behind was never acknowledged as durable
    on a disk that keeps its promise, and a record in the middle is never wrong."""
    path = tmp_path / "consumer.db"
    one = await Partition.open(path, "consumer", module_of())
    for start in range(1, 301, 10):
        await one.commit([Append("list", RECORDS[number]) for number in range(start, start + 10)])
    main, log = path.read_bytes(), path.with_name("consumer.db-wal").read_bytes()
    await one.close()
    chance = random.Random(2)
    lengths = set()
    for _ in range(30):
        damaged = bytearray(log)
        damaged[chance.randrange(len(damaged))] ^= 0x10
        path.write_bytes(main)
        path.with_name("consumer.db-wal").write_bytes(damaged)
        try:
            async with await Partition.open(path, "consumer", module_of()) as one:
                found = await one.records("list")
                assert found == [(number, RECORDS[number]) for number in range(1, len(found) + 1)]
                assert len(found) % 10 == 0
                lengths.add(len(found))
        except StoreCorrupt:
            lengths.add(-1)
    assert len(lengths) > 2


async def test_a_damaged_consumer_partition_stops_measuring_and_the_system_log_tells(tmp_path):
    module = SoftModule()
    async with await Stores.open(tmp_path, module) as stores:
        await stores.consumer.commit([Append("reading", b"%d" % n) for n in range(100)])
    with sqlite3.connect(tmp_path / "consumer.db") as db:
        db.execute("UPDATE record SET sealed = zeroblob(40) WHERE number <= 7")
    db.close()
    for _ in range(2):
        async with await Stores.open(tmp_path, module) as stores:
            assert [fault is not None for fault in (p.fault for p in stores.partitions)] == [
                False,
                True,
                False,
            ]
            with pytest.raises(StoreCorrupt, match="takes no more"):
                await stores.consumer.append("reading", b"more")
            await Logs(stores, CLOCK).system.write(Event.STORE_CORRUPT)
            await Logs(stores, CLOCK).calibration.write(Event.STORE_CORRUPT)
            assert stores.faults()


# ------------------------------------------------------------------ disk, processes, module


@contextmanager
def small_disk(folder, size):
    """A real file system that gets full; needs root."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder, option):
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


async def test_a_disk_that_is_full_loses_nothing_and_goes_on_when_there_is_room(tmp_path):
    """On a small file system where one can be mounted; elsewhere a quota stands in for it."""
    module = SoftModule()
    with small_disk(tmp_path / "disk", "900k") as real:
        state = tmp_path / "disk" / "state"
        quotas = {} if real else {"quotas": Quotas(consumer_bytes=200_000)}
        async with await Stores.open(state, module, **quotas) as stores:
            last = 0
            with suppress(StoreUnavailable):
                while True:
                    last = await stores.consumer.append("reading", bytes(5000))
            with pytest.raises(StoreUnavailable, match=r"full|disk"):
                await stores.consumer.append("reading", bytes(50_000))
            if real:  # full for everybody: neither log nor checkpoint, and still no loss
                with suppress(StoreUnavailable):
                    while True:
                        await stores.system.append("filler", bytes(5000))
                with pytest.raises(StoreUnavailable):
                    await stores.system.append("filler", bytes(50_000))
            assert (await stores.consumer.span("reading"))[1] == last
            assert len(await stores.consumer.records("reading")) == last
        if real:
            with suppress(StoreUnavailable):  # refused, or it works: a named error either way
                await (await Stores.open(state, module)).close()
            remount(tmp_path / "disk", "size=8m")
        else:
            quotas = {}
        async with await Stores.open(state, module, **quotas) as stores:
            assert stores.faults() == []
            assert (await stores.consumer.span("reading"))[1] == last
            assert await stores.consumer.append("reading", b"room again") == last + 1
            await Logs(stores, CLOCK).system.write(Event.STORE_UNAVAILABLE)
            await stores.consumer.commit([Trim("reading", last)])


OPENING = """
import asyncio, sys
from pathlib import Path
from firmware.errors import StoreUnavailable
from firmware.store.partition import Partition
from tests.unit.firmware.fixed_module import module_of
async def main():
    try:
        file = Path(sys.argv[1], "consumer.db")
        async with await Partition.open(file, "consumer", module_of()) as one:
            print(await one.append("a", b"1"))
    except StoreUnavailable as error: print('unavailable:', error)
asyncio.run(main())
"""


def child_of(folder, within=()):
    """Write a record into a partition in `folder` in a process of its own; return what it says."""
    done = subprocess.run(
        [*within, sys.executable, "-c", OPENING, str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("how", [by_modes, by_mount])
def test_a_disk_that_became_read_only_is_an_error_and_recovers(tmp_path, how):
    """As a card does that is worn out: the files are there, and nothing can be written."""
    state = tmp_path / "state"
    state.mkdir()
    assert child_of(state) == "1\n"
    before = {path.name: path.read_bytes() for path in state.glob("*.db")}
    with how(state) as within:
        answer = child_of(state, within)
    assert answer.startswith("unavailable:"), answer
    assert {path.name: path.read_bytes() for path in state.glob("*.db")} == before
    assert child_of(state) == "2\n"


async def test_two_processes_on_one_folder(tmp_path):
    async with await Stores.open(tmp_path / "state", module_of()) as stores:
        await stores.consumer.append("a", b"1")
        with pytest.raises(StoreUnavailable, match="another process"):
            await Stores.open(tmp_path / "state", module_of())
        assert await stores.consumer.append("a", b"2") == 2


async def test_a_module_that_is_absent_at_the_start_changes_nothing(tmp_path):
    module = SoftModule()
    async with await Stores.open(tmp_path, module) as stores:
        await stores.consumer.append("a", b"1")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix == ".db"}
    for operation in ("public_key", "agree", "counter"):
        module.faults[operation] = ModuleUnavailable("not there")
        with pytest.raises(ModuleUnavailable):
            await Stores.open(tmp_path, module)
        del module.faults[operation]
        if operation != "counter":  # by then the openings are noted
            assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.suffix == ".db"} == before
    async with await Stores.open(tmp_path, module) as stores:
        assert await stores.consumer.append("a", b"2") == 2
