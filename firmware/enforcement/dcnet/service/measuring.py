"""What was measured, taken into the ledger of a net: for its slot, or as owed where it fits into none.

Whether a slot is this gateway's at all is the driver's question. Spec: docs/dcnet.md, reconcile slot.
"""

from __future__ import annotations

from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.slot.ledger import Ledger
from firmware.errors import ReadingRefused


class Measuring:
    """Takes the energy of slots and of interruptions."""

    def __init__(self, rules: NetRules, ledger: Ledger) -> None:
        """Take energy for the net of `rules` into its `ledger`."""
        self._rules, self._ledger = rules, ledger
        self._without: set[int] = set()
        """Slots that get no value of their own."""

    async def take(self, slot: int, energy_wh: int | None, export_wh: int) -> None:
        """Take the energy of a slot, in Wh; None: not known. Durable on return.

        Raises:
            ReadingRefused: outside the policy's range, or another value than before (SlotInPast); it is not
                submitted. What is above the range is owed.
            StoreUnavailable: it could not be kept.
        """
        if energy_wh is None:
            self._without.add(slot)
        elif min(energy_wh, export_wh) < 0:
            raise ReadingRefused(f"slot {slot}: an energy below 0")
        elif self._ledger.is_past(slot):
            await self._ledger.owe(slot, slot, energy_wh, export_wh, "out of order")
        elif max(energy_wh, export_wh) > self._rules.max_wh:
            await self._ledger.measure(slot, energy_wh, export_wh, unfit="outside the range")
            raise ReadingRefused(f"slot {slot}: the energy lies outside the policy's range")
        else:
            await self._ledger.measure(slot, energy_wh, export_wh)

    async def owe(self, first_slot: int, last_slot: int, energy_wh: int, export_wh: int) -> None:
        """Take energy that spans several slots: it waits for reconcile, not for a slot.

        Raises:
            ReadingRefused: no span, or an energy below 0.
            StoreUnavailable: it could not be kept.
        """
        if first_slot > last_slot or energy_wh < 0 or export_wh < 0:
            raise ReadingRefused("a span of slots and energies of at least 0 are required")
        await self._ledger.owe(first_slot, last_slot, energy_wh, export_wh, "interruption")

    def passes_over(self, slot: int) -> bool:
        """Whether nothing will be submitted in a slot: it has no value, or a newer one has one."""
        if slot not in self._without and self._ledger.last_slot <= slot:
            return False
        self._without = {other for other in self._without if other > slot}
        return True
