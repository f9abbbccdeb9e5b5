"""What must hold of a district's street, nets and secrets, from what the parties saw. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Final

from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame, FrameType
from firmware.enforcement.dcnet.policy import NetRules
from tools.dcnet.record import Seen as Message
from tools.demo.district.evidence import Evidence, rosters
from tools.demo.district.expected import Expected
from tools.demo.district.knowledge import Knowledge
from tools.demo.district.plan import DistrictPlan
from tools.demo.district.play import Lived, Seen
from tools.demo.district.record import graphs
from tools.demo.district.sums import Added, Graph, SlotReport
from tools.demo.district.whereabouts import Books, Place, owed, settled
from tools.homes.household import Household

_MARGIN_S: Final = 1.0
Checks = Iterator[tuple[str, bool]]


def street(evidence: Evidence, expected: Expected, found: Books) -> Checks:
    """Meters, orders, and where each slot of each home went."""
    seen = evidence.seen
    yield "each administrator's orders were carried out by its own gateways", _orders(seen)
    yield (
        "every registered value is one that the meter sent at that time",
        all(_was_sent(seen.plan, home) for home in seen.homes),
    )
    yield "every telegram that was heard was accepted", all(_telegrams(expected, home) for home in seen.homes)
    yield (
        "every slot of every home was delivered in plain, is in one total or is owed: once",
        all(_once(expected, home, found) for home in seen.homes),
    )
    yield (
        "plain values end where the nets begin, and none is missing or doubled there",
        _taken_over(expected, found),
    )
    yield (
        "every connection was TLS with an ephemeral Brainpool key",
        all(
            home.tally.tls and all(one[1].startswith("brainpool") for one in home.tally.tls)
            for home in seen.homes
        ),
    )


def nets(
    evidence: Evidence,
    expected: Expected,
    slots: tuple[SlotReport, ...],
    added: tuple[Added, ...],
    found: tuple[Graph, ...],
    rules: Mapping[str, NetRules],
) -> Checks:
    """Sums, key graphs, and who was left out."""
    cast = expected.cast
    yield (
        "every sum that a supplier opened is the true one",
        all(one.right or one.aborted for one in slots) and any(one.right for one in slots),
    )
    yield (
        "no slot is without a sum but for a liar or a revocation",
        all(not one.aborted or expected.may_abort(cast.net(one.net), one.slot - 1) for one in slots),
    )
    yield "nobody was left out but with a reason", all(_left_out(expected, one) for one in slots)
    yield (
        "the nets of one supplier add up to the true sum of all their members",
        _added_up(expected, slots, added),
    )
    yield "every net has edges across administrators", all(one.across > 0 for one in found)
    yield (
        "the refused peer shares a key with nobody of the administrator that refuses it",
        _refused(evidence, rules),
    )
    yield (
        "every degree of every roster is at least d_min + 2",
        {one.net for one in found} == {net.name for net in cast.nets}
        and all(one.lowest_degree >= cast.net(one.net).d_min + 2 for one in found),
    )


def knowledge(evidence: Evidence, known: tuple[Knowledge, ...], messages: Iterable[Message]) -> Checks:
    """What each party could learn, and what not."""
    suppliers = {supplier.name for supplier in evidence.seen.plan.cast.suppliers}
    before = [one for one in known if one.party in suppliers]
    yield "before the nets the suppliers knew single slots of homes", all(one.plain > 0 for one in before)
    yield (
        "in the nets nobody can work out a reading, or a sum of too few",
        all(one.nothing_small for one in known),
    )
    yield "frames of one type in a net have one size", _one_size(messages)
    yield "what administrators were told holds no reading", _no_reading(evidence)


def _orders(seen: Seen) -> bool:
    """Plain street, nets, and whatever else a home's part brings; nothing was refused, and nobody else's."""
    cast = seen.plan.cast
    moving = {home for move in cast.moves for home in move.homes}
    tenants = {one.home for one in cast.tenants}
    for one in cast.administrators:
        receipts = [event for event in seen.gwas[one.name] if event["event"] == "receipt"]
        if not all(event["accepted"] for event in receipts):
            return False
        counts = Counter(event["gateway"] for event in receipts)
        revoking = {
            home
            for revocation in cast.revocations
            if revocation.administrator == one.name
            for home in cast.members(cast.net_of(revocation.home), revocation.slot)
            if home in one.homes
        }
        wanted = {
            Household(home).name: 2 + (home in moving) + (home in tenants) + (home in revoking)
            for home in one.homes
        }
        if counts != wanted:
            return False
    return True


def _was_sent(plan: DistrictPlan, home: Lived) -> bool:
    window = timedelta(seconds=plan.window_s + _MARGIN_S)
    known = {instant: value for instant, value in home.tally.registered.items() if value is not None}
    return bool(known) and all(
        any(value == sent and abs(at - instant) <= window for at, sent in home.tally.transmitted)
        for instant, value in known.items()
    )


def _telegrams(expected: Expected, home: Lived) -> bool:
    tally = home.tally
    dropped = {Household(one.home).name for one in expected.cast.drop_outs}
    switched_off = home.household.name in dropped | set(expected.lost.values())
    # What was in the air while a gateway was switched off is lost, as it is from a real one.
    complete = tally.accepted <= tally.sent if switched_off else tally.accepted == tally.sent
    return tally.rejected == 0 and tally.accepted > 0 and complete


def _once(expected: Expected, home: Lived, found: Books) -> bool:
    """Each slot stands in one book, or the gateway owes it or has settled it; never twice, never nowhere."""
    name, elsewhere = home.household.name, Counter([*owed(home), *settled(home)])
    own = {slot: places for (gateway, slot), places in found.items() if gateway == name}
    return bool(own) and all(
        len(places) + elsewhere[slot] == 1 or (expected.nobodys(name, slot) and not places)
        for slot, places in own.items()
    )


def _taken_over(expected: Expected, found: Books) -> bool:
    """The last plain slot and the first of the nets, home by home."""
    for number in expected.cast.homes:
        name, net = Household(number).name, expected.cast.net_of(number)
        if found[name, -1] != [Place("plain", net.supplier)]:
            return False
        if not expected.may_miss(name, 0) and found[name, 0] != [Place("total", net.supplier, net.net_id)]:
            return False
    return True


def _left_out(expected: Expected, one: SlotReport) -> bool:
    net, slot = expected.cast.net(one.net), one.slot - 1
    contracts = expected.members(net, slot)
    missing = contracts - set(one.members)
    if one.aborted:
        return True
    return (
        set(one.members) <= contracts
        and all(expected.may_miss(name, slot) for name in missing)
        and all(name in missing for name in contracts if expected.must_miss(name, slot))
    )


def _added_up(expected: Expected, slots: tuple[SlotReport, ...], added: tuple[Added, ...]) -> bool:
    counts = Counter(one.supplier for one in expected.cast.nets)
    wanted = {
        (supplier, slot): sum(
            not one.aborted
            for one in slots
            if one.slot == slot and expected.cast.net(one.net).supplier == supplier
        )
        for supplier, number in counts.items()
        if number > 1
        for slot in {one.slot for one in slots}
    }
    return {(one.supplier, one.slot): one.nets for one in added} == {
        key: nets for key, nets in wanted.items() if nets
    } and all(one.true_sum_wh == one.opened_sum_wh for one in added)


def _refused(evidence: Evidence, rules: Mapping[str, NetRules]) -> bool:
    cast = evidence.seen.plan.cast
    found = graphs(evidence.supplier_flows, rules)
    seen_refused = 0
    for one in cast.administrators:
        for number in one.refuses:
            net = cast.net_of(number)
            for version, members in rosters(evidence.seen, net.net_id).items():
                index = members.index(Household(number).name) + 1
                roster, edges, _ = found[net.net_id, version]
                owner = {entry.index: entry.administrator for entry in roster.entries}
                ends = {owner[end] for edge in edges if index in edge for end in edge if end != index}
                if one.name in ends or not ends or one.name not in owner.values():
                    return False
                seen_refused += 1
    return seen_refused > 0


def _one_size(messages: Iterable[Message]) -> bool:
    """Sizes tell nothing but to how many present neighbours a seed is shared out, which is public."""
    sizes: dict[tuple[str, int, FrameType, int], set[int]] = {}
    for one in messages:
        if one.kind in ("submit", "open"):
            frame = Frame.from_bytes(one.data[:-MAC_BYTES])
            kind = frame.net.hex(), frame.version, frame.type, len(frame.shares)
            sizes.setdefault(kind, set()).add(len(one.data))
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
