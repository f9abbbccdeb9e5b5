"""Keys of the stores are changed without losing a record; rows put back are noticed; a consumer's data go."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import suppress

import pytest

from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.store.operations import Append, Chain, Forget, KeepNewest, Put, Sift, Trim
from firmware.store.partition import Partition
from firmware.store.stores import Stores
from hsm.api import Curve, KeySlot
from hsm.errors import CommandRefused, ModuleUnavailable
from tests.support.soft_module import SoftModule
from tests.unit.firmware.fixed_module import module_of


@pytest.fixture
def path(tmp_path):
    return tmp_path / "consumer.db"


def sql(path, statement, *arguments):
    with sqlite3.connect(path) as db:
        rows = db.execute(statement, arguments).fetchall()
    db.close()
    return rows


async def fill(one, count=30):
    for n in range(count):
        await one.commit([Append("list", b"record %d" % n), Put("item", f"key {n}", b"item %d" % n)])
    await one.commit([Trim("list", 5)])


async def check(one, count=30):
    assert await one.records("list") == [(n + 1, b"record %d" % n) for n in range(5, count)]
    assert await one.items("item") == [(f"key {n}", b"item %d" % n) for n in range(count)]
    assert await one.get("item", "key 7") == b"item 7"
    assert await one.damage() == []


def sealed_bytes(path):
    """Everything that only the old key made: sealed rows, labels, salts, wrapped keys."""
    found = [
        bytes(row[0])
        for table in ("record", "item", "kind")
        for row in sql(path, f"SELECT sealed FROM {table}")
    ]
    found += [bytes(row[0]) for row in sql(path, "SELECT label FROM item")]
    found += [bytes(row[0]) for row in sql(path, "SELECT salt FROM opening")]
    return found + [bytes(row[0]) for row in sql(path, "SELECT wrapped FROM header")]


def on_disk(folder):
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


async def test_a_new_partition_key_keeps_every_record_and_leaves_no_byte_of_the_old(path):
    module = module_of()
    async with await Partition.open(path, "consumer", module) as one:
        await fill(one)
    old = sealed_bytes(path)
    async with await Partition.open(path, "consumer", module) as one:
        assert await one.change_key(module) == 25 + 30 + 2
        await check(one)
        await one.put("item", "after", b"x")
        await one.delete("item", "after")
        files = on_disk(path.parent)
        assert not [piece for piece in old if piece in files]
    async with await Partition.open(path, "consumer", module) as one:
        await check(one)
        assert await one.append("list", b"next") == 31


async def test_a_key_change_that_fails_changes_nothing(path, monkeypatch):
    module = module_of()
    async with await Partition.open(path, "consumer", module) as one:
        await fill(one)
        for operation in ("random", "public_key", "generate_ephemeral", "agree_ephemeral"):
            module.faults[operation] = ModuleUnavailable("gone")
            with pytest.raises(ModuleUnavailable):
                await one.change_key(module)
            module.faults.clear()
            await check(one)
        file = one._file

        def full(*_):
            raise sqlite3.OperationalError("database or disk is full")

        for step in ("_reseal_items", "_replace_header"):
            with monkeypatch.context() as patch:
                patch.setattr(file, step, full)
                with pytest.raises((StoreUnavailable, StoreCorrupt)):
                    await one.change_key(module)
            one.fault = None
            await check(one)
            await one.put("item", "key 0", b"item 0")
        with monkeypatch.context() as patch:  # done, and only the tidying failed
            patch.setattr(file, "_truncate_log", full)
            with pytest.raises((StoreUnavailable, StoreCorrupt)):
                await one.change_key(module)
        one.fault = None
        await check(one)
    async with await Partition.open(path, "consumer", module) as one:
        await check(one)


async def test_a_key_change_refuses_a_damaged_file(path):
    module = module_of()
    async with await Partition.open(path, "consumer", module) as one:
        await fill(one)
    [(number, sealed)] = sql(path, "SELECT number, sealed FROM record ORDER BY number LIMIT 1")
    sql(path, "UPDATE record SET sealed = ? WHERE number = ?", bytes([255]) + sealed[1:], number)
    async with await Partition.open(path, "consumer", module) as one:
        with pytest.raises(StoreCorrupt, match="record 6"):
            await one.change_key(module)
        assert await one.get("item", "key 3") == b"item 3"


async def test_all_keys_of_the_stores_change_and_older_copies_are_noticed(tmp_path):
    module, state = SoftModule(), tmp_path / "state"
    async with await Stores.open(state, module) as stores:
        await fill(stores.consumer)
        shutil.copytree(state, tmp_path / "copy")
        assert await stores.change_keys() > 50
        await check(stores.consumer)
    shutil.copy(tmp_path / "copy" / "consumer.db", state)
    with pytest.raises(StoreCorrupt):
        await Stores.open(state, module)


class StoppingModule(SoftModule):
    """Stops for good after so many calls, like a gateway that is killed between two of them."""

    def __init__(self):
        super().__init__()
        self.left = None

    async def _turn(self, operation):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise ModuleUnavailable("killed")
        await super()._turn(operation)


async def test_the_store_key_changes_and_a_stop_at_any_point_loses_nothing(tmp_path):
    module, stopped = StoppingModule(), 0
    async with await Stores.open(tmp_path, module) as stores:
        await fill(stores.consumer)
    for step in range(0, 60, 3):
        before = module.keys[KeySlot.STORE]
        stores = await Stores.open(tmp_path, module)
        module.left = step
        try:
            await stores.change_store_key()
        except ModuleUnavailable:
            stopped += 1
        else:
            assert module.keys[KeySlot.STORE] is not before
            break
        finally:
            module.left = 0  # nor does closing reach it
            await stores.close()
            module.left = None
        async with await Stores.open(tmp_path, module) as stores:
            await check(stores.consumer)
            assert set(module.keys) == {KeySlot.STORE}  # no bridge is left behind
        for name in ("system", "consumer", "calibration"):
            assert len(sql(tmp_path / f"{name}.db", "SELECT slot FROM header")) == 1
    else:
        pytest.fail("the change never came to its end")
    assert stopped > 5
    async with await Stores.open(tmp_path, module) as stores:
        await check(stores.consumer)


async def test_a_store_key_that_the_module_refuses_to_replace_stays(tmp_path):
    module = SoftModule()
    async with await Stores.open(tmp_path, module) as stores:
        await fill(stores.consumer)
        make = module.generate_key_pair

        async def refuse(slot, curve):
            if slot is KeySlot.STORE:
                raise CommandRefused("GENERATE KEY PAIR", 0x6982)
            return await make(slot, curve)

        module.generate_key_pair = refuse
        with pytest.raises(CommandRefused):
            await stores.change_store_key()
        del module.generate_key_pair
    assert set(module.keys) == {KeySlot.STORE}
    async with await Stores.open(tmp_path, module) as stores:
        await check(stores.consumer)
        for slot in KeySlot:
            if "DCNET" in slot.name:
                await module.generate_key_pair(slot, Curve.BRAINPOOL_P256)
        with pytest.raises(StoreUnavailable, match="free slot"):
            await stores.change_store_key()


# ------------------------------------------------------------------ single rows


@pytest.mark.parametrize(
    "what",
    [
        "UPDATE item SET sealed = ? WHERE id = 3",
        "DELETE FROM item WHERE id = 3",
        "DELETE FROM record WHERE number = (SELECT max(number) FROM record)",
        "DELETE FROM record",
        "DELETE FROM item",
    ],
)
async def test_a_row_put_back_or_removed_is_noticed_and_nothing_is_written_after(path, what):
    """Each of these rows opens on its own: only the tally tells. E.g. a meter's counter put back."""
    module = module_of()
    async with await Partition.open(path, "consumer", module) as one:
        await fill(one)
    [(old,)] = sql(path, "SELECT sealed FROM item WHERE id = 3")
    async with await Partition.open(path, "consumer", module) as one:
        await one.put("item", "key 2", b"newer")
    sql(path, what, *([old] if "?" in what else []))
    async with await Partition.open(path, "consumer", module) as one:
        assert one.fault is not None
        with pytest.raises(StoreCorrupt, match="takes no more"):
            await one.put("item", "key 1", b"x")
        with suppress(StoreCorrupt):  # it is there, or nobody says that it is not
            assert await one.get("item", "key 2") in {b"item 2", b"newer"}
        assert await one.damage() != []
    async with await Partition.open(path, "consumer", module, goes_on=True) as one:
        await one.put("item", "log", b"x")  # the system partition's log must tell
        assert one.fault is not None
    async with await Partition.open(path, "consumer", module) as one:
        assert one.fault is not None  # writing on healed nothing


