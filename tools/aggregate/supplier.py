"""Reads the sums that a running supplier has opened, from the events it writes. Does no I/O.

`smgw emp` appends each slot's result to DIR/totals.jsonl; with --jsonl it prints the same among its events.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from tools.aggregate.slots import Slot
from tools.dcnet.record import BadRecord

_RING: Final = 1 << 64


def from_events(lines: Iterable[str]) -> list[Slot]:
    """Return the slot of every event `total`, each once, by slot and net; other events are passed over.

    A last line without its end is one that is being written now, and is left out.

    Raises:
        BadRecord: a line is no event, or one slot of a net has two results.
    """
    found: dict[tuple[str, int], Slot] = {}
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):
            continue
        try:
            event = json.loads(line)
            slot = _slot(event) if event["event"] == "total" else None
        except (ValueError, OverflowError, KeyError, TypeError, RecursionError) as error:
            raise BadRecord(f"line {number} is no event of a supplier ({error})") from error
        if slot is None:
            continue
        known = found.setdefault((slot.net, slot.slot), slot)
        if known != slot:
            raise BadRecord(f"line {number}: net {slot.net} slot {slot.slot} has two results")
    return sorted(found.values(), key=lambda slot: (slot.slot, slot.net))


def _slot(event: dict[str, Any]) -> Slot:
    totalled = event["verdict"] == "totalled"
    lanes = tuple(int(lane) for lane in list(event["lanes"]))
    if not isinstance(event["lanes"], list) or not all(0 <= lane < _RING for lane in lanes):
        raise ValueError("lanes are a list of numbers below 2**64")
    if totalled != bool(lanes):
        raise ValueError("a total has lanes, and nothing else has")
    reason = "" if totalled else "the supplier gave it up"
    return Slot(
        str(event["net"]),
        int(event["slot"]),
        len(event["members"]),
        0,
        lanes if totalled else None,
        reason,
        str(event.get("reconciles", "")),
    )
