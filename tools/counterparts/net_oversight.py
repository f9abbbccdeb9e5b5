"""What an administrator does in a net's daily life: judges rates and complaints, explains outages, relays.

Shares the codecs of the product and none of its checks: chains and proofs are followed here a second time.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Final

import msgspec

from firmware.enforcement.dcnet.errors import DcNetError, MalformedObject
from firmware.enforcement.dcnet.messages.conduct import Calendar, ReceiptDay, Taken
from firmware.enforcement.dcnet.messages.documents import document_hash, from_bitmap, to_bitmap
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, Manifest, Verdict
from firmware.enforcement.dcnet.messages.reports import (
    MILLION,
    Charge,
    Complaint,
    MemberRate,
    OutageNotice,
    Rates,
    RatesReport,
    Statement,
)
from firmware.enforcement.dcnet.messages.roster import Attestation, Roster
from firmware.enforcement.dcnet.policy import NetRules
from tools.counterparts.messages import MessageRefused, Trust, check_signed
from tools.counterparts.net_denied import two_results
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.server import Emit, gateway_of
from wan.cms import signed
from wan.errors import OrderRefused

MAX_COMPLAINTS: Final = 16
"""So many are kept of one gateway in one net; more are refused."""
_MOST_PPM: Final = MILLION - 1
_ENOUGH_SLOTS: Final = 8
_FEW_SLOTS: Final = 4


class Outage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator knows about an outage; kept in DIR/dcnet/outage-{net}."""

    first_slot: int
    last_slot: int
    members: tuple[int, ...] = ()
    """Indices in the roster."""
    share_ppm: int = 0
    """Part of the others that may be missing, in millionths."""


@dataclass(frozen=True, slots=True)
class Chain:
    """What a signed chain of manifests says of every member."""

    slots: tuple[int, ...]
    expected: Counter[int]
    submitted: Counter[int]
    totalled: Counter[int]
    """Slots with a total in which it was accepted: it must have opened them."""


def suggestion(rate: MemberRate, slots: int) -> str:
    """Return why a member should not be in the next roster; empty if it may stay.

    Args:
        rate: how often it took part.
        slots: length of the report.
    """
    closed, absent = rate.submitted - rate.opened, rate.expected - rate.submitted
    if closed >= _FEW_SLOTS and 4 * closed >= rate.submitted:
        return "submits and does not open"
    if absent >= _FEW_SLOTS and 2 * absent >= rate.expected:
        return "says hello and does not submit"
    if slots >= _ENOUGH_SLOTS and 2 * rate.submitted < slots:
        return "seldom there"
    return ""


