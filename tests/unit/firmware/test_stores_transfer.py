"""Backup and restore: sealed, checked before anything is replaced, whole after a kill, told in the logs."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import tarfile
from datetime import UTC, datetime

import pytest

from firmware import transfer
from firmware.clock.clock import AdjustableClock
from firmware.enforcement.dcnet.slot.ledger import Ledger
from firmware.errors import StoreCorrupt, StoreRolledBack, StoreUnavailable
from firmware.log.entry import Event
from firmware.log.journal import Logs
from firmware.store import exchange
from firmware.store.exchange import PARTITIONS
from firmware.store.stores import Stores
from firmware.transfer import BackupRefused, backup, keep_as_they_are, look, restore
from tests.support.soft_module import SoftModule

CLOCK = AdjustableClock(datetime(2026, 1, 1, tzinfo=UTC))
GATEWAY = "ESGW0100000001"


def quiet(step, done, of):
    assert step
    assert 0 <= done <= of


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def module():
    return SoftModule()


@pytest.fixture
async def archive(tmp_path, state, module):
    async with await Stores.open(state, module) as stores:
        logs = Logs(stores, CLOCK)
        await logs.system.write(Event.BOOT)
        await logs.consumer("anna").write(Event.DATA_RELEASED)
        for n in range(50):
            await stores.consumer.append("reading", b"secret reading %d" % n)
        await stores.system.put("profiles", "active", b"the first")
    backup(state, GATEWAY, tmp_path / "one.backup", quiet)
    return tmp_path / "one.backup"


def put_back(state, module, source, **options):
    return restore(state, module, CLOCK, options.pop("gateway", GATEWAY), source, quiet, **options)


async def later(state, module):
    async with await Stores.open(state, module) as stores:
        await stores.system.put("profiles", "active", b"the second")


async def active(state, module):
    async with await Stores.open(state, module) as stores:
        assert stores.faults() == []
        return await stores.system.get("profiles", "active")


async def test_a_backup_is_put_back_and_the_logs_tell(state, module, archive):
    assert archive.stat().st_mode & 0o077 == 0
    assert b"secret" not in archive.read_bytes()
    assert b"anna" not in archive.read_bytes()
    await later(state, module)
    with pytest.raises(BackupRefused, match="--replace"):
        await put_back(state, module, archive)
    done = await put_back(state, module, archive, replace=True)
    assert done.rows >= 50
    assert {path.name for path in done.kept.iterdir()} == {f"{name}.db" for name in PARTITIONS}
    assert sorted(path.name for path in state.iterdir() if path.is_dir()) == ["replaced-1"]
    async with await Stores.open(state, module) as stores:
        assert await stores.system.get("profiles", "active") == b"the first"
        assert len(await stores.consumer.records("reading")) == 50
        ledger = Ledger(stores.consumer, bytes(8), lambda instant: int(instant.timestamp()))
        await ledger.load()  # no slot that ran before the restore is begun again
        put_back_at = int(CLOCK.now_utc().timestamp())
        assert [ledger.is_past(slot) for slot in (put_back_at - 1, put_back_at)] == [True, False]
        logs = Logs(stores, CLOCK)
        for journal in (logs.system, logs.calibration, logs.consumer("anna")):
            await journal.verify()
            [told] = [one for one in await journal.entries() if one.event is Event.STORE_RESTORED]
            assert told.sub_event == "backup"
    for name in PARTITIONS:  # what was replaced is an older copy from now on
        shutil.copy(done.kept / f"{name}.db", state)
    with pytest.raises(StoreRolledBack):
        await Stores.open(state, module)


async def test_a_backup_moves_to_a_new_card(tmp_path, module, archive):
    done = await put_back(tmp_path / "new card" / "state", module, archive)
    assert done.kept is None
    assert await active(tmp_path / "new card" / "state", module) == b"the first"


async def test_a_backup_is_refused_with_another_module_or_gateway(tmp_path, archive):
    other = SoftModule()
    async with await Stores.open(tmp_path / "other", other):
        pass
    with pytest.raises(StoreUnavailable, match="another security module"):
        await put_back(tmp_path / "x", other, archive)
    with pytest.raises(BackupRefused, match="of gateway"):
        await put_back(tmp_path / "x", SoftModule(), archive, gateway="ESGW0100000002")
    assert not list((tmp_path / "x").glob("*.db"))


async def test_a_running_gateway_is_left_alone(tmp_path, state, module, archive):
    async with await Stores.open(state, module):
        with pytest.raises(StoreUnavailable, match="another process"):
            backup(state, GATEWAY, tmp_path / "two", quiet)
        with pytest.raises(StoreUnavailable, match="another process"):
            await put_back(state, module, archive, replace=True)
        with pytest.raises(StoreUnavailable, match="another process"):
            await look(state, module, quiet)
    assert not (tmp_path / "two").exists()
    assert await active(state, module) == b"the first"


async def test_a_backup_overwrites_nothing(tmp_path, state, archive):
    before = archive.read_bytes()
    with pytest.raises(BackupRefused, match="exists"):
        backup(state, GATEWAY, archive, quiet)
    assert archive.read_bytes() == before
    with pytest.raises(BackupRefused, match="no stores"):
        backup(tmp_path / "nowhere", GATEWAY, tmp_path / "two", quiet)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.backup", "state"]


async def test_a_backup_after_a_kill_holds_what_was_acknowledged(tmp_path, state, module, archive):
    stores = await Stores.open(state, module)
    await stores.consumer.append("reading", b"the last one")
    copy = tmp_path / "dead"
    shutil.copytree(state, copy)  # with its write-ahead log, as a kill leaves it
    await stores.close()
    assert (copy / "consumer.db-wal").stat().st_size > 0
    backup(copy, GATEWAY, tmp_path / "two", quiet)
    await put_back(tmp_path / "new", module, tmp_path / "two")
    async with await Stores.open(tmp_path / "new", module) as stores:
        assert (await stores.consumer.records("reading"))[-1] == (51, b"the last one")


def repacked(source, target, change):
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for entry in old.getmembers():
            data = change(entry.name, old.extractfile(entry).read())
            if data is not None:
                entry.size = len(data)
                new.addfile(entry, io.BytesIO(data))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda name, data: None if name == "consumer.db" else data, "missing"),
        (lambda name, data: None if name.endswith("json") else data, "no backup"),
        (lambda name, data: data[:-1] + b"\1" if name == "system.db" else data, "damaged"),
        (lambda name, data: data[:-4096] if name == "system.db" else data, "damaged"),
        (lambda name, data: data + b"\0" if name == "system.db" else data, "damaged"),
        (lambda name, data: edited(name, data, format=2), "format"),
        (lambda name, data: edited(name, data, schema=99), "schema"),
        (lambda name, data: edited(name, data, partitions={}), "three partitions"),
        (lambda name, data: b"[" if name.endswith("json") else data, "no backup"),
    ],
)
async def test_a_changed_archive_is_refused_before_anything_happens(
    tmp_path, state, module, archive, change, words
):
    repacked(archive, tmp_path / "changed", change)
    await later(state, module)
    with pytest.raises(BackupRefused, match=words):
        await put_back(state, module, tmp_path / "changed", replace=True)
    assert await active(state, module) == b"the second"
    assert not [path for path in state.iterdir() if path.is_dir()]


def edited(name, data, **values):
    return json.dumps({**json.loads(data), **values}).encode() if name.endswith("json") else data


@pytest.mark.parametrize("length", [0, 1, 511, 512, 5000, 30000])
async def test_a_cut_archive_is_refused(tmp_path, module, archive, length):
    (tmp_path / "cut").write_bytes(archive.read_bytes()[:length])
    with pytest.raises(BackupRefused):
        await put_back(tmp_path / "x", module, tmp_path / "cut")


def with_extended_header(kind, content):
    """Return a member that says something about the next one."""
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = kind, len(content)
    return entry.tobuf(tarfile.USTAR_FORMAT) + content.ljust(-(-len(content) // 512) * 512, b"\0")


@pytest.mark.parametrize(
    "hostile",
    [
        with_extended_header(tarfile.XHDTYPE, b"23 GNU.sparse.size=abc\n"),
        with_extended_header(tarfile.XHDTYPE, b"25 GNU.sparse.map=1,2,ab\n"),
        with_extended_header(tarfile.XHDTYPE, b"0" * 1_000_000),  # hours in the library of Python 3.11.2
        with_extended_header(tarfile.GNUTYPE_LONGNAME, b"smgw-backup.json\0"),
        with_extended_header(tarfile.SYMTYPE, b""),
        with_extended_header(tarfile.GNUTYPE_SPARSE, b""),
    ],
    ids=["sparse-size", "sparse-map", "digits", "long-name", "link", "sparse"],
)
async def test_an_archive_with_other_headers_than_ours_is_refused(tmp_path, state, module, archive, hostile):
    (tmp_path / "hostile").write_bytes(hostile + archive.read_bytes())
    with pytest.raises(BackupRefused, match="no backup"):
        await put_back(tmp_path / "x", module, tmp_path / "hostile")


async def test_a_manifest_that_is_no_text_is_refused(tmp_path, module, archive):
    text = b'{"format":1,"gateway":"\xff"}'
    repacked(archive, tmp_path / "x", lambda name, data: text if name.endswith("json") else data)
    with pytest.raises(BackupRefused, match="no backup"):
        await put_back(tmp_path / "new", module, tmp_path / "x")


async def test_a_backup_follows_no_link_that_somebody_laid(tmp_path, state, archive):
    (tmp_path / "two.part").symlink_to(tmp_path / "precious")
    (tmp_path / "precious").write_text("mine")
    backup(state, GATEWAY, tmp_path / "two", quiet)
    assert (tmp_path / "precious").read_text() == "mine"
    assert tarfile.is_tarfile(tmp_path / "two")
    assert not (tmp_path / "two").is_symlink()


async def test_an_archive_with_a_row_put_back_or_of_mixed_times_is_refused(tmp_path, state, module, archive):
    """Its own digests are right: only what the module seals tells."""
    folder = tmp_path / "forged"
    for what in ("DELETE FROM record WHERE number <= 50", None):
        folder.mkdir()
        for name in PARTITIONS:
            shutil.copy(state / f"{name}.db", folder)
        if what is None:
            async with await Stores.open(state, module):
                pass
            shutil.copy(state / "system.db", folder)
        else:
            with sqlite3.connect(folder / "consumer.db") as db:
                db.execute(what)
            db.close()
        backup(folder, GATEWAY, folder / "archive", quiet)
        with pytest.raises(StoreCorrupt, match=r"damaged|one time"):
            await put_back(tmp_path / "x", module, folder / "archive")
        shutil.rmtree(folder)


class Cut(BaseException):
    """The power went."""


async def test_a_kill_at_any_step_leaves_the_old_stores_or_the_new(tmp_path, module, archive, monkeypatch):
    """Cuts the restore before each of its moves in the file system, and before the counter's."""
    seen = set()
    for step in range(0, 40, 2):
        state, left = tmp_path / f"state {step}", step
        shutil.copytree(tmp_path / "state", state)
        async with await Stores.open(state, module, accept=True) as stores:
            await stores.system.put("profiles", "active", b"the second")
            # With a write-ahead log left over from a kill: it must not be played into the new file.
            wal = {name: (state / f"{name}.db-wal").read_bytes() for name in PARTITIONS}
            main = {name: (state / f"{name}.db").read_bytes() for name in PARTITIONS}
        for name in PARTITIONS:
            (state / f"{name}.db-wal").write_bytes(wal[name])
            (state / f"{name}.db").write_bytes(main[name])
        module.count -= 1  # the close that this kill prevented

        def before(function):
            def cutting(*arguments, **options):
                nonlocal left
                if not left:
                    raise Cut
                left -= 1
                return function(*arguments, **options)

            return cutting

        path = type(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(path, "rename", before(path.rename))
            patch.setattr(path, "replace", before(path.replace))
            patch.setattr(exchange, "sync_folder", before(exchange.sync_folder))
            patch.setattr(shutil, "rmtree", before(shutil.rmtree))
            patch.setattr(transfer.Anchor, "complete", before(transfer.Anchor.complete))
            try:
                await put_back(state, module, archive, replace=True)
            except Cut:
                done = False
            else:
                done = True
        found = await active(state, module)
        seen.add(found)
        assert found in {b"the first", b"the second"}
        assert not list(state.glob("restore.ready*"))
        if done:
            assert found == b"the first"
            break
    else:
        pytest.fail("the restore never came to its end")
    assert seen == {b"the first", b"the second"}
    assert step > 10


async def test_files_can_be_kept_as_they_are(tmp_path, state, module, archive):
    shutil.copytree(state, tmp_path / "copy")
    await later(state, module)
    for name in PARTITIONS:
        shutil.copy(tmp_path / "copy" / f"{name}.db", state)
    with pytest.raises(StoreRolledBack):
        await Stores.open(state, module)
    await keep_as_they_are(state, module, CLOCK)
    async with await Stores.open(state, module) as stores:
        entries = await Logs(stores, CLOCK).system.entries()
        assert entries[-1].event is Event.STORE_RESTORED
        assert entries[-1].sub_event == "as-they-are"


async def test_a_look_changes_nothing_and_names_what_is_left(tmp_path, state, module, archive):
    with sqlite3.connect(state / "consumer.db") as db:
        for kind, sealed in db.execute("SELECT kind, sealed FROM record WHERE number = 1").fetchall():
            broken = bytes([255]) + sealed[1:]
            db.execute("UPDATE record SET sealed = ? WHERE kind = ? AND number = 1", (broken, kind))
        db.execute("UPDATE kind SET sealed = zeroblob(60) WHERE id = 1")
    db.close()
    (state / "calibration.db").write_bytes(b"no database" * 1000)
    before = {path.name: path.read_bytes() for path in state.iterdir()}
    counter, found = await look(state, module, quiet)
    assert counter == module.count
    assert {path.name: path.read_bytes() for path in state.iterdir()} == before
    system, consumer, calibration = found
    assert (system.error, system.epoch) == ("", counter)
    assert {kind.kind for kind in system.kinds} >= {"log/system", "profiles"}
    assert consumer.error
    [reading] = [kind for kind in consumer.kinds if kind.kind == "reading"]
    assert reading.rows == 49
    assert "reading record 1" in reading.faults[0]
    assert "log/consumer/anna" not in {kind.kind for kind in consumer.kinds}  # its name is lost
    assert calibration.error
    assert calibration.kinds == ()
