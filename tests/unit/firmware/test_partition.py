"""Sealed partitions: FDP_SDI.2, FCS_COP.1/MEM, FPT_FLS.1: acknowledged is durable, changed is noticed."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.log.entry import LogKind
from firmware.log.journal import Journal
from firmware.store import seal
from firmware.store.operations import Append, Chain, Delete, Insert, KeepNewest, Put, Trim
from firmware.store.partition import MAX_BATCH, Partition
from firmware.store.schema import SCHEMA_VERSION
from hsm.errors import ModuleUnavailable
from tests.support.chance import seed
from tests.unit.firmware.fixed_module import module_of
from tests.unit.firmware.store_child import CLOCK

ROOT = Path(__file__).resolve().parents[3]
CONSUMER = "consumer-of-this-house"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "system.db"


def opened(path, name="system", module=None, **options):
    return Partition.open(path, name, module or module_of(), **options)


def sql(path, statement, *arguments):
    with sqlite3.connect(path) as db:
        rows = db.execute(statement, arguments).fetchall()
    db.close()
    return rows


async def test_items_and_records_live_through_a_new_opening(path):
    async with await opened(path) as one:
        await one.put("profile", "a", b"1")
        await one.put("profile", "b", b"2")
        await one.put("profile", "a", b"3")
        assert [await one.append("reading", bytes([n])) for n in range(3)] == [1, 2, 3]
    async with await opened(path) as one:
        assert await one.items("profile") == [("a", b"3"), ("b", b"2")]
        assert await one.get("profile", "b") == b"2"
        assert await one.get("profile", "c") is None is await one.get("nothing", "c")
        assert await one.records("reading", after=1) == [(2, b"\1"), (3, b"\2")]
        assert await one.records("reading", limit=1) == [(1, b"\0")]
        assert await one.records("nothing") == [] == await one.items("nothing")
        assert await one.append("reading", b"x") == 4
        await one.delete("profile", "a")
        await one.delete("profile", "never there")
        assert await one.items("profile") == [("b", b"2")]
        assert await one.span("reading") == (1, 4)
        assert await one.span("nothing") == (1, 0)
        assert set(await one.kinds()) == {"profile", "reading"}
        assert await one.damage() == []


async def test_a_commit_is_whole_or_not_at_all(path):
    def fail(number, previous):
        raise ValueError("on purpose")

    async with await opened(path) as one:
        assert await one.commit([Append("a", b"1"), Put("b", "k", b"2")]) == [1, 1]
        with pytest.raises(ValueError, match="on purpose"):
            await one.commit([Append("a", b"2"), Put("new kind", "k", b"3"), Chain("c", fail)])
        assert await one.records("a") == [(1, b"1")]
        assert set(await one.kinds()) == {"a", "b"}
        assert await one.append("a", b"2") == 2
        assert await one.get("new kind", "k") is None


async def test_results_of_operations(path):
    async with await opened(path) as one:
        assert await one.commit(
            [
                Insert("k", "1", b"first"),
                Insert("k", "1", b"second"),
                Put("done", "2", b""),
                Insert("k", "2", b"third", unless="done"),
                Insert("k", "3", b"fourth", unless="done"),
                Delete("k", "1"),
                Delete("k", "1"),
            ]
        ) == [1, 0, 1, 0, 1, 1, 0]
        assert await one.items("k") == [("3", b"fourth")]
        await one.commit([Put("k", str(n), b"") for n in range(3, 10)])
        assert await one.commit([KeepNewest("k", 2), KeepNewest("k", 2), KeepNewest("done", 5)]) == [5, 0, 0]
        assert [key for key, _ in await one.items("k")] == ["8", "9"]


async def test_numbers_go_on_after_a_trim(path):
    async with await opened(path) as one:
        for n in range(1, 6):
            await one.append("log", bytes([n]))
        assert await one.commit([Trim("log", 3), Trim("log", 2)]) == [3, 0]
        assert await one.span("log") == (4, 5)
        assert await one.commit([Trim("log", 100)]) == [2]
        assert await one.span("log") == (6, 5)
    async with await opened(path) as one:
        assert await one.append("log", b"6") == 6
        assert await one.records("log") == [(6, b"6")]


async def test_a_chain_sees_its_predecessor_also_after_a_new_opening(path):
    def follow(number, previous):
        return b"%d after %s" % (number, previous or b"nothing")

    async with await opened(path) as one:
        assert await one.commit([Chain("c", follow), Chain("c", follow)]) == [1, 2]
    async with await opened(path) as one:
        await one.commit([Chain("c", follow)])
        await one.append("c", b"plain")
        await one.commit([Chain("c", follow)])
        assert [data for _, data in await one.records("c")] == [
            b"1 after nothing",
            b"2 after 1 after nothing",
            b"3 after 2 after 1 after nothing",
            b"plain",
            b"5 after plain",
        ]


async def test_writers_share_transactions_and_keep_their_order(path, monkeypatch):
    async with await opened(path) as one:
        batches = []
        commit = one._file.commit
        monkeypatch.setattr(one._file, "commit", lambda batch: batches.append(len(batch)) or commit(batch))
        numbers = await asyncio.gather(*(one.append("r", b"%d" % n) for n in range(MAX_BATCH + 10)))
        assert numbers == list(range(1, MAX_BATCH + 11))
        assert batches == [MAX_BATCH, 10]
        assert [data for _, data in await one.records("r")] == [b"%d" % n for n in range(MAX_BATCH + 10)]


async def test_a_cancelled_writer_disturbs_nobody(path):
    async with await opened(path) as one:
        first = asyncio.ensure_future(one.append("r", b"1"))
        second = asyncio.ensure_future(one.append("r", b"2"))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == 2
        assert len(await one.records("r")) == 2


async def test_closing_finishes_what_was_handed_in(path):
    one = await opened(path)
    waiting = [asyncio.ensure_future(one.append("r", b"x")) for _ in range(50)]
    await asyncio.sleep(0)
    await one.close()
    await one.close()
    assert await asyncio.gather(*waiting) == list(range(1, 51))
    for call in (one.append("r", b""), one.get("r", ""), one.records("r")):
        with pytest.raises(StoreUnavailable, match="closed"):
            await call


async def test_nothing_can_be_read_from_the_files(path):
    async with await opened(path) as one:
        await one.put(f"log/{CONSUMER}", f"key of {CONSUMER}", f"value of {CONSUMER}".encode())
        await one.append(f"readings/{CONSUMER}", f"reading of {CONSUMER}".encode())
        for file in path.parent.iterdir():
            assert CONSUMER.encode() not in file.read_bytes()
            assert file.stat().st_mode & 0o077 == 0, file
    assert CONSUMER.encode() not in path.read_bytes()
    assert CONSUMER not in repr(Put("k", "k", CONSUMER.encode())) + repr(Append("k", CONSUMER.encode()))


async def test_each_corrupted_byte_of_a_record_is_noticed_and_named(path):
    async with await opened(path) as one:
        for n in range(3):
            await one.append("reading", b"reading %d" % n)
        await one.put("profile", "a", b"profile")
    [(sealed,)] = sql(path, "SELECT sealed FROM record WHERE number = 2")
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 0x80
        sql(path, "UPDATE record SET sealed = ? WHERE number = 2", bytes(changed))
        async with await opened(path) as one:
            with pytest.raises(StoreCorrupt, match="reading record 2"):
                await one.records("reading")
            assert await one.records("reading", limit=1) == [(1, b"reading 0")]
            assert await one.records("reading", after=2) == [(3, b"reading 2")]
            assert len(await one.damage()) == 1
            assert await one.get("profile", "a") == b"profile"
    sql(path, "UPDATE item SET sealed = zeroblob(40)")
    async with await opened(path) as one:
        with pytest.raises(StoreCorrupt, match="profile item"):
            await one.get("profile", "a")
        with pytest.raises(StoreCorrupt, match="profile item"):
            await one.items("profile")


async def test_swapped_moved_and_missing_records_are_noticed(path):
    async with await opened(path) as one:
        for n in range(4):
            await one.append("a", b"a%d" % n)
            await one.append("b", b"b%d" % n)
            await one.put("item", str(n), b"%d" % n)
    pristine = path.read_bytes()

    async def after(statement, match, read):
        path.write_bytes(pristine)
        sql(path, statement)
        with pytest.raises(StoreCorrupt, match=match):
            async with await opened(path) as one:
                await read(one)

    swap = "UPDATE record SET sealed = (SELECT o.sealed FROM record o WHERE o.kind = 1 AND o.number = 3)"
    await after(swap, "a record 1", lambda one: one.records("a"))
    kind = (
        "UPDATE record SET sealed = (SELECT o.sealed FROM record o"
        " WHERE o.kind = 2 AND o.number = record.number)"
    )
    await after(kind, "a record 1", lambda one: one.records("a"))
    await after(
        "UPDATE record SET number = 9 WHERE number = 4", "a record 4 is missing", lambda one: one.records("a")
    )
    await after("DELETE FROM record WHERE number = 2", "a record 2 is missing", lambda one: one.records("a"))
    await after("DELETE FROM record WHERE number = 1", "a record 1 is missing", lambda one: one.records("a"))
    turn = "UPDATE item SET sealed = (SELECT sealed FROM item AS o WHERE o.id = 5 - item.id)"
    await after(turn, "item item", lambda one: one.get("item", "0"))
    await after(
        "UPDATE item SET label = zeroblob(16) WHERE id = 1", "item item", lambda one: one.items("item")
    )
    await after(
        "UPDATE kind SET sealed = zeroblob(40) WHERE id = 1", "name of kind 1", lambda one: one.kinds()
    )
    await after("DELETE FROM kind WHERE id = 2", "name of kind 2 is missing", lambda one: one.kinds())
    await after("DELETE FROM kind WHERE id = 3", "name of kind 3 is missing", lambda one: one.kinds())
    await after("DELETE FROM header", "header is missing", lambda one: one.kinds())
    await after("UPDATE header SET wrapped = zeroblob(40)", "wrapped key", lambda one: one.kinds())
    await after("UPDATE header SET curve = 'none'", "unknown curve", lambda one: one.kinds())
    await after("UPDATE header SET ephemeral = zeroblob(65)", "ephemeral point", lambda one: one.kinds())
    await after("DELETE FROM opening", "name of kind 1", lambda one: one.records("a"))
    await after("DROP TABLE record", "damaged", lambda one: one.records("a"))
    await after("PRAGMA application_id = 1", "not a partition", lambda one: one.records("a"))


async def test_a_file_of_another_partition_module_or_firmware_is_refused(path, tmp_path):
    async with await opened(path) as one:
        await one.append("a", b"1")
    shutil.copy(path, tmp_path / "consumer.db")
    with pytest.raises(StoreCorrupt, match="wrapped key"):
        await opened(tmp_path / "consumer.db", "consumer")
    with pytest.raises(StoreUnavailable, match="another security module"):
        await opened(path, module=module_of(4712))
    sql(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StoreUnavailable, match="schema"):
        await opened(path)
    sql(path, f"PRAGMA user_version = {SCHEMA_VERSION}")
    async with await opened(path) as one:  # a refusal leaves neither lock nor thread behind
        assert await one.records("a") == [(1, b"1")]


@pytest.mark.parametrize("content", [b"not a database at all" * 300, b"SQLite format 3\0" + bytes(5000)])
async def test_garbage_is_no_partition(path, content):
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt):
        await opened(path)


async def test_overwritten_pages_are_noticed_and_never_crash(path):
    async with await opened(path) as one:
        await one.commit([Append("a", b"x" * 300) for _ in range(200)])
    pristine = path.read_bytes()
    chance = random.Random(5)
    for page in range(len(pristine) // 4096):
        damaged = bytearray(pristine)
        at = page * 4096
        damaged[at : at + 4096] = chance.randbytes(4096)
        path.write_bytes(damaged)
        try:
            async with await opened(path) as one:
                found = await one.damage()
        except StoreCorrupt as corrupt:
            found = [str(corrupt)]
        assert found, f"page {page}"


async def test_a_cut_file_is_noticed(path):
    async with await opened(path) as one:
        await one.commit([Append("a", b"x" * 300) for _ in range(200)])
    pristine = path.read_bytes()
    for length in (100, 4096, 8192, 20000):
        path.write_bytes(pristine[:length])
        with pytest.raises(StoreCorrupt):
            async with await opened(path) as one:
                await one.records("a")


async def test_a_file_cut_by_one_byte_is_whole_or_noticed(path):
    """SQLite reads a missing byte as zero: one that was zero is no loss, any other is noticed."""
    async with await opened(path) as one:
        await one.commit([Append("a", b"x" * 300) for _ in range(200)])
    pristine = path.read_bytes()
    path.write_bytes(pristine[:-1])
    try:
        async with await opened(path) as one:
            noticed = await one.damage()
            whole = [] if noticed else await one.records("a")
    except StoreCorrupt:
        return
    assert noticed or [plaintext for _, plaintext in whole] == [b"x" * 300] * 200


async def test_a_restored_copy_repeats_no_nonce(path, tmp_path, monkeypatch):
    """Collects every (subkey, nonce) that is used, over openings of a file and of an older copy of it."""
    used = []

    aes_gcm = seal.AESGCM

    class Cipher:
        def __init__(self, key):
            self._key, self._cipher = bytes(key), aes_gcm(key)

        def encrypt(self, nonce, plaintext, place):
            used.append((self._key, bytes(nonce)))
            return self._cipher.encrypt(nonce, plaintext, place)

        def decrypt(self, nonce, sealed, place):
            return self._cipher.decrypt(nonce, sealed, place)

    monkeypatch.setattr(seal, "AESGCM", Cipher)

    async def write(one, count):
        for n in range(count):
            await one.commit([Append("a", b"%d" % n), Put("b", "k", b"%d" % n)])

    async with await opened(path) as one:
        await write(one, 20)
    older = path.read_bytes()
    openings = []
    for _ in range(3):
        async with await opened(path) as one:
            openings.append(one.opening)
            await write(one, 20)
        path.write_bytes(older)  # same opening number and counters again, other records
        async with await opened(path) as one:
            openings.append(one.opening)
            await write(one, 20)
            with pytest.raises(ValueError, match="roll back"):
                await one.commit([Append("a", b"lost"), Chain("a", _roll_back)])
            await write(one, 5)
    assert openings == [2] * 2 + [3, 2] + [3, 2]
    assert len(used) > 250
    assert len(set(used)) == len(used)


def _roll_back(number, previous):
    raise ValueError("roll back")


def child(what, folder):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.unit.firmware.store_child", what, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize(
    "turns", [3, pytest.param(100, marks=[pytest.mark.nightly, pytest.mark.timeout(1800)])]
)
def test_kill_at_any_moment_loses_nothing_that_was_acknowledged(path, turns):
    chance = random.Random(seed())
    records, items, entries = {}, {}, 0
    for turn in range(turns):
        writer = child("write", path.parent)
        for _ in range(chance.randrange(1, 400)):  # a random point: after so many acknowledgements
            if not writer.stdout.readline():
                break
        writer.send_signal(signal.SIGKILL)
        lines, errors = writer.communicate()
        assert errors == b"", errors.decode()
        items.clear()
        for line in lines.splitlines():
            what, *words = line.decode().split()
            if what == "record":
                records[int(words[0])] = words[1]
            elif what == "item":
                items[words[0]] = int(words[1])
            elif what == "entry":
                entries = int(words[0])
        asyncio.run(_everything_is_there(path, turn, dict(records), dict(items), entries))


async def _everything_is_there(path, turn, records, items, entries):
    async with await opened(path) as one:
        assert one.opening == 2 * (turn + 1)
        kept = dict(await one.records("reading"))
        for number, writer in records.items():
            assert kept[number] == f"writer {writer}".encode()
        profiles = dict(await one.items("profile"))
        for key, position in items.items():
            assert int(profiles[f"key {key}"]) >= position
        head = await Journal(one, LogKind.SYSTEM, CLOCK).verify()
        assert head.number >= entries
        assert await one.damage() == []


def test_a_full_disk_is_an_error_and_loses_nothing(path):
    writer = child("full", path.parent)
    lines, errors = writer.communicate(timeout=30)
    assert errors == b""
    numbers = [int(line.split()[1]) for line in lines.splitlines() if line.startswith(b"record")]
    assert b"unavailable" in lines
    assert numbers == list(range(1, len(numbers) + 1))
    assert lines.splitlines()[-1] == b"record %d" % len(numbers)

    async def read():
        async with await opened(path) as one:
            assert [number for number, _ in await one.records("reading")] == numbers

    asyncio.run(read())


async def test_a_quota_is_an_error_and_trimming_helps(path):
    async with await opened(path, quota_bytes=100_000) as one:
        count = 0
        with pytest.raises(StoreUnavailable, match="full"):  # noqa: PT012 - at which one is the disk's matter
            for _ in range(100):
                count = await one.append("a", bytes(3000))
        with pytest.raises(StoreUnavailable):
            await one.put("b", "k", bytes(9000))
        assert [number for number, _ in await one.records("a")] == list(range(1, count + 1))
        await one.commit([Trim("a", count - 2)])
        await one.put("b", "k", bytes(3000))
        assert await one.append("a", b"x") == count + 1


def test_a_read_only_folder_is_an_error():
    folder = Path(tempfile.mkdtemp(prefix="smgw-read-only-"))
    try:
        folder.chmod(0o555)
        lines, errors = child("readonly", folder).communicate(timeout=30)
        assert lines.startswith(b"unavailable"), (lines, errors)
        assert errors == b""
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


async def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(StoreUnavailable):
        await opened(tmp_path / "nowhere" / "system.db")


async def test_a_second_opener_is_refused_in_this_and_in_another_process(path):
    async with await opened(path) as one:
        with pytest.raises(StoreUnavailable, match="another process"):
            await opened(path)
        lines, _ = await asyncio.to_thread(child("second", path.parent).communicate)
        assert b"another process" in lines
        (path.parent / "system.db.lock").unlink()  # even without the lock file, SQLite's own lock holds
        lines, _ = await asyncio.to_thread(child("second", path.parent).communicate)
        assert b"locked" in lines
        assert await one.append("a", b"1") == 1


async def test_a_module_that_fails_leaves_no_half_partition(path):
    module = module_of()
    module.faults["random"] = ModuleUnavailable("gone")
    with pytest.raises(ModuleUnavailable):
        await opened(path, module=module)
    del module.faults["random"]
    async with await opened(path, module=module) as one:
        await one.append("a", b"1")
    module.faults["agree"] = ModuleUnavailable("gone")
    with pytest.raises(ModuleUnavailable):
        await opened(path, module=module)
    del module.faults["agree"]
    async with await opened(path, module=module) as one:
        assert await one.records("a") == [(1, b"1")]
