"""One slot in a net, from its value to its result: submits, follows the chain, opens, takes the verdict.

Every wait of a slot is in here and no rule: what may be sent and opened is decided by `slot.round`, and is in
the ledger before it leaves. Spec: docs/dcnet.md, one slot.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from firmware.enforcement.dcnet.errors import DcNetError, Equivocation, OpeningRefused, Refusal
from firmware.enforcement.dcnet.events import NetEvent, NetEventKind
from firmware.enforcement.dcnet.founding.membership import Membership
from firmware.enforcement.dcnet.founding.roster import Signatures
from firmware.enforcement.dcnet.machines import MemberStep, SlotState, Step
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, seal
from firmware.enforcement.dcnet.messages.manifest import (
    EpochManifest,
    Manifest,
    ManifestReply,
    SlotResult,
    Verdict,
)
from firmware.enforcement.dcnet.policy import TENTHS, NetRules
from firmware.enforcement.dcnet.service.client import Clock, NetClient
from firmware.enforcement.dcnet.slot.chain import ManifestChain
from firmware.enforcement.dcnet.slot.ledger import Ledger, SlotEntry
from firmware.enforcement.dcnet.slot.round import Round
from firmware.enforcement.dcnet.slot.view import View, link
from firmware.store.operations import Operation
from hsm.api import SecurityModule
from hsm.errors import CertificateRefused
from wan.errors import WanError

Tell = Callable[[NetEventKind, int | None, int, str], Awaitable[None]]
"""(kind, slot, size of the set, reason) for the logs."""
REFUSED: Final = (WanError, CertificateRefused, DcNetError)
"""What a signed object can be refused with; the object is dropped, the service goes on."""
_SEED_BYTES: Final = 16


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
        signatures: Signatures,
        module: SecurityModule,
        clock: Clock,
        enter: Callable[[MemberStep], None],
        tell: Tell,
        entries: Callable[[NetEvent], Sequence[Operation]],
        insecure: bool,
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self.rules = rules
        self._client, self._ledger, self._chain = client, ledger, chain
        self._signatures, self._module, self._clock = signatures, module, clock
        self._enter, self._tell, self._entries = enter, tell, entries
        self.insecure, self._log = insecure, log

    async def serve(self, membership: Membership, slot: int) -> None:
        """Serve one slot from its value to its result; whatever goes wrong, its energy is owed."""
        try:
            view = membership.view(self.rules.epoch_of(slot))
            entry = self._entry(slot)
            if entry.state is not SlotState.OPENED:
                if not await self._catch_up(membership, view, slot):
                    await self._fail(slot, Step.LEAVE_OUT, "no manifest to build on")
                    return
                await self._submit(membership, view, slot)
                entry = self._entry(slot)
            if entry.state is SlotState.OPENED:
                until = self.rules.open_until(slot)
                await self._client.deliver("open", slot, view.index, entry.opened, until)
                await self._result(slot)
        except Equivocation:
            raise
        except REFUSED as error:
            self._log.info("slot %d is given up: %s", slot, error)
            await self.give_up_before(slot + 1, str(error))

    async def _submit(self, membership: Membership, view: View, slot: int) -> None:
        """Submit, or send the same bytes again, and go on to the manifest."""
        entry, head = self._entry(slot), self._chain.head
        assert head is not None
        current = Round(view, head)
        if entry.state is SlotState.SUBMITTED:
            if entry.previous != head.hash:
                await self._fail(slot, Step.REFUSE, "the chain changed during an interruption")
                return
            current = Round.resume(view, head, entry.seed, entry.submitted[:-MAC_BYTES])
        elif not current.expected:
            self._enter(MemberStep.PARK)
            await self._hello(membership, view, current)
            await self._fail(slot, Step.LEAVE_OUT, "not expected in this slot")
            return
        else:
            seed = await self._module.random(_SEED_BYTES)
            reading = (entry.import_wh * TENTHS, entry.export_wh * TENTHS, 1)
            frame = seal(current.submit(reading, seed), membership.mac_key)
            await self._ledger.submitting(slot, epoch=view.epoch, seed=seed, frame=frame, previous=head.hash)
        self._enter(MemberStep.TAKE_PART)
        submitted = self._entry(slot).submitted
        await self._client.deliver("submit", slot, view.index, submitted, self.rules.submit_until(slot))
        await self._open(membership, view, current)

    async def greet(self, membership: Membership, slot: int) -> None:
        """Say hello in a slot without a value, so that the next one counts us in."""
        try:
            view = membership.view(self.rules.epoch_of(slot))
            if await self._catch_up(membership, view, slot) and self._chain.head is not None:
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
                if (reply := await self._client.manifest(slot, view.index)) is not None:
                    await self._judge(membership, view, current, reply)
                    return
            except OpeningRefused as refused:
                await self._fail(slot, Step.REFUSE, str(refused))
                return
            except Equivocation:
                raise
            except REFUSED as error:  # not the EMP's word: as good as no answer
                self._log.info("slot %d: a manifest is ignored: %s", slot, error)
            await self._client.pause()
        await self._fail(slot, Step.REFUSE, f"{Refusal.LATE.value}: no manifest in time")

    async def _judge(self, membership: Membership, view: View, current: Round, reply: ManifestReply) -> None:
        manifest = Manifest.from_bytes(await self._signatures.by_emp(reply.signed))
        try:
            state = current.consider(manifest, reply.siblings, reply.signed)
        except OpeningRefused as refused:
            await self._unless_forked(refused, reply.signed)
            if current.found is not None:
                await self._chain.follow(current.found, reply.signed)
            raise
        assert current.found is not None
        await self._chain.follow(current.found, reply.signed)
        await self._settle(manifest)
        if state is SlotState.LEFT_OUT:
            await self._fail(current.slot, Step.LEAVE_OUT, "left out by the manifest")
            return
        frame = seal(current.open(), membership.mac_key)
        found = current.found
        await self._ledger.opening(
            current.slot, manifest_hash=found.hash, members=len(found.accepted), frame=frame
        )

    async def _catch_up(self, membership: Membership, view: View, slot: int) -> bool:
        """Follow the chain to the manifest before `slot`; False if it cannot be had in time."""
        while self._clock.now_utc() < self.rules.submit_until(slot) or self._reached(view, slot):
            if not self._chain.in_epoch(view.epoch):
                if (signed := await self._client.epoch(view.epoch)) is not None:
                    started = EpochManifest.from_bytes(await self._signatures.by_emp(signed))
                    membership.check_epoch(started, view.epoch)
                    await self._chain.start(started, signed)
                    continue
            elif self._reached(view, slot):
                return True
            else:
                head = self._chain.head
                assert head is not None
                if head.slot >= slot:
                    return False
                if (reply := await self._client.manifest(head.slot + 1, view.index)) is not None:
                    await self._follow(view, reply)
                    continue
            await self._client.pause()
        return False

    def _reached(self, view: View, slot: int) -> bool:
        head = self._chain.head
        return head is not None and head.slot == slot - 1 and self._chain.in_epoch(view.epoch)

    async def _follow(self, view: View, reply: ManifestReply) -> None:
        assert self._chain.head is not None
        manifest = Manifest.from_bytes(await self._signatures.by_emp(reply.signed))
        try:
            found = link(view, self._chain.head, manifest)
        except OpeningRefused as refused:
            await self._unless_forked(refused, reply.signed)
            raise
        await self._chain.follow(found, reply.signed)
        await self._settle(manifest)

    async def _unless_forked(self, refused: OpeningRefused, signed: bytes) -> None:
        """Raise `Equivocation` if the EMP's own signature denies the manifest it signed before."""
        if refused.refusal is Refusal.PREVIOUS:
            raise await self._chain.fork(signed) from refused

    # -- results -------------------------------------------------------------------------------------

    async def _result(self, slot: int) -> None:
        """Ask for the result until the next slot needs us; the next manifest tells it otherwise."""
        while self._clock.now_utc() < self.rules.slot_end(slot + 1):
            if (signed := await self._client.result(slot)) is not None:
                try:
                    result = SlotResult.from_bytes(await self._signatures.by_emp(signed))
                except REFUSED as error:
                    self._log.info("slot %d: a result is ignored: %s", slot, error)
                else:
                    await self._take(slot, result)
                    return
            await self._client.pause()

    async def _settle(self, manifest: Manifest) -> None:
        """Take what a manifest says about the slot before; silence means aborted."""
        slot = manifest.slot - 1
        entry = self._ledger.entry(slot)
        if entry is not None and entry.state is SlotState.OPENED:
            await self._take(slot, manifest.result)
        for old in self._ledger.entries():
            if old.state is SlotState.OPENED and old.slot < slot:
                await self._fail(old.slot, Step.ABORT, "no result")

    async def _take(self, slot: int, result: SlotResult | None) -> None:
        entry = self._entry(slot)
        told = result is not None and (result.net, result.slot, result.manifest_hash) == (
            self.rules.net,
            slot,
            entry.manifest_hash,
        )
        if result is not None and told and result.verdict is Verdict.TOTALLED:
            event = NetEvent(
                self.rules.net.hex(), NetEventKind.TOTALLED, slot, entry.members, "", self.insecure
            )
            await self._ledger.totalled(slot, self._entries(event))
            await self._tell(NetEventKind.TOTALLED, slot, entry.members, "")
        else:
            await self._fail(slot, Step.ABORT, "aborted" if told else "no result")

    async def give_up_before(self, slot: int, reason: str, *, finally_: bool = False) -> None:
        """Owe what was measured or submitted before `slot`; with `finally_` also what waits for a result."""
        for entry in self._ledger.entries():
            if entry.slot < slot and entry.state in (SlotState.MEASURED, SlotState.SUBMITTED):
                await self._fail(entry.slot, Step.LEAVE_OUT, reason)
            elif entry.slot < slot and finally_ and entry.state is SlotState.OPENED:
                await self._fail(entry.slot, Step.ABORT, reason)

    async def _fail(self, slot: int, step: Step, reason: str) -> None:
        await self._ledger.failed(slot, step, reason)
        await self._tell(NetEventKind.OWED, slot, 0, reason)

    def _entry(self, slot: int) -> SlotEntry:
        entry = self._ledger.entry(slot)
        assert entry is not None
        return entry
