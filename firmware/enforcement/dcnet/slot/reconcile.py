"""What a gateway still owes, carried into a reconcile slot: one value for a whole period. No I/O.

A reconcile slot is a slot of a net of its own with the same members: its pads are bound to another net id, so
no pad is used twice. Energy that was not totalled goes there and never into the next slot, which would show
what a single returning household used. Spec: docs/dcnet.md, "Reconcile slot".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.canonical import MAX_DOCUMENT_BYTES, decode, encode
from firmware.enforcement.dcnet.policy import TENTHS
from firmware.enforcement.dcnet.slot.ledger import Owed
from firmware.errors import StoreCorrupt


@dataclass(frozen=True, slots=True)
class Carried:
    """The value of one reconcile slot and what it is made of; kept before it is submitted."""

    import_wh: int = field(repr=False)
    export_wh: int = field(repr=False)
    spans: tuple[tuple[int, int], ...]
    """(first slot, last slot) of each entry in it, oldest first."""

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
            item: Any = decode(data, MAX_DOCUMENT_BYTES)  # our own: all of a period may be owed
            import_wh, export_wh, spans = item
            return cls(int(import_wh), int(export_wh), tuple((int(a), int(b)) for a, b in spans))
        except (MalformedObject, TypeError, ValueError) as error:
            raise StoreCorrupt("a reconcile record has another form than expected") from error


def carry(owed: Iterable[Owed], before_slot: int, max_wh: int) -> Carried:
    """Take what is owed, oldest first, as far as it fits into one value; the rest waits for the next one.

    A household that owes nothing carries 0, so taking part says nothing about it.

    Args:
        owed: every open entry of the ledger.
        before_slot: entries that end in this slot or later wait.
        max_wh: largest value of the reconcile net, for import and export each.
    """
    taken: list[Owed] = []
    imported = exported = 0
    for one in sorted(owed, key=lambda entry: (entry.first_slot, entry.last_slot)):
        fits = imported + one.import_wh <= max_wh and exported + one.export_wh <= max_wh
        if one.last_slot < before_slot and fits:
            taken.append(one)
            imported, exported = imported + one.import_wh, exported + one.export_wh
    return Carried(imported, exported, tuple((one.first_slot, one.last_slot) for one in taken))
