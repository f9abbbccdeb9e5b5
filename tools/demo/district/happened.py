"""What must be seen of each happening of a cast: losses, liars, moves, new tenants, revocations. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from tools.demo.district.evidence import Evidence, rosters, totals
from tools.demo.district.expected import Expected
from tools.demo.district.plan import Liar, Move, NewTenant, Revocation
from tools.demo.district.sums import Reconciled, SlotReport
from tools.homes.household import Household
from tools.homes.parties import Event


def checks(
    evidence: Evidence,
    expected: Expected,
    slots: tuple[SlotReport, ...],
    reconciled: tuple[Reconciled, ...],
) -> Iterator[tuple[str, bool]]:
    """Yield a check for each kind of happening that the cast has."""
    cast, seen = expected.cast, evidence.seen
    if cast.losses:
        yield (
            "who lost its power after the manifest is in the sum, by shares of its neighbours",
            len(seen.lost) == len(cast.losses)
            and all(_recovered(evidence, net, slot, name) for (net, slot), name in seen.lost.items()),
        )
    if cast.liars:
        yield (
            "the canary audit names each liar and nobody else, and opens no reading",
            all(_found(evidence, one) for one in cast.liars),
        )
    if cast.moves:
        yield (
            "who changes the supplier is in the old net to the boundary and in the new one from it on",
            all(_moved(expected, slots, move) for move in cast.moves),
        )
        yield (
            "every member of every roster has confirmed its edges",
            all(_confirmed(evidence, net.net_id) for net in cast.nets),
        )
        yield (
            "what was owed is in reconcile sums that are true",
            bool(reconciled) and all(one.true_sum_wh == one.opened_sum_wh for one in reconciled),
        )
    if cast.tenants:
        yield (
            "who moves in finds nothing in the log of who lived there before",
            all(_unknown(evidence, expected, one) for one in cast.tenants),
        )
    if cast.revocations:
        yield (
            "who was revoked is in no sum any more, and the others' net goes on",
            all(_revoked(expected, slots, one) for one in cast.revocations),
        )


def story(evidence: Evidence) -> Iterator[str]:
    """Tell what the suppliers said of faults, in order."""
    for supplier, events in evidence.seen.emps.items():
        for event in events:
            if (told := _TOLD.get(event["event"])) is not None:
                yield f"{supplier}: {told} {_about(event)}"


_TOLD = {
    "recovery ordered": "orders a recovery",
    "recovered": "recovers a member",
    "mode": "changes its mode",
    "audit ordered": "orders a canary audit",
    "audit": "has judged an audit",
    "leaves": "hears that a member leaves",
    "in-force": "begins a roster",
    "withdrawn": "hears of a revocation",
    "dispute": "hears of a dispute",
    "redrawn": "gives up a draft",
}


def _about(event: Event) -> str:
    return ", ".join(f"{key} {value}" for key, value in event.items() if key not in ("event", "lanes"))


def _of(evidence: Evidence, kind: str, net_id: str) -> list[Event]:
    return [
        event
        for events in evidence.seen.emps.values()
        for event in events
        if event["event"] == kind and event.get("net") == net_id
    ]


def _recovered(evidence: Evidence, net_name: str, slot: int, name: str) -> bool:
    net = evidence.seen.plan.cast.net(net_name)
    total = totals(evidence.seen, net.net_id).get(slot)
    said = [event for event in _of(evidence, "recovered", net.net_id) if event["slot"] == slot]
    opened = any(
        f"/open/{slot}/" in str(flow["path"]) and net.net_id in str(flow["path"])
        for flow in evidence.supplier_flows
        if flow["from"] == name and int(flow["status"]) < 300
    )
    return (
        total is not None
        and total["verdict"] == "totalled"
        and name in total["members"]
        and bool(said)
        and not opened
    )


def _found(evidence: Evidence, liar: Liar) -> bool:
    net = evidence.seen.plan.cast.net_of(liar.home)
    members = rosters(evidence.seen, net.net_id)[1]
    index = members.index(Household(liar.home).name) + 1
    audits = _of(evidence, "audit", net.net_id)
    named = {one for audit in audits for one in audit["members"]}
    edges = [edge for audit in audits for edge in audit["edges"]]
    told = [
        event
        for events in evidence.seen.gwas.values()
        for event in events
        if event["event"] == "probation" and event["net"] == net.net_id
    ]
    modes = [event["mode"] for event in _of(evidence, "mode", net.net_id)]
    return (
        bool(audits)
        and named == {index}
        and not edges
        and len(modes) >= 2
        and modes[0] != modes[-1]
        and {name for event in told for name in event["gateways"]} == {Household(liar.home).name}
        and len({id(events) for events in evidence.seen.gwas.values() if _any(events, net.net_id)})
        == len(evidence.seen.gwas)
    )


def _any(events: Iterable[Event], net_id: str) -> bool:
    return any(event["event"] == "probation" and event["net"] == net_id for event in events)


def _moved(expected: Expected, slots: tuple[SlotReport, ...], move: Move) -> bool:
    names = {Household(home).name for home in move.homes}
    at = {(one.net, one.slot - 1): one for one in slots}
    last, first = at[move.origin, move.slot - 1], at[move.target, move.slot]
    still, already = at[move.origin, move.slot], at[move.target, move.slot - 1]
    return (
        names <= set(last.members)
        and names <= set(first.members)
        and not names & set(still.members)
        and not names & set(already.members)
    )


def _confirmed(evidence: Evidence, net_id: str) -> bool:
    confirmed: dict[int, set[str]] = {}
    for event in _of(evidence, "confirmed", net_id):
        confirmed.setdefault(event["version"], set()).add(event["gateway"])
    found = rosters(evidence.seen, net_id)
    return bool(found) and all(confirmed.get(version) == set(members) for version, members in found.items())


def _unknown(evidence: Evidence, expected: Expected, tenant: NewTenant) -> bool:
    """The new tenant's log and view begin with the tenancy; the old one's log ends there."""
    name, plan = Household(tenant.home).name, expected.plan
    home = next(one for one in evidence.seen.homes if one.household.name == name)
    mine, before = (home.tally.logs.get(one, []) for one in (tenant.consumer, home.household.consumer))
    begin, first = plan.slot_start(tenant.slot - 1), tenant.slot - 1
    shown = [
        slot
        for net in home.tally.views.get(tenant.consumer, [])
        for slot in (
            *(one["slot"] for one in net["slots"]),
            *(one["first_slot"] for one in net.get("owed", [])),
        )
    ]
    return (
        bool(mine)
        and all(datetime.fromisoformat(entry["at_utc"]) >= begin for entry in mine)
        and all(slot >= first for slot in (*_slots_in(mine), *shown))
        and any(slot >= tenant.slot for slot in shown)
        and bool(_slots_in(before))
        and all(slot < tenant.slot for slot in _slots_in(before))
    )


def _slots_in(entries: Iterable[Mapping[str, Any]]) -> list[int]:
    return [int(entry["evidence"]["slot"]) for entry in entries if entry["evidence"].get("slot")]


def _revoked(expected: Expected, slots: tuple[SlotReport, ...], revocation: Revocation) -> bool:
    name, net = Household(revocation.home).name, expected.cast.net_of(revocation.home)
    own = [one for one in slots if one.net == net.name]
    before = [one for one in own if one.slot - 1 < revocation.slot - 1 and name in one.members]
    after = [one for one in own if one.slot - 1 > revocation.slot and not one.aborted]
    return bool(before) and bool(after) and all(name not in one.members for one in after)
