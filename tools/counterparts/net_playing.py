"""The supplier's side of a net's slots: closes and totals them one after another, also after a restart.

Shares the codecs of the product and none of its checks. Which roster rules a slot is told from outside; what
comes in and goes out is `net_slots`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from aiohttp import web

from firmware.enforcement.dcnet.machines import MODE, Mode, ModeStep
from firmware.enforcement.dcnet.messages.conduct import Calendar, SlotDigest
from firmware.enforcement.dcnet.messages.documents import document_hash, from_bitmap, to_bitmap
from firmware.enforcement.dcnet.messages.faults import WrongProof
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, SlotResult, Verdict
from firmware.enforcement.dcnet.policy import CANARY_LANE, TENTHS, NetRules
from tools.counterparts.net_audit import Auditor
from tools.counterparts.net_commitments import Commitments
from tools.counterparts.net_conduct import NetConduct, Overseer, settle
from tools.counterparts.net_founding import CoordinatorKeys, Countersigner
from tools.counterparts.net_journal import Journal
from tools.counterparts.net_probation import Accused
from tools.counterparts.net_recovering import Recovering
from tools.counterparts.net_slot_book import SlotBook
from tools.counterparts.net_tally import Leaves, Tally, Terms
from tools.counterparts.net_versions import Version
from tools.counterparts.server import Emit

KEPT_SLOTS: Final = 256
"""Manifests and results of this many slots stay available to members that were away."""

KEPT_EPOCHS: Final = 64
"""So many beginnings of epochs stay available."""

Ruling = Callable[[int], Awaitable[Version]]
"""Slot -> the roster it is played in; called once for each slot, in their order."""


class Playing:
    """Plays the slots of one net.

    Args:
        rules: of the net, or of its reconcile net.
        keys: the supplier's.
        emit: takes events.
        administrators: each by its name in the rosters.
        gateway_of: gateway id behind a request; refuses strangers.
        now_utc: the supplier's clock.
        tell_totals: whether members learn the totals.
        marks: what the totals say besides the net.
        accused: takes whom an audit names.
        calendars: what is blocked.
        overseers: who is told how often members took part.
        report_slots: after so many slots.
        journal: outlives this process.
        prefix: of the names of our rooms in it.
    """

    def __init__(
        self,
        rules: NetRules,
        keys: CoordinatorKeys,
        emit: Emit,
        *,
        administrators: Mapping[str, Countersigner],
        gateway_of: Callable[[web.Request], str],
        now_utc: Callable[[], datetime],
        tell_totals: bool,
        marks: Mapping[str, str],
        accused: Callable[[Accused], None],
        calendars: Sequence[Calendar] = (),
        overseers: Mapping[str, Overseer] | None = None,
        report_slots: int | None = None,
        journal: Journal | None = None,
        prefix: str = "",
    ) -> None:
        self._book = SlotBook(journal, prefix)
        self.rules, self.net = rules, rules.net.hex()
        self._keys, self._emit, self._gateway = keys, emit, gateway_of
        self._administrators, self._accused = administrators, accused
        self._now_utc, self._tell_totals, self._marks = now_utc, tell_totals, dict(marks)
        self.conduct = NetConduct(
            rules,
            keys,
            emit,
            calendars=calendars,
            overseers=overseers,
            report_slots=report_slots,
            journal=self._book.journal,
            prefix=prefix,
            compare=self._compare,
        )
        self.recovering = Recovering(rules, keys, administrators, emit, now_utc, self._book)
        self.commitments = Commitments(rules, keys, emit, self._convict, self._book)
        self.mode = MODE.start
        self.now: Version | None = None
        """The roster of the slot that is played."""
        self._auditor: Auditor | None = None
        self._suspended: frozenset[int] = frozenset()
        self._taken = asyncio.Event()
        self._tally: Tally | None = None
        self.epochs: dict[int, bytes] = {}
        self.manifests: dict[int, tuple[Tally | Leaves, bytes, tuple[str, ...]]] = {}
        """Slot -> submissions, signed manifest, members in the order of their indices."""
        self._results: dict[int, bytes] = {}
        self._told: SlotResult | None = None
        """Of the slot that was over last."""
        self._next: int | None = None
        """The slot to go on with after a restart."""

    @property
    def adjacent(self) -> Mapping[int, frozenset[int]]:
        """The key graph of the roster that is played."""
        return {} if self.now is None else self.now.founding.adjacent

    @property
    def members(self) -> tuple[str, ...]:
        """Gateway ids of the roster that is played, in the order of their indices."""
        return () if self.now is None else self.now.members

    # -- a restart -----------------------------------------------------------------------------------

    def restore(
        self,
        version_of: Callable[[int], Version | None],
        members_of: Callable[[int], tuple[str, ...]],
    ) -> None:
        """Bring back every slot that is kept, and be where the process before this one was.

        Args:
            version_of: number of a roster -> the roster, if it may still be played.
            members_of: number of a roster -> gateway ids in the order of the indices.

        Raises:
            JournalDamaged: what is kept contradicts itself.
        """

        def terms_of(version: int) -> Terms | None:
            now = version_of(version)
            return None if now is None else self._terms(now)

        book = self._book
        kept = book.restore(terms_of, members_of, witnessed=self.recovering.witnessed)
        self.epochs, self.manifests, self._results = book.epochs(), kept.manifests, kept.results
        self._told, self._next = kept.told, kept.next
        if (mode := book.standing.get("mode")) is not None:
            self.mode = Mode(mode.decode())
        if kept.tallies:
            newest = max(kept.tallies)
            self._tally, self.now = kept.tallies[newest], version_of(kept.tallies[newest].terms.version)
            assert self.now is not None
            self._suspended = frozenset(int(index) for index, _ in book.standing.items("suspended/"))
            self._appoint(self.now)
            assert self._auditor is not None
            self._auditor.resume(kept.tallies.get)
            self.conduct.resume(self._terms(self.now), newest)
        if kept.total is not None:
            self._emit(dict(kept.total))  # it may have been told before: who keeps totals knows them by slot

    def _leap(self, slot: int) -> int:
        """Pass over the epochs of which everything was missed; in the one that runs the chain goes on."""
        submit = timedelta(milliseconds=self.rules.submit_ms)
        first = max(slot, self.rules.slot_at(self._now_utc() - submit))
        epoch = self.rules.epoch_of(first)
        if self.rules.epoch_of(slot) == epoch:
            return slot
        begun = self._book.epoch(epoch)
        return first if begun is None else begun.manifest.first_slot

    # -- the timeline --------------------------------------------------------------------------------

    async def play(self, slot: int, ruling: Ruling) -> None:
        """Play slot after slot from `slot` on, or from where we were, until cancelled."""
        present: frozenset[int] = frozenset()
        epoch, previous = -1, b""
        if self._next is None:
            self._book.standing.put("next", str(slot).encode())
        elif (restored := self._tally) is not None:
            if restored.slot == self._next:
                await ruling(self._next)
                await self._play(restored, self._told)
            assert restored.manifest is not None
            epoch, previous = restored.epoch, document_hash(restored.manifest)
            present = frozenset(restored.accepted) | restored.hello
            slot = self._leap(restored.slot + 1)
        else:
            slot = self._leap(self._next)
        while True:
            while self.conduct.blocked(slot):
                slot += 1
            now = await ruling(slot)
            if now is not self.now:
                self._enter(now)
                epoch, present = -1, now.present
            if epoch != (epoch := self.rules.epoch_of(slot)):
                # Everybody would refuse a slot with who was withdrawn since; a reconcile slot is a period.
                present -= now.founding.confirming.withdrawn
                present, previous = await self._begin_epoch(now, epoch, slot, present)
            self.conduct.latest = slot
            tally = self._tally = Tally(self._terms(now), slot, epoch, previous, present)
            self._book.begin(tally)
            await self._play(tally, self._told)
            assert tally.manifest is not None
            previous = document_hash(tally.manifest)
            present = frozenset(tally.accepted) | tally.hello
            slot += 1

    def _enter(self, now: Version) -> None:
        """Go on in another roster; whom an audit had named is not in it, or was judged."""
        self.now = now
        self._suspend(frozenset())
        self._book.audit.clear("order/", "statement/", "stated/")
        self._appoint(now)
        self.conduct.begin(self._terms(now))

    def _appoint(self, now: Version) -> None:
        """Have the administrators of a roster as witnesses and as those who are told of audits."""
        named = {entry.administrator for entry in now.roster.entries}
        administrators = {name: self._administrators[name] for name in sorted(named)}
        self.recovering.begin(administrators)
        self._auditor = Auditor(
            self._keys, administrators, now.founding.certificates, self._emit, self._book.audit
        )

    def _suspend(self, members: frozenset[int]) -> None:
        self._suspended = members
        self._book.standing.clear("suspended/")
        for index in members:
            self._book.standing.put(f"suspended/{index}", b"")

    def _terms(self, now: Version) -> Terms:
        if not self.rules.reconciles:
            return now.terms
        assert now.founding.reconcile_terms is not None
        return now.founding.reconcile_terms

    async def _begin_epoch(
        self, now: Version, epoch: int, slot: int, present: frozenset[int]
    ) -> tuple[frozenset[int], bytes]:
        """Begin an epoch's chain, or go on with the beginning that was kept; P and hash of its manifest."""
        roster, kept = now.roster, self._book.epoch(epoch)
        manifest = EpochManifest(
            self.rules.net,
            roster.version,
            document_hash(roster),
            epoch,
            slot,
            to_bitmap(present, now.terms.size),
        )
        if kept is not None and kept.manifest.version == roster.version:
            manifest = kept.manifest
        else:
            self._book.begin_epoch(manifest)
            kept = None
        if kept is None or not kept.envelope:
            signed = (b"" if kept is None else kept.signed) or await self._keys.sign(manifest.to_bytes())
            self._book.begin_epoch(manifest, signed)
            envelope = await self.recovering.envelope(manifest, signed=signed)
            assert envelope is not None  # it is asked for until it is there
            self._book.begin_epoch(manifest, signed, envelope)
            self.epochs[epoch] = envelope
            self.conduct.epoch(self.recovering.signed(envelope))
            for old in [one for one in self.epochs if one <= epoch - KEPT_EPOCHS]:
                del self.epochs[old]
                self._book.forget_epoch(old)
        return from_bitmap(manifest.present, now.terms.size), document_hash(manifest)

    async def _play(self, tally: Tally, before: SlotResult | None) -> None:
        """One slot: submissions until D1 or until all have spoken, manifest, openings until D3, result.

        After a restart it goes on with what is kept of the slot.
        """
        rules, slot, members, book = self.rules, tally.slot, self.members, self._book
        assert self.now is not None
        if tally.manifest is None:
            await self._end_audit(rules.slot_end(slot))
        await self.commitments.begin(self.now, tally)
        if tally.manifest is None:
            tally.exclude(self._suspended)
            book.exclude(slot, self._suspended)
            await self._until(rules.submit_until(slot), lambda: tally.everybody_spoke)
            book.close(tally.close(before, witnessed=self.recovering.witnessed))
        envelope = book.envelope(slot)
        if envelope is None:
            envelope = await self._publish(tally)
        self.manifests[slot] = (tally, envelope, members)
        asked = None
        if not rules.enough_of(len(tally.accepted), len(tally.present)):
            asked = asyncio.get_running_loop().create_task(self.conduct.ask_outage(slot))
        await self._until(rules.open_until(slot), lambda: tally.complete)
        await settle(asked)
        if not tally.complete:
            await self.recovering.recover(tally, self.adjacent)
        limit = rules.max_wh * TENTHS
        fits = self.commitments.fit(tally)
        result = tally.result((limit, limit, 1), CANARY_LANE, fits=fits)
        told = (
            result
            if self._tell_totals
            else SlotResult(result.net, slot, result.manifest_hash, result.verdict)
        )
        await self._judge_mode(tally, result)
        signed = await self._keys.sign(told.to_bytes())
        accepted = tally.accepted
        total = {
            "event": "total",
            "net": self.net,
            **self._marks,
            "slot": slot,
            "members": [members[index - 1] for index in accepted],
            "left_out": [name for index, name in enumerate(members, 1) if index not in accepted],
            "lanes": list(result.totals or ()),
            "verdict": "totalled" if result.verdict is Verdict.TOTALLED else "aborted",
        }
        self._results[slot], self._told = signed, told  # from here on to the sync all is written at once
        self.conduct.note(tally, self.recovering.signed(envelope), result.verdict)
        self.commitments.after(tally, fits=fits)
        book.finish(told, signed, total)
        self._shelve(slot)
        await book.journal.sync_patiently()
        self._emit(total)
        await self.conduct.report()

    async def _publish(self, tally: Tally) -> bytes:
        """Have the one manifest of a slot signed, and co-signed; return what members get."""
        kept = self._book.closed(tally.slot)
        assert kept is not None, "it was closed"
        manifest, signed = kept
        if not signed:
            self._book.close(manifest, signed := await self._keys.sign(manifest.to_bytes()))
        envelope = await self.recovering.envelope(manifest, signed=signed)
        assert envelope is not None  # it is asked for until it is there: the chain cannot go on without
        if self.recovering.witnessed:
            tally.cosigned()
        self._book.publish(tally.slot, envelope)
        return envelope

    def _shelve(self, slot: int) -> None:
        """Of slots before this one keep what may still be asked for, of old ones nothing."""
        for old in self._book.slots():
            if old <= slot - KEPT_SLOTS:
                self._book.forget(old)
                self.manifests.pop(old, None)
                self._results.pop(old, None)
            elif old < slot and self._book.shelved(old) is None and old in self.manifests:
                known = self.manifests[old][0]
                self._book.shelve(old, known.leaves if isinstance(known, Tally) else known)

    async def _judge_mode(self, tally: Tally, result: SlotResult) -> None:
        """A canary lane that does not count its members begins an audit; a total ends the search."""
        if result.verdict is not Verdict.TOTALLED and not tally.miscounted and not tally.impossible:
            return
        step = ModeStep.MISCOUNT if tally.miscounted else ModeStep.CLEAN
        step = ModeStep.IMPOSSIBLE if tally.impossible else step
        if self.mode is not (mode := MODE.advance(self.mode, step)):
            self.mode = mode
            self._book.standing.put("mode", mode.value.encode())
            self._emit({"event": "mode", "net": self.net, "slot": tally.slot, "mode": mode.value})
        if tally.miscounted and self._auditor is not None:
            await self._auditor.begin(tally)

    def _convict(self, index: int, signed: bytes) -> None:
        """Leave out a member that has signed a wrong proof, now and later; the administrators are told."""
        if self._auditor is not None:
            self._auditor.accuse(WrongProof(signed).to_bytes())
        self._suspend(self._suspended | {index})
        if self._tally is not None:
            self._tally.exclude({index})
            self._book.exclude(self._tally.slot, self._suspended)
        self._taken.set()
        self._accused(Accused(frozenset({self.members[index - 1]})))

    async def _end_audit(self, until: datetime) -> None:
        """Judge the audit that runs, if one does; whom it names takes no part until a new roster."""
        if self._auditor is not None:
            await self._auditor.tell()
            if (found := await self._auditor.end(until, self._now_utc)) is not None:
                self._suspend(self._suspended | found.named)
                name = dict(enumerate(self.members, start=1))
                self._accused(
                    Accused(
                        frozenset(name[index] for index in found.members),
                        frozenset(name[index] for index in found.silent),
                        frozenset((name[a], name[b]) for a, b in found.edges),
                    )
                )
                await self._auditor.tell()

    async def _compare(self, said: SlotDigest, signed: bytes) -> bool:
        """Hold a member's day against what it said in an audit."""
        return self._auditor is not None and await self._auditor.compare(said, signed)

    async def _until(self, deadline: datetime, enough: Callable[[], bool]) -> None:
        """Wait for frames until there are enough of them, at the latest until the deadline."""
        while not enough() and (left_s := (deadline - self._now_utc()).total_seconds()) > 0:
            self._taken.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._taken.wait()
            except TimeoutError:
                return
