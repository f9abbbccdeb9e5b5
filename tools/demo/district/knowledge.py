"""What each party of a run could work out, and what not: the leak check from everybody's point of view. Pure.

Suppliers see every frame that is sent to them; with a member's help also what that member knows. A member
alone sees the totals it is told. Administrators see what gateways send them, listeners see nothing readable.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from firmware.enforcement.dcnet.messages.frames import FrameType
from tools.dcnet.leak import known
from tools.dcnet.oracle import Row, determined, reduced, singles, smallest
from tools.dcnet.record import Seen
from tools.demo.district.record import BEFORE, OWED, type_of


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What one party, or several together, could learn."""

    party: str
    messages: int
    """How many it saw."""
    plain: int
    """Single slots of single homes that it knows, delivered in plain before there were nets."""
    hidden: int
    """Readings of others that passed it behind masks."""
    singles: int
    """How many of these it can tell."""
    sums: int
    """Independent sums of them that it knows."""
    smallest: int | None
    """How many readings the smallest sum of one has that it can work out; None: there is none."""
    too_small: int
    """Sums of fewer readings than the net's floor allows."""
    with_owed: int | None = None
    """The smallest sum with what reconcile slots tell: they hold what those owed who were left out."""
    complete: bool = True
    """False: the search for sums of too few readings was too long to be carried to its end."""

    @property
    def nothing_small(self) -> bool:
        """Whether no reading of a net's slot is told, and no sum of too few; all was looked at."""
        return self.singles == 0 and self.too_small == 0 and self.complete

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "party": self.party,
            "messages": self.messages,
            "plain": self.plain,
            "hidden": self.hidden,
            "singles": self.singles,
            "sums": self.sums,
            "smallest": self.smallest,
            "too_small": self.too_small,
            "with_owed": self.with_owed,
            "complete": self.complete,
        }


def submitted(seen: Iterable[Seen]) -> int:
    """Return how many readings a record holds behind masks."""
    return sum(
        one.kind == "submit" and one.register != OWED and type_of(one) is FrameType.SUBMIT for one in seen
    )


def supplier(
    party: str,
    names: Collection[str],
    seen: Iterable[Seen],
    corrupt: Collection[str],
    owed: Iterable[Iterable[tuple[str, int]]] = (),
) -> Knowledge:
    """Return what suppliers know, alone or together, and with some members' help.

    Args:
        party: how to call it.
        names: of the suppliers.
        seen: the record.
        corrupt: gateways that help them.
        owed: gateways and slots in each reconcile sum; taken as known, though a supplier can only infer them
            from who was left out when.

    Raises:
        BadRecord: the record contradicts itself.
    """
    mine = [one for one in seen if (one.to in names or one.sender in names) and one.register != OWED]
    found = known(mine, corrupt)
    sums: list[Row] = [
        {(name, "", slot): 1 for name, slot in entries if name not in corrupt} for entries in owed
    ]
    netted, mended = _netted(found.basis), _netted(reduced([*found.basis, *(row for row in sums if row)]))
    least, owing = smallest(netted), smallest(mended)
    return Knowledge(
        party,
        len(mine),
        plain=sum(_is_before(symbol) for symbol in found.singles),
        hidden=submitted(one for one in mine if one.sender not in corrupt),
        singles=sum(len(row) == 1 for row in mended),
        sums=len(mended),
        smallest=None if least is None else len(least.readings),
        too_small=len(found.too_small),
        with_owed=None if owing is None else len(owing.readings),
        complete=found.complete,
    )


def member(party: str, own: str, told: Iterable[tuple[int, Collection[str]]], n_min: int) -> Knowledge:
    """Return what a member knows of the others.

    Args:
        party: how to call it.
        own: its gateway, whose readings it knows itself.
        told: slot and members of each total it was told.
        n_min: of its net; without its own reading a sum may have one less.
    """
    rows: list[Row] = []
    readings: set[Hashable] = set()
    told = list(told)
    for slot, members in told:
        symbols: list[Hashable] = [(name, "", slot) for name in members if name != own]
        readings.update(symbols)
        rows.append(dict.fromkeys(symbols, 1))
    basis = determined(rows, readings)
    least = smallest(basis)
    return Knowledge(
        party,
        len(told),
        plain=0,
        hidden=len(readings),
        singles=len(singles(basis)),
        sums=len(basis),
        smallest=None if least is None else len(least.readings),
        too_small=0 if least is None else int(len(least.readings) < n_min - 1),
        complete=least is None or least.exact,
    )


def bystander(party: str, requests: int, seen: Iterable[Seen], hidden: int) -> Knowledge:
    """Return what somebody knows who is in no net.

    Args:
        party: how to call it.
        requests: how many it saw, readable or not.
        seen: what of them it could read.
        hidden: readings that were measured meanwhile.
    """
    found = known(seen, ())
    netted = _netted(found.basis)
    single = sum(len(row) == 1 for row in netted)
    least = smallest(netted)
    return Knowledge(
        party,
        requests,
        plain=len(found.singles) - single,
        hidden=hidden,
        singles=single,
        sums=len(netted),
        smallest=None if least is None else len(least.readings),
        too_small=len(found.too_small),
        complete=found.complete,
    )


def _netted(basis: Iterable[Row]) -> list[Row]:
    return [row for row in basis if not all(map(_is_before, row))]


def _is_before(symbol: Hashable) -> bool:
    assert isinstance(symbol, tuple)
    return bool(symbol[1] == BEFORE)
