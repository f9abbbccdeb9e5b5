"""The three partitions together and what the parts keep in them: FPT_RPL.1, FDP_SDI.2."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.store import outbox as outbox_module
from firmware.store import stores as stores_module
from firmware.store.operations import Put
from firmware.store.outbox import SealedOutbox
from firmware.store.partition import Partition
from firmware.store.stores import MeterCounters, ProfileArchive, ReplayMemory, Stores
from hsm.api import KeySlot
from hsm.errors import CommandRefused, ModuleUnavailable
from lmn.model import MeterId
from lmn.ports import MeterAccess, ReceptionMode
from tests.support.soft_module import SoftModule
from tests.unit.firmware.fixed_module import module_of
from wan.ports import Receipt

NOW = datetime(2026, 1, 1, tzinfo=UTC)
METER = MeterId.from_text("ELS-12345678-33-03")
ACCESS = MeterAccess(METER, bytes(16), ReceptionMode.STRICT)


@pytest.fixture
async def partition(tmp_path):
    async with await Partition.open(tmp_path / "consumer.db", "consumer", module_of()) as one:
        yield one


async def test_the_first_start_makes_key_and_partitions_and_the_second_finds_them(tmp_path):
    module = SoftModule()
    async with await Stores.open(tmp_path / "a" / "state", module) as stores:
        await stores.consumer.put("a", "b", b"c")
        assert {stores.system.name, stores.consumer.name, stores.calibration.name} == set(
            stores_module.PARTITIONS
        )
    assert module.counts["generate_key_pair"] == 1
    async with await Stores.open(tmp_path / "a" / "state", module) as stores:
        assert await stores.consumer.get("a", "b") == b"c"
    assert module.counts["generate_key_pair"] == 1
    assert (tmp_path / "a" / "state").stat().st_mode & 0o077 == 0


async def test_an_empty_module_never_gets_a_key_beside_old_partitions(tmp_path):
    async with await Stores.open(tmp_path, SoftModule()):
        pass
    empty = SoftModule()
    with pytest.raises(StoreUnavailable, match="STORE key"):
        await Stores.open(tmp_path, empty)
    assert KeySlot.STORE not in empty.keys


@pytest.mark.parametrize("name", stores_module.PARTITIONS)
async def test_a_partition_that_vanished_is_not_silently_begun_again(tmp_path, name):
    module = SoftModule()
    async with await Stores.open(tmp_path, module):
        pass
    (tmp_path / f"{name}.db").unlink()
    with pytest.raises(StoreCorrupt, match=f"{name} is missing"):
        await Stores.open(tmp_path, module)
    assert not (tmp_path / f"{name}.db").exists()


async def test_a_first_start_that_was_cut_short_goes_on(tmp_path):
    module = module_of()
    async with await Partition.open(tmp_path / "system.db", "system", module):
        pass
    async with await Stores.open(tmp_path, module) as stores:
        assert stores.system.opening == 2


async def test_a_module_error_is_passed_on_and_nothing_stays_locked(tmp_path):
    module = SoftModule()
    module.faults["public_key"] = CommandRefused("key", 0x6982)
    with pytest.raises(CommandRefused):
        await Stores.open(tmp_path, module)
    del module.faults["public_key"]
    module.faults["agree_ephemeral"] = ModuleUnavailable("gone")
    with pytest.raises(ModuleUnavailable):
        await Stores.open(tmp_path, module)
    del module.faults["agree_ephemeral"]
    async with await Stores.open(tmp_path, module):
        with pytest.raises(StoreUnavailable, match="another process"):
            await Stores.open(tmp_path, module)


async def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable):
        await Stores.open(tmp_path / "file" / "state", SoftModule())


async def test_the_outbox_keeps_what_waits_and_takes_each_id_once(partition):
    outbox = SealedOutbox(partition)
    await outbox.put("m1", "emp", b"first")
    await outbox.put("m2", "gwa", b"second")
    await outbox.put("m1", "emp", b"again")
    await outbox.put("m3", "emp", b"third")
    assert list(await outbox.pending("emp")) == [("m1", b"first"), ("m3", b"third")]
    await outbox.delivered("m1")
    await outbox.delivered("m1")
    await outbox.put("m1", "emp", b"late")
    assert list(await outbox.pending("emp")) == [("m3", b"third")]
    assert list(await outbox.pending("gwa")) == [("m2", b"second")]
    assert list(await outbox.pending("nobody")) == []
    await partition.put("outbox", "m9", b"\xc1 no message")
    with pytest.raises(StoreCorrupt, match="outbox"):
        await outbox.pending("emp")


async def test_ids_of_delivered_messages_do_not_grow_for_ever(partition, monkeypatch):
    monkeypatch.setattr(outbox_module, "_KEPT_DELIVERED", 3)
    outbox = SealedOutbox(partition)
    for n in range(10):
        await outbox.put(f"m{n}", "emp", b"")
        await outbox.delivered(f"m{n}")
    assert [key for key, _ in await partition.items("outbox.delivered")] == ["m7", "m8", "m9"]


async def test_a_counter_is_durable_together_with_its_reading(partition):
    counters = await MeterCounters.load(partition)
    assert counters.last(ACCESS) is None
    counters.advance(ACCESS, 7)
    assert counters.last(ACCESS) == 7
    assert (await MeterCounters.load(partition)).last(ACCESS) is None
    assert await counters.commit([Put("reading", "r", b"x")]) == [1]
    assert (await MeterCounters.load(partition)).last(ACCESS) == 7
    assert counters.operations() == []
    assert await partition.get("reading", "r") == b"x"


@pytest.mark.parametrize("counter", [7, 6, 0, -1])
async def test_a_counter_only_rises(partition, counter):
    counters = await MeterCounters.load(partition)
    counters.advance(ACCESS, 7)
    with pytest.raises(ValueError, match="rises"):
        counters.advance(ACCESS, counter)
    assert counters.last(ACCESS) == 7


async def test_another_key_has_another_counter_and_no_key_shows(partition):
    counters = await MeterCounters.load(partition)
    key = bytes(range(16))
    counters.advance(ACCESS, 7)
    assert counters.last(MeterAccess(METER, key, ReceptionMode.STRICT)) is None
    assert counters.last(MeterAccess(METER, None, ReceptionMode.OPEN)) is None
    counters.advance(MeterAccess(METER, key, ReceptionMode.STRICT), 1)
    await counters.commit()
    assert not any(key.hex() in name for name, _ in await partition.items("counter"))


async def test_a_failed_commit_keeps_the_counters_for_the_next(partition, monkeypatch):
    counters = await MeterCounters.load(partition)
    counters.advance(ACCESS, 7)
    with monkeypatch.context() as patch:

        def full(_):
            raise StoreUnavailable("full")

        patch.setattr(partition._file, "commit", full)
        with pytest.raises(StoreUnavailable):
            await counters.commit()
    assert counters.last(ACCESS) == 7  # memory never goes back
    assert len(counters.operations()) == 1
    await counters.commit()
    assert (await MeterCounters.load(partition)).last(ACCESS) == 7


async def test_an_order_has_one_receipt_for_ever(partition):
    memory = ReplayMemory(partition)
    first = Receipt("o1", True, "applied", "")
    assert await memory.receipt("o1") is None
    await memory.note(first)
    await memory.note(Receipt("o1", False, "other", "late"))
    assert await ReplayMemory(partition).receipt("o1") == first
    await partition.put("receipt", "o2", msgspec.msgpack.encode(["no", "receipt"]))
    with pytest.raises(StoreCorrupt, match="receipt"):
        await memory.receipt("o2")


async def test_profiles_are_replaced_in_one_step_with_their_receipt(partition):
    archive, memory = ProfileArchive(partition), ReplayMemory(partition)
    assert await archive.active() is None is await archive.previous()
    await archive.replace(b"one", memory.operation(Receipt("o1", True, "applied", "")))
    await archive.replace(b"two")
    assert (await archive.active(), await archive.previous()) == (b"two", b"one")
    assert await memory.receipt("o1") is not None
