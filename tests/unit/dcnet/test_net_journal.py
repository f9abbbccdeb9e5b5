"""The journal of a supplier's net: what a kill cuts off is dropped, what is damaged is named."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.counterparts.net_journal import (
    MAGIC,
    FileMedium,
    Journal,
    JournalDamaged,
    JournalForeign,
    JournalInUse,
)

NAME = b"net-0001"


class Held:
    """A `Medium` in memory."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def read(self) -> bytes:
        return self.data

    def append(self, data: bytes) -> None:
        self.data += data

    def replace(self, data: bytes) -> None:
        self.data = data

    def close(self) -> None:
        """Nothing is held."""


def contents(journal: Journal) -> dict[str, list[tuple[str, bytes]]]:
    return {name: journal.room(name).items() for name in journal.rooms("")}


async def written() -> tuple[Held, list[int]]:
    """Three frames; their ends."""
    held, ends = Held(), []
    journal = Journal(held, NAME)
    for number in range(3):
        journal.room("slot/1").put(f"submit/{number}", bytes([number]) * 700)
        journal.room("slot/2").put("begun", b"%d" % number)
        await journal.sync()
        ends.append(len(held.data))
    return held, ends


async def test_what_was_synced_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "dcnet" / "a.journal"
    journal = Journal(FileMedium(path), NAME)
    assert journal.empty
    room = journal.room("rosters")
    room.put("state", b"1")
    room.put("state", b"2")
    room.put("other", b"3")
    journal.room("slot/1").put("begun", b"4")
    await journal.sync()
    room.drop("other")
    room.drop("never there")
    journal.room("slot/1").clear()
    journal.room("slot/2").put("a/1", b"")
    journal.room("slot/2").put("b/1", b"")
    journal.room("slot/2").clear("a/")
    await journal.sync()
    room.put("state", b"never synced")
    with pytest.raises(JournalInUse, match="hint: one `smgw emp` a folder"):
        FileMedium(path)
    os.close(journal._medium._lock)  # type: ignore[union-attr]  # as a kill does
    again = Journal(FileMedium(path), NAME)
    assert contents(again) == {"rosters": [("state", b"2")], "slot/2": [("b/1", b"")]}
    assert again.dropped_bytes == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    again.room("rosters").put("state", b"5")
    again.close()
    assert contents(Journal(FileMedium(path), NAME))["rosters"] == [("state", b"5")]


async def test_an_entry_that_was_cut_off_is_dropped_at_every_length() -> None:
    held, (_, second, end) = await written()
    for length in range(second, end + 1):
        cut = Held(held.data[:length])
        journal = Journal(cut, NAME)
        count = 3 if length == end else 2
        assert len(journal.room("slot/1").items()) == count, length
        assert journal.dropped_bytes == (0 if length == end else length - second)
        assert len(cut.data) == (end if length == end else second)
        journal.room("slot/3").put("goes", b"on")
        await journal.sync()
        assert Journal(Held(cut.data), NAME).room("slot/3").get("goes") == b"on"


