"""A file of every older schema version opens with all it holds; one of a newer version is refused by name."""

from __future__ import annotations

import sqlite3

import pytest

from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.store.exchange import PARTITIONS
from firmware.store.partition import Partition
from firmware.store.schema import SCHEMA_VERSION
from firmware.store.stores import Stores
from tests.unit.firmware.fixed_module import module_of
from tests.unit.firmware.older_files import VERSIONS

LISTS = {"reading": [b"reading %d" % number for number in range(50)]}
ITEMS = {"profiles": {"active": b"document"}, "stores": {"complete": b""}}


def version_of(path):
    with sqlite3.connect(path) as db:
        (number,) = db.execute("PRAGMA user_version").fetchone()
    db.close()
    return number


def test_every_older_version_has_a_builder():
    assert sorted(VERSIONS) == list(range(1, SCHEMA_VERSION))


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_older_file_is_brought_up_to_date_with_all_it_holds(tmp_path, version):
    module, path = module_of(), tmp_path / "system.db"
    await VERSIONS[version](path, "system", module, LISTS, ITEMS)
    assert version_of(path) == version
    for turn in range(2):
        async with await Partition.open(path, "system", module, anybodys=turn == 0) as one:
            assert one.fault is None
            assert [plaintext for _, plaintext in await one.records("reading")][:50] == LISTS["reading"]
            assert await one.get("profiles", "active") == b"document"
            assert await one.append("reading", b"more") == 51 + turn
            assert await one.damage() == []
        assert version_of(path) == SCHEMA_VERSION


@pytest.mark.parametrize("version", VERSIONS)
async def test_older_stores_are_bound_to_the_counter_from_then_on(tmp_path, version):
    module, state = module_of(), tmp_path / "state"
    state.mkdir()
    for name in PARTITIONS:
        await VERSIONS[version](state / f"{name}.db", name, module, LISTS, ITEMS)
    older = {name: (state / f"{name}.db").read_bytes() for name in PARTITIONS}
    async with await Stores.open(state, module, accept=True) as stores:
        assert len(await stores.consumer.records("reading")) == 50
    for name in PARTITIONS:  # the files of before the migration are older copies now, and noticed
        (state / f"{name}.db").write_bytes(older[name])
    with pytest.raises(StoreUnavailable, match="keep-as-they-are"):  # by their form already
        await Stores.open(state, module)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_migration_that_fails_leaves_the_older_file(tmp_path, version):
    module, path = module_of(), tmp_path / "system.db"
    await VERSIONS[version](path, "system", module, LISTS, ITEMS)
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE record ADD COLUMN ends BLOB")  # in the way of the last step
    db.close()
    with pytest.raises(StoreCorrupt, match="damaged"):
        await Partition.open(path, "system", module)
    assert version_of(path) == version
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE record DROP COLUMN ends")
    db.close()
    async with await Partition.open(path, "system", module, anybodys=True) as one:
        assert len(await one.records("reading")) == 50


async def test_a_newer_file_is_refused_by_name_and_left_as_it_is(tmp_path):
    module, path = module_of(), tmp_path / "system.db"
    async with await Partition.open(path, "system", module) as one:
        await one.append("a", b"1")
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match=rf"schema {SCHEMA_VERSION + 1}.*knows {SCHEMA_VERSION}"):
        await Partition.open(path, "system", module)
    assert path.read_bytes() == before
