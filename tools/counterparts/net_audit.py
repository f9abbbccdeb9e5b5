"""A supplier's canary audits: asks, judges by the frames it has taken, and tells the administrators.

What an administrator makes of it is in `net_blame`. Shares the codecs of the product and none of its checks;
needs no secret and sees no reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from firmware.enforcement.dcnet.errors import DcNetError
from firmware.enforcement.dcnet.messages.canonical import decode, encode
from firmware.enforcement.dcnet.messages.conduct import SlotDigest
from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.faults import (
    AuditOrder,
    AuditReport,
    CanaryStatement,
    OtherEnds,
    ShownFrame,
    TwoAccounts,
)
from firmware.enforcement.dcnet.messages.frames import digest
from firmware.enforcement.dcnet.messages.roster import Attestation, SignedBundle
from firmware.enforcement.dcnet.policy import CANARY_LANE
from tools.counterparts.messages import MessageRefused
from tools.counterparts.net_founding import CoordinatorKeys
from tools.counterparts.net_journal import Journal, Room
from tools.counterparts.net_probation import TakesFaults, Untold
from tools.counterparts.net_tally import Taken, Tally
from tools.counterparts.server import Emit

EPOCHS_BETWEEN: Final = 30
"""A member has to answer one audit in so many epochs."""
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
    denied: frozenset[int] = frozenset()
    """Of `members`, who state another opening than we have of them: we know who lies and cannot prove it."""

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
    wrong, denied, disputed = set[int](), set[int](), set[tuple[int, int]]()
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
        shown = ((one.mask + inside + 1) % _RING, (one.mask + outside) % _RING)
        if {shown, (one.submitted, one.opened)} != {words[index]}:
            wrong.add(index)
        if shown == (one.submitted, one.opened) and one.opened != words[index][1]:
            denied.add(index)
        if not {peer for peer, _ in one.pads} <= set(present):
            wrong.add(index)
    silent = words.keys() - heard.keys() - set(excused)
    return Judgement(frozenset(wrong), frozenset(disputed), frozenset(silent), frozenset(denied))


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
        administrators: Mapping[str, TakesFaults],
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
        self._accounts: dict[tuple[int, int], tuple[CanaryStatement, bytes]] = {}
        """(epoch, index) -> what a member said in an audit, until its day's digest is here."""
        for name, data in self._kept.items("account/"):
            epoch, index = name.split("-")
            content, signed = kept_pair(data)
            self._accounts[int(epoch), int(index)] = (CanaryStatement.from_bytes(content), signed)
        self._spoke = asyncio.Event()
        self._untold = Untold(self._kept, self._administrators)
        self._stated = {int(index): int(epoch) for index, epoch in self._kept.items("stated/")}
        self._found: dict[int, dict[int, bytes]] = {}
        """Slot of the last audit -> index -> what both ends of its disputed edges have signed."""
        for slot, data in self._kept.items("found/"):
            record: Any = decode(data)
            self._found[int(slot)] = dict(record)

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
            if known[0] == said:
                return Taken.KNOWN
            await self._report(TwoAccounts(known[1], body).to_bytes())
            return Taken.CONFLICT
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
            tally.manifest.to_bytes(),
            tuple((index, *words[index]) for index in sorted(words)),
            tuple(signed for _, (_, signed) in sorted(self._statements.items())),
            to_bitmap(excused & words.keys(), terms.size),
            _denied(tally, statements),
        )
        self._emit({"event": "audit", "net": terms.net.hex(), "slot": tally.slot, **_listed(found)})
        signed_report = await self._keys.sign(report.to_bytes())
        ends = {index: self._disputing(index, found) for index in statements}
        self._found = {tally.slot: ends}
        self._tally, self._order = None, b""
        for index, epoch in self._stated.items():
            self._kept.put(f"stated/{index}", str(epoch).encode())
        self._kept.clear("order/", "statement/", "found/")
        self._kept.put(
            f"found/{tally.slot}", encode([[index, shown] for index, shown in sorted(ends.items())])
        )
        self._keep_accounts(tally.epoch)
        self._untold.add(self._administrators, [signed_report])
        return found

    def _keep_accounts(self, epoch: int) -> None:
        """Keep what was said in an audit until the digests of its day are here; old days are given up."""
        for index, (said, body) in self._statements.items():
            self._accounts[epoch, index] = (said, body)  # one in 30 epochs of each member
            self._kept.put(f"account/{epoch}-{index}", encode([said.to_bytes(), body]))
        for old in [one for one in self._accounts if one[0] < epoch - EPOCHS_BETWEEN]:
            del self._accounts[old]
            self._kept.drop(f"account/{old[0]}-{old[1]}")

    def _disputing(self, index: int, found: Judgement) -> bytes:
        """Return what the other ends of a member's disputed edges have signed."""
        others = sorted(sum(edge) - index for edge in found.edges if index in edge)
        stated = [Attestation(self._certificates[one], self._statements[one][1]) for one in others]
        return OtherEnds(tuple(stated)).to_bytes()

    def other_ends(self, slot: int, index: int) -> bytes | None:
        """Return `OtherEnds` for a member of the slot audited last, None while there is no finding."""
        return self._found.get(slot, {}).get(index)

    async def compare(self, said: SlotDigest, signed: bytes) -> bool:
        """Hold a member's day against what it said in an audit; tell the administrators if they differ."""
        statement, body = self._accounts.pop((said.epoch, said.index), (None, b""))
        if statement is None:
            return False
        self._kept.drop(f"account/{said.epoch}-{said.index}")
        sent = {(one.slot, one.submitted, one.opened) for one in said.frames}
        if (statement.slot, statement.submit_digest, statement.open_digest) in sent:
            return False
        await self._report(TwoAccounts(body, signed).to_bytes())
        return True

    async def _report(self, report: bytes) -> None:
        self.accuse(report)
        await self.tell()

    def accuse(self, report: bytes) -> None:
        """Let the administrators be told with the next `tell`."""
        self._untold.add(self._administrators, [report])

    def _excused(self, tally: Tally) -> set[int]:
        """Return the accepted members whose budget is spent."""
        return {
            index
            for index, epoch in self._stated.items()
            if tally.epoch - epoch < EPOCHS_BETWEEN and index in tally.accepted
        }

    async def tell(self) -> None:
        """Tell the administrators what they could not be told before; one try each."""

        def refused(name: str, reason: str) -> None:
            self._emit({"event": "refused", "what": f"faults by {name}", "reason": reason})

        await self._untold.tell(self._administrators, refused)


def kept_pair(data: bytes) -> tuple[Any, bytes]:
    """Return the two fields of a record of ours."""
    record: Any = decode(data)
    return record[0], record[1]


def _denied(tally: Tally, statements: Mapping[int, CanaryStatement]) -> tuple[ShownFrame, ...]:
    """Return the Submits that members have not sent if they are believed. Never more: see docs/dcnet.md."""
    shown = []
    for index, said in sorted(statements.items()):
        body = tally.frames[index].to_bytes()
        word = tally.frames[index].lanes[CANARY_LANE]
        if (said.submitted, said.submit_digest) != (word, digest(body)):
            shown.append(ShownFrame(index, body, tally.siblings(index)))
    return tuple(shown)


def _listed(found: Judgement) -> dict[str, Any]:
    edges = [list(edge) for edge in sorted(found.edges)]
    named = {"members": sorted(found.members), "edges": edges, "silent": sorted(found.silent)}
    return named | {"denied": sorted(found.denied)}
