"""The active profiles: taken from orders, checked, durable and active in one step.

Implements `wan.ports.ProfileSink` for the administrator's link, `lmn.ports.MeterKeys` for reception and gives
`wan.dial` its peers. No I/O of its own: the store is a port.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

import msgspec

from firmware.errors import StoreCorrupt
from firmware.log.news import News
from firmware.profile.model import CommunicationProfile, MeterProfile, ProfileSet
from firmware.profile.orders import Effect, carry_out
from firmware.profile.pem import to_der
from firmware.profile.record import NOTHING, ActiveRecord, owners
from firmware.store.operations import Operation
from firmware.store.partition import Partition
from firmware.store.stores import ProfileArchive, ReplayMemory
from firmware.store.wiping import Belongings, Span
from lmn.model import MeterId
from lmn.ports import MeterAccess
from wan.ports import Order, Peer, Receipt

_REFUSALS_KEPT: Final = 256
_FALSE_FUTURE: Final = timedelta(days=1)
_REASON_CHARS: Final = 2000


@dataclass(frozen=True, slots=True)
class Forwarded:
    """Recipients that get something under a pseudonym, by way of the administrator."""

    names: frozenset[str] = frozenset()
    alone: frozenset[str] = frozenset()
    """Those that get nothing else: no connection may lead to them."""

    @classmethod
    def of(cls, *sets: ProfileSet) -> Forwarded:
        """Return those of the active set and of the one before it, from which messages may still wait."""
        profiles = [one for each in sets for one in each.communication]
        hidden = {one.recipient for one in profiles if one.pseudonymised}
        plain = {one.recipient for one in profiles if not one.pseudonymised}
        return cls(frozenset(hidden), frozenset(hidden - plain))


Entries = Callable[[Receipt, Sequence[News]], Sequence[Operation]]
"""What is logged of a receipt, and what consumers must be told of it."""


def _no_entries(_receipt: Receipt, _news: Sequence[News]) -> Sequence[Operation]:
    return ()


class ProfileStore(Protocol):
    """Where the active set and the receipts are kept."""

    async def active(self) -> bytes | None:
        """Return the active record, None if there is none."""

    async def receipt(self, message_id: str) -> Receipt | None:
        """Return the receipt of an order that was carried out or refused by `apply`, None for a new one."""

    async def keep(self, record: bytes | None, receipt: Receipt, news: Sequence[News] = ()) -> None:
        """Keep a receipt, what consumers must be told of it and, if not None, the new active record.

        All or nothing, durable on return.
        """


class SealedProfiles:
    """A `ProfileStore` in one partition.

    Args:
        partition: the system partition.
        entries: what is logged of a receipt and told to consumers, in the same commit.
    """

    def __init__(self, partition: Partition, entries: Entries | None = None) -> None:
        self._partition, self._entries = partition, entries or _no_entries
        self._archive, self._replay = ProfileArchive(partition), ReplayMemory(partition)

    async def active(self) -> bytes | None:
        """Return the active record, None if there is none."""
        return await self._archive.active()

    async def receipt(self, message_id: str) -> Receipt | None:
        """Return the first receipt of a message id."""
        return await self._replay.receipt(message_id)

    async def keep(self, record: bytes | None, receipt: Receipt, news: Sequence[News] = ()) -> None:
        """Keep everything, and the log entry about it, in one transaction."""
        operations: list[Operation] = [self._replay.operation(receipt)]
        if record is not None:
            operations += await self._archive.operations(record)
        operations += self._entries(receipt, news)
        await self._partition.commit(operations)


Report = Callable[[Receipt], Awaitable[None]]
"""Told of every order that was carried out or refused, once."""
Apart = Callable[[Callable[[], Effect]], Awaitable[Effect]]
"""Does a long computation where it holds nobody up; `asyncio.to_thread` is one."""
LONG_BYTES: Final = 1 << 14
"""An order whose body is longer is read and judged apart: the largest takes 1.5 s here, and longer on a small
machine."""


async def at_once(work: Callable[[], Effect]) -> Effect:
    """Do it here and now."""
    return work()


class Registry:
    """The one place that knows which profiles are active.

    Args:
        store: where they survive a restart.
        now_utc: the clock.
        small_nets_allowed: `insecure_small_nets` of gateway.toml.
        report: told of every receipt.
        local_meters: meter profiles of the gateway's own configuration, for meters that no order names.
        apart: where long orders are read and judged.
    """

    def __init__(
        self,
        store: ProfileStore,
        now_utc: Callable[[], datetime],
        *,
        small_nets_allowed: bool,
        report: Report,
        local_meters: Iterable[MeterProfile] = (),
        apart: Apart = at_once,
    ) -> None:
        self._apart = apart
        self._store, self._now_utc, self._report = store, now_utc, report
        self._small_nets_allowed = small_nets_allowed
        self._record = NOTHING
        self._refusals: OrderedDict[str, Receipt] = OrderedDict()
        self._watchers: list[Callable[[ProfileSet], None]] = []
        self._settlers: list[Callable[[ProfileSet], Awaitable[None]]] = []
        self._local = _access(local_meters)
        self._access = dict(self._local)
        self._peers: dict[str, Peer] = {}
        self._former: dict[str, Peer] = {}
        self._forwarded = Forwarded()
        self._applying = False

    @property
    def active(self) -> ProfileSet:
        """Return the active set; empty before the first order."""
        return self._record.profiles

    @property
    def version(self) -> int:
        """Return the version of the active set, 0 before the first order."""
        return self._record.version

    def belongings(self, consumer: str) -> Belongings:
        """Return what is or was a consumer's, each with the times in which it was.

        What was measured at another time under the same profile, or by the same meter, is another's.
        """
        owned = {
            **(owners(self._record.before) if self._record.before is not None else {}),
            **self._record.owners,
            **owners(self._record.profiles),
        }
        former = self._record.tenures
        found: dict[str, dict[str, tuple[Span, ...]]] = {"processing": {}, "meter": {}}
        for key, owner in owned.items():
            before_utc, spans = None, []
            for tenure in (one for one in former if one.key == key):
                if tenure.consumer == consumer:
                    spans.append(Span(before_utc, tenure.until_utc))
                before_utc = tenure.until_utc
            if owner == consumer:
                spans.append(Span(before_utc))
            kind, _, name = key.partition("/")
            if spans:
                found[kind][name] = tuple(spans)
        return Belongings(found["processing"], found["meter"])

    def communication_since(self, profile: str) -> datetime | None:
        """Return when a communication profile became active with its present content, None if it is not.

        Values older than that are never sent under it: they were measured under other rules.
        """
        return self._since_of(f"communication/{profile}")

    def processing_since(self, profile: str) -> datetime | None:
        """Return when a processing profile became active with its present content, None if it is not."""
        return self._since_of(f"processing/{profile}")

    def _since_of(self, key: str) -> datetime | None:
        """Return an activation's instant; one far ahead is of a time that was false, and counts as now.

        In memory only: a restart before the next order counts from then.
        """
        since, now_utc = self._record.since.get(key), self._now_utc()
        if since is None or since <= now_utc + _FALSE_FUTURE:
            return since
        known = {**self._record.since, key: now_utc}
        self._record = msgspec.structs.replace(self._record, since=known)
        return now_utc

    def access(self, meter: MeterId) -> MeterAccess | None:
        """Return what may be received from `meter`, None for one that no profile names."""
        return self._access.get(meter)

    def forwarded(self) -> Forwarded:
        """Return which recipients, former ones too, get something by way of the administrator."""
        return self._forwarded

    def peers(self) -> Mapping[str, Peer]:
        """Return the recipients of the active set by name."""
        return self._peers

    def former_peers(self) -> Mapping[str, Peer]:
        """Return the recipients that the set before had and the active one lacks, by name.

        The gate lets nothing out for them; what it let out before and still waits may reach them.
        """
        return self._former

    def watch(self, changed: Callable[[ProfileSet], None]) -> None:
        """Have `changed` called with every newly active set."""
        self._watchers.append(changed)

    def before_each_change(self, settle: Callable[[ProfileSet], Awaitable[None]]) -> None:
        """Have `settle` awaited with every set that is about to become active, while the old one still is."""
        self._settlers.append(settle)

    async def load(self) -> None:
        """Take up what was active before the restart; call once, before anything else.

        Raises:
            StoreCorrupt: what is stored is not what this class stored.
        """
        record = await self._store.active()
        if record is None:
            return
        try:
            stored = msgspec.json.decode(record, type=ActiveRecord)
        except (msgspec.MsgspecError, ValueError) as error:
            raise StoreCorrupt("the stored profiles cannot be read") from error
        self._take(stored, activates=True)

    async def apply(self, order: Order) -> Receipt:
        """Carry out an order once; the same message id again returns the first receipt.

        What it does (`firmware.profile.orders`) is stored together with its receipt in one transaction and
        only then holds. A kill at any point leaves the old set or the new one, never both.

        Raises:
            StoreUnavailable: nothing changed; the order can be given again.
        """
        if self._applying:
            raise AssertionError("orders are applied one at a time")
        self._applying = True
        try:
            known = await self._store.receipt(order.message_id)
            if known is not None:
                return known
            judged = partial(
                carry_out, self._record, order, self._now_utc(), small_nets_allowed=self._small_nets_allowed
            )
            effect = await (self._apart if len(order.body) > LONG_BYTES else at_once)(judged)
            record = effect.record
            if record is not None and effect.activates:
                for settle in self._settlers:
                    await settle(record.profiles)
            encoded = None if record is None else msgspec.json.encode(record)
            await self._store.keep(encoded, effect.receipt, effect.news)
            if record is not None:
                self._take(record, activates=effect.activates)
        finally:
            self._applying = False
        await self._report(effect.receipt)
        return effect.receipt

    async def refuse(self, message_id: str, code: str, reason: str) -> Receipt:
        """Note an order that was refused before it could be applied (signature, form).

        Such an order may carry any id, also that of a true order that is still to come: it is remembered
        apart and never stands in the way of `apply`.
        """
        known = self._refusals.get(message_id)
        if known is not None and known.code == code:
            return known
        receipt = Receipt(message_id, accepted=False, code=code, reason=reason[:_REASON_CHARS])
        self._refusals[message_id] = receipt
        while len(self._refusals) > _REFUSALS_KEPT:
            self._refusals.popitem(last=False)
        await self._report(receipt)
        return receipt

    def _take(self, record: ActiveRecord, *, activates: bool) -> None:
        self._record = record
        if not activates:
            return
        profiles = record.profiles
        access = {**self._local, **_access(profiles.meters)}
        peers = {one.peer.name: _peer(one) for one in profiles.communication}
        before = ProfileSet() if record.before is None else record.before
        former = {one.peer.name: _peer(one) for one in before.communication if one.peer.name not in peers}
        self._access, self._peers, self._former = access, peers, former
        self._forwarded = Forwarded.of(profiles, before)
        for changed in self._watchers:
            changed(profiles)


def _access(meters: Iterable[MeterProfile]) -> dict[MeterId, MeterAccess]:
    found: dict[MeterId, MeterAccess] = {}
    for one in meters:
        meter = MeterId.from_text(one.meter)
        found[meter] = MeterAccess(meter, bytes.fromhex(one.key_hex) or None, one.mode)
    return found


def _peer(profile: CommunicationProfile) -> Peer:
    entry = profile.peer
    return Peer(
        name=entry.name,
        host=entry.host,
        port=entry.port,
        server_name=entry.server_name,
        tls_certificate=to_der(entry.tls_certificate),
        sig_certificate=None if entry.sig_certificate is None else to_der(entry.sig_certificate),
        enc_certificate=None if entry.enc_certificate is None else to_der(entry.enc_certificate),
    )
