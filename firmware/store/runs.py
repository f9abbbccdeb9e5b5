"""Runs: records of one list that were written together share a row, so that a row's cost is paid once.

Each record of a run is sealed by itself, with its own nonce and place; a run only lays the sealed bytes of
consecutive numbers side by side. It stays small enough to lie in one page, so that a damaged page takes no
more records with it than it would if each had a row. Values only.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from firmware.errors import StoreCorrupt
from firmware.store.schema import blob, whole

SMALL_RUN_BYTES: Final = 960
"""Sealed bytes and their ends that surely fit into the page of the B-tree itself, which takes 1002 of a row.
Source: SQLite, file format, "B-tree Pages", payload of index leaves with pages of 4096 bytes."""
FULL_RUN_BYTES: Final = 4500
"""The same for a row that fills one page of its own beside the 489 bytes that stay in the tree (same source).
A row in between would waste most of that page, so there is none if it can be helped."""
_END_BYTES: Final = 2

Row = tuple[int, bytes, bytes | None]
"""(number of the first record, sealed bytes, where each record ends in them; None: it is one record)."""


def pack(first: int, sealed: Sequence[bytes]) -> Iterator[Row]:
    """Lay sealed records side by side.

    Args:
        first: number of the first of them.
        sealed: in the order of their numbers, which follow each other.
    """
    total = sum(map(len, sealed)) + _END_BYTES * len(sealed)
    begin = 0
    while begin < len(sealed):
        bound = FULL_RUN_BYTES if total >= FULL_RUN_BYTES else SMALL_RUN_BYTES
        used, end = 0, begin
        while end < len(sealed) and (end == begin or used + len(sealed[end]) + _END_BYTES <= bound):
            used += len(sealed[end]) + _END_BYTES
            end += 1
        yield _row(first + begin, sealed[begin:end])
        total -= used
        begin = end


def split_row(number: object, sealed: object, ends: object) -> list[tuple[int, bytes]]:
    """Return (number, sealed record) of each record of a row, as SQLite gave its columns.

    Raises:
        StoreCorrupt: the row is damaged: a column holds something else, or the ends do not fit the bytes.
    """
    first, content = whole(number), blob(sealed)
    if ends is None:
        return [(first, content)]
    count = length(ends)
    stops = struct.unpack(f">{count}H", blob(ends))
    starts = (0, *stops[:-1])
    if stops[-1] != len(content) or any(a >= b for a, b in zip(starts, stops, strict=True)):
        raise StoreCorrupt(f"the row of record {first} is damaged")
    return [
        (first + position, content[start:stop])
        for position, (start, stop) in enumerate(zip(starts, stops, strict=True))
    ]


def length(ends: object) -> int:
    """Return how many records a row holds whose column `ends` this is; StoreCorrupt as `split_row`."""
    if ends is None:
        return 1
    count, rest = divmod(len(blob(ends)), _END_BYTES)
    if rest or not count:
        raise StoreCorrupt("the ends of a row's records are damaged")
    return count


def _row(first: int, run: Sequence[bytes]) -> Row:
    if len(run) == 1:
        return first, run[0], None
    return first, b"".join(run), struct.pack(f">{len(run)}H", *accumulate(map(len, run)))
