"""Judges a district's run: every check is computed from what the parties saw, none is assumed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame, FrameType
from firmware.enforcement.dcnet.policy import NetRules
from firmware.profile.model import NetPolicy
from tools.dcnet.record import Seen as Message
from tools.demo.district import knowledge
from tools.demo.district.knowledge import Knowledge
from tools.demo.district.plan import DistrictPlan, Net
from tools.demo.district.play import Lived, Seen
from tools.demo.district.record import Flow, graphs, record, totals_told
from tools.demo.district.stage import FLOWS, branch_folder, supplier_folder
from tools.demo.district.whereabouts import Books, Place, books, energy, owed
from tools.homes.household import Household

TENTHS: Final = 10
_LANE_IMPORT, _LANE_CANARY = 0, 2
_MARGIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class SlotReport:
    """One slot of one net: what its supplier opened beside what the meters of the members really counted."""

    net: str
    slot: int
    """From 1."""
    members: tuple[str, ...]
    left_out: tuple[str, ...]
    true_sum_wh: int | None
    opened_sum_wh: int | None
    canary: int | None

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
class Report:
    """Everything the demo prints of a district."""

    plan: DistrictPlan
    slots: tuple[SlotReport, ...]
    added: tuple[Added, ...]
    graphs: tuple[Graph, ...]
    places: Mapping[str, int]
    """How many slots of homes were delivered in plain, are in a total, are owed."""
    known: tuple[Knowledge, ...]
    checks: Mapping[str, bool]
    messages: tuple[Message, ...]
    """The record, for `smgw dcnet leak`."""

    @property
    def ok(self) -> bool:
        """Whether every check held."""
        return all(self.checks.values())

    def to_dict(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        plan, cast = self.plan, self.plan.cast
        return {
            "gateways": plan.gateways,
            "slot_s": plan.slot_s,
            "administrators": {one.name: len(one.homes) for one in cast.administrators},
            "suppliers": [one.name for one in cast.suppliers],
            "nets": [msgspec.to_builtins(one) for one in self.graphs],
            "slots": [msgspec.to_builtins(one) for one in self.slots],
            "added": [msgspec.to_builtins(one) for one in self.added],
            "places": dict(self.places),
            "known": [one.to_dict() for one in self.known],
            "checks": dict(self.checks),
            "ok": self.ok,
        }


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the judge reads beside what the parties printed."""

    seen: Seen
    supplier_flows: tuple[Flow, ...]
    gwa_flows: Mapping[str, tuple[Flow, ...]]
    aggregated: Mapping[str, Mapping[str, Any]]
    """Supplier -> what `smgw aggregate --json` said of its folder."""


def collect(seen: Seen, aggregated: Mapping[str, Mapping[str, Any]]) -> Evidence:
    """Read the parties' files."""
    plan, cast = seen.plan, seen.plan.cast
    return Evidence(
        seen,
        tuple(flow for one in cast.suppliers for flow in _flows(supplier_folder(plan, one.name))),
        {one.name: tuple(_flows(branch_folder(plan, one.name) / "gwa")) for one in cast.administrators},
        aggregated,
    )


def _flows(folder: Path) -> Iterator[Flow]:
    path = folder / FLOWS
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        yield json.loads(line)


def judge(evidence: Evidence) -> Report:
    """Hold against each other what meters, gateways, administrators and suppliers saw."""
    seen = evidence.seen
    plan = seen.plan
    rules = {
        net.net_id: NetRules.from_profile(msgspec.convert(plan.net_policy(net), NetPolicy))
        for net in plan.cast.nets
    }
    delivered = [
        event | {"to": name}
        for name, events in seen.emps.items()
        for event in events
        if event["event"] == "delivery"
    ]
    messages = record(plan, evidence.supplier_flows, delivered, rules)
    slots = tuple(_slot(seen, net, slot) for net in plan.cast.nets for slot in range(plan.slots))
    found = books(plan, seen.emps)
    report = Report(
        plan,
        slots,
        tuple(_added(seen, evidence.aggregated)),
        tuple(_graphs(plan, evidence, rules)),
        _counted(seen, found),
        tuple(_known(evidence, messages, rules)),
        {},
        tuple(messages),
    )
    return replace(report, checks=dict(_checks(evidence, report, found, rules)))


def _slot(seen: Seen, net: Net, slot: int) -> SlotReport:
    homes = {home.household.name: home for home in seen.homes}
    everybody = tuple(Household(number).name for number in net.homes)
    total = next(
        (
            event
            for event in seen.emps[net.supplier]
            if event["event"] == "total" and (event["net"], event["slot"]) == (net.net_id, slot)
        ),
        None,
    )
    if total is None or total["verdict"] != "totalled":
        return SlotReport(net.name, slot + 1, (), everybody, None, None, None)
    members = tuple(total["members"])
    whole, rest = divmod(total["lanes"][_LANE_IMPORT], TENTHS)
    return SlotReport(
        net.name,
        slot + 1,
        members,
        tuple(name for name in everybody if name not in members),
        _sum(energy(seen.plan, homes[name], slot) for name in members),
        whole if rest == 0 else None,
        total["lanes"][_LANE_CANARY],
    )


