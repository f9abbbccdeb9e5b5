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

    A delivery tells the register at the end of its slot. It covers what was counted since the register that
    the same supplier knew before it: a value that was missing in the air costs no energy.
    """
    found: dict[tuple[str, int], list[Place]] = {
        (one.name, slot): [] for one in plan.households for slot in plan.all_slots
    }
    for supplier, events in emps.items():
        events = list(events)
        known = _registers(plan, events)
        for event in events:
            if event["event"] == "delivery":
                for slot in _covered(plan, event, known.get(event["gateway"], [])):
                    found.setdefault((event["gateway"], slot), []).append(Place("plain", supplier))
            elif event["event"] == "total" and event["verdict"] == "totalled" and "reconciles" not in event:
                for gateway in event["members"]:
                    entry = found.setdefault((gateway, event["slot"]), [])
                    entry.append(Place("total", supplier, event["net"]))
    return {key: places for key, places in found.items() if key[1] in plan.all_slots}


def _registers(plan: DistrictPlan, events: Iterable[Event]) -> dict[str, list[int]]:
    """Return after which slots a supplier knows the register of each gateway, rising."""
    known: dict[str, set[int]] = {}
    for event in events:
        if event["event"] == "delivery" and _tells(event["document"]):
            known.setdefault(event["gateway"], set()).add(_last(plan, event["document"]))
    return {gateway: sorted(slots) for gateway, slots in known.items()}


def _tells(document: Mapping[str, Any]) -> bool:
    return any(entry["value"] is not None for entry in document["entries"])


def _last(plan: DistrictPlan, document: Mapping[str, Any]) -> int:
    return slot_ending(plan, datetime.fromisoformat(document["period"]["to"]))


def _covered(plan: DistrictPlan, event: Event, known: list[int]) -> range:
    document = event["document"]
    if not _tells(document):
        return range(0)
    last = _last(plan, document)
    first = slot_ending(plan, datetime.fromisoformat(document["period"]["from"])) + 1
    earlier = [slot for slot in known if slot < last]
    return range(earlier[-1] + 1 if earlier else first, last + 1)


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
