"""Where the energy of each slot of each home went, by the suppliers' own books. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tools.demo.district.plan import DistrictPlan
from tools.demo.district.play import Lived
from tools.demo.district.record import slot_ending
from tools.homes.parties import Event


@dataclass(frozen=True, slots=True)
class Place:
    """One entry of a supplier's books."""

    how: str
    """"plain" or "total"."""
    supplier: str
    net: str = ""


Books = Mapping[tuple[str, int], list[Place]]
"""Gateway and slot -> every entry that holds its energy."""


def books(plan: DistrictPlan, emps: Mapping[str, Iterable[Event]]) -> Books:
    """Read the suppliers' deliveries and totals; each slot of each home is in it, with an empty list too.

    A delivery tells the register at the end of its slot; what it covers is its period.
    """
    found: dict[tuple[str, int], list[Place]] = {
        (one.name, slot): [] for one in plan.households for slot in plan.all_slots
    }
    for supplier, events in emps.items():
        for event in events:
            if event["event"] == "delivery":
                for slot in _covered(plan, event["document"]):
                    found.setdefault((event["gateway"], slot), []).append(Place("plain", supplier))
            elif event["event"] == "total" and event["verdict"] == "totalled" and "reconciles" not in event:
                for gateway in event["members"]:
                    entry = found.setdefault((gateway, event["slot"]), [])
                    entry.append(Place("total", supplier, event["net"]))
    return {key: places for key, places in found.items() if key[1] in plan.all_slots}


def _covered(plan: DistrictPlan, document: Mapping[str, Any]) -> range:
    known = [entry for entry in document["entries"] if entry["value"] is not None]
    begin, end = (datetime.fromisoformat(document["period"][name]) for name in ("from", "to"))
    if not known:
        return range(0)
    return range(slot_ending(plan, begin) + 1, slot_ending(plan, end) + 1)


def owed(home: Lived) -> list[int]:
    """Return the slots whose energy the gateway itself says no total holds, each as often as it says so."""
    return sorted(
        slot
        for spans in home.tally.owed.values()
        for span in spans
        for slot in range(span.first_slot, span.last_slot + 1)
    )


def settled(home: Lived) -> list[int]:
    """Return the slots whose energy went into a reconcile sum, by the gateway's own ledger."""
    return sorted(slot for slots in home.tally.settled.values() for slot in slots)


def energy(plan: DistrictPlan, home: Lived, slot: int) -> int | None:
    """Return a home's energy in a slot in Wh, from its own sealed store; None if it is not known there."""
    begin = home.tally.registered.get(plan.slot_start(slot))
    end = home.tally.registered.get(plan.slot_start(slot) + timedelta(seconds=plan.slot_s))
    return None if begin is None or end is None else end - begin
