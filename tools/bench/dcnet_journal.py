"""`smgw bench dcnet`: what a supplier's journal costs a slot of 256 members, beside bare write and fsync."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from firmware.enforcement.dcnet.messages.canonical import encode
from firmware.enforcement.dcnet.messages.conduct import Taken
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES, to_bitmap
from firmware.enforcement.dcnet.messages.manifest import Manifest, SlotResult, Verdict
from tools.bench.figure import Figure
from tools.counterparts.net_journal import FileMedium, Journal
from tools.counterparts.net_slot_book import SlotBook
from tools.counterparts.net_tally import Leaves, Tally, Terms

MEMBERS: Final = 256
_SLOTS: Final = 3
_SUBMIT_BYTES: Final = 264
_OPEN_BYTES: Final = 104
"""Three lanes, eight shares, with MAC."""
_SIGNED_BYTES: Final = 2500
"""A manifest with the supplier's signature, its certificate and one co-signature."""
_AT_ONCE: Final = (1, 32)
_EVENT: Final = {"event": "total", "members": ["esgw0100000001"] * MEMBERS, "lanes": [1, 2, 3]}


async def _slot(book: SlotBook, slot: int, at_once: int) -> None:
    """Keep what a slot brings; `at_once` members are served by one turn of the loop."""
    journal, everybody = book.journal, range(1, MEMBERS + 1)
    day = journal.room("day/20000")
    tally = Tally(Terms(bytes(8), 1, MEMBERS, 3, {}), slot, 20_000, bytes(HASH_BYTES), frozenset(everybody))
    book.begin(tally)

    async def submit(index: int) -> None:
        book.took("submit", slot, index, bytes(_SUBMIT_BYTES))
        day.put(f"taken/{index}/{slot}", encode([bytes(HASH_BYTES), int(Taken.ACCEPTED)]))
        await journal.sync()

    async def open_(index: int) -> None:
        book.took("open", slot, index, bytes(_OPEN_BYTES))
        day.put(f"opened/{index}/{slot}", bytes(HASH_BYTES))
        await journal.sync()

    for first in range(1, MEMBERS + 1, at_once):
        await asyncio.gather(*(submit(index) for index in range(first, first + at_once)))
    bitmap = to_bitmap(everybody, MEMBERS)
    none = bytes(len(bitmap))
    manifest = Manifest(bytes(8), 1, slot, bytes(HASH_BYTES), bitmap, none, bytes(HASH_BYTES))
    book.close(manifest)
    book.close(manifest, bytes(_SIGNED_BYTES // 2))
    await journal.sync()
    book.publish(slot, bytes(_SIGNED_BYTES))
    await journal.sync()
    for first in range(1, MEMBERS + 1, at_once):
        await asyncio.gather(*(open_(index) for index in range(first, first + at_once)))
    result = SlotResult(bytes(8), slot, bytes(HASH_BYTES), Verdict.TOTALLED, (1, 2, 3))
    book.finish(result, bytes(_SIGNED_BYTES // 2), _EVENT)
    if slot:
        book.shelve(slot - 1, Leaves(dict.fromkeys(everybody, bytes(HASH_BYTES))))
    await journal.sync()


async def _journal_ms(folder: Path, at_once: int) -> tuple[float, float, float, int, int]:
    """Return wall and CPU milliseconds of a slot, those of bare writes of the same bytes, writes, bytes."""
    journal = Journal(FileMedium(folder / f"{at_once}.journal"))
    book, walls, cpus = SlotBook(journal), [], []
    for slot in range(_SLOTS):
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        await _slot(book, slot, at_once)
        walls.append((time.perf_counter_ns() - wall) / 1e6)
        cpus.append((time.process_time_ns() - cpu) / 1e6)
    writes, size = journal.writes // _SLOTS, journal.written_bytes // _SLOTS
    journal.close()
    with (folder / "bare").open("wb", buffering=0) as file:
        start = time.perf_counter_ns()
        for _ in range(writes):
            file.write(bytes(size // writes))
            os.fsync(file.fileno())
        bare = (time.perf_counter_ns() - start) / 1e6
    return median(walls), median(cpus), bare, writes, size


async def run(rounds: int) -> list[Figure]:
    """Measure `rounds` rounds with all subjects in each; medians count."""
    found: dict[int, list[tuple[float, float, float, int, int]]] = {at_once: [] for at_once in _AT_ONCE}
    for _ in range(rounds):
        for at_once, measured in found.items():
            with tempfile.TemporaryDirectory() as folder:
                measured.append(await _journal_ms(Path(folder), at_once))
    figures = []
    for at_once, measured in found.items():
        wall, cpu, bare = (median(one[number] for one in measured) for number in range(3))
        _, _, _, writes, size = measured[0]
        how = "each frame alone" if at_once == 1 else f"{at_once} members at once"
        reference = f"{writes} x write and fsync of {size // writes} bytes"
        name = f"supplier's journal, a slot of {MEMBERS} members, {how}"
        figures.append(Figure(f"{name}, wall", wall, "ms", reference=reference, reference_value=bare))
        figures.append(Figure(f"{name}, CPU", cpu, "ms"))
    figures.append(Figure(f"supplier's journal, a slot of {MEMBERS} members, on disk", size / 1e3, "kB"))
    return figures
