"""What a gateway owes, carried into the slots of its reconcile net: a second `Serving` beside the first.

The value of a slot is made once and kept before it is submitted; what is in it is settled once that slot is
totalled, and stays owed if it is not. So a kill at any point neither loses energy nor counts it twice.
Spec: docs/dcnet.md, reconcile slot.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final

from firmware.enforcement.dcnet.errors import MembershipRefused
from firmware.enforcement.dcnet.events import RECONCILE, NetEvent, NetEventKind
from firmware.enforcement.dcnet.founding.membership import Membership
from firmware.enforcement.dcnet.founding.roster import Signatures
from firmware.enforcement.dcnet.founding.succession import NO_ROSTER
from firmware.enforcement.dcnet.machines import MemberStep, SlotState
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service.client import Clock, Exchange, NetClient
from firmware.enforcement.dcnet.service.conduct import Conduct
from firmware.enforcement.dcnet.service.serving import Admit, Serving
from firmware.enforcement.dcnet.slot.chain import ManifestChain
from firmware.enforcement.dcnet.slot.ledger import Ledger, LedgerStore
from firmware.enforcement.dcnet.slot.reconcile import Carried, Lots, Span, carry, least_slots
from firmware.enforcement.dcnet.slot.told import ToldResult
from firmware.store.operations import Operation
from hsm.api import SecurityModule

BELOW: Final = "/reconcile"
"""Where the resources of a reconcile net lie, below those of its net."""
_CARRIED: Final = "carried"
_LOTS: Final = "lots"
_OVER: Final = frozenset({SlotState.TOTALLED, SlotState.SETTLED, SlotState.OWED})

Tell = Callable[[NetEventKind, int | None, int, str], Awaitable[None]]


def _nothing(_event: NetEvent) -> Sequence[Operation]:
    return ()


def _stays(_step: MemberStep) -> None:
    """What a reconcile slot does to the membership: nothing, its regular slots say how it stands."""


class Reconciling:
    """Serves the reconcile net of one net.

    Args:
        rules: of the regular net.
        owing: ledger of the regular net.
        admit: judges with whom pads may be shared.
        keep: keeps the keys of a membership that have moved on.
        signatures: checks the control plane.
        module: draws the seeds of the self-masks.
        exchange: the only way out, to the net's EMP.
        store: sealed durable storage.
        clock: the gateway's.
        tell: takes what the logs are told.
        insecure: whether the net is a small one that had to be permitted.
        log: diagnostics.
    """

    def __init__(
        self,
        rules: NetRules,
        owing: Ledger,
        *,
        admit: Admit,
        keep: Callable[[Membership], Awaitable[None]],
        signatures: Signatures,
        module: SecurityModule,
        exchange: Exchange,
        store: LedgerStore,
        clock: Clock,
        tell: Tell,
        insecure: bool,
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self.rules, self._period = rules.reconciled(), rules.reconcile_slots
        self._owing, self._clock, self._told, self._keep = owing, clock, tell, keep
        self._regular = rules
        self._rosters: list[tuple[int, Membership]] = []
        """(first epoch, roster), oldest first: those that can still play a slot."""
        self._last: int | None = None
        self._current: Membership | None = None
        self._served = -1
        self._ledger = Ledger(store, self.rules.net, self.rules.slot_at)
        self.chain = ManifestChain(self._ledger)
        client = NetClient(rules, exchange, clock, log, below=BELOW)
        self._conduct = Conduct(
            self.rules,
            client=client,
            ledger=self._ledger,
            signatures=signatures,
            tell=self._tell,
            log=log,
        )
        self._serving = Serving(
            self.rules,
            client=client,
            ledger=self._ledger,
            chain=self.chain,
            signatures=signatures,
            module=module,
            clock=clock,
            enter=_stays,
            tell=self._tell,
            entries=_nothing,
            admit=admit,
            conduct=self._conduct,
            insecure=insecure,
            log=log,
        )

    async def load(self) -> None:
        """Read what was kept, and settle what a kill kept from it. Raises `StoreCorrupt`."""
        await self._ledger.load()
        await self.chain.load()
        await self._conduct.load()
        for entry in self._ledger.entries():
            await self._conclude(entry.slot)

    def follow(self, epoch: int, membership: Membership) -> None:
        """From `epoch` on we are in this roster, in the reconcile net."""
        if any(one is membership for _, one in self._rosters):
            return
        running = self.rules.slot_at(self._clock.now_utc())
        ruling = self._regular.ruling_epoch(max(0, running - 1))
        over = [one for one in self._rosters[1:] if one[0] <= ruling]  # each ends the one before it
        self._rosters = [*self._rosters[len(over) :], (epoch, membership)]

    def _of(self, slot: int) -> Membership | None:
        """Return the roster of a slot, None if we are not in it: we came later."""
        ruling = self._regular.ruling_epoch(slot)
        for first, one in reversed(self._rosters):
            if first <= ruling:
                return one
        if not self._rosters:
            return None
        first, one = self._rosters[0]
        return one if one.roster.previous == NO_ROSTER and first <= self.rules.epoch_of(slot) else None

    def end_after(self, last_slot: int) -> bool:
        """Let `run` end with the last period whose slot still has us; whether there is one to wait for.

        Args:
            last_slot: the last slot of the regular net that we were in.
        """
        period = last_slot // self._period
        still = [period, *([period + 1] if (last_slot + 1) % self._period == 0 else [])]
        mine = [one for one in still if self._of(one) is not None and self._open(one)]
        self._last = max(mine, default=-1)
        return bool(mine)

    def _open(self, period: int) -> bool:
        """Whether a slot of this net is not over yet."""
        entry = self._ledger.entry(period)
        if entry is not None and entry.state in _OVER:
            return False
        return self._clock.now_utc() < self.rules.slot_end(period + 1)

    async def run(self) -> None:
        """Serve slot after slot until cancelled, or until the one that `end_after` allows was served.

        Raises:
            Equivocation: the supplier contradicts itself.
            HsmError: the security module is not available; to be restarted.
            StoreUnavailable, StoreCorrupt: a ledger is not available; nothing may be sent without it.
        """
        resumed = False
        while self._last is None or self._next() <= self._last:
            slot = self._next()
            await self._serving.outcomes.give_up_before(slot, "interrupted")
            await self._conduct.flush()
            await self._clock.sleep_until(self.rules.slot_end(slot))
            self._served = slot
            if (membership := self._of(slot)) is None:
                continue
            if membership is not self._current:
                self._current = membership
                await self.chain.open(membership.roster.version, membership.size)
                await self._conduct.begin(membership.roster.version)
            if not resumed:
                await self._serving.resume(membership)
                resumed = True
            await self._move_on(membership, self.rules.epoch_of(slot))
            await self._contribute(slot)
            await self._serving.serve(membership, slot)
            for entry in self._ledger.entries():
                await self._conclude(entry.slot)

    async def _move_on(self, membership: Membership, epoch: int) -> None:
        """Move the keys on to the slot's epoch, durably, before they are used."""
        if membership.ring.epoch >= epoch:
            return
        try:
            membership.view(epoch)
        except MembershipRefused:
            return  # the slot itself will be refused
        await self._keep(membership)

    def _next(self) -> int:
        """Return the slot to serve next: one to go on with, else the one that ends next."""
        now = self._clock.now_utc()
        until: dict[SlotState, Callable[[int], datetime]] = {
            SlotState.MEASURED: self.rules.submit_until,
            SlotState.SUBMITTED: self.rules.manifest_until,
            SlotState.OPENED: lambda slot: self.rules.slot_end(slot + 1),
        }
        for entry in self._ledger.entries():
            if entry.slot > self._served and entry.state in until and now < until[entry.state](entry.slot):
                return entry.slot
        earliest = max(0, self.rules.slot_at(now))
        if earliest and now < self.rules.submit_until(earliest - 1):
            earliest -= 1
        return max(earliest, self._ledger.last_slot + 1, self._served + 1)

    async def _contribute(self, slot: int) -> None:
        """Make the value of a slot, once: kept before the ledger of the reconcile net knows of it."""
        if self._ledger.entry(slot) is not None:
            return
        name = f"{_CARRIED}-{slot}"
        if (data := await self._owing.kept(name)) is None:
            waiting = await self._waiting()
            told = await ToldResult.kept(self._owing)
            if told is not None:  # to us alone, so far: others may have been told otherwise
                waiting.add((told.slot, told.slot))
            carried = await self._made_of(frozenset(waiting), self._period * (slot + 1))
            await self._owing.keep(name, carried.to_bytes())
        else:
            carried = Carried.from_bytes(data)
        await self._ledger.measure(slot, carried.import_wh, carried.export_wh)

    async def _made_of(self, waiting: frozenset[Span], before_slot: int) -> Carried:
        """Make the value of what is owed; the lots are kept before anything that holds them is."""
        owed = self._owing.owed()
        data = await self._owing.kept(_LOTS)
        known = Lots() if data is None else Lots.from_bytes(data)
        lots = known.joined_by(
            owed,
            before_slot=before_slot,
            max_wh=self.rules.max_wh,
            least=least_slots(self._period),
            waiting=waiting,
        )
        if lots != known:
            await self._owing.keep(_LOTS, lots.to_bytes())
        return carry(owed, lots, self.rules.max_wh, waiting)

    async def _waiting(self) -> set[Span]:
        """Return what earlier slots carry whose results are not known: in one of their totals it may be."""
        spans: set[Span] = set()
        for entry in self._ledger.entries():
            if (data := await self._owing.kept(f"{_CARRIED}-{entry.slot}")) is not None:
                spans |= set(Carried.from_bytes(data).spans)
        return spans

    async def _conclude(self, slot: int) -> None:
        """Settle what a totalled slot carried, or leave it owed; said again, it changes nothing."""
        entry, name = self._ledger.entry(slot), f"{_CARRIED}-{slot}"
        if entry is None or (data := await self._owing.kept(name)) is None:
            return
        if entry.state is SlotState.TOTALLED:
            carried = Carried.from_bytes(data)
            await self._owing.settled(carried.spans)
            await self._owing.forget(name)
            await self._told(NetEventKind.RECONCILED, slot, entry.members, f"{len(carried.spans)} entries")
        elif entry.state is SlotState.OWED:
            told = await ToldResult.kept(self._ledger)
            if told is None or told.slot != slot:  # else the next value must not have it again yet
                await self._owing.forget(name)

    async def _tell(self, kind: NetEventKind, slot: int | None, size: int, reason: str) -> None:
        """Tell what only this net knows; what stays owed was told when it became so."""
        if kind not in (NetEventKind.TOTALLED, NetEventKind.OWED):
            await self._told(kind, slot, size, f"{RECONCILE}{reason}")