def _sum(energies: Iterable[int | None]) -> int | None:
    total = 0
    for one in energies:
        if one is None:
            return None
        total += one
    return total


def _added(seen: Seen, aggregated: Mapping[str, Mapping[str, Any]]) -> Iterator[Added]:
    homes = {home.household.name: home for home in seen.homes}
    for supplier, result in aggregated.items():
        for one in result["together"]:
            slot, nets = one["slot"], [net for net in seen.plan.cast.nets if net.supplier == supplier]
            if slot >= seen.plan.slots:
                continue
            members = [
                name
                for event in seen.emps[supplier]
                if event["event"] == "total" and event["slot"] == slot and event["verdict"] == "totalled"
                for name in event["members"]
            ]
            true = _sum(energy(seen.plan, homes[name], slot) for name in members)
            if len(nets) > 1:
                opened = one["totals"][_LANE_IMPORT] // TENTHS
                yield Added(supplier, slot + 1, one["nets"], one["members"], true, opened)


def _graphs(plan: DistrictPlan, evidence: Evidence, rules: Mapping[str, NetRules]) -> Iterator[Graph]:
    names = {net.net_id: net.name for net in plan.cast.nets}
    for (net, version), (roster, edges, _flow) in sorted(graphs(evidence.supplier_flows, rules).items()):
        owner = {entry.index: entry.administrator for entry in roster.entries}
        degrees = Counter(end for edge in edges for end in edge)
        across = sum(owner[one] != owner[other] for one, other in edges)
        lowest = min(degrees[index] for index in owner)
        yield Graph(names[net], version, len(owner), len(edges), across, lowest)


def _counted(seen: Seen, found: Books) -> dict[str, int]:
    counts = Counter(place.how for places in found.values() for place in places)
    return {
        "plain": counts["plain"],
        "total": counts["total"],
        "owed": sum(len(owed(home)) for home in seen.homes),
        "slots": len(found),
    }


def _known(evidence: Evidence, messages: list[Message], rules: Mapping[str, NetRules]) -> Iterator[Knowledge]:
    seen = evidence.seen
    cast = seen.plan.cast
    names = [one.name for one in cast.suppliers]
    for name in names:
        yield knowledge.supplier(name, {name}, messages, ())
    yield knowledge.supplier(" and ".join(names), set(names), messages, ())
    net = cast.nets[0]
    curious = Household(net.homes[-1]).name
    yield knowledge.supplier(
        f"{net.supplier} with the gateway {curious}", {net.supplier}, messages, {curious}
    )
    told = totals_told(evidence.supplier_flows)
    yield knowledge.member(
        f"the household of {curious}",
        curious,
        [
            (event["slot"], event["members"])
            for event in seen.emps[net.supplier]
            if event["event"] == "total" and (event["net"], event["slot"]) in told
            if event["net"] == net.net_id and event["verdict"] == "totalled"
        ],
        rules[net.net_id].n_min,
    )
    hidden = knowledge.submitted(messages)
    for one in cast.administrators:
        flows = evidence.gwa_flows[one.name]
        readable = record(seen.plan, flows, (), rules)
        yield knowledge.bystander(f"administrator {one.name}", len(flows), readable, hidden)
    everything = len(evidence.supplier_flows) + sum(map(len, evidence.gwa_flows.values()))
    yield knowledge.bystander("who listens on every line", everything, (), hidden)


def _checks(
    evidence: Evidence, report: Report, found: Books, rules: Mapping[str, NetRules]
) -> Iterator[tuple[str, bool]]:
    seen, plan = evidence.seen, evidence.seen.plan
    cast = plan.cast
    homes = seen.homes
    gone = {(Household(one.home).name, one.slot) for one in cast.drop_outs if one.slot < plan.slots}
    yield "each administrator's orders were carried out by its own gateways", _orders(seen)
    yield "every registered value is one that the meter sent at that time", all(map(_was_sent, homes))
    yield (
        "every slot of every home was delivered in plain, is in one total or is owed: once",
        all(_once(home, found) for home in homes),
    )
    yield (
        "plain values end where the nets begin, and none is missing or doubled there",
        _taken_over(plan, found, gone),
    )
    yield "every sum that a supplier opened is the true one", all(one.right for one in report.slots)
    yield "nobody was left out but who dropped out", _left_out(plan, report.slots, gone)
    yield (
        "the nets of one supplier add up to the true sum of all their members",
        bool(report.added)
        and len(report.added) == plan.slots
        and all(one.nets > 1 and one.true_sum_wh == one.opened_sum_wh for one in report.added),
    )
    yield "every net has edges across administrators", all(one.across > 0 for one in report.graphs)
    yield (
        "the refused peer shares a key with nobody of the administrator that refuses it",
        _refused(evidence, rules),
    )
    yield (
        "every degree is at least d_min + 2",
        {one.net for one in report.graphs} == {net.name for net in cast.nets}
        and all(
            one.lowest_degree >= net.d_min + 2
            for one in report.graphs
            for net in cast.nets
            if net.name == one.net
        ),
    )
    before = [one for one in report.known if one.party in {supplier.name for supplier in cast.suppliers}]
    yield "before the nets the suppliers knew single slots of homes", all(one.plain > 0 for one in before)
    yield (
        "in the nets nobody can work out a reading, or a sum of too few",
        all(one.nothing_small for one in report.known),
    )
    yield "frames of one type in a net have one size", _one_size(report.messages)
    yield "what administrators were told holds no reading", _no_reading(evidence)
    yield "every telegram that was heard was accepted", all(_telegrams(home, gone) for home in homes)
    yield (
        "every connection was TLS with an ephemeral Brainpool key",
        all(
            home.tally.tls and all(one[1].startswith("brainpool") for one in home.tally.tls) for home in homes
        ),
    )


