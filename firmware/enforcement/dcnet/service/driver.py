"""One gateway's life in one DC-net: publishes its key bundle, waits for the roster, serves slot after slot.

Every wait is in here and no rule: what may be sent and opened is decided by `membership` and `round`,
and is in the ledger before it leaves. No plain value ever reaches `exchange`.
Spec: docs/dcnet.md; resources of appendix "Exact constructions".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from firmware.enforcement.dcnet.errors import Equivocation
from firmware.enforcement.dcnet.events import NetEvent, NetEventKind, Report
from firmware.enforcement.dcnet.founding.membership import Membership
from firmware.enforcement.dcnet.founding.roster import Signatures
from firmware.enforcement.dcnet.machines import MEMBER, RESUMABLE, MemberState, MemberStep, SlotState
from firmware.enforcement.dcnet.messages.canonical import encode
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service.client import Clock, Exchange, NetClient
from firmware.enforcement.dcnet.service.committing import Apart
from firmware.enforcement.dcnet.service.conduct import Conduct
from firmware.enforcement.dcnet.service.confirming import check_usable
from firmware.enforcement.dcnet.service.joining import Joining
from firmware.enforcement.dcnet.service.measuring import Measuring
from firmware.enforcement.dcnet.service.reconciling import Reconciling
from firmware.enforcement.dcnet.service.refusals import REFUSED
from firmware.enforcement.dcnet.service.serving import Serving
from firmware.enforcement.dcnet.service.standing import describe_terms
from firmware.enforcement.dcnet.service.versions import Versions
from firmware.enforcement.dcnet.slot.chain import ManifestChain
from firmware.enforcement.dcnet.slot.ledger import Ledger, LedgerStore, Owed, SlotEntry
from firmware.errors import ReadingRefused
from firmware.log.diagnostics import INSECURE_SMALL_NET, prefixed
from firmware.store.operations import Operation
from hsm.api import KeySlot, PublicKey, SecurityModule

_LOG = logging.getLogger("smgw.dcnet")
_DEPARTED: Final = "departed"
"""Record: this net was left, and the logs were told."""


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
        administrator: the way to this gateway's administrator, for complaints and what the EMP withholds;
            None: there is none, they wait.
        store: sealed durable storage.
        clock: the gateway's.
        report: takes events for the consumer log and the system log.
        entries: what a log is told of a total, for the commit that keeps it.
        insecure_small_nets_allowed: the flag of gateway.toml.
        begins_utc: the register's slots before are not this net's; None: they are.
        ends_utc: the register's slots after it are not this net's; None: no end is known.
        apart: where the proofs of V-mode are computed.

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
        administrator: Exchange | None = None,
        begins_utc: datetime | None = None,
        ends_utc: datetime | None = None,
        apart: Apart = asyncio.to_thread,
    ) -> None:
        rules.check()
        self.insecure = rules.admit(insecure_small_nets_allowed=insecure_small_nets_allowed)
        self.name = f"dcnet.{rules.net.hex()}"
        self.rules, self.state = rules, MemberState.PROVISIONED
        self._clock, self._report = clock, report
        self._log = prefixed(_LOG, f"{INSECURE_SMALL_NET if self.insecure else 'net'} {rules.net.hex()}")
        self._client = NetClient(rules, exchange, clock, self._log, administrator)
        self._ledger = Ledger(store, rules.net, rules.slot_at)
        self.chain = ManifestChain(self._ledger)
        self.membership: Membership | None = None
        self._begins_utc, self._ends_utc = begins_utc, ends_utc
        self._versions = Versions(
            rules,
            gateway_id,
            make=partial(
                Joining,
                rules,
                gateway_id,
                signatures=signatures,
                module=module,
                emp_key=emp_key,
                client=self._client,
                ledger=self._ledger,
                clock=clock,
            ),
            key_slot=key_slot,
            module=module,
            signatures=signatures,
            client=self._client,
            ledger=self._ledger,
            chain=self.chain,
            clock=clock,
            tell=self._tell,
            log=self._log,
            begins_utc=begins_utc,
            ends_utc=ends_utc,
        )
        self._conduct = Conduct(
            rules,
            client=self._client,
            ledger=self._ledger,
            signatures=signatures,
            tell=self._tell,
            log=self._log,
        )
        self._serving = Serving(
            rules,
            client=self._client,
            ledger=self._ledger,
            chain=self.chain,
            signatures=signatures,
            module=module,
            clock=clock,
            enter=self._enter,
            tell=self._tell,
            entries=entries,
            conduct=self._conduct,
            admit=self._versions.admit,
            insecure=self.insecure,
            log=self._log,
            apart=apart,
        )
        self._reconciling = (
            Reconciling(
                rules,
                self._ledger,
                admit=self._admit_beside,
                keep=self._versions.keep_keys,
                signatures=signatures,
                module=module,
                exchange=exchange,
                store=store,
                clock=clock,
                tell=self._tell,
                insecure=self.insecure,
                log=self._log,
            )
            if rules.reconcile_slots
            else None
        )
        self._loaded = asyncio.Lock()
        self._ready = False
        self._measuring = Measuring(rules, self._ledger)
        self._served = -1

    # -- what the gate and the consumer's view use ---------------------------------------------------

    async def contribute(self, slot: int, energy_wh: int | None, export_wh: int = 0) -> None:
        """Take the energy of a slot that has ended; durable on return. Never sent in plain.

        Args:
            slot: of the net's grid.
            energy_wh: import in Wh, 0 to the policy's max_wh; None: not known, the slot is passed over.
            export_wh: export in Wh, same range.

        Raises:
            ReadingRefused: no slot of ours, or outside the range: nothing is sent for it, what is above the
                range is owed.
            SlotInPast: another value was taken for this slot before (a ReadingRefused, too).
            StoreUnavailable: it could not be kept.
        """
        if not self.rules.has_slot(slot):
            raise ReadingRefused(f"slot {slot} lies outside the net's grid")
        if self._over(slot) or self._before(slot):
            raise ReadingRefused(f"slot {slot} is another recipient's")
        await self._load()
        await self._measuring.take(slot, energy_wh, export_wh)

    async def owe(self, first_slot: int, last_slot: int, energy_wh: int, export_wh: int = 0) -> None:
        """Take energy that spans several slots (an interruption): it waits for reconcile, not for a slot."""
        await self._load()
        await self._measuring.owe(first_slot, last_slot, energy_wh, export_wh)

    async def owed(self) -> list[Owed]:
        """Return the energy that no total contains, oldest first."""
        await self._load()
        return self._ledger.owed()

    async def slots(self) -> list[SlotEntry]:
        """Return what became of each slot, oldest first, for the consumer's view."""
        await self._load()
        return self._ledger.entries()

    async def faults(self) -> dict[str, Any]:
        """Return how the net deals with faults, and what was ordered of it; see `standing`. No reading."""
        await self._load()
        await self._versions.load()
        withdrawn = (self._versions.serial, self._versions.withdrawn)
        terms = describe_terms(self.membership, withdrawn, self._begins_utc, self._ends_utc)
        return await self._serving.faults() | terms

    async def withdraw(self, serial: int, certificates: frozenset[bytes]) -> bool:
        """Share no key any more with gateways whose certificates have these hashes; durable on return.

        Args:
            serial: of the administrator's list, which replaces the one before.
            certificates: SHA-256 of the peers' SIG certificates.

        Returns:
            False if a newer list, or another one of this number, is known: nothing changed.
        """
        if taken := await self._versions.withdraw(serial, certificates):
            await self._tell(
                NetEventKind.REVOKED, None, 0, f"list {serial}: {len(certificates)} peers withdrawn"
            )
        return taken

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
            if not self._proven:
                if not self._over(self._earliest()) or await self._lingers():
                    await self._ledger.forget(_DEPARTED)
                    self.membership = await self._join()
                    await self._serve_both(self.membership)
                await self._depart()
                await self._idle("left", in_peace=True)
        except Equivocation as lie:
            await self._tell(NetEventKind.QUARANTINE, lie.slot, 0, str(lie))
        self._enter(MemberStep.ACCUSE)
        await self._accuse()
        await self._idle("quarantine")

    async def _idle(self, reason: str, *, in_peace: bool = False) -> None:
        """Until cancelled: values still come in, and are owed; one left in peace is asked for totals."""
        while True:
            slot = self._earliest()
            await self._conduct.flush()
            if in_peace:
                await self._serving.outcomes.conclude_before(slot)
            await self._serving.outcomes.give_up_before(slot, reason, finally_=not in_peace)
            await self._clock.sleep_until(self.rules.submit_until(slot))

    async def _lingers(self) -> bool:
        """Whether we have left, and a reconcile slot may still have us: its keys are not forgotten yet."""
        if self._reconciling is None or await self._ledger.kept(_DEPARTED) is not None:
            return False
        return await self._versions.entered()

    async def _accuse(self) -> None:
        """Hand the proof of a lie to our administrator, from the net or from its reconcile net."""
        for chain in (self.chain, None if self._reconciling is None else self._reconciling.chain):
            if chain is not None and chain.proof is not None:
                await self._conduct.accuse(chain.proof, -1 if chain.head is None else chain.head.slot)

    def _over(self, slot: int) -> bool:
        """Whether a slot ends after the register has left this net."""
        return self._ends_utc is not None and self.rules.slot_end(slot) > self._ends_utc

    def _before(self, slot: int) -> bool:
        """Whether a slot begins before the register is this net's."""
        return self._begins_utc is not None and self.rules.slot_end(slot - 1) < self._begins_utc

    async def _depart(self) -> None:
        """Leave: the EMP is told if it was not yet, every key is forgotten. Again, it changes nothing."""
        if self.state is not MemberState.LEAVING:
            self._enter(MemberStep.LEAVE)
        await self._versions.look()
        await self._versions.forget_everything()
        self.membership = None
        self._enter(MemberStep.FORGET)
        if await self._ledger.kept(_DEPARTED) is None:
            await self._tell(NetEventKind.LEFT, None, 0, "the register's slots are another recipient's now")
            await self._ledger.keep(_DEPARTED, encode([1]))

    async def _load(self) -> None:
        async with self._loaded:
            if not self._ready:
                await self._ledger.load()
                await self.chain.load()
                await self._conduct.load()
                if self._reconciling is not None:
                    await self._reconciling.load()
                self._ready = True

    # -- joining -------------------------------------------------------------------------------------

    async def _join(self) -> Membership:
        """Go on with joining until there is a membership; what is refused is asked for again."""
        self._enter(MemberStep.OFFER)
        reported = ""
        while True:
            try:
                membership = await self._versions.enter()
            except REFUSED as error:
                if str(error) != reported:
                    reported = str(error)
                    await self._tell(NetEventKind.REFUSED, None, 0, f"roster: {reported}")
            else:
                if self._versions.rostered and self.state is MemberState.JOINING:
                    self._enter(MemberStep.ENROL)
                if membership is not None:
                    self._enter(MemberStep.CONFIRM)
                    await self._tell(NetEventKind.JOINED, None, membership.size, "")
                    return membership
            await self._serving.outcomes.give_up_before(self._earliest(), "no roster")
            await self._client.pause()

    # -- slot after slot -----------------------------------------------------------------------------

    async def _serve_both(self, membership: Membership) -> None:
        """Serve the net until the register leaves it, and its reconcile net beside it."""
        for one in self._versions.aside.memberships:
            if self._reconciling is not None and one.reconcile is not None:
                self._reconciling.follow(one.roster.first_epoch, one.reconcile)
        await self._begin(membership, membership.roster.first_epoch)
        regular = asyncio.ensure_future(self._serve(membership))
        beside = None if self._reconciling is None else asyncio.ensure_future(self._reconciling.run())
        tasks = [regular, *([] if beside is None else [beside])]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if beside is not None and beside not in done and regular.exception() is None and self._stays():
                tasks.append(asyncio.ensure_future(self._tidy()))
                done, _ = await asyncio.wait(tasks[1:], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    def _stays(self) -> bool:
        """Whether the reconcile slot of the last period has us; then we wait for it."""
        assert self._reconciling is not None
        assert self._ends_utc is not None
        if not self._reconciling.end_after(self.rules.slot_at(self._ends_utc) - 1):
            return False
        self._enter(MemberStep.LEAVE)
        return True

    async def _tidy(self) -> None:
        """Meanwhile: what the net's last slots came to, and what has to be told."""
        while True:
            await self._conduct.flush()
            await self._versions.look()
            slot = self._earliest()
            await self._serving.outcomes.conclude_before(slot)
            await self._serving.outcomes.give_up_before(slot, "left")
            await self._clock.sleep_until(self.rules.submit_until(slot))

    @property
    def _proven(self) -> bool:
        """Whether a lie of the supplier was proven, in the net or in its reconcile net."""
        reconciling = self._reconciling
        return self.chain.proof is not None or (
            reconciling is not None and reconciling.chain.proof is not None
        )

    async def _begin(self, membership: Membership, epoch: int) -> None:
        """Another roster is in force from `epoch` on."""
        self.membership = membership
        await self._conduct.begin(membership.roster.version)
        if self._reconciling is not None and membership.reconcile is not None:
            self._reconciling.follow(epoch, membership.reconcile)

    async def _admit_beside(self, beside: Membership, expected: frozenset[int]) -> None:
        """Judge the peers of a reconcile slot as those of the net's own: its edges are the same."""
        if self.membership is not None and self.membership.roster.version == beside.roster.version:
            await self._versions.admit(self.membership, expected)
        else:
            check_usable(beside, expected, self._versions.withdrawn)

    async def _serve(self, membership: Membership) -> None:
        """Serve every slot that is this net's."""
        await self._serving.resume(membership)
        while not self._over(slot := self._next()):
            await self._serving.outcomes.give_up_before(slot, "interrupted")
            if self._clock.now_utc() < self.rules.slot_end(slot):
                await self._conduct.flush()
            await self._conduct.look_up(slot, slot)
            await self._versions.look()
            await self._go_on_joining(slot)
            measured = await self._measured(slot)
            if (current := await self._versions.at(slot)) is not membership:
                membership = current
                await self._begin(membership, self.rules.epoch_of(slot))
            if self._conduct.calendars.blocked(slot):
                if measured:
                    await self._serving.pass_over(membership, slot)
            elif measured:
                await self._serving.serve(membership, slot)
            elif self._ledger.entry(slot) is None:
                await self._serving.greet(membership, slot)
            self._served = slot

    async def _go_on_joining(self, slot: int) -> None:
        """While the slot lasts, go on with the next roster if there is one on its way."""
        last = self.rules.slot_end(slot) - timedelta(milliseconds=self.rules.poll_ms)
        while self._versions.under_way and self._clock.now_utc() < last:
            await self._client.pause()
            await self._versions.look()

    def _earliest(self) -> int:
        """Return the earliest slot that can still be submitted."""
        submit = timedelta(milliseconds=self.rules.submit_ms)
        return max(0, self.rules.slot_at(self._clock.now_utc() - submit))

    def _next(self) -> int:
        """Return the slot to serve next: never one dealt with before, except one to go on with."""
        now = self._clock.now_utc()
        in_time: dict[SlotState, Callable[[int], datetime]] = {
            SlotState.MEASURED: self.rules.submit_until,
            SlotState.SUBMITTED: self.rules.manifest_until,
            SlotState.OPENED: lambda slot: self.rules.slot_end(slot + 1),  # its result, or others' shares
        }
        for entry in self._ledger.entries():
            until = in_time.get(entry.state)
            if entry.slot > self._served and until is not None and now < until(entry.slot):
                return entry.slot
        begins = 0
        if (membership := self.membership) is not None:
            begins = self.rules.first_slot_of(membership.roster.first_epoch)
        return max(self._earliest(), self._ledger.last_slot + 1, self._served + 1, begins)

    async def _measured(self, slot: int) -> bool:
        """Wait for the slot's end and its value; False if none comes while there is time to submit it."""
        await self._clock.sleep_until(self.rules.slot_end(slot))
        while (entry := self._ledger.entry(slot)) is None:
            late = self._clock.now_utc() >= self.rules.measure_until(slot)
            if self._measuring.passes_over(slot) or late:
                return False
            await self._client.pause()
        return entry.state in RESUMABLE

    def _enter(self, step: MemberStep) -> None:
        state = MEMBER.advance(self.state, step)
        if state is not self.state:
            self.state = state
            self._log.info("%s", state.value)

    async def _tell(self, kind: NetEventKind, slot: int | None, size: int, reason: str) -> None:
        self._log.info("%s slot=%s members=%d %s", kind.value, slot, size, reason)
        await self._report(NetEvent(self.rules.net.hex(), kind, slot, size, reason, self.insecure))


class ForgottenNet:
    """Service: erases the keys of a net that the administrator took away, once in a gateway's run.

    Args:
        net: its id.
        forget: erases; doing it again changes nothing.
    """

    def __init__(self, net: str, forget: Callable[[], Awaitable[None]]) -> None:
        self.name, self._forget = f"dcnet.forget.{net}", forget

    async def run(self) -> None:
        """Serve until cancelled. Raises `HsmError` or `StoreUnavailable`: to be started again."""
        await self._forget()
        await asyncio.Event().wait()
