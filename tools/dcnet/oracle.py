"""Which sums of readings follow from what was seen: exact linear algebra over symbols, modulo a prime. Pure.

Every number seen is a combination of symbols: readings, self-masks, pads. A mask that the observer lacks is a
fresh random number, so a combination of readings is determined exactly if some combination of what was seen
holds it and no mask. All coefficients are -1, 0, 1 at the start, and elimination of a graph's edges keeps
them so; the prime of 61 bits makes the rest exact as well. Spec: docs/dcnet.md, "smgw dcnet leak".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Final

PRIME: Final = (1 << 61) - 1
_SEARCH: Final = 20_000
"""Most combinations that are looked at for the determined sets of one block."""
_WORK: Final = 1_000_000
"""Most subtractions of rows for it: each combination takes about as many as the block has rows, squared."""

Row = dict[Hashable, int]


@dataclass(frozen=True, slots=True)
class Smallest:
    """The fewest readings of which some combination is determined."""

    readings: frozenset[Hashable]
    exact: bool
    """False: a smaller one was not ruled out, because the search would have been too long."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search for small determined sets came to."""

    smallest: Smallest | None
    below: list[frozenset[Hashable]]
    """Determined sets with fewer readings than their floor, none of which holds another one."""
    complete: bool
    """False: sets below their floor may be there that were not looked at."""


def determined(seen: Iterable[Mapping[Hashable, int]], readings: Collection[Hashable]) -> list[Row]:
    """Return a reduced basis of the combinations of readings that follow from what was seen.

    In reduced form a single reading that is determined stands alone in a row.

    Args:
        seen: each number as coefficients of its symbols.
        readings: the symbols that are readings; the others are masks.
    """
    return reduced(_without_masks(seen, frozenset(readings)))


def singles(basis: Iterable[Row]) -> list[Hashable]:
    """Return the readings that are determined alone, from a reduced basis."""
    return [next(iter(row)) for row in basis if len(row) == 1]


def smallest(basis: list[Row]) -> Smallest | None:
    """Return the smallest determined set of a reduced basis, None if nothing is determined."""
    return search(basis).smallest


def search(basis: list[Row], floor: Callable[[Iterable[Hashable]], int] = lambda _: 0) -> Found:
    """Look for determined sets with too few readings, and for the smallest of all.

    Args:
        basis: reduced.
        floor: how many readings a set must have: of any set at least what it is of a set around it, unless
            it is 0, and at most the largest of its readings alone. As "the least of some property of its
            readings, 0 if none has it" is.
    """
    best: frozenset[Hashable] | None = None
    below: dict[frozenset[Hashable], None] = {}
    exact = complete = True
    for rows in _blocks(basis):
        highest = max(floor([symbol]) for row in rows for symbol in row)
        least = min((frozenset(row) for row in rows), key=len)
        tried = _Tried(rows, max(highest, len(least)))
        for one in tried.sets():
            if len(one) < len(least):
                least = one
            if len(one) < floor(one):
                below[one] = None
        exact = exact and (tried.all or tried.at_least >= len(least))
        complete = complete and (tried.all or tried.at_least >= highest)
        best = least if best is None or len(least) < len(best) else best
    inner = [one for one in below if not any(other < one for other in below)]
    return Found(None if best is None else Smallest(best, exact), inner, complete)


def reduced(rows: Iterable[Row]) -> list[Row]:
    """Return the reduced echelon form; pivots are 1 and stand in no other row."""
    pivots: dict[Hashable, Row] = {}
    for row in rows:
        for column in [c for c in row if c in pivots]:
            row = _subtract(row, pivots[column], column)
        if not row:
            continue
        column = next(iter(row))
        scale = pow(row[column], -1, PRIME)
        row = {symbol: value * scale % PRIME for symbol, value in row.items()}
        for other, known in pivots.items():
            if column in known:
                pivots[other] = _subtract(known, row, column)
        pivots[column] = row
    return list(pivots.values())


