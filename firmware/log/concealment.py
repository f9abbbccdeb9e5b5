"""What a consumer's log says about a day in a DC-net, worked out from the log itself. No I/O.

Nothing in it is taken for granted: plain data sets are counted like everything else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from firmware.log.entry import Entry, Event


@dataclass(frozen=True, slots=True)
class Statement:
    """One day of one net."""

    hidden: int
    """Slots whose values went into a total."""
    kept: int
    """Slots whose values could not be hidden, and so stayed."""
    smallest: int
    """Fewest households that a value hid among; 0: none was hidden."""
    largest: int
    plain: int
    """Data sets that left in plain for the communication profile that the net conceals."""

    def evidence(self) -> dict[str, str]:
        """Return what the log entry holds."""
        return {
            "hidden": str(self.hidden),
            "kept": str(self.kept),
            "smallest_group": str(self.smallest),
            "largest_group": str(self.largest),
            "plain": str(self.plain),
        }


def state(entries: Iterable[Entry], net: str, profile: str) -> Statement:
    """Sum up entries of one consumer's log.

    Args:
        entries: of one day.
        net: id, hexadecimal.
        profile: id of the communication profile that it conceals.
    """
    groups, kept, plain = [], set[str](), 0
    for entry in entries:
        if entry.event is Event.DATA_RELEASED and entry.subject == profile:
            plain += 1
        elif entry.subject != net:
            continue
        elif entry.event is Event.CONCEALED_CONTRIBUTION:
            groups.append(int(entry.evidence.get("anonymity_set", "0")))
        elif entry.event is Event.CONCEALMENT_ABORTED and entry.evidence.get("slot"):
            kept.add(entry.evidence["slot"])
    return Statement(len(groups), len(kept), min(groups, default=0), max(groups, default=0), plain)
