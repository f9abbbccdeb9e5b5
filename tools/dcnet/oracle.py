"""Which sums of readings follow from what was seen: exact linear algebra over symbols, modulo a prime. Pure.

Every number seen is a combination of symbols: readings, self-masks, pads. A mask that the observer lacks is a
fresh random number, so a combination of readings is determined exactly if some combination of what was seen
holds it and no mask. All coefficients are -1, 0, 1 at the start, and elimination of a graph's edges keeps
them so; the prime of 61 bits makes the rest exact as well. Spec: docs/dcnet.md, "smgw dcnet leak".
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Final

PRIME: Final = (1 << 61) - 1
_SEARCH: Final = 20_000
"""Most combinations that are looked at for the smallest determined set of one block."""

Row = dict[Hashable, int]


@dataclass(frozen=True, slots=True)
class Smallest:
    """The fewest readings of which some combination is determined."""

    readings: frozenset[Hashable]
    exact: bool
    """False: a smaller one was not ruled out, because the search would have been too long."""


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
    best: Smallest | None = None
    exact = True
    for block in _blocks(basis):
        found = _smallest_of(block)
        exact = exact and found.exact
        if best is None or len(found.readings) < len(best.readings):
            best = found
    return None if best is None else Smallest(best.readings, exact)


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


def _smallest_of(block: list[Row]) -> Smallest:
    """Search one block for its smallest determined set; a lone row is one itself.

    Inside a smallest set lies one combination alone, so it is fixed by len(block) - 1 readings in which it
    vanishes: those are tried. Readings that always stand together count as one.
    """
    together: dict[tuple[int, ...], list[Hashable]] = {}
    for symbol in {symbol for row in block for symbol in row}:
        column = [row.get(symbol, 0) for row in block]
        scale = pow(next(value for value in column if value), -1, PRIME)
        together.setdefault(tuple(value * scale % PRIME for value in column), []).append(symbol)
    rows: list[Row] = [
        {column: column[number] for column in together if column[number]} for number in range(len(block))
    ]
    best = min((frozenset(row) for row in block), key=len)
    for looked, zeros in enumerate(combinations(sorted(together), len(rows) - 1)):
        if looked == _SEARCH:
            return Smallest(best, exact=False)
        found = _vanishing(rows, zeros)
        if found is not None:
            readings = [symbol for column in found for symbol in together[column]]  # type: ignore[index]
            if len(readings) < len(best):
                best = frozenset(readings)
    return Smallest(best, exact=True)


def _vanishing(rows: list[Row], zeros: Iterable[Hashable]) -> Row | None:
    """Return the combination that vanishes in `zeros`, None if there is more than one."""
    rest = rows
    for column in zeros:
        pivot = next((row for row in rest if column in row), None)
        if pivot is None:
            return None
        rest = [_subtract(row, pivot, column) if column in row else row for row in rest if row is not pivot]
    return rest[0]
