"""The legal logs: FAU_GEN.1 /SYS /CON /CAL, FAU_STG.2, FAU_STG.4."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import msgspec
import pytest

from firmware.clock.clock import AdjustableClock
from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.log import entry as entry_module
from firmware.log.entry import Entry, Event, Level, LogKind, Outcome, cut, log_name
from firmware.log.journal import ChainHead, Journal, Logs, genesis, verify_chain
from firmware.store.operations import Append, Put
from firmware.store.partition import Partition
from firmware.store.stores import Stores
from tests.support.soft_module import SoftModule
from tests.unit.firmware.fixed_module import module_of

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock():
    return AdjustableClock(START)


@pytest.fixture
async def partition(tmp_path):
    async with await Partition.open(tmp_path / "system.db", "system", module_of()) as one:
        yield one


async def test_an_entry_holds_what_was_said(partition, clock):
    journal = Journal(partition, LogKind.SYSTEM, clock)
    clock.advance(90)
    number = await journal.write(
        Event.ORDER_REFUSED,
        Outcome.FAILURE,
        sub_event="signature",
        subject="o1",
        user="gwa",
        destination="gwa",
        parent=1,
        repeated=2,
        text="broken",
        fingerprint="00ff",
    )
    [found] = await journal.entries()
    assert found == Entry(
        log="system",
        number=number,
        previous=genesis("system").digest,
        at_utc=datetime(2026, 1, 1, 0, 1, 30, tzinfo=UTC),
        seconds_index=90,
        level=Level.WARNING,
        event=Event.ORDER_REFUSED,
        outcome=Outcome.FAILURE,
        sub_event="signature",
        subject="o1",
        user="gwa",
        destination="gwa",
        parent=1,
        repeated=2,
        text="broken",
        evidence={"fingerprint": "00ff"},
    )
    assert Entry.from_bytes(found.to_bytes()) == found
    assert json.loads(found.to_bytes())["event"] == "order-refused"


async def test_concurrent_writers_make_one_chain(partition, clock):
    journal = Journal(partition, LogKind.SYSTEM, clock)
    numbers = await asyncio.gather(*(journal.write(Event.BOOT, text=str(n)) for n in range(100)))
    assert numbers == list(range(1, 101))
    assert (await journal.verify()).number == 100
    assert (await Journal(partition, LogKind.SYSTEM, clock).verify()).number == 100
    assert (await journal.entries())[0].level is Level.INFO
    assert len(await journal.entries(after=90, limit=5)) == 5


async def test_an_entry_goes_along_with_what_it_tells_of(partition, clock):
    journal = Journal(partition, LogKind.SYSTEM, clock)
    results = await partition.commit(
        [Put("profiles", "active", b"x"), journal.operation(Event.PROFILE_CHANGE)]
    )
    assert results == [1, 1]
    assert (await journal.verify()).number == 1


async def chain(partition, clock, count=5):
    journal = Journal(partition, LogKind.SYSTEM, clock)
    for n in range(count):
        await journal.write(Event.BOOT, text=f"entry {n}")
    return await partition.records("log/system")


async def test_every_change_of_a_chain_is_noticed(partition, clock):
    records = await chain(partition, clock)
    assert verify_chain("system", records).number == 5
    assert verify_chain("system", []) == genesis("system")
    number, data = records[2]
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(StoreCorrupt):
            verify_chain("system", [*records[:2], (number, changed), *records[3:]])
    for broken in (
        records[1:],
        [*records[:2], *records[3:]],
        [records[1], records[0], *records[2:]],
        [*records[:1], (2, records[0][1]), *records[2:]],
        [(number + 1, data) for number, data in records],
        [*records, records[-1]],
    ):
        with pytest.raises(StoreCorrupt):
            verify_chain("system", broken)
    with pytest.raises(StoreCorrupt, match="another log"):
        verify_chain("calibration", records, genesis("system"))
    with pytest.raises(StoreCorrupt, match="broken before entry 1"):
        verify_chain("system", records, genesis("calibration"))
    middle = verify_chain("system", records[:2])
    assert verify_chain("system", records[2:], middle).number == 5
    with pytest.raises(StoreCorrupt, match="broken before entry 3"):
        verify_chain("system", records[2:], ChainHead(2, genesis("system").digest))


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 100_000, b'{"number":1}', b"\xff" * 50])
async def test_what_is_no_entry_breaks_the_chain(partition, clock, data):
    with pytest.raises(StoreCorrupt):
        verify_chain("system", [(1, data)])


async def test_a_forged_append_is_found_by_verifying(partition, clock):
    journal = Journal(partition, LogKind.SYSTEM, clock)
    await journal.write(Event.BOOT)
    [(_, first)] = await partition.records("log/system")
    await partition.commit([Append("log/system", first)])
    with pytest.raises(StoreCorrupt):
        await journal.verify()


async def test_the_system_log_forgets_its_oldest_and_says_so(partition, clock):
    journal = Journal(partition, LogKind.SYSTEM, clock, capacity=50)
    for n in range(131):
        await journal.write(Event.BOOT, text=str(n))
    entries = await journal.entries()
    assert 40 <= len(entries) <= 51
    assert any(found.event is Event.LOG_TRIMMED for found in entries)
    assert entries[-1].number == (await journal.verify()).number
    assert (await Journal(partition, LogKind.SYSTEM, clock, capacity=50).verify()).number == entries[
        -1
    ].number
    start = ChainHead(entries[0].number - 1, "00" * 32)
    await partition.put("log.start", "system", msgspec.json.encode(start))
    with pytest.raises(StoreCorrupt, match="broken before"):
        await journal.verify()
    for anchor in (b"", b"x y", b"{}", b"\xff\xff"):
        await partition.put("log.start", "system", anchor)
        with pytest.raises(StoreCorrupt):
            await journal.verify()


async def test_the_calibration_log_forgets_nothing_and_is_full_one_day(partition, clock):
    journal = Journal(partition, LogKind.CALIBRATION, clock, capacity=3)
    for _ in range(3):
        await journal.write(Event.TIME_DEVIATION)
    with pytest.raises(StoreUnavailable, match="full"):
        await journal.write(Event.TIME_DEVIATION)
    assert (await journal.verify()).number == 3


async def test_each_log_has_its_own_partition_and_each_consumer_an_own_log(tmp_path, clock):
    async with await Stores.open(tmp_path, SoftModule()) as stores:
        logs = Logs(stores, clock)
        await logs.system.write(Event.BOOT)
        await logs.calibration.write(Event.TIME_DEVIATION)
        await logs.consumer("a").write(Event.DATA_SENT, destination="emp")
        await logs.consumer("b").write(Event.LOG_READ)
        assert logs.consumer("a") is logs.consumer("a")
        assert [found.event for found in await logs.consumer("a").entries()] == [Event.DATA_SENT]
        assert [found.log for found in await logs.consumer("b").entries()] == ["consumer/b"]
        assert await stores.system.kinds() == ["stores", "log/system"]
        assert await stores.calibration.kinds() == ["log/calibration"]
        assert await stores.consumer.kinds() == ["log/consumer/a", "log/consumer/b"]


async def test_writers_at_the_limit_do_not_trim_at_once(partition, clock):
    journal = Journal(partition, LogKind.SYSTEM, clock, capacity=20)
    for _ in range(5):
        await asyncio.gather(*(journal.write(Event.BOOT) for _ in range(17)))
        await journal.verify()
    assert len(await journal.entries()) < 40


def test_names_of_logs():
    assert log_name(LogKind.CONSUMER, "a") == "consumer/a"
    for kind, consumer in ((LogKind.CONSUMER, None), (LogKind.CONSUMER, ""), (LogKind.SYSTEM, "a")):
        with pytest.raises(ValueError, match="consumer"):
            log_name(kind, consumer)


def test_texts_are_cut_and_printable():
    assert cut("fine – äöü") == "fine – äöü"
    assert cut("two\nlines\x1b[0m") == "two\ufffdlines\ufffd[0m"
    assert len(cut("x" * 10_000)) == entry_module.MAX_TEXT


def test_no_two_events_share_a_word():
    assert len({event.value for event in Event}) == len(Event.__members__)