async def test_the_tally_follows_every_operation(path):
    module = module_of()
    async with await Partition.open(path, "consumer", module) as one:
        steps = (
            [Append("a", b"1"), Append("a", b"2"), Append("a", b"3")],
            [Put("i", "k", b"1"), Put("i", "k", b"2"), Put("i", "l", b"3"), Put("i", "m", b"3")],
            [Trim("a", 1), KeepNewest("i", 2), Chain("c", lambda number, _: b"%d" % number)],
            [Sift("a", lambda plaintext: plaintext == b"3"), Forget("c"), Forget("nothing")],
            [Sift("a", lambda _: False), Sift("nothing", lambda _: True), Append("a", b"4")],
            [Forget("i"), Forget("a"), Put("i", "k", b"1")],
        )
        for operations in steps:
            await one.commit(operations)
            assert await one.damage() == []
        with pytest.raises(ZeroDivisionError):
            await one.commit([Put("i", "k", b"2"), Forget("i"), Chain("c", lambda number, _: bytes(1 // 0))])
        assert await one.damage() == []
        assert await one.items("i") == [("k", b"1")]


async def test_sifting_keeps_what_is_wanted_under_new_numbers(path):
    async with await Partition.open(path, "consumer", module_of()) as one:
        for n in range(6):
            await one.append("a", b"%d" % n)
        assert await one.commit([Sift("a", lambda plaintext: int(plaintext) % 2 == 0)]) == [3]
        assert await one.records("a") == [(7, b"0"), (8, b"2"), (9, b"4")]
        assert await one.commit([Sift("a", lambda _: True)]) == [0]
        assert await one.span("a") == (7, 9)
        assert await one.commit([Forget("a")]) == [4]
        assert await one.append("a", b"new") == 1