def _without_masks(seen: Iterable[Mapping[Hashable, int]], readings: frozenset[Hashable]) -> list[Row]:
    """Eliminate every mask, those in few rows first; return rows of readings alone."""
    rows: dict[int, Row] = {}
    where: dict[Hashable, set[int]] = {}
    for number, given in enumerate(seen):
        row = {symbol: value % PRIME for symbol, value in given.items() if value % PRIME}
        rows[number] = row
        for symbol in row:
            if symbol not in readings:
                where.setdefault(symbol, set()).add(number)
    for symbol in sorted(where, key=lambda mask: len(where[mask])):
        holding = where.pop(symbol)
        if not holding:
            continue
        chosen = min(holding, key=lambda number: len(rows[number]))
        pivot = rows.pop(chosen)
        for mask in pivot:
            if mask in where:
                where[mask].discard(chosen)
        for number in holding:
            if number != chosen:
                before = rows[number]
                after = rows[number] = _subtract(before, pivot, symbol)
                for mask in pivot:
                    if mask in where:
                        (where[mask].add if mask in after else where[mask].discard)(number)
    return [row for row in rows.values() if row]


def _subtract(row: Row, pivot: Row, column: Hashable) -> Row:
    """Subtract the multiple of `pivot` that makes `column` vanish from `row`."""
    below = pivot[column]
    factor = row[column] if below == 1 else row[column] * pow(below, -1, PRIME) % PRIME
    result = dict(row)
    for symbol, coefficient in pivot.items():
        value = (result.get(symbol, 0) - factor * coefficient) % PRIME
        if value:
            result[symbol] = value
        else:
            result.pop(symbol, None)
    return result


def _blocks(basis: list[Row]) -> list[list[Row]]:
    """Group rows that share readings, over any number of steps."""
    blocks: list[tuple[set[Hashable], list[Row]]] = []
    for row in basis:
        symbols, rows, apart = set(row), [row], []
        for other in blocks:
            if other[0].isdisjoint(symbols):
                apart.append(other)
            else:
                symbols |= other[0]
                rows += other[1]
        blocks = [*apart, (symbols, rows)]
    return [rows for _, rows in blocks]


class _Tried:
    """Goes through the determined sets of one block that hold no smaller one and are below a size."""

    def __init__(self, block: list[Row], size: int) -> None:
        self._block, self._size = block, size
        self.all = False
        """Whether there is no further one."""
        own = sorted(_alone(block))
        self.at_least = sum(own[:2]) if len(own) > 1 else len(block[0])
        """What comes of more than one row has at least so many readings: those that are in one row alone."""

    def sets(self) -> Iterator[frozenset[Hashable]]:
        """Yield the rows' own sets, then the others, some more than once, while the search is not too long.

        Inside such a set lies one combination alone, so it is fixed by len(block) - 1 readings in which it
        vanishes: those are tried. Readings that always stand together count as one.
        """
        block = self._block
        yield from (frozenset(row) for row in block)
        if self.at_least >= self._size:
            self.all = True
            return
        together: dict[tuple[int, ...], list[Hashable]] = {}
        for symbol in {symbol for row in block for symbol in row}:
            column = [row.get(symbol, 0) for row in block]
            scale = pow(next(value for value in column if value), -1, PRIME)
            together.setdefault(tuple(value * scale % PRIME for value in column), []).append(symbol)
        rows: list[Row] = [
            {column: column[number] for column in together if column[number]} for number in range(len(block))
        ]
        zeros = combinations(sorted(together), len(rows) - 1)
        for some in islice(zeros, min(_SEARCH, _WORK // len(rows) ** 2)):
            if (found := _vanishing(rows, some)) is not None:
                yield frozenset(symbol for column in found for symbol in together[column])  # type: ignore[index]
        self.all = next(zeros, None) is None


def _alone(block: list[Row]) -> list[int]:
    """Return of each row how many of its readings are in no other row."""
    times = Counter(symbol for row in block for symbol in row)
    return [sum(times[symbol] == 1 for symbol in row) for row in block]


def _vanishing(rows: list[Row], zeros: Iterable[Hashable]) -> Row | None:
    """Return the combination that vanishes in `zeros`, None if there is more than one."""
    rest = rows
    for column in zeros:
        pivot = next((row for row in rest if column in row), None)
        if pivot is None:
            return None
        rest = [_subtract(row, pivot, column) if column in row else row for row in rest if row is not pivot]
    return rest[0]