class NetOversight:
    """Watches nets for one administrator.

    Args:
        certificate: DER of its SIG certificate.
        ordered: net id (hex) -> what was ordered, None if nothing.
        trust: anchors for the signers' certificates.
        sign: signs as the administrator.
        emit: takes events.
        kept: outlives this process; shared with the witness, which keeps the rosters there.
    """

    def __init__(
        self,
        certificate: bytes,
        ordered: Callable[[str], OrderedNet | None],
        trust: Trust,
        sign: Callable[[bytes], Awaitable[bytes]],
        emit: Emit,
        *,
        kept: MutableMapping[str, bytes],
    ) -> None:
        self._certificate, self._ordered, self._trust = certificate, ordered, trust
        self._sign, self._emit, self._kept = sign, emit, kept

    # -- rates ---------------------------------------------------------------------------------------

    async def rates(self, net: str, body: bytes) -> bytes:
        """Answer `POST /dcnet/v1/{net}/rates`: count again what can be counted, keep it, tell it.

        Raises:
            OrderRefused: with a code and the reason; answer 403.
        """
        ordered = self._known(net)
        try:
            report = RatesReport.from_bytes(body)
            rates = Rates.from_bytes(await self._by_emp(report.signed, ordered))
            roster = self._roster(net, rates.version)
            chain = await self._follow(report.chain, ordered, roster)
        except (DcNetError, MessageRefused) as error:
            raise self._refusal("rates", net, OrderRefused("form", str(error))) from error
        except OrderRefused as refused:
            raise self._refusal("rates", net, refused) from None
        if (rates.net.hex(), len(rates.members)) != (net, len(roster.entries)):
            raise self._refusal("rates", net, OrderRefused("net", "rates of another net or roster"))
        if not chain.slots or (chain.slots[0], chain.slots[-1]) != (rates.first_slot, rates.last_slot):
            raise self._refusal("rates", net, OrderRefused("slots", "other slots than the chain has"))
        for one in rates.members:
            told = (one.expected, one.submitted)
            if told != (chain.expected[one.index], chain.submitted[one.index]) or not (
                chain.totalled[one.index] <= one.opened <= one.submitted
            ):
                reason = f"member {one.index}: the chain says otherwise"
                raise self._refusal("rates", net, OrderRefused("count", reason))
        if self._old(net, rates):
            raise self._refusal("rates", net, OrderRefused("old", "later rates of this net are known"))
        slots = len(chain.slots)
        out = {str(one.index): why for one in rates.members if (why := suggestion(one, slots))}
        rows = [
            {"index": one.index, "submitted": one.submitted, "opened": one.opened, "refused": one.refused}
            for one in rates.members
        ]
        self._kept[f"rates-{net}"] = body
        span = {"slots": slots, "first_slot": rates.first_slot, "last_slot": rates.last_slot}
        self._emit({"event": "rates", "net": net, **span, "members": rows, "suggest_removal": out})
        return b""

    def _old(self, net: str, rates: Rates) -> bool:
        data = self._kept.get(f"rates-{net}")
        if data is None:
            return False
        known = Rates.from_bytes(signed.parse(RatesReport.from_bytes(data).signed).content)
        return (known.version, known.last_slot) >= (rates.version, rates.first_slot)

    async def _follow(self, chain: Iterable[bytes], ordered: OrderedNet, roster: Roster) -> Chain:
        """Count along a signed chain; its first object is only where it begins."""
        size, name, roster_hash = len(roster.entries), document_hash(roster), b""
        present: frozenset[int] | None = None
        accepted: frozenset[int] = frozenset()
        slots: list[int] = []
        expected, submitted, totalled = Counter[int](), Counter[int](), Counter[int]()
        for item in chain:
            one = _link_of(await self._by_emp(item, ordered))
            if (one.net, one.version) != (roster.net, roster.version):
                raise OrderRefused("net", "a chain of another net or roster")
            if isinstance(one, EpochManifest):
                if one.roster_hash != name:
                    raise OrderRefused("net", "a chain of another roster")
                present, accepted = from_bitmap(one.present, size), frozenset()
            else:
                if present is not None:
                    if one.previous != roster_hash:
                        raise OrderRefused("chain", f"slot {one.slot} does not follow")
                    if slots and one.slot <= slots[-1]:
                        raise OrderRefused("chain", f"slot {one.slot} twice")
                    if one.result is not None and one.result.verdict is Verdict.TOTALLED and slots:
                        totalled.update(accepted)
                    slots.append(one.slot)
                    expected.update(present)
                    submitted.update(from_bitmap(one.accepted, size))
                accepted = from_bitmap(one.accepted, size)
                present = accepted | from_bitmap(one.hello, size)
            roster_hash = document_hash(one)
        return Chain(tuple(slots), expected, submitted, totalled)

    # -- complaints ----------------------------------------------------------------------------------

    async def complaint(self, net: str, gateway: str, body: bytes) -> bytes:
        """Answer `POST /dcnet/v1/{net}/complaint` of one of our gateways: judge the proof, keep it, tell it.

        Raises:
            OrderRefused: no proof, or not this gateway's word; answer 403.
        """
        ordered = self._known(net)
        if gateway not in ordered.gateways:
            raise self._refusal("complaint", net, OrderRefused("gateway", f"{gateway} is not in this net"))
        try:
            stated = Statement.from_bytes(body)
            checked = await check_signed(stated.signed, self._trust)
            if checked.signer != stated.certificate or gateway_of(checked.signer_name) != gateway:
                raise OrderRefused("signer", "signed by somebody else than who brings it")
            said = Complaint.from_bytes(checked.content)
            if said.net.hex() != net:
                raise OrderRefused("net", "a complaint about another net")
            if said.charge is Charge.EQUIVOCATION:
                proven, about = await self._contradiction(said, ordered), "equivocation"
            else:
                proven, about = await self._left_out(said, ordered, net, checked.signer), "left-out"
        except (DcNetError, MessageRefused) as error:
            raise self._refusal("complaint", net, OrderRefused("form", str(error))) from error
        except OrderRefused as refused:
            raise self._refusal("complaint", net, refused) from None
        name = hashlib.sha256(b"".join(said.objects)).hexdigest()[:16]
        known = [one for one in self._kept if one.startswith(f"complaint-{net}-{gateway}-")]
        key = f"complaint-{net}-{gateway}-{name}"
        if key in known:
            return b""
        if len(known) >= MAX_COMPLAINTS:
            raise self._refusal("complaint", net, OrderRefused("many", f"{len(known)} complaints are kept"))
        self._kept[key] = body
        self._emit({"event": "complaint", "net": net, "gateway": gateway, "charge": about, "proven": proven})
        return b""

    async def _contradiction(self, said: Complaint, ordered: OrderedNet) -> bool:
        """Demand that two signed objects cannot both be true."""
        rules = NetRules.from_profile(ordered.policy)
        if len(said.objects) < 2:
            raise OrderRefused("proof", "two objects are required")
        contents = [await self._by_emp(item, ordered) for item in said.objects]
        nets = (rules.net, rules.reconciled().net) if rules.reconcile_slots else (rules.net,)
        if any(two_results(net, *contents[:2]) for net in nets):
            return True
        one, two = map(_link_of, contents[:2])
        calendars = [Calendar.from_bytes(item) for item in contents[2:]]
        if rules.reconcile_slots and one.net == rules.reconciled().net:
            rules = rules.reconciled()
        if {one.net, two.net} != {rules.net} or one.version != two.version:
            raise OrderRefused("proof", "two objects of different nets or rosters")
        if document_hash(one) == document_hash(two):
            raise OrderRefused("proof", "the same thing twice")
        if not _contradict(rules, one, two, calendars) and not _contradict(rules, two, one, calendars):
            raise OrderRefused("proof", "both can be true")
        return True

    async def _left_out(self, said: Complaint, ordered: OrderedNet, net: str, signer: bytes) -> bool:
        """Tell whether signed lists of receipts prove what a member says; its word alone proves nothing."""
        roster = self._roster(net, said.version)
        own = [one for one in roster.entries if one.certificate_hash == hashlib.sha256(signer).digest()]
        if not own:
            raise OrderRefused("signer", "the signer is not in this roster")
        rules = NetRules.from_profile(ordered.policy)
        out: set[int] = set()
        promised: set[int] = set()
        for item in said.objects:
            content = await self._by_emp(item, ordered)
            try:
                day = ReceiptDay.from_bytes(content)
            except MalformedObject:
                manifest = Manifest.from_bytes(content)
                if (manifest.net, manifest.version) != (rules.net, said.version):
                    raise OrderRefused("proof", "a manifest of another net or roster") from None
                if own[0].index in from_bitmap(manifest.accepted, len(roster.entries)):
                    raise OrderRefused("proof", f"slot {manifest.slot}: the member is in") from None
                out.add(manifest.slot)
            else:
                if (day.net, day.version, day.index) != (rules.net, said.version, own[0].index):
                    raise OrderRefused("proof", "receipts of another net, roster or member")
                promised |= {slot for slot, _, taken in day.receipts if taken is Taken.ACCEPTED}
        if not out:
            raise OrderRefused("proof", "no manifest leaves the member out")
        return out <= promised

    # -- outages -------------------------------------------------------------------------------------

    def announce(self, net: str, outage: Outage) -> None:
        """Note what the operator knows; gateways hear it when the supplier asks."""
        self._kept[f"outage-{net}"] = msgspec.json.encode(outage)

    async def outage(self, net: str, version: int, slot: int) -> bytes:
        """Answer `POST /dcnet/v1/{net}/outage/{version}/{slot}`: an `Attestation` of an `OutageNotice`.

        Raises:
            OrderRefused: nothing is known of an outage then; answer 403.
        """
        self._known(net)
        roster = self._roster(net, version)
        data = self._kept.get(f"outage-{net}")
        outage = None if data is None else msgspec.json.decode(data, type=Outage)
        if outage is None or not outage.first_slot <= slot <= outage.last_slot:
            raise self._refusal("outage", net, OrderRefused("outage", "no outage is known"))
        size = len(roster.entries)
        lost = to_bitmap([one for one in outage.members if 1 <= one <= size], size)
        notice = OutageNotice(
            roster.net,
            version,
            document_hash(roster),
            outage.first_slot,
            outage.last_slot,
            lost,
            min(outage.share_ppm, _MOST_PPM),
        )
        self._emit({"event": "outage", "net": net, "slot": slot, "members": list(outage.members)})
        return Attestation(self._certificate, await self._sign(notice.to_bytes())).to_bytes()

    # -- shared --------------------------------------------------------------------------------------

    def _known(self, net: str) -> OrderedNet:
        ordered = self._ordered(net)
        if ordered is None:
            raise OrderRefused("policy", "no such net was ordered")
        return ordered

    def _roster(self, net: str, version: int) -> Roster:
        data = self._kept.get(f"roster-{net}-{version}")
        if data is None:
            raise OrderRefused("roster", "no roster of this version was countersigned")
        return Roster.from_bytes(data)

    async def _by_emp(self, item: bytes, ordered: OrderedNet) -> bytes:
        checked = await check_signed(item, self._trust)
        if checked.signer != ordered.emp_certificate:
            raise OrderRefused("signer", "not signed by the supplier of this net")
        return checked.content

    def _refusal(self, what: str, net: str, refused: OrderRefused) -> OrderRefused:
        self._emit({"event": "refused", "what": what, "net": net, "reason": str(refused)})
        return refused


def _link_of(content: bytes) -> Manifest | EpochManifest:
    try:
        return Manifest.from_bytes(content)
    except MalformedObject:
        return EpochManifest.from_bytes(content)


def _contradict(
    rules: NetRules,
    one: Manifest | EpochManifest,
    two: Manifest | EpochManifest,
    calendars: Iterable[Calendar],
) -> bool:
    """Tell whether an honest supplier signs only one of two different objects of one net and roster."""
    if isinstance(one, EpochManifest) and isinstance(two, EpochManifest):
        return one.epoch == two.epoch
    if isinstance(two, EpochManifest):
        return False  # the other order is tried as well
    if isinstance(one, EpochManifest):
        begins, epoch = one.first_slot, one.epoch
    elif one.slot == two.slot:
        return True
    else:
        begins, epoch = one.slot + 1, rules.epoch_of(one.slot)
    blocked = [pair for calendar in calendars if calendar.net == rules.net for pair in calendar.blocked]
    while any(first <= begins <= last for first, last in blocked):
        begins += 1
    # A chain begins anew with each epoch; within one, each manifest names the one before.
    return two.slot == begins and rules.epoch_of(begins) == epoch and two.previous != document_hash(one)
