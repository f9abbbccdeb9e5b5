"""What follows from everything a supplier saw: exact linear algebra over symbols, modulo a 61-bit prime.

Every number seen is a linear combination of symbols: readings, self-masks, pads. A self-mask or a pad that
the observer does not know is a fresh random number, so a combination of readings is *determined* exactly if
some combination of what was seen contains it and no mask. Everything else stays hidden (as far as pads
are ideal). Symbols are any hashable values; those called readings are given to `determined`.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from itertools import combinations

PRIME = (1 << 61) - 1

Row = dict[Hashable, int]


def determined(seen: Iterable[Mapping[Hashable, int]], readings: Collection[Hashable]) -> list[Row]:
    """Return a basis of all combinations of readings that follow from what was seen.

    Args:
        seen: each number as coefficients of its symbols.
        readings: the symbols that are readings; all others are masks, eliminated first.
    """
    known = set(readings)
    rows = [{s: c % PRIME for s, c in row.items() if c % PRIME} for row in seen]
    masks = {symbol for row in rows for symbol in row} - known
    return _echelon(_eliminate(rows, masks))


def smallest(basis: list[Row], limit: int) -> frozenset[Hashable] | None:
    """Return fewer than `limit` readings of which some combination is determined, None if there are none."""
    columns = {symbol for row in basis for symbol in row}
    for size in range(1, min(limit, len(columns) + 1)):
        for chosen in combinations(sorted(columns, key=repr), size):
            # Something in the span lives on the chosen ones alone: the others can be eliminated.
            if _eliminate(basis, columns - set(chosen)):
                return frozenset(chosen)
    return None


def _eliminate(rows: Iterable[Row], columns: Iterable[Hashable]) -> list[Row]:
    """Return a basis of the combinations in which no symbol of `columns` is left."""
    rest = [dict(row) for row in rows if row]
    for column in columns:
        pivot = next((row for row in rest if column in row), None)
        if pivot is not None:
            rest = [_without(row, pivot, column) for row in rest if row is not pivot]
            rest = [row for row in rest if row]
    return _echelon(rest)


def _echelon(rows: Iterable[Row]) -> list[Row]:
    """Return linearly independent rows with the same span."""
    rest, basis = [row for row in rows if row], []
    while rest:
        pivot = rest.pop()
        column = next(iter(pivot))
        basis.append(pivot)
        rest = [reduced for row in rest if (reduced := _without(row, pivot, column))]
    return basis


def _without(row: Row, pivot: Row, column: Hashable) -> Row:
    """Subtract the multiple of `pivot` that makes `column` vanish from `row`."""
    if column not in row:
        return row
    factor = row[column] * pow(pivot[column], -1, PRIME) % PRIME
    result = dict(row)
    for symbol, coefficient in pivot.items():
        value = (result.get(symbol, 0) - factor * coefficient) % PRIME
        if value:
            result[symbol] = value
        else:
            result.pop(symbol, None)
    return result