async def test_sectors_that_a_power_cut_left_empty_are_dropped() -> None:
    held, (_, second, end) = await written()
    for empty in (512, 600, end - second):
        start = -(-(end - empty) // 512) * 512 if empty != end - second else second
        journal = Journal(Held(held.data[:start] + bytes(end - start)), NAME)
        assert len(journal.room("slot/1").items()) == 2
    zeros = Journal(Held(held.data + bytes(4096)), NAME)
    assert (len(zeros.room("slot/1").items()), zeros.dropped_bytes) == (3, 4096)


async def test_every_damaged_byte_is_named_and_nothing_is_lost_silently() -> None:
    held, (_, second, end) = await written()
    for at in range(0, end, 3):
        data = bytearray(held.data)
        data[at] ^= 0x40
        with pytest.raises((JournalDamaged, JournalForeign), match="hint: ") as refused:
            Journal(Held(bytes(data)), NAME)
        if len(MAGIC) <= at < len(MAGIC) + len(NAME):
            assert refused.type is JournalForeign
    first = len(MAGIC) + len(NAME)
    for data in (
        held.data[:first] + held.data[second:],  # entries are missing in the middle
        held.data[:second] + held.data[first:second],  # some are there twice
        held.data[: second - 40] + held.data[second:],  # some bytes are missing
    ):
        with pytest.raises(JournalDamaged, match="never put an older copy"):
            Journal(Held(data), NAME)


async def test_another_nets_file_is_refused_and_half_a_beginning_is_none() -> None:
    held, _ = await written()
    with pytest.raises(JournalForeign, match="another net's"):
        Journal(Held(held.data), b"net-0002")
    with pytest.raises(JournalDamaged, match="does not begin as one"):
        Journal(Held(b"something else that is longer"), NAME)
    for length in range(len(MAGIC) + len(NAME)):
        assert Journal(Held(held.data[:length]), NAME).empty


async def test_who_waits_at_once_shares_one_write() -> None:
    held = Held()
    journal = Journal(held, NAME)

    async def member(number: int) -> None:
        journal.room("slot/1").put(f"submit/{number}", b"x")
        await journal.sync()
        assert b"submit/%d" % number in held.data

    await asyncio.gather(*(member(number) for number in range(256)))
    assert journal.writes == 1
    await journal.sync()
    assert journal.writes == 1, "nothing waits"


async def test_the_file_is_written_anew_before_it_is_mostly_past(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.counterparts.net_journal._SLACK_BYTES", 4096)
    held = Held()
    journal = Journal(held, NAME)
    journal.room("kept").put("always", b"y" * 1000)
    for number in range(200):
        journal.room("slot/1").put("begun", bytes([number]) * 100)
        await journal.sync()
        assert len(held.data) < 10_000
    assert contents(Journal(Held(held.data), NAME)) == contents(journal)


async def test_what_could_not_be_written_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(FileMedium(tmp_path / "a.journal"), NAME)
    journal.room("a").put("1", b"first")
    await journal.sync()
    size = (tmp_path / "a.journal").stat().st_size
    write = os.write

    def half(file: int, data: bytes) -> int:
        write(file, bytes(data)[:10])
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "write", half)
    journal.room("a").put("2", b"second")
    with pytest.raises(OSError, match="no space"):
        await journal.sync()
    assert (tmp_path / "a.journal").stat().st_size == size, "half an entry does not stay"
    monkeypatch.setattr(os, "write", write)
    await journal.sync_patiently()
    journal.close()
    assert len(Journal(FileMedium(tmp_path / "a.journal"), NAME).room("a").items()) == 2


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["put", "drop", "clear", "prefix", "sync", "again"]),
        st.sampled_from(["a", "b", "slot/1"]),
        st.sampled_from(["x", "x/1", "y"]),
        st.binary(max_size=40),
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(CHANGES)
def test_it_holds_what_a_dictionary_holds(changes: list[tuple[str, str, str, bytes]]) -> None:
    async def main() -> None:
        held, model = Held(), dict[tuple[str, str], bytes]()
        journal, durable = Journal(held, NAME), dict[tuple[str, str], bytes]()
        for what, room, key, value in changes:
            if what == "put":
                journal.room(room).put(key, value)
                model[room, key] = value
            elif what == "drop":
                journal.room(room).drop(key)
                model.pop((room, key), None)
            elif what in ("clear", "prefix"):
                journal.room(room).clear(*([key] if what == "prefix" else []))
                gone = [
                    one for one in model if one[0] == room and (what == "clear" or one[1].startswith(key))
                ]
                for one in gone:
                    del model[one]
            elif what == "sync":
                await journal.sync()
                durable = dict(model)
            else:
                journal, model = Journal(held, NAME), dict(durable)
        found = {(room, key): data for room in journal.rooms("") for key, data in journal.room(room).items()}
        assert found == model
        assert journal._live_bytes == Journal(Held(journal._snapshot()[0]), NAME)._live_bytes

    asyncio.run(main())
