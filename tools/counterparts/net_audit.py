"""Canary audits on the other side: who is wrong, judged twice, and what follows from it.

The supplier asks and judges; each administrator judges again, from what the members themselves have signed,
and keeps it. Shares the codecs of the product and none of its checks; needs no secret and sees no reading.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Collection, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp import ClientError

from firmware.enforcement.dcnet.errors import DcNetError
from firmware.enforcement.dcnet.messages.canonical import decode, encode
from firmware.enforcement.dcnet.messages.documents import document_hash, from_bitmap, to_bitmap
from firmware.enforcement.dcnet.messages.faults import AuditOrder, AuditReport, CanaryStatement
from firmware.enforcement.dcnet.messages.roster import Roster, SignedBundle
from firmware.enforcement.dcnet.policy import CANARY_LANE, reconcile_net
from tools.counterparts.messages import MessageRefused, Trust, check_signed
from tools.counterparts.net_founding import CoordinatorKeys
from tools.counterparts.net_journal import Journal, Room
from tools.counterparts.net_tally import Taken, Tally
from tools.counterparts.server import Emit
from wan.errors import OrderRefused, WanError

if TYPE_CHECKING:
    from tools.counterparts.net_ordered import OrderedNet

EPOCHS_BETWEEN: Final = 30
"""A member has to answer one audit in so many epochs."""
DISPUTES: Final = 3
"""So many disputed edges, or silences, exclude a member; a statement that contradicts itself does at once."""
_RING: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whom an audit names."""

    members: frozenset[int]
    """What they stated is not what they sent."""
    edges: frozenset[tuple[int, int]]
    """(smaller, larger): the ends state different pads."""
    silent: frozenset[int]
    """Accepted members that said nothing, and had to."""

    @property
    def named(self) -> frozenset[int]:
        """Everybody who may have spoiled the sum."""
        return self.members | self.silent | {end for edge in self.edges for end in edge}


def judge(
    words: Mapping[int, tuple[int, int]],
    statements: Mapping[int, CanaryStatement],
    present: Collection[int],
    excused: Collection[int] = (),
) -> Judgement:
    """Find out whose canary word is wrong.

    Args:
        words: accepted member -> canary word it submitted, canary word it opened.
        statements: by member; signatures, slot and manifest checked.
        present: P of the slot.
        excused: members whose budget was spent.
    """
    wrong, disputed = set[int](), set[tuple[int, int]]()
    heard = {index: one for index, one in statements.items() if index in words}
    for index, one in heard.items():
        inside = outside = 0
        for peer, word in one.pads:
            signed = word if peer > index else -word
            inside += signed
            outside += 0 if peer in words else signed
            other = dict(heard[peer].pads).get(index) if peer in heard else word
            if other != word:
                disputed.add((min(index, peer), max(index, peer)))
        submitted, opened = words[index]
        if (one.mask + inside + 1 - submitted) % _RING or (one.mask + outside - opened) % _RING:
            wrong.add(index)
        if not {peer for peer, _ in one.pads} <= set(present):
            wrong.add(index)
    silent = words.keys() - heard.keys() - set(excused)
    return Judgement(frozenset(wrong), frozenset(disputed), frozenset(silent))


class ToldAdministrator(Protocol):
    """One administrator as the supplier tells it; raises `WanError`, `OSError` or `ClientError`."""

    async def faults(self, report: bytes) -> bytes:
        """Take a signed `AuditReport`."""


