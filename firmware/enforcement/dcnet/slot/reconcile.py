"""What a gateway still owes, carried into a reconcile slot: one value for a whole period. No I/O.

A reconcile slot is a slot of a net of its own with the same members: its pads are bound to another net id, so
no pad is used twice. Energy that was not totalled goes there and never into the next slot, which would show
what a single returning household used. Where a household alone owes something, the total of a reconcile slot
is what it owes; so slots are told in lots of a day at least, and never apart. Spec: docs/dcnet.md, "Reconcile
slot".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Self

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.canonical import decode_kept, encode
from firmware.enforcement.dcnet.policy import TENTHS
from firmware.enforcement.dcnet.slot.ledger import Owed
from firmware.errors import StoreCorrupt

Span = tuple[int, int]
"""(first slot, last slot) of an entry."""
_DAYS_OF_A_MONTH: Final = 31


def least_slots(period: int) -> int:
    """Return of how many slots at least a lot is made: a day's, where a period is a month.

    Args:
        period: regular slots in one period of the reconcile net.
    """
    return max(1, period // _DAYS_OF_A_MONTH)


@dataclass(frozen=True, slots=True)
class Carried:
    """The value of one reconcile slot and what it is made of; kept before it is submitted."""

    import_wh: int = field(repr=False)
    export_wh: int = field(repr=False)
    spans: tuple[Span, ...]
    """Each entry in it, oldest first."""

    def reading(self) -> tuple[int, int, int]:
        """Return the lanes: import, export (both 0.1 Wh), canary."""
        return (self.import_wh * TENTHS, self.export_wh * TENTHS, 1)

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([self.import_wh, self.export_wh, [list(span) for span in self.spans]])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; `StoreCorrupt` if it is no such record."""
        try:
            item: Any = decode_kept(data)
            import_wh, export_wh, spans = item
            return cls(int(import_wh), int(export_wh), tuple((int(a), int(b)) for a, b in spans))
        except (MalformedObject, TypeError, ValueError) as error:
            raise StoreCorrupt("a reconcile record has another form than expected") from error


@dataclass(frozen=True, slots=True)
class Lots:
    """Which entries are told together, in every value that holds one of them.

    If a supplier calls a reconcile slot aborted whose sum it knows, the next sum tells it the difference, and
    that is whole lots too.
    """

    spans: tuple[tuple[Span, ...], ...] = ()
    """Entries of each lot, lots in the order they were made in."""

    def joined_by(
        self, owed: Iterable[Owed], *, before_slot: int, max_wh: int, least: int, waiting: frozenset[Span]
    ) -> Self:
        """Return the lots that still have an entry, and a new one if what is in none is enough for it.

        Args:
            owed: every open entry of the ledger.
            before_slot: entries that end in this slot or later wait.
            max_wh: largest value of the reconcile net, for import and export each.
            least: slots in a lot.
            waiting: entries that may be in a total already, or whose result others have not seen.
        """
        owed = list(owed)
        open_spans = {(one.first_slot, one.last_slot) for one in owed}
        kept = tuple(lot for lot in self.spans if not open_spans.isdisjoint(lot))
        taken = {span for lot in kept for span in lot} | waiting
        new: list[Span] = []
        imported = exported = 0
        for span, (more_in, more_out) in _by_span(owed).items():
            fits = imported + more_in <= max_wh and exported + more_out <= max_wh
            if span not in taken and span[1] < before_slot and fits:
                new.append(span)
                imported, exported = imported + more_in, exported + more_out
        if sum(last - first + 1 for first, last in new) >= least:
            kept = (*kept, tuple(new))
        return type(self)(kept)

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode([[list(span) for span in lot] for lot in self.spans])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; `StoreCorrupt` if it is no such record."""
        try:
            item: Any = decode_kept(data)
            lots = tuple(tuple((int(a), int(b)) for a, b in lot) for lot in item)
        except (MalformedObject, TypeError, ValueError) as error:
            raise StoreCorrupt("a record of lots has another form than expected") from error
        if not all(lots):
            raise StoreCorrupt("a lot is empty")
        return cls(lots)


def carry(owed: Iterable[Owed], lots: Lots, max_wh: int, waiting: frozenset[Span]) -> Carried:
    """Take the lots, oldest first, as far as they fit into one value; what is left waits for the next one.

    A household that carries nothing carries 0, so taking part says nothing about it.

    Args:
        owed: every open entry of the ledger.
        lots: of them.
        max_wh: largest value of the reconcile net, for import and export each.
        waiting: a lot with one of these entries is left out.
    """
    energy, taken = _by_span(owed), set[Span]()
    imported = exported = 0
    for lot in lots.spans:
        if not all(span in energy and span not in waiting for span in lot):
            continue
        more_in, more_out = (sum(lanes) for lanes in zip(*(energy[span] for span in lot), strict=True))
        if imported + more_in <= max_wh and exported + more_out <= max_wh:
            taken.update(lot)
            imported, exported = imported + more_in, exported + more_out
    return Carried(imported, exported, tuple(sorted(taken)))


def _by_span(owed: Iterable[Owed]) -> dict[Span, tuple[int, int]]:
    """Return import and export in Wh of each span, oldest first; two entries may have the same."""
    energy: dict[Span, tuple[int, int]] = {}
    for one in sorted(owed, key=lambda entry: (entry.first_slot, entry.last_slot)):
        imported, exported = energy.get((one.first_slot, one.last_slot), (0, 0))
        energy[one.first_slot, one.last_slot] = imported + one.import_wh, exported + one.export_wh
    return energy
