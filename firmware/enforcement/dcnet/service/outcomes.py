"""What becomes of a slot after its manifest: results are waited for or asked for, all else is owed.

Every wait is in here and no rule. Energy is owed only once it is sure that no total has it, or nobody can say
it any more; the ledger says so before anybody is told. Spec: docs/dcnet.md, one slot; slot ledger.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from firmware.enforcement.dcnet.errors import Equivocation, OpeningRefused, Refusal
from firmware.enforcement.dcnet.events import NetEvent, NetEventKind
from firmware.enforcement.dcnet.founding.membership import Membership
from firmware.enforcement.dcnet.founding.roster import Signatures
from firmware.enforcement.dcnet.machines import SlotState, Step
from firmware.enforcement.dcnet.messages.documents import document_hash, from_bitmap
from firmware.enforcement.dcnet.messages.manifest import Manifest, SlotResult, Verdict
from firmware.enforcement.dcnet.policy import NetRules, Recovery
from firmware.enforcement.dcnet.service.client import Clock, NetClient
from firmware.enforcement.dcnet.service.recovering import Recovering
from firmware.enforcement.dcnet.service.refusals import REFUSED
from firmware.enforcement.dcnet.service.witnessing import content_of
from firmware.enforcement.dcnet.slot.calendar import Calendars
from firmware.enforcement.dcnet.slot.chain import ManifestChain
from firmware.enforcement.dcnet.slot.ledger import RETAINED_SLOTS, Ledger, SlotEntry
from firmware.enforcement.dcnet.slot.told import ToldResult
from firmware.enforcement.dcnet.slot.view import View
from firmware.store.operations import Operation

Tell = Callable[[NetEventKind, int | None, int, str], Awaitable[None]]
"""(kind, slot, size of the set, reason) for the logs."""
_UNDECIDED: Final = frozenset({SlotState.OPENED, SlotState.REFUSED})
"""Its result says whether a total contains the slot: it was opened, or others may have recovered it."""


class Outcomes:
    """Brings the slots of one net to their ends.

    Args:
        rules: the policy the administrator signed.
        client: the way to the net's EMP.
        ledger: what was measured, sent and opened.
        chain: the manifests followed so far.
        calendars: which slots are passed over.
        signatures: checks the control plane.
        recovering: gives shares of lost members while a result is waited for.
        clock: the gateway's.
        tell: takes what the logs are told.
        entries: what a log is told of a total, for the commit that keeps it.
        insecure: whether the net is a small one that had to be permitted.
        log: diagnostics.
    """

    def __init__(
        self,
        rules: NetRules,
        *,
        client: NetClient,
        ledger: Ledger,
        chain: ManifestChain,
        calendars: Calendars,
        signatures: Signatures,
        recovering: Recovering,
        clock: Clock,
        tell: Tell,
        entries: Callable[[NetEvent], Sequence[Operation]],
        insecure: bool,
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self.rules, self.insecure = rules, insecure
        self._client, self._ledger, self._chain, self._calendars = client, ledger, chain, calendars
        self._signatures, self._recovering, self._clock = signatures, recovering, clock
        self._tell, self._entries, self._log = tell, entries, log

    async def wait(self, membership: Membership, view: View, slot: int) -> None:
        """Ask for the result until the next slot needs us; the next manifest tells it otherwise.

        While there is none, others may be lost: whoever asks for our shares of them in order gets them.
        """
        while self._clock.now_utc() < self.rules.slot_end(slot + 1):
            if (told := await self._asked(slot)) is not None:
                await told.keep(self._ledger)
                await self._take(slot, told.result)
                return
            try:
                await self._recovering.follow(membership, view, slot)
            except Equivocation:
                raise
            except REFUSED as error:
                self._log.info("slot %d: an order is ignored: %s", slot, error)
            await self._client.pause()

    async def compare(self, manifest: Manifest, signed: bytes, *, opens: bool) -> None:
        """Hold a manifest against the result that we were told of the slot before.

        Args:
            manifest: its signature already checked.
            signed: its signed form.
            opens: whether we would open under it.

        Raises:
            Equivocation: it says the opposite.
            OpeningRefused: it is silent about a total that we were told of; others may then owe it alone.
        """
        told = await ToldResult.kept(self._ledger)
        if told is None or told.slot != self._calendars.before(manifest.slot):
            return
        if told.denied(manifest):
            raise await self._chain.accuse(told.slot, told.signed, signed)
        if opens and not told.aborted and told.silent(manifest):
            raise OpeningRefused(Refusal.FORM, f"silent about the total of slot {told.slot}")

    async def settle(self, membership: Membership, view: View, manifest: Manifest) -> None:
        """Take what a manifest that was followed says about the slot before; silence means aborted."""
        told = await ToldResult.kept(self._ledger)
        if told is not None and told.slot < manifest.slot:
            await ToldResult.forget(self._ledger)
        slot = self._calendars.before(manifest.slot)
        entry = self._ledger.entry(slot)
        if entry is not None and entry.state is SlotState.REFUSED and not entry.manifest_hash:
            await self._look_up(membership, view, slot)  # its manifest was followed, and then the power went
            entry = self._ledger.entry(slot)
        if entry is not None and entry.state in _UNDECIDED and entry.manifest_hash:
            await self._take(slot, manifest.result)
        for old in self._ledger.entries():
            if old.state in _UNDECIDED and old.slot < slot:
                await self._overdue(membership, view, old, slot)

    async def _overdue(self, membership: Membership, view: View, old: SlotEntry, slot: int) -> None:
        """Ask for a result that no manifest told us, as the chain went on while we were away.

        Energy is owed only once it is sure that no total has it, or nobody can say it any more.
        """
        if not old.manifest_hash:
            await self._look_up(membership, view, old.slot)
        if self._entry(old.slot).state not in _UNDECIDED:
            return
        if (told := await self._asked(old.slot)) is not None:
            await self._take(old.slot, told.result)
        elif old.slot < slot - RETAINED_SLOTS:
            await self.fail(old.slot, Step.ABORT, "no result")

    async def _look_up(self, membership: Membership, view: View, slot: int) -> None:
        """Find out from the manifest of a slot that the chain has left behind whether we are in it."""
        try:
            if (reply := await self._client.manifest(slot, view.index)) is None:
                return
            manifest = Manifest.from_bytes(await self.content(membership, reply.signed))
            if (manifest.net, manifest.slot, manifest.version) == (self.rules.net, slot, view.version):
                accepted = from_bitmap(manifest.accepted, view.size)
                await self.decide(view, slot, document_hash(manifest), accepted)
        except REFUSED as error:
            self._log.info("slot %d: a manifest is ignored: %s", slot, error)

    async def _asked(self, slot: int) -> ToldResult | None:
        """Ask for a slot's result once: None unless it is about this slot as we know it."""
        if (signed := await self._client.result(slot)) is None:
            return None
        try:
            result = SlotResult.from_bytes(await self._signatures.by_emp(signed))
        except REFUSED as error:
            self._log.info("slot %d: a result is ignored: %s", slot, error)
            return None
        if not self._about(slot, result):
            self._log.info("slot %d: a result of something else is ignored", slot)
            return None
        return ToldResult(result, signed)

    def _about(self, slot: int, result: SlotResult) -> bool:
        said = (result.net, result.slot, result.manifest_hash)
        return said == (self.rules.net, slot, self._entry(slot).manifest_hash)

    async def _take(self, slot: int, result: SlotResult | None) -> None:
        entry = self._entry(slot)
        told = result is not None and self._about(slot, result)
        if result is not None and told and result.verdict is Verdict.TOTALLED:
            event = NetEvent(
                self.rules.net.hex(), NetEventKind.TOTALLED, slot, entry.members, "", self.insecure
            )
            await self._ledger.totalled(slot, self._entries(event))
            await self._tell(NetEventKind.TOTALLED, slot, entry.members, "")
        else:
            await self.fail(slot, Step.ABORT, "aborted" if told else "no result")

    async def decide(self, view: View, slot: int, manifest_hash: bytes, accepted: frozenset[int]) -> None:
        """Note of an undecided slot whether its manifest has us: only then a total contains its energy."""
        entry = self._ledger.entry(slot)
        if entry is None or entry.state is not SlotState.REFUSED:
            return
        if view.index in accepted:
            await self._ledger.accepted(slot, manifest_hash=manifest_hash, members=len(view.reach(accepted)))
        else:
            await self.fail(slot, Step.LEAVE_OUT, entry.reason)

    async def refuse(self, view: View, slot: int, reason: str) -> None:
        """Close a submitted slot: its energy is owed, unless others may still recover it."""
        if self.rules.recovery is not Recovery.WITNESS:
            await self.fail(slot, Step.REFUSE, reason)
            return
        await self._ledger.undecided(slot, reason)
        await self._tell(NetEventKind.REFUSED, None, 0, f"slot {slot} is not opened: {reason}")
        head = self._chain.head
        if head is not None and head.slot == slot:  # who submitted is in P of the next slot only if accepted
            accepted = head.present if head.accepted is None else head.accepted
            await self.decide(view, slot, head.hash, accepted)

    async def conclude_before(self, slot: int) -> None:
        """Ask what became of slots that were opened before we left: what a total has must not be owed."""
        for old in self._ledger.entries():
            if old.state not in _UNDECIDED or old.slot >= slot:
                continue
            if (told := await self._asked(old.slot)) is not None:
                await self._take(old.slot, told.result)
            elif old.slot < slot - RETAINED_SLOTS:
                await self.fail(old.slot, Step.ABORT, "no result")

    async def give_up_before(self, slot: int, reason: str, *, finally_: bool = False) -> None:
        """Owe what was measured or submitted before `slot`; with `finally_` also what waits for a result."""
        for entry in self._ledger.entries():
            recovered = self.rules.recovery is Recovery.WITNESS and entry.state is SlotState.SUBMITTED
            if entry.slot < slot and recovered and not finally_:
                await self._ledger.undecided(entry.slot, reason)
            elif entry.slot < slot and entry.state in (SlotState.MEASURED, SlotState.SUBMITTED):
                await self.fail(entry.slot, Step.LEAVE_OUT, reason)
            elif entry.slot < slot and finally_ and entry.state in _UNDECIDED:
                await self.fail(entry.slot, Step.ABORT, reason)

    async def fail(self, slot: int, step: Step, reason: str) -> None:
        """End a slot without a total: what was measured in it is owed."""
        await self._ledger.failed(slot, step, reason)
        await self._tell(NetEventKind.OWED, slot, 0, reason)

    async def content(self, membership: Membership, envelope: bytes) -> bytes:
        """Return what the EMP, and with recovery every administrator, signed; see `witnessing.content_of`."""
        return await content_of(self.rules, membership.roster, self._signatures, envelope)

    def _entry(self, slot: int) -> SlotEntry:
        entry = self._ledger.entry(slot)
        assert entry is not None
        return entry