class Auditor:
    """The audits of one net's supplier, one at a time.

    Args:
        keys: the supplier's.
        administrators: who is told, by name.
        certificates: member -> DER of its SIG certificate, in the roster.
        emit: takes events.
        kept: outlives this process.
    """

    def __init__(
        self,
        keys: CoordinatorKeys,
        administrators: Mapping[str, ToldAdministrator],
        certificates: Mapping[int, bytes],
        emit: Emit,
        kept: Room | None = None,
    ) -> None:
        self._kept = kept or Journal().room("audit")
        self._keys, self._administrators = keys, dict(administrators)
        self._certificates, self._emit = certificates, emit
        self._tally: Tally | None = None
        self._order = b""
        self._statements: dict[int, tuple[CanaryStatement, bytes]] = {}
        self._spoke = asyncio.Event()
        kept_reports = [kept_pair(data) for _, data in self._kept.items("untold/")]
        self._untold = [(name, report) for name, report in kept_reports if name in self._administrators]
        self._stated = {int(index): int(epoch) for index, epoch in self._kept.items("stated/")}

    def resume(self, tally_of: Callable[[int], Tally | None]) -> None:
        """Go on with the audit that a process before this one has ordered.

        Args:
            tally_of: slot -> what was taken in it.
        """
        for slot, order in self._kept.items("order/"):
            self._order, self._tally = order, tally_of(int(slot))
        for index, body in self._kept.items("statement/"):
            content, signed = kept_pair(body)
            self._statements[int(index)] = (CanaryStatement.from_bytes(content), signed)

    async def begin(self, tally: Tally) -> None:
        """Order an audit of a slot whose canary lane does not count its members.

        Not if all its members have answered one lately: they would refuse, and rightly.
        """
        assert tally.manifest is not None
        terms = tally.terms
        if self._tally is tally:
            return  # a process before this one has ordered it
        if self._excused(tally) >= set(tally.accepted):
            self._emit({"event": "audit impossible", "net": terms.net.hex(), "slot": tally.slot})
            return
        order = AuditOrder(terms.net, terms.version, tally.slot, document_hash(tally.manifest))
        self._statements, self._order = {}, await self._keys.sign(order.to_bytes())
        self._tally = tally
        self._kept.put(f"order/{tally.slot}", self._order)
        self._emit({"event": "audit ordered", "net": terms.net.hex(), "slot": tally.slot})

    def order(self, slot: int) -> bytes | None:
        """Return the order of the audit that runs, None if this slot is not audited now."""
        return self._order if self._tally is not None and self._tally.slot == slot else None

    async def statement(self, slot: int, index: int, gateway: str, body: bytes) -> Taken:
        """Take what a member states, signed by it."""
        tally = self._tally
        if tally is None or tally.slot != slot or tally.manifest is None:
            return Taken.LATE
        try:
            signer, content = await self._keys.open_bundle(SignedBundle(self._certificates[index], body))
            said = CanaryStatement.from_bytes(content)
        except (DcNetError, MessageRefused, KeyError):
            return Taken.REFUSED
        terms = tally.terms
        told = (signer, said.net, said.version, said.slot, said.index, said.manifest_hash)
        if told != (gateway, terms.net, terms.version, slot, index, document_hash(tally.manifest)):
            return Taken.REFUSED
        if index not in tally.accepted:
            return Taken.REFUSED
        if (known := self._statements.get(index)) is not None:
            return Taken.KNOWN if known[0] == said else Taken.CONFLICT
        self._statements[index] = (said, body)
        self._kept.put(f"statement/{index}", encode([content, body]))
        self._spoke.set()
        return Taken.NEW

    async def end(self, until: datetime, now_utc: Callable[[], datetime]) -> Judgement | None:
        """Wait for the statements and judge; `tell` tells the administrators. None if no audit runs."""
        if (tally := self._tally) is None:
            return None
        assert tally.manifest is not None
        excused = self._excused(tally)
        wanted = set(tally.accepted) - excused
        while not wanted <= self._statements.keys() and (left := (until - now_utc()).total_seconds()) > 0:
            self._spoke.clear()
            try:
                async with asyncio.timeout(left):
                    await self._spoke.wait()
            except TimeoutError:
                break
        words = tally.words(CANARY_LANE)
        statements = {index: said for index, (said, _) in self._statements.items()}
        found = judge(words, statements, tally.present, excused)
        self._stated |= dict.fromkeys(statements, tally.epoch)
        terms = tally.terms
        report = AuditReport(
            terms.net,
            terms.version,
            tally.slot,
            document_hash(tally.manifest),
            to_bitmap(tally.present, terms.size),
            tuple((index, *words[index]) for index in sorted(words)),
            tuple(signed for _, (_, signed) in sorted(self._statements.items())),
            to_bitmap(excused & words.keys(), terms.size),
        )
        self._emit({"event": "audit", "net": terms.net.hex(), "slot": tally.slot, **_listed(found)})
        signed = await self._keys.sign(report.to_bytes())
        self._tally, self._order = None, b""
        self._untold += [(name, signed) for name in self._administrators]
        for index, epoch in self._stated.items():
            self._kept.put(f"stated/{index}", str(epoch).encode())
        self._kept.clear("order/", "statement/")
        self._keep_untold()
        return found

    def _keep_untold(self) -> None:
        self._kept.clear("untold/")
        for number, (name, report) in enumerate(self._untold):
            self._kept.put(f"untold/{number:06d}", encode([name, report]))

    def _excused(self, tally: Tally) -> set[int]:
        """Return the accepted members whose budget is spent."""
        return {
            index
            for index, epoch in self._stated.items()
            if tally.epoch - epoch < EPOCHS_BETWEEN and index in tally.accepted
        }

    async def tell(self) -> None:
        """Tell the administrators what they could not be told before; one try each."""
        left = []
        for name, report in self._untold:
            try:
                await self._administrators[name].faults(report)
            except OrderRefused as refused:
                self._emit({"event": "refused", "what": f"faults by {name}", "reason": str(refused)})
            except (WanError, OSError, ClientError):
                left.append((name, report))
        if self._untold != left:
            self._untold = left
            self._keep_untold()


def kept_pair(data: bytes) -> tuple[Any, bytes]:
    """Return the two fields of a record of ours."""
    record: Any = decode(data)
    return record[0], record[1]


