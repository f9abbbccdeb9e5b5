"""One slot in a net, from its value to its result: submits, follows the chain, opens.

Every wait of a slot is in here and no rule: what may be sent and opened is decided by `slot.round`, and is in
the ledger before it leaves. Spec: docs/dcnet.md, one slot.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

from firmware.enforcement.dcnet.errors import (
    Equivocation,
    MalformedObject,
    MembershipRefused,
    OpeningRefused,
    Refusal,
)
from firmware.enforcement.dcnet.events import NetEvent
from firmware.enforcement.dcnet.founding.membership import Membership
from firmware.enforcement.dcnet.founding.roster import Signatures
from firmware.enforcement.dcnet.machines import MemberStep, SlotState, Step
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, seal
from firmware.enforcement.dcnet.messages.manifest import (
    EpochManifest,
    Manifest,
    ManifestReply,
)
from firmware.enforcement.dcnet.policy import TENTHS, NetRules, Recovery
from firmware.enforcement.dcnet.service.auditing import Auditing
from firmware.enforcement.dcnet.service.client import Clock, NetClient
from firmware.enforcement.dcnet.service.committing import Apart, Committing, at_once
from firmware.enforcement.dcnet.service.conduct import Conduct
from firmware.enforcement.dcnet.service.outages import Outages
from firmware.enforcement.dcnet.service.outcomes import Outcomes, Tell
from firmware.enforcement.dcnet.service.recovering import Recovering
from firmware.enforcement.dcnet.service.refusals import REFUSED
from firmware.enforcement.dcnet.service.resting import RestingEdges
from firmware.enforcement.dcnet.service.standing import describe_faults
from firmware.enforcement.dcnet.service.witnessing import signed_by_emp
from firmware.enforcement.dcnet.slot.chain import ManifestChain
from firmware.enforcement.dcnet.slot.ledger import Ledger, SlotEntry
from firmware.enforcement.dcnet.slot.opened import Account, OpenedSlot
from firmware.enforcement.dcnet.slot.outage import Lifted
from firmware.enforcement.dcnet.slot.round import Round
from firmware.enforcement.dcnet.slot.view import View, link
from firmware.store.operations import Operation
from hsm.api import SecurityModule

Admit = Callable[[Membership, frozenset[int]], Awaitable[None]]
"""Raises `MembershipRefused` if pads must not be shared with one of those expected in a slot."""
_SEED_BYTES: Final = 16
_DRAWN_BYTES: Final = 4


class Serving:
    """Serves the slots of one net for its member.

    Args:
        rules: the policy the administrator signed.
        client: the way to the net's EMP.
        ledger: what was measured, sent and opened.
        chain: the manifests followed so far.
        signatures: checks the control plane.
        module: draws the seeds of the self-masks.
        clock: the gateway's.
        enter: takes what a slot does to the membership.
        tell: takes what the logs are told.
        entries: what a log is told of a total, for the commit that keeps it.
        conduct: calendars, receipts and refusals.
        admit: judges with whom pads may be shared.
        insecure: whether the net is a small one that had to be permitted.
        log: diagnostics.
        apart: where the proofs of V-mode are computed.
    """

    def __init__(
        self,
        rules: NetRules,
        *,
        client: NetClient,
        ledger: Ledger,
        chain: ManifestChain,
        signatures: Signatures,
        module: SecurityModule,
        clock: Clock,
        enter: Callable[[MemberStep], None],
        tell: Tell,
        entries: Callable[[NetEvent], Sequence[Operation]],
        conduct: Conduct,
        admit: Admit,
        insecure: bool,
        log: logging.LoggerAdapter[logging.Logger],
        apart: Apart = at_once,
    ) -> None:
        self.rules = rules
        self._client, self._ledger, self._chain = client, ledger, chain
        self._signatures, self._module, self._clock = signatures, module, clock
        self._enter, self._tell, self._admit = enter, tell, admit
        self.recovering = Recovering(
            rules,
            client=client,
            ledger=ledger,
            chain=chain,
            signatures=signatures,
            clock=clock,
            tell=tell,
            log=log,
        )
        self.auditing = Auditing(
            rules, client=client, ledger=ledger, signatures=signatures, clock=clock, tell=tell, log=log
        )
        self.committing = Committing(
            rules,
            client=client,
            ledger=ledger,
            signatures=signatures,
            module=module,
            clock=clock,
            apart=apart,
            tell=tell,
            log=log,
        )
        self._resting = RestingEdges(client, ledger, signatures, tell, log)
        self._log, self._conduct = log, conduct
        self._outages = Outages(rules, client, signatures, log)
        self.outcomes = Outcomes(
            rules,
            client=client,
            ledger=ledger,
            chain=chain,
            calendars=conduct.calendars,
            signatures=signatures,
            recovering=self.recovering,
            clock=clock,
            tell=tell,
            entries=entries,
            insecure=insecure,
            log=log,
        )

    async def faults(self) -> dict[str, Any]:
        """Return how the net deals with faults, and of V-mode; see `standing`. No reading."""
        mode, last = await self.auditing.mode(), await self.auditing.last()
        found = describe_faults(self.rules, mode, last, await self.recovering.recovered())
        return found | {"v_mode": await self.committing.describe()}

    async def serve(self, membership: Membership, slot: int) -> None:
        """Serve one slot from its value to its result; whatever goes wrong, its energy is owed."""
        try:
            view = membership.view(self.rules.epoch_of(slot))
            entry = self._entry(slot)
            if entry.state is not SlotState.OPENED:
                if await self._catch_up(membership, view, slot):
                    await self._admitted(membership)
                    await self._submit(membership, view, slot)
                elif entry.state is SlotState.SUBMITTED:
                    # A power cut behind the manifest and before the opening: others may recover us.
                    await self.outcomes.refuse(view, slot, "not opened before an interruption")
                else:
                    await self.outcomes.fail(slot, Step.LEAVE_OUT, "no manifest to build on")
                entry = self._entry(slot)
            if entry.state is SlotState.REFUSED and entry.manifest_hash:
                await self.outcomes.wait(membership, view, slot)
            if entry.state is SlotState.OPENED:
                until = self.rules.open_until(slot)
                await self._conduct.opening(slot, entry.opened)
                await self.committing.send_opening(view, entry)
                await self._client.deliver("open", slot, view.index, entry.opened, until)
                await self.outcomes.wait(membership, view, slot)
                await self.auditing.go_on(view, slot)
        except Equivocation:
            raise
        except REFUSED as error:
            self._log.info("slot %d is given up: %s", slot, error)
            await self.outcomes.give_up_before(slot + 1, str(error))

    async def _admitted(self, membership: Membership) -> None:
        """Refuse a slot in which somebody is expected whom pads must not be shared with: parked."""
        head = self._chain.head
        assert head is not None
        try:
            await self._admit(membership, head.present)
            await self._resting.look(membership, await self.auditing.last(), head.slot + 1)
            await self._resting.admit(membership, head.present)
        except MembershipRefused:
            self._enter(MemberStep.PARK)
            raise

    async def resume(self, membership: Membership) -> None:
        """After a start: answer an audit that may still be waiting for this member."""
        opened = await OpenedSlot.kept(self._ledger)
        if opened is None or self._clock.now_utc() >= self.rules.slot_end(opened.slot + 1):
            return
        try:
            await self.auditing.go_on(membership.view(self.rules.epoch_of(opened.slot)), opened.slot)
        except MembershipRefused as error:  # another roster, or keys that are erased
            self._log.info("slot %d is not audited any more: %s", opened.slot, error)

    async def _submit(self, membership: Membership, view: View, slot: int) -> None:
        """Submit, or send the same bytes again, and go on to the manifest."""
        entry, head = self._entry(slot), self._chain.head
        assert head is not None
        current = Round(view, head)
        if entry.state is SlotState.SUBMITTED:
            if entry.previous != head.hash:
                await self.outcomes.refuse(view, slot, "the chain changed during an interruption")
                return
            current = Round.resume(view, head, entry.seed, entry.submitted[:-MAC_BYTES])
        elif not current.expected:
            self._enter(MemberStep.PARK)
            await self._hello(membership, view, current)
            await self.outcomes.fail(slot, Step.LEAVE_OUT, "not expected in this slot")
            return
        else:
            seed = await self._module.random(_SEED_BYTES)
            reading = (entry.import_wh * TENTHS, entry.export_wh * TENTHS, 1)
            frame = seal(current.submit(reading, seed, await self._coefficients()), membership.mac_key)
            if await self.committing.wanted(membership, slot):
                await self.committing.commit(
                    membership, view, head, slot, reading=reading, seed=seed, frame=frame
                )
            await self._ledger.submitting(slot, epoch=view.epoch, seed=seed, frame=frame, previous=head.hash)
            await self._jitter(slot)
        self._enter(MemberStep.TAKE_PART)
        submitted = self._entry(slot).submitted
        await self._conduct.submitting(membership, view.epoch, slot, submitted)
        await self.committing.send(view, self._entry(slot))
        until, heard = self.rules.submit_until(slot), partial(self._conduct.receipt, membership, slot)
        await self._client.deliver("submit", slot, view.index, submitted, until, heard)
        await self._conduct.ask_receipt(membership, slot)
        await self._open(membership, view, current)

    async def _jitter(self, slot: int) -> None:
        """Wait for an instant of the calendar's window that nobody outside can foretell."""
        if window_ms := self._conduct.calendars.jitter_ms(slot):
            drawn = int.from_bytes(await self._module.random(_DRAWN_BYTES), "big")
            delay = timedelta(milliseconds=drawn * window_ms >> 8 * _DRAWN_BYTES)
            await self._clock.sleep_until(self.rules.slot_end(slot) + delay)

    async def pass_over(self, membership: Membership, slot: int) -> None:
        """A calendar blocks this slot: what was measured in it is owed."""
        if self._entry(slot).state is SlotState.MEASURED:
            await self.outcomes.fail(slot, Step.LEAVE_OUT, "blocked by the calendar")
        else:
            await self.serve(membership, slot)  # begun before the calendar was known

    async def _coefficients(self) -> list[bytes]:
        """Draw what turns the seed into shares, where others may have to recover it."""
        if self.rules.recovery is not Recovery.WITNESS:
            return []
        return [await self._module.random(_SEED_BYTES) for _ in range(self.rules.threshold - 1)]

    async def greet(self, membership: Membership, slot: int) -> None:
        """Say hello in a slot without a value, so that the next one counts us in."""
        try:
            view = membership.view(self.rules.epoch_of(slot))
            if await self._catch_up(membership, view, slot) and self._chain.head is not None:
                await self._admitted(membership)
                await self._hello(membership, view, Round(view, self._chain.head))
        except Equivocation:
            raise
        except REFUSED as error:
            self._log.info("slot %d: no hello: %s", slot, error)

    async def _hello(self, membership: Membership, view: View, current: Round) -> None:
        frame, slot = seal(current.hello(), membership.mac_key), current.slot
        await self._client.deliver("submit", slot, view.index, frame, self.rules.submit_until(slot))

    async def _open(self, membership: Membership, view: View, current: Round) -> None:
        """Wait for the manifest and, if every check holds, prepare the opening."""
        slot = current.slot
        await self._clock.sleep_until(self.rules.submit_until(slot))
        while self._clock.now_utc() < self.rules.manifest_until(slot):
            try:
                reply = await self._client.manifest(slot, view.index)
                if reply is not None and await self._judge(membership, view, current, reply):
                    return
            except OpeningRefused as refused:
                await self._conduct.refused(membership, slot, refused.refusal, current.found)
                await self.outcomes.refuse(view, slot, str(refused))
                return
            except Equivocation:
                raise
            except REFUSED as error:  # not the EMP's word: as good as no answer
                self._log.info("slot %d: a manifest is ignored: %s", slot, error)
            await self._client.pause()
        await self._conduct.refused(membership, slot, Refusal.LATE, current.found)
        await self.outcomes.refuse(view, slot, f"{Refusal.LATE.value}: no manifest in time")

    async def _judge(self, membership: Membership, view: View, current: Round, reply: ManifestReply) -> bool:
        """Take a manifest; False if an outage notice that alone could save the slot may still come."""
        manifest = Manifest.from_bytes(await self.outcomes.content(membership, reply.signed))
        if (manifest.net, manifest.slot) != (self.rules.net, current.slot):
            raise MalformedObject("not the manifest that was asked for")  # it says nothing about this slot
        signed = signed_by_emp(self.rules, reply.signed)
        await self.outcomes.compare(manifest, signed, opens=True)
        head = self._chain.head
        assert head is not None
        allowed: Lifted | None = None
        if current.excludes(manifest):
            allowed = await self._outages.ask(membership, current.slot)
            last_try = self.rules.manifest_until(current.slot) - 2 * timedelta(
                milliseconds=self.rules.poll_ms
            )
            if allowed is None and self._clock.now_utc() < last_try:
                return False
        try:
            state = current.consider(manifest, reply.siblings, signed, allowed)
        except OpeningRefused as refused:
            await self._unless_forked(refused, signed)
            if current.found is not None:
                await self._chain.follow(current.found, signed)
            raise
        assert current.found is not None
        await self._conduct.seen(membership, current.found, signed)
        await self._chain.follow(current.found, signed)
        await self.outcomes.settle(membership, view, manifest)
        if state is SlotState.LEFT_OUT:
            await self.outcomes.fail(current.slot, Step.LEAVE_OUT, "left out by the manifest")
            return True
        await self.committing.prepare_opening(membership, current, self._entry(current.slot))
        body, found = current.open(), current.found
        sent = Account.of(self._entry(current.slot).submitted[:-MAC_BYTES], body)
        await OpenedSlot(head, manifest, sent).keep(self._ledger, view.size)
        frame = seal(body, membership.mac_key)
        await self._ledger.opening(
            current.slot, manifest_hash=found.hash, members=len(view.reach(found.accepted)), frame=frame
        )
        return True

    async def _catch_up(self, membership: Membership, view: View, slot: int) -> bool:
        """Follow the chain to the manifest before `slot`; False if it cannot be had in time.

        Raises:
            WanError, CertificateRefused, DcNetError: nothing that came until the end was any good.
        """
        refused: Exception | None = None
        while self._clock.now_utc() < self.rules.submit_until(slot) or self._reached(view, slot):
            if self._reached(view, slot):
                return True
            if (head := self._chain.head) is not None and head.slot >= slot:
                return False
            try:
                if await self._next_link(membership, view):
                    continue
            except Equivocation:
                raise
            except REFUSED as error:  # a bad answer is as good as none
                self._log.info("slot %d: an answer about the chain is ignored: %s", slot, error)
                refused = error
            await self._client.pause()
        if refused is not None:
            raise refused
        return False

    async def _next_link(self, membership: Membership, view: View) -> bool:
        """Go one step further: to the epoch's beginning, or to the next manifest; False if there is none."""
        if not self._chain.in_epoch(view.epoch):
            if (envelope := await self._client.epoch(view.epoch)) is None:
                return False
            started = EpochManifest.from_bytes(await self.outcomes.content(membership, envelope))
            membership.check_epoch(started, view.epoch)
            await self._chain.start(started, signed_by_emp(self.rules, envelope))
            return True
        assert self._chain.head is not None
        if self._conduct.calendars.blocked(self._chain.head.slot + 1):
            await self._chain.skip(view.version)
            return True
        if (reply := await self._client.manifest(self._chain.head.slot + 1, view.index)) is None:
            return False
        await self._follow(membership, view, reply)
        return True

    def _reached(self, view: View, slot: int) -> bool:
        head = self._chain.head
        return head is not None and head.slot == slot - 1 and self._chain.in_epoch(view.epoch)

    async def _follow(self, membership: Membership, view: View, reply: ManifestReply) -> None:
        assert self._chain.head is not None
        manifest = Manifest.from_bytes(await self.outcomes.content(membership, reply.signed))
        signed = signed_by_emp(self.rules, reply.signed)
        try:
            found = link(view, self._chain.head, manifest)
        except OpeningRefused as refused:
            await self._unless_forked(refused, signed)
            raise
        await self.outcomes.compare(manifest, signed, opens=False)
        await self._conduct.seen(membership, found, signed)
        await self._chain.follow(found, signed)
        await self.outcomes.decide(view, manifest.slot, found.hash, found.accepted)
        await self.outcomes.settle(membership, view, manifest)

    async def _unless_forked(self, refused: OpeningRefused, signed: bytes) -> None:
        """Raise `Equivocation` if the EMP's own signature denies the manifest it signed before."""
        if refused.refusal is Refusal.PREVIOUS:
            raise await self._chain.fork(signed) from refused

    def _entry(self, slot: int) -> SlotEntry:
        entry = self._ledger.entry(slot)
        assert entry is not None
        return entry
