"""One gateway's life in one DC-net: publishes its key bundle, waits for the roster, serves slot after slot.

Every wait is in here and no rule: what may be sent and opened is decided by `membership` and `round`,
and is in the ledger before it leaves. No plain value ever reaches `exchange`.
Spec: docs/dcnet.md; resources of appendix "Exact constructions".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from firmware.enforcement.dcnet.chain import ManifestChain
from firmware.enforcement.dcnet.client import Clock, Exchange, NetClient
from firmware.enforcement.dcnet.errors import DcNetError, Equivocation, OpeningRefused, Refusal
from firmware.enforcement.dcnet.events import NetEvent, NetEventKind, Report
from firmware.enforcement.dcnet.frames import MAC_BYTES, seal
from firmware.enforcement.dcnet.joining import Joining
from firmware.enforcement.dcnet.ledger import Ledger, LedgerStore, Owed, SlotEntry
from firmware.enforcement.dcnet.machines import MEMBER, RESUMABLE, MemberState, MemberStep, SlotState, Step
from firmware.enforcement.dcnet.membership import Membership
from firmware.enforcement.dcnet.messages import (
    EpochManifest,
    Manifest,
    ManifestReply,
    SlotResult,
    Verdict,
)
from firmware.enforcement.dcnet.policy import TENTHS, NetRules
from firmware.enforcement.dcnet.roster import Signatures
from firmware.enforcement.dcnet.round import Round
from firmware.enforcement.dcnet.view import View, link
from firmware.errors import ReadingRefused
from firmware.log.diagnostics import INSECURE_SMALL_NET, prefixed
from firmware.store.operations import Operation
from hsm.api import KeySlot, PublicKey, SecurityModule
from hsm.errors import CertificateRefused
from wan.errors import WanError

_LOG = logging.getLogger("smgw.dcnet")
_SEED_BYTES: Final = 16
_REFUSED: Final = (WanError, CertificateRefused, DcNetError)
"""What a signed object can be refused with; the object is dropped, the service goes on."""


class NetMember:
    """Service: a gateway's membership in one net.

    Args:
        rules: the policy the administrator signed.
        gateway_id: lower case, as in URLs.
        signatures: signs and checks the control plane.
        module: holds the DCNET key.
        key_slot: where (one net, one slot).
        emp_key: the EMP's public ENC key; its curve is the curve of the DCNET keys.
        exchange: the only way out, to the net's EMP.
        store: sealed durable storage.
        clock: the gateway's.
        report: takes events for the consumer log and the system log.
        entries: what a log is told of a total, for the commit that keeps it.
        insecure_small_nets_allowed: the flag of gateway.toml.
        roster_version: which roster this gateway offers a bundle for.

    Raises:
        NetRefused: the rules contradict themselves or break the floor of 16 members.
    """

    def __init__(
        self,
        rules: NetRules,
        gateway_id: str,
        *,
        signatures: Signatures,
        module: SecurityModule,
        key_slot: KeySlot,
        emp_key: PublicKey,
        exchange: Exchange,
        store: LedgerStore,
        clock: Clock,
        report: Report,
        entries: Callable[[NetEvent], Sequence[Operation]] = lambda _event: (),
        insecure_small_nets_allowed: bool = False,
        roster_version: int = 1,
    ) -> None:
        rules.check()
        self.insecure = rules.admit(insecure_small_nets_allowed=insecure_small_nets_allowed)
        self.name = f"dcnet.{rules.net.hex()}"
        self.rules, self.state = rules, MemberState.PROVISIONED
        self._signatures, self._module = signatures, module
        self._clock, self._report, self._entries = clock, report, entries
        self._log = prefixed(_LOG, f"{INSECURE_SMALL_NET if self.insecure else 'net'} {rules.net.hex()}")
        self._client = NetClient(rules.net, exchange, clock, rules.poll_ms / 1000, self._log)
        self._ledger = Ledger(store, rules.net)
        self._chain = self.chain = ManifestChain(self._ledger)
        self.membership: Membership | None = None
        self._joining = Joining(
            rules,
            gateway_id,
            roster_version,
            signatures=signatures,
            module=module,
            key_slot=key_slot,
            emp_key=emp_key,
            client=self._client,
            ledger=self._ledger,
            today=lambda: rules.epoch_of(rules.slot_at(clock.now_utc())),
        )
        self._loaded = asyncio.Lock()
        self._ready = False
        self._missing: set[int] = set()
        self._served = -1

    # -- what the gate and the consumer's view use ---------------------------------------------------

    async def contribute(self, slot: int, energy_wh: int | None, export_wh: int = 0) -> None:
        """Take the energy of a slot that has ended; durable on return. Never sent in plain.

        Args:
            slot: of the net's grid.
            energy_wh: import in Wh, 0 <= energy_wh <= the policy's max_wh; None: not known, the slot is
                passed over.
            export_wh: export in Wh, same range.

        Raises:
            ReadingRefused: outside the range; nothing is sent for this slot.
            SlotInPast: another value was taken for this slot before (a ReadingRefused, too).
            StoreUnavailable: it could not be kept.
        """
        if not self.rules.has_slot(slot):
            raise ReadingRefused(f"slot {slot} lies outside the net's grid")
        await self._load()
        if energy_wh is None:
            self._missing.add(slot)
        else:
            if not (0 <= energy_wh <= self.rules.max_wh and 0 <= export_wh <= self.rules.max_wh):
                raise ReadingRefused(f"slot {slot}: the energy lies outside the policy's range")
            if slot < self._ledger.last_slot and self._ledger.entry(slot) is None:
                await self._ledger.owe(slot, slot, energy_wh, export_wh, "out of order")
            else:
                await self._ledger.measure(slot, energy_wh, export_wh)

    async def owe(self, first_slot: int, last_slot: int, energy_wh: int, export_wh: int = 0) -> None:
        """Take energy that spans several slots (an interruption): it waits for reconcile, not for a slot."""
        if first_slot > last_slot or energy_wh < 0 or export_wh < 0:
            raise ReadingRefused("a span of slots and energies of at least 0 are required")
        await self._load()
        await self._ledger.owe(first_slot, last_slot, energy_wh, export_wh, "interruption")

    async def owed(self) -> list[Owed]:
        """Return the energy that no total contains, oldest first."""
        await self._load()
        return self._ledger.owed()

    async def slots(self) -> list[SlotEntry]:
        """Return what became of each slot, oldest first, for the consumer's view."""
        await self._load()
        return self._ledger.entries()

    # -- the service ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            HsmError: the security module is not available; to be restarted.
            StoreUnavailable, StoreCorrupt: the ledger is not available; nothing may be sent without it.
        """
        await self._load()
        self.state = MemberState.PROVISIONED
        try:
            if self._chain.proof is None:
                self.membership = await self._join()
                await self._serve(self.membership)
        except Equivocation as lie:
            await self._tell(NetEventKind.QUARANTINE, lie.slot, 0, str(lie))
        self._enter(MemberStep.ACCUSE)
        while True:  # values still come in, and are owed
            slot = self._earliest()
            await self._give_up_before(slot, "quarantine", finally_=True)
            await self._clock.sleep_until(self.rules.submit_until(slot))

    async def _load(self) -> None:
        async with self._loaded:
            if not self._ready:
                await self._ledger.load()
                await self._chain.load()
                self._ready = True

    # -- joining -------------------------------------------------------------------------------------

    async def _join(self) -> Membership:
        """Go on with joining until there is a membership; what is refused is asked for again."""
        self._enter(MemberStep.OFFER)
        reported = ""
        while True:
            try:
                membership = await self._joining.go_on()
            except _REFUSED as error:
                if str(error) != reported:
                    reported = str(error)
                    await self._tell(NetEventKind.REFUSED, None, 0, f"roster: {reported}")
            else:
                if self._joining.rostered and self.state is MemberState.JOINING:
                    self._enter(MemberStep.ENROL)
                if membership is not None:
                    await self._chain.open(membership.roster.version, membership.size)
                    self._enter(MemberStep.CONFIRM)  # every edge was agreed when the graph was drawn
                    await self._tell(NetEventKind.JOINED, None, membership.size, "")
                    return membership
            await self._give_up_before(self._earliest(), "no roster")
            await self._client.pause()

    # -- slot after slot -----------------------------------------------------------------------------

    async def _serve(self, membership: Membership) -> None:
        while True:
            slot = self._next()
            await self._give_up_before(slot, "interrupted")
            if await self._measured(slot):
                await self._slot(membership, slot)
            elif self._ledger.entry(slot) is None:
                await self._greet(membership, slot)
            self._served = slot

    def _earliest(self) -> int:
        """Return the earliest slot that can still be submitted."""
        submit = timedelta(milliseconds=self.rules.submit_ms)
        return max(0, self.rules.slot_at(self._clock.now_utc() - submit))

    def _next(self) -> int:
        """Return the slot to serve next: never one dealt with before, except one to go on with."""
        now, in_time = (
            self._clock.now_utc(),
            {
                SlotState.MEASURED: self.rules.submit_until,
                SlotState.SUBMITTED: self.rules.manifest_until,
                SlotState.OPENED: self.rules.open_until,
            },
        )
        for entry in self._ledger.entries():
            until = in_time.get(entry.state)
            if entry.slot > self._served and until is not None and now < until(entry.slot):
                return entry.slot
        return max(self._earliest(), self._ledger.last_slot + 1, self._served + 1)

    async def _measured(self, slot: int) -> bool:
        """Wait for the slot's end and its value; False if none comes while there is time to submit it."""
        await self._clock.sleep_until(self.rules.slot_end(slot))
        while (entry := self._ledger.entry(slot)) is None:
            late = self._clock.now_utc() >= self.rules.measure_until(slot)
            if late or slot in self._missing or self._ledger.last_slot > slot:
                self._missing = {other for other in self._missing if other > slot}
                return False
            await self._client.pause()
        return entry.state in RESUMABLE

    async def _slot(self, membership: Membership, slot: int) -> None:
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
        except _REFUSED as error:
            self._log.info("slot %d is given up: %s", slot, error)
            await self._give_up_before(slot + 1, str(error))

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

    async def _greet(self, membership: Membership, slot: int) -> None:
        """Say hello in a slot without a value, so that the next one counts us in."""
        try:
            view = membership.view(self.rules.epoch_of(slot))
            if await self._catch_up(membership, view, slot) and self._chain.head is not None:
                await self._hello(membership, view, Round(view, self._chain.head))
        except Equivocation:
            raise
        except _REFUSED as error:
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
            except _REFUSED as error:  # not the EMP's word: as good as no answer
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
                except _REFUSED as error:
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

    async def _give_up_before(self, slot: int, reason: str, *, finally_: bool = False) -> None:
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

    def _enter(self, step: MemberStep) -> None:
        state = MEMBER.advance(self.state, step)
        if state is not self.state:
            self.state = state
            self._log.info("%s", state.value)

    async def _tell(self, kind: NetEventKind, slot: int | None, size: int, reason: str) -> None:
        self._log.info("%s slot=%s members=%d %s", kind.value, slot, size, reason)
        await self._report(NetEvent(self.rules.net.hex(), kind, slot, size, reason, self.insecure))