def _listed(found: Judgement) -> dict[str, Any]:
    edges = [list(edge) for edge in sorted(found.edges)]
    return {"members": sorted(found.members), "edges": edges, "silent": sorted(found.silent)}


class FaultKeeper:
    """What an administrator knows of audits: judges again, keeps probation, excludes.

    Args:
        ordered: net id (hex) -> what was ordered, None if nothing.
        trust: anchors for the signers' certificates.
        kept: outlives this process.
        emit: takes events.
    """

    def __init__(
        self,
        ordered: Callable[[str], OrderedNet | None],
        trust: Trust,
        kept: MutableMapping[str, bytes],
        emit: Emit,
    ) -> None:
        self._ordered, self._trust, self._kept, self._emit = ordered, trust, kept, emit

    async def take(self, net: str, body: bytes) -> bytes:
        """Take a supplier's report; nothing comes back.

        Raises:
            OrderRefused: not the supplier's, not of a roster that we countersigned, or another one of a slot.
        """
        ordered = self._ordered(net)
        if ordered is None:
            raise OrderRefused("policy", "no such net was ordered")
        try:
            checked = await check_signed(body, self._trust)
            report = AuditReport.from_bytes(checked.content)
            known = self._kept.get(f"roster-{net}-{report.version}")
            if known is None or f"names-{net}-{report.version}" not in self._kept:
                raise OrderRefused("roster", "no roster of this version was countersigned")
            roster = Roster.from_bytes(known)
            size = len(roster.entries)
            present, excused = from_bitmap(report.present, size), from_bitmap(report.excused, size)
            statements = await self._statements(report, roster)
        except (DcNetError, MessageRefused) as error:
            raise OrderRefused("form", str(error)) from error
        if checked.signer != ordered.emp_certificate:
            raise OrderRefused("signer", "not signed by the supplier of this net")
        regular = bytes.fromhex(net)
        if report.net not in (regular, reconcile_net(regular)):
            raise OrderRefused("net", "about another net")
        words = {index: (submitted, opened) for index, submitted, opened in report.words}
        if not words.keys() <= set(range(1, size + 1)):
            raise OrderRefused("form", "a member that is not in the roster")
        name = f"audit-{report.net.hex()}-{report.slot}"
        if (before := self._kept.get(name)) is not None:
            if before == checked.content:
                return b""
            raise OrderRefused("second", "another audit of this slot was reported before")
        found = judge(words, statements, present, excused)
        noting = f"noting-{net}"
        again = self._kept.get(noting) == name.encode()
        self._kept[noting] = name.encode()
        self._note(net, report, found, again=again)
        self._kept[name] = checked.content
        return b""

    def excluded(self, net: str) -> frozenset[str]:
        """Return the gateway ids that may be in no further roster of a net."""
        return frozenset(gateway for gateway, about in self.standing(net).items() if about["excluded"])

    def standing(self, net: str) -> dict[str, dict[str, Any]]:
        """Return what is known of each gateway that an audit has named."""
        known: dict[str, dict[str, Any]] = json.loads(self._kept.get(f"faults-{net}", b"{}"))
        return known

    async def _statements(self, report: AuditReport, roster: Roster) -> dict[int, CanaryStatement]:
        entries = {entry.certificate_hash: entry.index for entry in roster.entries}
        found = {}
        for body in report.statements:
            checked = await check_signed(body, self._trust)
            said = CanaryStatement.from_bytes(checked.content)
            told = (said.net, said.version, said.slot, said.manifest_hash, said.index)
            index = entries.get(hashlib.sha256(checked.signer).digest())
            if told != (report.net, report.version, report.slot, report.manifest_hash, index):
                raise OrderRefused("statement", "a statement of another slot, or not its member's")
            found[said.index] = said
        return found

    def _note(self, net: str, report: AuditReport, found: Judgement, *, again: bool) -> None:
        names = json.loads(self._kept[f"names-{net}-{report.version}"])["gateways"]
        standing = self.standing(net)
        disputed = {end for edge in found.edges for end in edge}
        for index in sorted(found.named):
            about = standing.setdefault(
                names[index - 1], {"disputes": 0, "silent": 0, "contradictions": 0, "slots": []}
            )
            if again and report.slot in about["slots"]:
                continue  # noted, and killed before the report was kept
            about["disputes"] += index in disputed
            about["silent"] += index in found.silent
            about["contradictions"] += index in found.members
            about["slots"].append(report.slot)
            about["excluded"] = bool(
                about["contradictions"] or max(about["disputes"], about["silent"]) >= DISPUTES
            )
        self._kept[f"faults-{net}"] = json.dumps(standing, indent=1).encode()
        self._emit(
            {
                "event": "probation",
                "net": net,
                "slot": report.slot,
                "gateways": [names[index - 1] for index in sorted(found.named)],
                "edges": [[names[end - 1] for end in edge] for edge in sorted(found.edges)],
                "excluded": sorted(self.excluded(net)),
            }
        )
