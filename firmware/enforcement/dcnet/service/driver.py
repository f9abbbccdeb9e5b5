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

from firmware.enforcement.dcnet.errors import Equivocation
from firmware.enforcement.dcnet.events import NetEvent, NetEventKind, Report
from firmware.enforcement.dcnet.founding.membership import Membership
from firmware.enforcement.dcnet.founding.roster import Signatures
from firmware.enforcement.dcnet.machines import MEMBER, RESUMABLE, MemberState, MemberStep, SlotState
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service.client import Clock, Exchange, NetClient
from firmware.enforcement.dcnet.service.joining import Joining
from firmware.enforcement.dcnet.service.serving import REFUSED, Serving
from firmware.enforcement.dcnet.slot.chain import ManifestChain
from firmware.enforcement.dcnet.slot.ledger import Ledger, LedgerStore, Owed, SlotEntry
from firmware.errors import ReadingRefused
from firmware.log.diagnostics import INSECURE_SMALL_NET, prefixed
from firmware.store.operations import Operation
from hsm.api import KeySlot, PublicKey, SecurityModule

_LOG = logging.getLogger("smgw.dcnet")


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
        self._clock, self._report = clock, report
        self._log = prefixed(_LOG, f"{INSECURE_SMALL_NET if self.insecure else 'net'} {rules.net.hex()}")
        self._client = NetClient(rules.net, exchange, clock, rules.poll_ms / 1000, self._log)
        self._ledger = Ledger(store, rules.net)
        self.chain = ManifestChain(self._ledger)
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
            insecure=self.insecure,
            log=self._log,
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
            if self.chain.proof is None:
                self.membership = await self._join()
                await self._serve(self.membership)
        except Equivocation as lie:
            await self._tell(NetEventKind.QUARANTINE, lie.slot, 0, str(lie))
        self._enter(MemberStep.ACCUSE)
        while True:  # values still come in, and are owed
            slot = self._earliest()
            await self._serving.give_up_before(slot, "quarantine", finally_=True)
            await self._clock.sleep_until(self.rules.submit_until(slot))

    async def _load(self) -> None:
        async with self._loaded:
            if not self._ready:
                await self._ledger.load()
                await self.chain.load()
                self._ready = True

    # -- joining -------------------------------------------------------------------------------------

    async def _join(self) -> Membership:
        """Go on with joining until there is a membership; what is refused is asked for again."""
        self._enter(MemberStep.OFFER)
        reported = ""
        while True:
            try:
                membership = await self._joining.go_on()
            except REFUSED as error:
                if str(error) != reported:
                    reported = str(error)
                    await self._tell(NetEventKind.REFUSED, None, 0, f"roster: {reported}")
            else:
                if self._joining.rostered and self.state is MemberState.JOINING:
                    self._enter(MemberStep.ENROL)
                if membership is not None:
                    await self.chain.open(membership.roster.version, membership.size)
                    self._enter(MemberStep.CONFIRM)  # every edge was agreed when the graph was drawn
                    await self._tell(NetEventKind.JOINED, None, membership.size, "")
                    return membership
            await self._serving.give_up_before(self._earliest(), "no roster")
            await self._client.pause()

    # -- slot after slot -----------------------------------------------------------------------------

    async def _serve(self, membership: Membership) -> None:
        while True:
            slot = self._next()
            await self._serving.give_up_before(slot, "interrupted")
            if await self._measured(slot):
                await self._serving.serve(membership, slot)
            elif self._ledger.entry(slot) is None:
                await self._serving.greet(membership, slot)
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

    def _enter(self, step: MemberStep) -> None:
        state = MEMBER.advance(self.state, step)
        if state is not self.state:
            self.state = state
            self._log.info("%s", state.value)

    async def _tell(self, kind: NetEventKind, slot: int | None, size: int, reason: str) -> None:
        self._log.info("%s slot=%s members=%d %s", kind.value, slot, size, reason)
        await self._report(NetEvent(self.rules.net.hex(), kind, slot, size, reason, self.insecure))
