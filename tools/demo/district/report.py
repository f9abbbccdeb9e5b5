"""Judges a district's run: every check is computed from what the parties saw, none is assumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from firmware.enforcement.dcnet.policy import NetRules
from firmware.profile.model import NetPolicy
from tools.dcnet.record import Seen as Message
from tools.demo.district import checks, happened, knowledge, sums
from tools.demo.district.evidence import Evidence
from tools.demo.district.expected import Expected
from tools.demo.district.knowledge import Knowledge
from tools.demo.district.plan import DistrictPlan
from tools.demo.district.record import record, totals_told
from tools.demo.district.whereabouts import books, owed, settled
from tools.homes.household import Household


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the demo prints of a district."""

    plan: DistrictPlan
    slots: tuple[sums.SlotReport, ...]
    added: tuple[sums.Added, ...]
    graphs: tuple[sums.Graph, ...]
    reconciled: tuple[sums.Reconciled, ...]
    places: Mapping[str, int]
    """How many slots of homes were delivered in plain, are in a total, were reconciled, are owed."""
    story: tuple[str, ...]
    """What happened, in words."""
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
            "reconciled": [
                {
                    "net": one.net,
                    "period": one.period,
                    "homes": one.homes,
                    "true_sum_wh": one.true_sum_wh,
                    "opened_sum_wh": one.opened_sum_wh,
                }
                for one in self.reconciled
            ],
            "places": dict(self.places),
            "story": list(self.story),
            "known": [one.to_dict() for one in self.known],
            "checks": dict(self.checks),
            "ok": self.ok,
        }


def judge(evidence: Evidence) -> Report:
    """Hold against each other what meters, gateways, administrators and suppliers saw."""
    seen, plan = evidence.seen, evidence.seen.plan
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
    messages = tuple(record(plan, evidence.supplier_flows, delivered, rules))
    expected = Expected(plan, seen.lost)
    found = books(plan, seen.emps)
    slots = tuple(sums.slots(seen))
    added = tuple(sums.added(seen, evidence.aggregated))
    graphs = tuple(sums.key_graphs(evidence, rules))
    reconciled = tuple(sums.reconciled(seen))
    known = tuple(_known(evidence, messages, rules, reconciled))
    counts = Counter(place.how for places in found.values() for place in places)
    verdicts = {
        **dict(checks.street(evidence, expected, found)),
        **dict(checks.nets(evidence, expected, slots, added, graphs, rules)),
        **dict(happened.checks(evidence, expected, slots, reconciled)),
        **dict(checks.knowledge(evidence, known, messages)),
    }
    return Report(
        plan,
        slots,
        added,
        graphs,
        reconciled,
        {
            "plain": counts["plain"],
            "total": counts["total"],
            "reconciled": sum(len(settled(home)) for home in seen.homes),
            "owed": sum(len(owed(home)) for home in seen.homes),
            "slots": len(found),
        },
        tuple(happened.story(evidence)),
        known,
        verdicts,
        messages,
    )


def _known(
    evidence: Evidence,
    messages: tuple[Message, ...],
    rules: Mapping[str, NetRules],
    reconciled: tuple[sums.Reconciled, ...],
) -> Iterator[Knowledge]:
    seen = evidence.seen
    cast = seen.plan.cast
    names = [one.name for one in cast.suppliers]
    of = {net.name: net.supplier for net in cast.nets}
    owing = {
        name: [one.entries for one in reconciled if of[one.net] == name and one.opened_sum_wh is not None]
        for name in names
    }
    for name in names:
        yield knowledge.supplier(name, {name}, messages, (), owing[name])
    both = [entries for name in names for entries in owing[name]]
    yield knowledge.supplier(" and ".join(names), set(names), messages, (), both)
    net = cast.nets[0]
    curious = Household(net.homes[0]).name
    yield knowledge.supplier(
        f"{net.supplier} with the gateway {curious}",
        {net.supplier},
        messages,
        {curious},
        owing[net.supplier],
    )
    told = totals_told(evidence.supplier_flows)
    yield knowledge.member(
        f"the household of {curious}",
        curious,
        [
            (event["slot"], event["members"])
            for event in seen.emps[net.supplier]
            if event["event"] == "total"
            and (event["net"], event["slot"]) in told
            and event["net"] == net.net_id
            and event["verdict"] == "totalled"
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
