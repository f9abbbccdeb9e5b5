"""Retention, memory limits, wiping, checkpoints: FDP_RIP.2, and memory that runs out."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, date, datetime, timedelta

import pytest

from firmware import housekeeping
from firmware.clock.clock import AdjustableClock
from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.housekeeping import Housekeeping, Upkeep
from firmware.log.entry import Event
from firmware.log.journal import Logs
from firmware.metering.original import OriginalLists
from firmware.metering.register import RegisteredValue
from firmware.metering.running import RunningRegisters
from firmware.metering.tariff.task import Held
from firmware.store.memory import MemoryWatch
from firmware.store.operations import Append, Put, Trim
from firmware.store.outbox import SealedOutbox
from firmware.store.retention import day_of, expired, months_before
from firmware.store.stores import Quotas, Stores
from firmware.store.wiping import EVER, Belongings, wipe_consumer
from hsm.errors import ModuleUnavailable
from lmn.model import MeterId, Obis
from tests.support.soft_module import SoftModule

START = datetime(2026, 3, 31, 12, tzinfo=UTC)
METER = MeterId.from_text("ELS-12345678-33-03")
OTHER = MeterId.from_text("ELS-12345679-33-03")
OBIS = Obis.from_text("1-0:1.8.0")


@pytest.fixture
def clock():
    return AdjustableClock(START)


@pytest.fixture
def module():
    return SoftModule()


def care_of(stores, clock, **care):
    return Housekeeping(stores, Logs(stores, clock), clock, Upkeep(**care))


@pytest.mark.parametrize(
    ("day", "months", "before"),
    [
        ("2026-03-31", 1, "2026-02-28"),
        ("2024-03-31", 1, "2024-02-29"),
        ("2026-03-15", 24, "2024-03-15"),
        ("2026-01-31", 2, "2025-11-30"),
        ("2026-01-01", 1, "2025-12-01"),
        ("2026-12-31", 36, "2023-12-31"),
        ("0001-02-01", 12, "0001-01-01"),
    ],
)
def test_months_are_calendar_months(day, months, before):
    assert months_before(date.fromisoformat(day), months) == date.fromisoformat(before)


def test_only_days_of_known_classes_expire_and_the_last_kept_day_stays():
    kinds = [
        "original/p/20240331",
        "original/p/20240330",
        "original/a/b/20200101",
        "derived/p/20230331",
        "derived/p/20230330",
        "reading",
        "log/consumer/20200101",
        "original/p/20201301",
        "outbox",
        "original/p/2020010",
    ]
    gone = expired(kinds, date(2026, 3, 31), {"original": 24, "derived": 36})
    assert gone == ["original/a/b/20200101", "derived/p/20230330", "original/p/20240330"]
    assert expired(kinds, date(2026, 3, 31), {}) == []
    assert day_of("original/a/b/20200101") == ("original", "a/b", date(2020, 1, 1))


async def test_a_log_is_no_list_of_days(tmp_path):
    """A consumer may be named like a day: the class of its log is not one that expires."""
    assert expired(["log/consumer/20200101"], date(2026, 1, 1), {"original": 1, "derived": 1}) == []


async def test_values_are_kept_as_long_as_configured_and_go_a_few_at_a_time(tmp_path, module, clock):
    async with await Stores.open(tmp_path, module) as stores:
        lists = OriginalLists(stores.consumer)
        for days in range(20):
            instant = START - timedelta(days=745 + days)
            await lists.add("p", [RegisteredValue(METER, OBIS, instant, None, "Wh", 0)], instant)
        await lists.add("p", [RegisteredValue(METER, OBIS, START, None, "Wh", 0)], START)
        care = care_of(stores, clock)
        assert await care.forget_expired() == housekeeping._AT_ONCE
        while await care.forget_expired():
            pass
        assert await lists.at("p", START) is not None
        assert [kind for kind in await stores.consumer.kinds() if kind.startswith("original")] == [
            "original/p/20260331"
        ]
        doubtful = Housekeeping(stores, Logs(stores, clock), clock, Upkeep(), time_valid=lambda: False)
        clock.advance(86400 * 365 * 5)
        assert await doubtful.forget_expired() == 0
        assert await lists.at("p", START) is not None


def watch_of(stores, free=1 << 40, **options):
    options = {"critical_percent": 90, "critical_bytes": 1000, **options}
    return MemoryWatch(stores, free=lambda: free, **options)


async def test_the_memory_limit_is_the_administrators(tmp_path, module):
    quotas = Quotas(consumer_bytes=200_000)
    async with await Stores.open(tmp_path, module, quotas=quotas) as stores:
        watch = watch_of(stores, critical_percent=100)
        await stores.consumer.commit([Append("a", bytes(3000)) for _ in range(30)])
        assert await watch.critical() == ""
        for wrong in (0, 101):
            with pytest.raises(ValueError, match="percent"):
                await watch.set_limit(wrong)
        for _ in range(2):
            await watch.set_limit(50)
        assert await watch.critical() == "consumer at or over 50 % of 196608 bytes"
        await stores.consumer.commit([Trim("a", 29)])
        assert await watch.critical() == ""
    async with await Stores.open(tmp_path, module, quotas=quotas) as stores:  # the limit outlives a restart
        assert await watch_of(stores).limit_percent() == 50
        await stores.system.put("stores", "critical-percent", b"")
        with pytest.raises(StoreCorrupt, match="limit"):
            await watch_of(stores).critical()


async def test_a_full_consumer_partition_leaves_room_for_the_system_log(tmp_path, module):
    async with await Stores.open(tmp_path, module, quotas=Quotas(consumer_bytes=120_000)) as stores:
        with pytest.raises(StoreUnavailable, match="full"):  # noqa: PT012 - at which one is the disk's matter
            while True:
                await stores.consumer.append("a", bytes(3000))
        assert (await watch_of(stores).critical()).startswith("consumer at or over 90 %")
        last = (await stores.consumer.span("a"))[1]
        await stores.consumer.commit([Trim("a", last)])
        assert await stores.consumer.append("a", b"x") == last + 1


async def test_memory_at_its_limit_does_not_come_and_go(tmp_path, module):
    """Each time would be an entry in the calibration log, which forgets nothing."""
    async with await Stores.open(tmp_path, module, quotas=Quotas(consumer_bytes=400_000)) as stores:
        watch = watch_of(stores, critical_percent=50)
        said = []
        while not said or not said[-1]:
            await stores.consumer.append("a", bytes(3000))
            said.append(await watch.critical())
        number = (await stores.consumer.span("a"))[1]
        for _ in range(10):  # one goes, one comes
            number += 1
            await stores.consumer.commit([Trim("a", number - 60)])
            assert await watch.critical()
            await stores.consumer.append("a", bytes(3000))
        await stores.consumer.commit([Trim("a", number - 20)])
        assert await watch.critical() == ""
        free = [1000]
        disk = MemoryWatch(stores, critical_percent=90, critical_bytes=1000, free=lambda: free[0])
        told = []
        for left in (1000, 999, 1001, 1052, 1053, 1000):
            free[0] = left
            told.append(bool(await disk.critical()))
        assert told == [False, True, True, True, False, False]


async def test_an_order_that_raises_the_limit_holds_at_once(tmp_path, module):
    async with await Stores.open(tmp_path, module, quotas=Quotas(consumer_bytes=200_000)) as stores:
        watch = watch_of(stores, critical_percent=50)
        await stores.consumer.commit([Append("a", bytes(3000)) for _ in range(25)])
        assert await watch.critical()
        used = (await stores.consumer.usage()).percent
        await watch.set_limit(int(used) + 1)
        assert await watch.critical() == ""


async def test_messages_leave_a_partition_that_takes_no_more(tmp_path, module):
    """Full to the last page: noting that one arrived needs no room that its content does not give."""
    async with await Stores.open(tmp_path, module, quotas=Quotas(consumer_bytes=300_000)) as stores:
        outbox, count = SealedOutbox(stores.consumer), 0
        with pytest.raises(StoreUnavailable, match="full"):  # noqa: PT012 - at which one is the disk's matter
            while True:
                await outbox.put(f"m-{count}", "supplier", bytes(2000))
                count += 1
        with pytest.raises(StoreUnavailable, match="full"):  # noqa: PT012 - down to the last bytes
            for _ in range(1000):
                await stores.consumer.append("log", bytes(10))
        assert count > 50
        for number in range(count):
            await outbox.delivered(f"m-{number}")
        assert not await outbox.pending("supplier")
        assert await stores.consumer.append("log", bytes(3000))


async def test_little_room_on_the_disk_is_critical(tmp_path, module):
    async with await Stores.open(tmp_path, module) as stores:
        assert await watch_of(stores, free=1000).critical() == ""
        assert "999 bytes are free" in await watch_of(stores, free=999).critical()
        assert (
            "bytes are free"
            in await MemoryWatch(stores, critical_percent=90, critical_bytes=1 << 60).critical()
        )


@pytest.mark.parametrize("why", ["time", "commits", "orders"])
async def test_a_checkpoint_is_due_by_time_by_commits_and_after_orders_but_no_faster(
    tmp_path, module, clock, why
):
    orders = [0]
    async with await Stores.open(tmp_path, module) as stores:
        upkeep = Upkeep(checkpoint_s=3600.0, checkpoint_commits=50)
        care = Housekeeping(stores, Logs(stores, clock), clock, upkeep, orders=lambda: orders[0])
        await care.step()
        counter = module.count

        async def happens():
            if why == "orders":
                orders[0] += 1
            if why == "commits":
                for number in range(60):
                    await stores.consumer.put("a", "key", b"%d" % number)

        await happens()
        clock.advance(299 if why != "time" else 3599)
        await care.checkpoint_if_due()
        assert module.count == counter  # the module's memory wears
        clock.advance(1)
        await care.checkpoint_if_due()
        assert module.count == counter + 1
        await care.checkpoint_if_due()
        clock.advance(3599)
        await care.checkpoint_if_due()
        assert module.count == counter + 1  # nothing happened since, and the hour is not over
        clock.advance(1)
        await care.checkpoint_if_due()
        assert module.count == counter + 2


async def test_a_checkpoint_that_failed_is_due_again(tmp_path, module, clock):
    async with await Stores.open(tmp_path, module) as stores:
        orders = [0]
        care = Housekeeping(stores, Logs(stores, clock), clock, Upkeep(), orders=lambda: orders[0])
        orders[0] = 1
        clock.advance(400)
        module.faults["counter"] = ModuleUnavailable("no card in the reader")
        with pytest.raises(ModuleUnavailable):
            await care.checkpoint_if_due()
        del module.faults["counter"]
        counter = module.count
        await care.checkpoint_if_due()
        assert module.count == counter + 1


async def test_a_service_without_its_module_does_the_rest_and_goes_on_later(tmp_path, module, clock):
    async with await Stores.open(tmp_path, module) as stores:
        care = care_of(stores, clock)
        await care.step()
        counter = module.count
        clock.advance(6 * 3600 + 1)
        module.faults["counter"] = ModuleUnavailable("lost for an hour")
        with pytest.raises(ModuleUnavailable):
            await care.step()
        assert await stores.consumer.append("a", b"x") == 1
        clock.advance(3600)
        module.faults.clear()
        await care.step()
        await care.step()
        assert module.count == counter + 1


async def test_keys_change_by_themselves_once_a_year(tmp_path, module, clock):
    async with await Stores.open(tmp_path, module) as stores:
        care = care_of(stores, clock)
        await care.step()
        [before] = sql(tmp_path / "copy.db", tmp_path / "consumer.db")
        clock.advance(365 * 86400)
        await care.step()
        [after] = sql(tmp_path / "copy.db", tmp_path / "consumer.db")
        assert before != after
        entries = await Logs(stores, clock).system.entries()
        assert [entry.event for entry in entries] == [Event.KEY_CHANGE]
        await care.step()
        assert sql(tmp_path / "copy.db", tmp_path / "consumer.db") == [after]
        clock.advance(3000 * 86400)
        await care_of(stores, clock, key_change_days=0).step()
        assert sql(tmp_path / "copy.db", tmp_path / "consumer.db") == [after]


def sql(copy, path):
    """Read the wrapped key from a copy: the file itself is locked."""
    for suffix in ("", "-wal"):
        piece = path.with_name(path.name + suffix)
        if piece.exists():
            copy.with_name(copy.name + suffix).write_bytes(piece.read_bytes())
    with sqlite3.connect(copy) as db:
        found = db.execute("SELECT wrapped FROM header").fetchall()
    db.close()
    return found


# ------------------------------------------------------------------ wiping


ANNAS = Belongings({"p-anna": (EVER,)}, {str(METER): (EVER,)})


def reading(meter):
    return json.dumps([str(meter), "1-0:1.8.0", "5", "Wh", START.isoformat(), 0]).encode()


async def test_nothing_of_a_wiped_consumer_is_found_in_the_files(tmp_path, module, clock):
    """FDP_RIP.2: looks for the very bytes that were on the disk before, sealed as they were."""
    async with await Stores.open(tmp_path, module) as stores:
        lists, logs = OriginalLists(stores.consumer), Logs(stores, clock)
        for who, profile, meter in (("anna", "p-anna", METER), ("bert", "p-bert", OTHER)):
            for hour in range(30):
                instant = START + timedelta(hours=hour)
                value = RegisteredValue(meter, OBIS, instant, None, "Wh", 0)
                await lists.add(profile, [value], instant)
                await stores.consumer.append("reading", reading(meter))
                await logs.consumer(who).write(Event.DATA_RELEASED, subject=profile)
            held = Held(((1, 5),), "Wh", START)
            await RunningRegisters(stores.consumer).keep(profile, START, START, held)
            await stores.consumer.put("meter-state", str(meter), b"[true,0]")
            await stores.consumer.put("progress", f"closed/{profile}", START.isoformat().encode())
            await stores.consumer.commit([Put("counter", f"{meter}/x", b"\x07")])
    old = traces(tmp_path / "consumer.db")
    assert len(old) > 200
    async with await Stores.open(tmp_path, module) as stores:
        lists, logs = OriginalLists(stores.consumer), Logs(stores, clock)
        gone = await wipe_consumer(stores, "anna", ANNAS)
        assert gone >= 90
        files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert [piece for piece in old if piece in files] == []
        assert await lists.at("p-anna", START) is None
        assert await lists.registered_through("p-anna") is None
        assert await RunningRegisters(stores.consumer).at("p-anna", START, START) is None
        assert [key for key, _ in await stores.consumer.items("meter-state")] == [str(OTHER)]
        assert "closed/p-anna" not in [key for key, _ in await stores.consumer.items("progress")]
        assert await logs.consumer("anna").entries() == []
        assert not any("anna" in kind for kind in await stores.consumer.kinds())
        # The others have lost nothing.
        assert await lists.at("p-bert", START) is not None
        assert (await logs.consumer("bert").verify()).number == 30
        assert [text for _, text in await stores.consumer.records("reading")] == [reading(OTHER)] * 30
        assert len(await stores.consumer.items("counter")) == 2
        assert await stores.consumer.damage() == []
        assert await wipe_consumer(stores, "anna", ANNAS) == 0
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert [piece for piece in old if piece in files] == []


async def test_a_message_on_its_way_goes_on_without_the_name_of_a_wiped_consumer(tmp_path, module, clock):
    told = []

    def arrived(owner, recipient, message_id):
        told.append((owner, recipient, message_id))
        return ()

    async with await Stores.open(tmp_path, module) as stores:
        outbox = SealedOutbox(stores.consumer, arrived)
        await outbox.put("m-1", "emp", b"sealed", "anna")
        await outbox.put("m-2", "emp", b"sealed", "bert")
        await wipe_consumer(stores, "anna", Belongings())
        assert await outbox.pending("emp") == [("m-1", b"sealed"), ("m-2", b"sealed")]
        await outbox.delivered("m-1")
        await outbox.delivered("m-2")
        assert told == [("bert", "emp", "m-2")]
        assert await outbox.pending("emp") == []


def traces(path):
    """Every sealed row and label of a partition."""
    with sqlite3.connect(path) as db:
        found = [
            bytes(row[0])
            for table in ("record", "item", "kind")
            for row in db.execute(f"SELECT sealed FROM {table}")
        ]
        found += [bytes(row[0]) for row in db.execute("SELECT label FROM item")]
    db.close()
    return found


async def test_deleted_rows_are_overwritten_without_waiting_for_a_wipe(tmp_path, module):
    """`secure_delete`: after an orderly stop nothing of a deleted row is in the file."""
    async with await Stores.open(tmp_path, module) as stores:
        await stores.consumer.commit([Append("a", b"x" * 500) for _ in range(100)])
    old = traces(tmp_path / "consumer.db")
    async with await Stores.open(tmp_path, module) as stores:
        await stores.consumer.commit([Trim("a", 100)])
    files = (tmp_path / "consumer.db").read_bytes()
    assert sum(piece in files for piece in old if len(piece) > 500) == 0


async def test_compacting_gives_pages_back(tmp_path, module):
    async with await Stores.open(tmp_path, module) as stores:
        await stores.consumer.commit([Append("a", bytes(3000)) for _ in range(200)])
        await stores.consumer.commit([Trim("a", 199)])
        before = await stores.consumer.usage()
        await stores.consumer.compact()
        after = await stores.consumer.usage()
        assert after.file_bytes < before.file_bytes / 5
        assert after.used_bytes <= before.used_bytes
        assert (await stores.consumer.records("a"))[0][0] == 200
