"""What the suppliers opened, beside what the meters of the members really counted. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from firmware.enforcement.dcnet.policy import NetRules
from tools.demo.district.evidence import Evidence, totals
from tools.demo.district.plan import PERIOD_SLOTS, Net
from tools.demo.district.play import Seen
from tools.demo.district.record import graphs
from tools.demo.district.whereabouts import energy
from tools.homes.household import Household

TENTHS: Final = 10
_LANE_IMPORT, _LANE_CANARY = 0, 2


@dataclass(frozen=True, slots=True)
class SlotReport:
    """One slot of one net."""

    net: str
    slot: int
    """From 1."""
    members: tuple[str, ...]
    left_out: tuple[str, ...]
    true_sum_wh: int | None
    opened_sum_wh: int | None
    canary: int | None
    aborted: bool = False
    """Whether there is no sum."""

    @property
    def right(self) -> bool:
        """Whether the opened sum is the true one, over the members that the canary lane counted."""
        return self.true_sum_wh is not None and (self.true_sum_wh, len(self.members)) == (
            self.opened_sum_wh,
            self.canary,
        )


@dataclass(frozen=True, slots=True)
class Added:
    """The sums of one supplier's nets in one slot, as `smgw aggregate` adds them."""

    supplier: str
    slot: int
    """From 1."""
    nets: int
    members: int
    true_sum_wh: int | None
    opened_sum_wh: int


@dataclass(frozen=True, slots=True)
class Graph:
    """The key graph of one net's roster."""

    net: str
    version: int
    members: int
    edges: int
    across: int
    """Edges between gateways of two administrators."""
    lowest_degree: int


@dataclass(frozen=True, slots=True)
class Reconciled:
    """One reconcile slot: what is owed, in one sum."""

    net: str
    period: int
    """From 1."""
    homes: int
    """How many owed something."""
    entries: tuple[tuple[str, int], ...]
    """Gateway and slot of everything that is in it."""
    true_sum_wh: int | None
    opened_sum_wh: int | None


def slots(seen: Seen) -> Iterator[SlotReport]:
    """Yield each net's slots from its first one on."""
    homes = {home.household.name: home for home in seen.homes}
    for net in seen.plan.cast.nets:
        opened = totals(seen, net.net_id)
        for slot in range(seen.plan.slots):
            contracts = tuple(Household(home).name for home in seen.plan.cast.members(net, slot))
            total = opened.get(slot)
            if total is None or total["verdict"] != "totalled":
                members = () if total is None else tuple(total["members"])
                yield SlotReport(
                    net.name, slot + 1, members, _without(contracts, members), None, None, None, aborted=True
                )
                continue
            members = tuple(total["members"])
            whole, rest = divmod(total["lanes"][_LANE_IMPORT], TENTHS)
            yield SlotReport(
                net.name,
                slot + 1,
                members,
                _without(contracts, members),
                total_wh(energy(seen.plan, homes[name], slot) for name in members),
                whole if rest == 0 else None,
                total["lanes"][_LANE_CANARY],
            )


def _without(contracts: Iterable[str], members: Iterable[str]) -> tuple[str, ...]:
    present = set(members)
    return tuple(name for name in contracts if name not in present)


def total_wh(energies: Iterable[int | None]) -> int | None:
    """Add up; None if one is not known."""
    total = 0
    for one in energies:
        if one is None:
            return None
        total += one
    return total


def added(seen: Seen, aggregated: Mapping[str, Mapping[str, Any]]) -> Iterator[Added]:
    """Yield what `smgw aggregate` made of each supplier that has more than one net."""
    homes = {home.household.name: home for home in seen.homes}
    for supplier, result in aggregated.items():
        nets = [net for net in seen.plan.cast.nets if net.supplier == supplier]
        for one in result["together"]:
            slot = one["slot"]
            if slot >= seen.plan.slots or len(nets) < 2:
                continue
            members = [
                name
                for net in nets
                if (event := totals(seen, net.net_id).get(slot)) is not None
                and event["verdict"] == "totalled"
                for name in event["members"]
            ]
            yield Added(
                supplier,
                slot + 1,
                one["nets"],
                one["members"],
                total_wh(energy(seen.plan, homes[name], slot) for name in members),
                one["totals"][_LANE_IMPORT] // TENTHS,
            )


def key_graphs(evidence: Evidence, rules: Mapping[str, NetRules]) -> Iterator[Graph]:
    """Yield the key graph of each roster, as it follows from what was published."""
    names = {net.net_id: net.name for net in evidence.seen.plan.cast.nets}
    for (net, version), (roster, edges, _flow) in sorted(graphs(evidence.supplier_flows, rules).items()):
        owner = {entry.index: entry.administrator for entry in roster.entries}
        degrees = Counter(end for edge in edges for end in edge)
        across = sum(owner[one] != owner[other] for one, other in edges)
        lowest = min(degrees[index] for index in owner)
        yield Graph(names[net], version, len(owner), len(edges), across, lowest)


def reconciled(seen: Seen) -> Iterator[Reconciled]:
    """Yield each reconcile slot beside what its members' own ledgers say was settled.

    A period's last slot is settled with the next one: that it failed is known after its end. That a slot was
    aborted counts once the manifest behind it says so.
    """
    homes = {home.household.name: home for home in seen.homes}
    for net in seen.plan.cast.nets:
        settled = [
            (name, slot) for name, home in homes.items() for slot in home.tally.settled.get(net.net_id, ())
        ]
        aborted = {slot for slot, total in totals(seen, net.net_id).items() if total["verdict"] != "totalled"}
        events = _reconcile_totals(seen, net)
        summed = [event["slot"] for event in events if event["verdict"] == "totalled"]
        left = set(settled)
        for event in events:
            last = PERIOD_SLOTS * (event["slot"] + 1) - 1
            # What was refused, or told late, came a period later: whatever is left is in the last sum.
            mine = tuple(
                (name, slot)
                for name, slot in sorted(left)
                if event["slot"] in summed
                and (event["slot"] == summed[-1] or slot + 1 + (slot in aborted) <= last)
            )
            left -= set(mine)
            lanes = event["lanes"]
            yield Reconciled(
                net.name,
                event["slot"] + 1,
                len({name for name, _ in mine}),
                mine,
                total_wh(energy(seen.plan, homes[name], slot) for name, slot in mine),
                lanes[_LANE_IMPORT] // TENTHS if event["verdict"] == "totalled" else None,
            )


def _reconcile_totals(seen: Seen, net: Net) -> list[dict[str, Any]]:
    return [
        event
        for event in seen.emps[net.supplier]
        if event["event"] == "total" and event.get("reconciles") == net.net_id
    ]
