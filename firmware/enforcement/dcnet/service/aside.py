"""Rosters that are over and still play the reconcile slot of the period in which they ended.

So what a member owes that leaves, or whose roster changes, comes into that slot, among all who were in
the net before the period. Their regular keys are moved on: they open no slot in which they were used. Part
of the driver; every change is durable before anything follows from it. Spec: docs/dcnet.md, reconcile slot.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.founding.membership import Membership
from firmware.enforcement.dcnet.founding.succession import NO_ROSTER
from firmware.enforcement.dcnet.messages.canonical import Fields, decode_kept, encode
from firmware.enforcement.dcnet.messages.documents import U32
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service.joining import Joining
from firmware.enforcement.dcnet.service.refusals import REFUSED
from firmware.enforcement.dcnet.service.resting import RESTING
from firmware.enforcement.dcnet.slot.ledger import Ledger
from firmware.errors import StoreCorrupt

ASIDE: Final = "aside"
"""Record: [[version, period of the reconcile net], ...]."""


class Aside:
    """The rosters of one net that were set aside.

    Args:
        rules: the policy the administrator signed.
        ledger: keeps which they are.
        forget: erases what is kept of a roster version.
        log: diagnostics.
    """

    def __init__(
        self,
        rules: NetRules,
        ledger: Ledger,
        forget: Callable[[int], Awaitable[None]],
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self._rules, self._ledger, self._forget, self._log = rules, ledger, forget, log
        self._periods: dict[int, int] = {}
        """Version -> the period whose reconcile slot it plays."""
        self._held: dict[int, tuple[Joining, Membership]] = {}

    @property
    def memberships(self) -> list[Membership]:
        """Those whose keys are here, oldest first."""
        return [one for _, (_, one) in sorted(self._held.items())]

    async def load(self) -> None:
        """Read which there are. Raises `StoreCorrupt`."""
        self._periods = dict(await kept(self._ledger))

    async def take(self, way: Callable[[int], Joining], now_utc: datetime) -> None:
        """After a start: read their keys; one that cannot be read is given up.

        Args:
            way: the way into a version whose keys were kept.
            now_utc: the gateway's clock.
        """
        await self.drop(now_utc)
        for version in sorted(self._periods.keys() - self._held.keys()):
            joining = way(version)
            try:
                membership = await joining.go_on()
            except REFUSED as error:
                self._log.warning("roster %d plays no reconcile slot any more: %s", version, error)
                membership = None
            if membership is None:
                await self._give_up(version)
            else:
                self._held[version] = joining, membership

    async def put(self, way: Joining, membership: Membership, epoch: int, now_utc: datetime) -> bool:
        """Set a roster aside that ends before `epoch`; False if it plays no slot any more.

        Args:
            way: the way into it.
            membership: ours in it.
            epoch: the first one of the roster that takes over.
            now_utc: the gateway's clock.
        """
        rules = self._rules
        await self.drop(now_utc)
        if membership.reconcile is None:
            return False
        period = rules.first_slot_of(epoch) // rules.reconcile_slots
        version = membership.roster.version
        if self._periods.get(version) == period:  # the power went before the other one took over
            self._held[version] = way, membership
            return True
        if period in self._periods.values():
            return False  # one before it plays that slot
        before = membership.roster.first_epoch <= rules.ruling_epoch(period)
        if not before and membership.roster.previous != NO_ROSTER:
            return False
        usable = membership.ring.peers - membership.ring.unconfirmed - await self._resting(version)
        membership.reconcile.ring.adopt(usable)
        membership.ring.move(rules.net, max(epoch, membership.ring.epoch))
        await way.keep_keys(membership)
        await self._note(self._periods | {version: period})
        self._held[version] = way, membership
        return True

    async def keep_keys(self, beside: Membership) -> bool:
        """Keep the keys of one of these as they are now; whether `beside` is one in the reconcile net."""
        for way, membership in self._held.values():
            if membership.reconcile is beside:
                await way.keep_keys(membership)
                return True
        return False

    async def drop(self, now_utc: datetime) -> None:
        """Forget those whose slots are over."""
        for version, period in sorted(self._periods.items()):
            over = self._rules.reconciled().final_until(period) + timedelta(seconds=self._rules.slot_s)
            if now_utc >= over:
                await self._give_up(version)

    def forgotten(self) -> None:
        """Everything of the net was erased."""
        self._periods, self._held = {}, {}

    async def _give_up(self, version: int) -> None:
        await self._forget(version)
        await self._note({one: period for one, period in self._periods.items() if one != version})
        self._held.pop(version, None)

    async def _note(self, periods: dict[int, int]) -> None:
        await self._ledger.keep(ASIDE, encode([list(one) for one in sorted(periods.items())]))
        self._periods = periods

    async def _resting(self, version: int) -> frozenset[int]:
        data = await self._ledger.kept(f"{RESTING}-{version}")
        return frozenset() if data is None else frozenset(_numbers(data))


async def kept(ledger: Ledger) -> list[tuple[int, int]]:
    """Return (version, period) of each roster that was set aside. Raises `StoreCorrupt`."""
    if (data := await ledger.kept(ASIDE)) is None:
        return []
    try:
        items = decode_kept(data)
        rows = [Fields(item, 2) for item in items] if isinstance(items, list) else []
        return [(row.number(U32), row.number(U32)) for row in rows]
    except MalformedObject as error:
        raise StoreCorrupt("a record of rosters set aside is not in its canonical form") from error


def _numbers(data: bytes) -> list[int]:
    items = decode_kept(data)
    assert isinstance(items, list), "our own record"
    return items
