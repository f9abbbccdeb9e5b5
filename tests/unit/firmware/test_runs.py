"""Records that share a row: nothing but their place on the disk is shared. FDP_SDI.2."""

from __future__ import annotations

import random
import sqlite3

import pytest

from firmware.errors import StoreCorrupt
from firmware.store.operations import Append, Trim
from firmware.store.partition import Partition
from firmware.store.runs import FULL_RUN_BYTES, SMALL_RUN_BYTES, length, pack, split_row
from tests.unit.firmware.fixed_module import module_of


@pytest.fixture
def path(tmp_path):
    return tmp_path / "consumer.db"


def opened(path):
    return Partition.open(path, "consumer", module_of())


def sql(path, statement, *arguments):
    with sqlite3.connect(path) as db:
        rows = db.execute(statement, arguments).fetchall()
    db.close()
    return rows


@pytest.mark.parametrize("seed", range(30))
def test_packing_keeps_every_record_under_its_number_and_within_a_page(seed):
    chance = random.Random(seed)
    records = [
        chance.randbytes(chance.choice([28, 40, 116, 700, 1500, 6000])) for _ in range(chance.randrange(200))
    ]
    rows = list(pack(7, records))
    found = [one for row in rows for one in split_row(*row)]
    assert found == list(enumerate(records, 7))
    for row in rows:
        _, sealed, ends = row
        assert length(ends) == len(split_row(*row))
        if ends is not None:
            assert len(sealed) + len(ends) <= FULL_RUN_BYTES
    small = list(pack(1, [bytes(100)] * 20))
    assert all(len(sealed) <= SMALL_RUN_BYTES for _, sealed, _ in small)
    assert len(small) < 5


@pytest.mark.parametrize(
    "ends",
    [
        b"",
        b"\0",
        b"\0\x05",
        b"\0\x0b",
        b"\0\x05\0\x05\0\x0a",
        b"\0\x06\0\x05\0\x0a",
        b"\0\0\0\x0a",
        "text",
        7,
    ],
)
def test_ends_that_do_not_fit_are_damage(ends):
    with pytest.raises(StoreCorrupt):
        split_row(1, bytes(10), ends)


async def test_any_mix_of_batches_trims_and_openings_reads_as_a_list(path):
    """Against a plain dictionary: batches of every size, trims in the middle of rows, reads from anywhere."""
    chance = random.Random(4)
    model = {}
    last = floor = 0
    for _ in range(6):
        async with await opened(path) as one:
            for _ in range(12):
                batch = [
                    chance.randbytes(chance.choice([5, 90, 900])) for _ in range(chance.randrange(1, 90))
                ]
                numbers = await one.commit([Append("list", plaintext) for plaintext in batch])
                assert numbers == list(range(last + 1, last + 1 + len(batch)))
                model |= dict(zip(numbers, batch, strict=True))
                last = numbers[-1]
                through = chance.randrange(floor, last + 1)
                gone = await one.commit([Trim("list", through)])
                assert gone == [max(0, through - floor)]
                floor = max(floor, through)
                model = {number: plaintext for number, plaintext in model.items() if number > floor}
                after, limit = chance.randrange(last + 2), chance.choice([None, 0, 1, 2, 7, 100])
                wanted = [(number, text) for number, text in sorted(model.items()) if number > after]
                assert await one.records("list", after, limit) == wanted[:limit]
                assert await one.span("list") == (floor + 1, last)
            assert await one.damage() == []
            [kind] = await one.readable()
            assert (kind.rows, kind.faults) == (len(model), ())
            if chance.random() < 0.5:
                assert await one.change_key(module_of()) >= len(model)
        async with await opened(path) as one:
            assert one.fault is None
            assert dict(await one.records("list")) == model


async def test_one_damaged_record_costs_its_neighbours_nothing(path):
    async with await opened(path) as one:
        await one.commit([Append("list", b"record %02d" % number) for number in range(10)])
    each = 28 + len(b"record 00")
    [(sealed,)] = sql(path, "SELECT sealed FROM record")
    changed = bytearray(sealed)
    changed[4 * each + 20] ^= 1
    sql(path, "UPDATE record SET sealed = ?", bytes(changed))
    async with await opened(path) as one:
        assert [number for number, _ in await one.records("list", 0, 4)] == [1, 2, 3, 4]
        with pytest.raises(StoreCorrupt, match="list record 5"):
            await one.records("list", 4, 1)
        assert [number for number, _ in await one.records("list", 5)] == [6, 7, 8, 9, 10]
        [kind] = await one.readable()
        assert kind.rows == 9
        assert len(kind.faults) == 1


@pytest.mark.parametrize(
    ("what", "said"),
    [
        # The same seals in other rows: a record twice, the end cut off, one moved to another number.
        ("INSERT INTO record SELECT kind, 3, substr(sealed, 75, 37), NULL FROM record", "record"),
        ("UPDATE record SET sealed = substr(sealed, 1, 74), ends = x'0025004a'", ""),
        ("UPDATE record SET number = 2", "missing"),
        ("UPDATE record SET ends = NULL", "integrity"),
        ("UPDATE record SET ends = x'0025'", "row of record 1"),
    ],
)
async def test_rows_put_together_otherwise_are_noticed(path, what, said):
    async with await opened(path) as one:
        await one.commit([Append("list", b"record %02d" % number) for number in range(10)])
    sql(path, what)
    async with await opened(path) as one:
        assert await one.damage() != []
        if said:
            with pytest.raises(StoreCorrupt, match=said):
                await one.records("list")
        else:  # what is left opens; that it is not all is told by the tally, and by asking for more
            assert len(await one.records("list")) == 2
            with pytest.raises(StoreCorrupt, match="may be lost"):
                await one.records("list", 2)
        with pytest.raises(StoreCorrupt, match="takes no more"):
            await one.append("list", b"more")


async def test_what_was_trimmed_out_of_a_row_is_overwritten(path):
    async with await opened(path) as one:
        await one.commit([Append("list", b"record %02d" % number) for number in range(10)])
    [(sealed,)] = sql(path, "SELECT sealed FROM record")
    async with await opened(path) as one:
        assert await one.commit([Trim("list", 4)]) == [4]
    left = b"".join(file.read_bytes() for file in path.parent.iterdir())
    each = len(sealed) // 10
    pieces = [sealed[at * each : (at + 1) * each] in left for at in range(10)]
    assert pieces == [False] * 4 + [True] * 6
