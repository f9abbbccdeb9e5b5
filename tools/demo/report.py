"""Judges a demo run: every check is computed from what the parties saw, none is assumed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from tools.demo.plan import BILLING, STRANGER, Plan, heard_by
from tools.demo.scenario import Outcome
from tools.homes.home import Home
from tools.homes.parties import Event

_TENTHS: Final = 10
_LANE_IMPORT: Final = 0
_LANE_CANARY: Final = 2
_MARGIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class SlotReport:
    """One slot: what the supplier opened beside what the meters of the members really counted."""

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
class MaskedShare:
    """What the supplier got of one home in one slot, beside the reading that it hides."""

    gateway: str
    slot: int
    reading_wh: int | None
    masked: int


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the demo prints."""

    plan: Plan
    homes: tuple[Home, ...]
    slots: tuple[SlotReport, ...]
    bills: tuple[Event, ...]
    share: MaskedShare | None
    checks: dict[str, bool]
    modules: dict[str, str]
    """Gateway -> how it reaches its module, where that is not the emulator in its own process."""

    @property
    def ok(self) -> bool:
        """Whether every check held."""
        return all(self.checks.values())

    def to_dict(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        tallies = [home.tally for home in self.homes]
        version, group, suite = next(
            iter(sorted(set().union(*(tally.tls for tally in tallies)))), ("", "", "")
        )
        return {
            "gateways": len(self.homes),
            "hsm": self.plan.hsm.value,
            "modules": self.modules,
            "pace": {
                "sessions": sum(tally.pace_runs for tally in tallies),
                "apdus": sum(tally.apdus for tally in tallies),
            },
            "telegrams": {
                "sent": sum(tally.sent for tally in tallies),
                "accepted": sum(tally.accepted for tally in tallies),
                "rejected": sum(tally.rejected for tally in tallies),
            },
            "slots": [
                {
                    "slot": one.slot,
                    "members": list(one.members),
                    "left_out": list(one.left_out),
                    "true_sum_wh": one.true_sum_wh,
                    "opened_sum_wh": one.opened_sum_wh,
                }
                for one in self.slots
            ],
            "billing": {
                "sent": len(self.bills),
                "verified": sum(bool(bill.get("verified")) for bill in self.bills),
            },
            "denied": sum(tally.denied for tally in tallies),
            "tls": {"version": version, "group": group, "suite": suite},
            "checks": self.checks,
            "ok": self.ok,
        }


def judge(outcome: Outcome) -> Report:
    """Hold against each other what meters, gateways, administrator and supplier saw."""
    plan, homes = outcome.plan, outcome.homes
    totals = {event["slot"]: event for event in outcome.emp if event["event"] == "total"}
    slots = tuple(_slot(plan, homes, slot, totals.get(slot)) for slot in range(plan.slots))
    bills = tuple(event for event in outcome.emp if event["event"] == "delivery")
    share = _share(plan, homes[0], outcome.emp)
    modules = {homes[number - 1].household.name: way for number, way in sorted(outcome.cards.places.items())}
    return Report(plan, homes, slots, bills, share, dict(_checks(outcome, slots, bills, share)), modules)


def _slot(plan: Plan, homes: tuple[Home, ...], slot: int, total: Event | None) -> SlotReport:
    if total is None or total["verdict"] != "totalled":
        everybody = tuple(home.household.name for home in homes)
        return SlotReport(slot + 1, (), everybody, None, None, None)
    members = tuple(total["members"])
    energies = [_energy(plan, home, slot) for home in homes if home.household.name in members]
    known = [energy for energy in energies if energy is not None]
    lanes = total["lanes"]
    whole, rest = divmod(lanes[_LANE_IMPORT], _TENTHS)
    return SlotReport(
        slot=slot + 1,
        members=members,
        left_out=tuple(home.household.name for home in homes if home.household.name not in members),
        true_sum_wh=sum(known) if len(known) == len(members) else None,
        opened_sum_wh=whole if rest == 0 else None,
        canary=lanes[_LANE_CANARY],
    )


def _energy(plan: Plan, home: Home, slot: int) -> int | None:
    """Energy of one home in one slot, from its own sealed store."""
    begin = home.tally.registered.get(plan.slot_start(slot))
    end = home.tally.registered.get(plan.slot_start(slot + 1))
    return None if begin is None or end is None else end - begin


def _share(plan: Plan, home: Home, emp: list[Event]) -> MaskedShare | None:
    name = home.household.name
    for event in emp:
        if event["event"] == "submit" and event["gateway"] == name:
            slot = int(event["slot"])
            return MaskedShare(name, slot + 1, _energy(plan, home, slot), event["lanes"][_LANE_IMPORT])
    return None


def _checks(
    outcome: Outcome, slots: tuple[SlotReport, ...], bills: tuple[Event, ...], share: MaskedShare | None
) -> Iterator[tuple[str, bool]]:
    plan, homes = outcome.plan, outcome.homes
    yield "every sum that the supplier opened is the true one", all(slot.right for slot in slots)
    if plan.drop_out_slot is not None:
        dropped = slots[plan.drop_out_slot]
        yield "the drop-out was left out and nobody else", dropped.left_out == (plan.drop_out.name,)
        others = [slot for number, slot in enumerate(slots) if number < plan.drop_out_slot]
        yield "nobody was left out before the drop-out", all(not slot.left_out for slot in others)
    yield "every registered value is one that the meter sent at that time", all(map(_was_sent, homes))
    yield "one bill came from each home, checked and with one value", _billed(plan, bills)
    yield "each bill says what the meter counted", all(_bill_is_right(plan, home, bills) for home in homes)
    yield "no plain value of a slot reached the supplier", _no_plain_slot(plan, bills)
    yield (
        "the recipient without a right was denied",
        (homes[0].tally.denied > 0 and all(bill["document"]["profile"] != STRANGER for bill in bills)),
    )
    yield "the forged order was refused, all others were carried out", _orders_right(outcome)
    yield (
        "the repeated telegrams were rejected, all others accepted",
        all(_telegrams_right(plan, home) for home in homes),
    )
    if (card := outcome.cards.through_pcscd) is not None:
        yield (
            "each command of the first gateway came to its card through pcscd, and no other one",
            card.commands == homes[0].tally.apdus > 0,
        )
    yield (
        "a masked share shows another number than the reading",
        (share is not None and share.reading_wh is not None and share.masked != share.reading_wh * _TENTHS),
    )
    yield (
        "every connection was TLS with an ephemeral Brainpool key",
        all(
            home.tally.tls and all(group.startswith("brainpool") for _, group, _ in home.tally.tls)
            for home in homes
        ),
    )


def _was_sent(home: Home) -> bool:
    window = timedelta(seconds=_MARGIN_S)

    def sent(instant: datetime, register_wh: int) -> bool:
        return any(
            register_wh == value and abs(at - instant) <= window for at, value in home.tally.transmitted
        )

    known = {instant: value for instant, value in home.tally.registered.items() if value is not None}
    return bool(known) and all(sent(instant, value) for instant, value in known.items())


def _billed(plan: Plan, bills: tuple[Event, ...]) -> bool:
    return sorted(bill["gateway"] for bill in bills) == [home.name for home in plan.households] and all(
        bill["verified"] and bill["document"]["profile"] == BILLING and len(bill["document"]["entries"]) == 1
        for bill in bills
    )


def _bill_is_right(plan: Plan, home: Home, bills: tuple[Event, ...]) -> bool:
    registered = home.tally.registered.get(plan.end_utc)
    values = [
        entry["value"] and int(entry["value"])
        for bill in bills
        if bill["gateway"] == home.household.name
        for entry in bill["document"]["entries"]
    ]
    return registered is not None and values == [registered]


def _no_plain_slot(plan: Plan, bills: tuple[Event, ...]) -> bool:
    times = {
        datetime.fromisoformat(entry["time_utc"]) for bill in bills for entry in bill["document"]["entries"]
    }
    return times <= {plan.end_utc}


def _orders_right(outcome: Outcome) -> bool:
    receipts = [event for event in outcome.gwa if event["event"] == "receipt"]
    refused = {event["message_id"]: event["code"] for event in receipts if not event["accepted"]}
    accepted = {event["gateway"] for event in receipts if event["accepted"]}
    expected = {household.name for household in outcome.plan.households}
    return refused == {outcome.forged_order: "signature"} and accepted == expected


def _telegrams_right(plan: Plan, home: Home) -> bool:
    repeated = 1 if any(heard_by(home.household)) else 0
    tally = home.tally
    heard = tally.accepted + tally.rejected
    switched_off = plan.drop_out_slot is not None and home.household == plan.drop_out
    # What was in the air while a gateway was switched off is lost, as it is from a real one.
    complete = heard <= tally.sent if switched_off else heard == tally.sent
    return tally.rejected == repeated and complete