def _orders(seen: Seen) -> bool:
    cast = seen.plan.cast
    for one in cast.administrators:
        receipts = [event for event in seen.gwas[one.name] if event["event"] == "receipt"]
        own = {Household(number).name for number in one.homes}
        counts = Counter(event["gateway"] for event in receipts if event["accepted"])
        if counts != dict.fromkeys(own, 2) or len(receipts) != 2 * len(own):
            return False
    return True


def _was_sent(home: Lived) -> bool:
    window = timedelta(seconds=_MARGIN_S)
    known = {instant: value for instant, value in home.tally.registered.items() if value is not None}
    return bool(known) and all(
        any(value == sent and abs(at - instant) <= window for at, sent in home.tally.transmitted)
        for instant, value in known.items()
    )


def _once(home: Lived, found: Books) -> bool:
    """Each slot stands in one book, or the gateway owes it; never both and never neither."""
    name, counts = home.household.name, Counter(owed(home))
    own = {slot: places for (gateway, slot), places in found.items() if gateway == name}
    return bool(own) and all(len(places) + counts[slot] == 1 for slot, places in own.items())


def _taken_over(plan: DistrictPlan, found: Books, gone: set[tuple[str, int]]) -> bool:
    """The last plain slot and the first of the nets, home by home."""
    for number in plan.cast.homes:
        name, net = Household(number).name, plan.cast.net_of(number)
        if found[name, -1] != [Place("plain", net.supplier)]:
            return False
        if (name, 0) not in gone and found[name, 0] != [Place("total", net.supplier, net.net_id)]:
            return False
    return True


def _left_out(plan: DistrictPlan, slots: tuple[SlotReport, ...], gone: set[tuple[str, int]]) -> bool:
    """A drop-out misses its slot; it may miss the next one, for which it can only say hello."""
    may = gone | {(name, slot + 1) for name, slot in gone}
    for one in slots:
        left = {(name, one.slot - 1) for name in one.left_out}
        if (
            not left <= may
            or not {key for key in gone if key[1] == one.slot - 1 and _of(plan, key[0], one)} <= left
        ):
            return False
    return True


def _of(plan: DistrictPlan, gateway: str, one: SlotReport) -> bool:
    net = next(net for net in plan.cast.nets if net.name == one.net)
    return gateway in {Household(number).name for number in net.homes}


def _refused(evidence: Evidence, rules: Mapping[str, NetRules]) -> bool:
    cast = evidence.seen.plan.cast
    found = graphs(evidence.supplier_flows, rules)
    seen_refused = 0
    for one in cast.administrators:
        for number in one.refuses:
            net = cast.net_of(number)
            index = net.homes.index(number) + 1
            roster, edges, _ = found[net.net_id, 1]
            owner = {entry.index: entry.administrator for entry in roster.entries}
            theirs = [edge for edge in edges if index in edge]
            ends = {owner[end] for edge in theirs for end in edge if end != index}
            if one.name in ends or not ends or one.name not in owner.values():
                return False
            seen_refused += 1
    return seen_refused > 0


def _one_size(messages: Iterable[Message]) -> bool:
    """Sizes tell nothing: in a net, every frame of one type is as long as any other."""
    sizes: dict[tuple[str, FrameType], set[int]] = {}
    for one in messages:
        if one.kind in ("submit", "open"):
            frame = Frame.from_bytes(one.data[:-MAC_BYTES])
            sizes.setdefault((frame.net.hex(), frame.type), set()).add(len(one.data))
    return bool(sizes) and all(len(found) == 1 for found in sizes.values())


def _no_reading(evidence: Evidence) -> bool:
    readings = {
        str(value).encode()
        for home in evidence.seen.homes
        for value in home.tally.registered.values()
        if value is not None
    }
    said = [bytes.fromhex(flow["hex"]) for flows in evidence.gwa_flows.values() for flow in flows]
    return bool(readings) and bool(said) and not any(reading in body for reading in readings for body in said)


def _telegrams(home: Lived, gone: set[tuple[str, int]]) -> bool:
    tally = home.tally
    switched_off = home.household.name in {name for name, _ in gone}
    return (
        tally.rejected == 0
        and tally.accepted > 0
        and (tally.accepted <= tally.sent if switched_off else tally.accepted == tally.sent)
    )
