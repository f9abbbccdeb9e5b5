"""Which roster a gateway is in, and its way into the next one: joins, switches, leaves, forgets.

Part of the driver: keeps and asks; what a roster may be is decided by `founding`. Every decision is durable
before anything follows from it. Spec: docs/dcnet.md, membership, later rosters.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from firmware.enforcement.dcnet.errors import MalformedObject, MembershipRefused
from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.founding.membership import Membership
from firmware.enforcement.dcnet.founding.roster import Signatures
from firmware.enforcement.dcnet.founding.succession import Leave, VersionNotice
from firmware.enforcement.dcnet.messages.canonical import Fields, decode_kept, encode
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES, U32
from firmware.enforcement.dcnet.messages.roster import Roster
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service import aside
from firmware.enforcement.dcnet.service.aside import Aside
from firmware.enforcement.dcnet.service.client import Clock, NetClient
from firmware.enforcement.dcnet.service.confirming import Confirming, Tell, check_usable
from firmware.enforcement.dcnet.service.joining import RECORDS, Joining
from firmware.enforcement.dcnet.service.refusals import REFUSED
from firmware.enforcement.dcnet.slot.chain import ManifestChain
from firmware.enforcement.dcnet.slot.ledger import Ledger
from firmware.errors import StoreCorrupt
from hsm.api import KeySlot, SecurityModule
from hsm.errors import CommandRefused

_VERSIONS: Final = "versions"
_WITHDRAWN: Final = "withdrawn"
_LEFT: Final = "left"
_NO_SUCH_KEY: Final = 0x6A88
_MOST_VERSIONS: Final = 1 << 16
"""A version number beyond that is not believed: nobody draws a roster a day for so long."""

Make = Callable[[int, KeySlot, Confirming, Roster | None], Joining]
"""(version, key slot, confirming, roster that we are in) -> the way into that version."""


class Versions:
    """The rosters of one net, as far as they are this gateway's.

    Args:
        rules: the policy the administrator signed.
        gateway_id: lower case, as in URLs.
        make: makes the way into one version.
        key_slot: of the net; a successor's key is made in its pending slot.
        module: holds the keys.
        signatures: checks notices, signs our leaving.
        client: the way to the net's EMP.
        ledger: keeps what is decided.
        chain: begun anew with each roster.
        clock: the gateway's.
        tell: takes what the logs are told.
        log: diagnostics.
        begins_utc: before this instant the register is not this net's; None: it is already.
        ends_utc: from when on the register is not this net's; None: not known.
    """

    def __init__(
        self,
        rules: NetRules,
        gateway_id: str,
        *,
        make: Make,
        key_slot: KeySlot,
        module: SecurityModule,
        signatures: Signatures,
        client: NetClient,
        ledger: Ledger,
        chain: ManifestChain,
        clock: Clock,
        tell: Tell,
        log: logging.LoggerAdapter[logging.Logger],
        begins_utc: datetime | None = None,
        ends_utc: datetime | None = None,
    ) -> None:
        self._begins_utc = begins_utc
        self._rules, self._gateway_id, self._make = rules, gateway_id, make
        self._key_slot, self._module, self._signatures = key_slot, module, signatures
        self._client, self._ledger, self._chain = client, ledger, chain
        self._clock, self._tell, self._log = clock, tell, log
        self._ends_utc = ends_utc
        self._in_force = self._on_the_way = 0
        self._loaded = False
        self._now: Joining | None = None
        self._next: Joining | None = None
        self._reported = ""
        self.current: Membership | None = None
        """The roster in force for us."""
        self.pending: Membership | None = None
        """The next one, its edges confirmed; it waits for its first epoch."""
        self.aside = Aside(rules, ledger, self._forget, log)
        """Rosters that were in force before, for reconcile slots."""
        self.serial = 0
        self.withdrawn: frozenset[bytes] = frozenset()
        """Certificate hashes of peers that the administrator withdrew."""

    @property
    def rostered(self) -> bool:
        """Whether a roster has passed every check."""
        return any(one is not None and one.rostered for one in (self._now, self._next))

    @property
    def under_way(self) -> bool:
        """Whether a later roster is on its way to us."""
        return self._next is not None and self.pending is None

    async def load(self) -> None:
        """Read what was decided. Raises `StoreCorrupt`."""
        if self._loaded:
            return
        try:
            if (data := await self._ledger.kept(_VERSIONS)) is not None:
                fields = Fields(decode_kept(data), 3)
                self._in_force, self._on_the_way = fields.number(U32), fields.number(U32)
                await self._forget(fields.number(U32))
            await self.aside.load()
            if (data := await self._ledger.kept(_WITHDRAWN)) is not None:
                fields = Fields(decode_kept(data), 2)
                self.serial = fields.number(U32)
                self.withdrawn = frozenset(Fields([one], 1).octets(HASH_BYTES) for one in fields.array())
        except MalformedObject as error:
            raise StoreCorrupt("a record of the net's rosters is not in its canonical form") from error
        self._loaded = True

    async def entered(self) -> bool:
        """Whether a roster is in force for us, as far as was kept. Raises `StoreCorrupt`."""
        await self.load()
        return self._in_force != 0

    # -- into the first roster, and on to later ones ----------------------------------------------------

    async def enter(self) -> Membership | None:
        """Go on until there is a roster in force for us; None while something is missing.

        Raises:
            MembershipRefused, MalformedObject, WanError, CertificateRefused: something published is refused.
            HsmError: the module fails.
        """
        await self.load()
        if self.current is None and self._in_force:
            self._now = self._now or self._way(self._in_force, None)
            self.current = await self._now.go_on()
            if self.current is not None:
                await self._chain.open(self._in_force, self.current.size)
                await self.aside.take(lambda version: self._way(version, None), self._clock.now_utc())
        if self.current is None and not self._in_force:
            await self._go_on(await self._notice())
            if self.pending is not None:
                await self._switch(self.pending)
        return self.current

    async def look(self) -> None:
        """Go one step towards the next roster, if there is one to be. What is refused is told once."""
        try:
            if self.current is not None and self.pending is None:
                await self._go_on(await self._notice())
            await self._announce_leaving()
        except REFUSED as error:
            if str(error) != self._reported:
                self._reported = str(error)
                await self._tell(NetEventKind.REFUSED, None, 0, f"next roster: {self._reported}")

    async def at(self, slot: int) -> Membership:
        """Return the roster of a slot, its keys moved on to the slot's epoch, durably, before they are used.

        A confirmed roster takes over with the first epoch, from its own first one on, that the chain of the
        one before has not begun.
        """
        epoch, pending = self._rules.epoch_of(slot), self.pending
        if pending is not None and epoch >= pending.roster.first_epoch and not self._chain.in_epoch(epoch):
            await self._switch(pending)
            await self._tell(NetEventKind.SWITCHED, slot, pending.size, f"roster {pending.roster.version}")
        await self.aside.drop(self._clock.now_utc())
        membership, way = self.current, self._now
        assert membership is not None
        assert way is not None
        if membership.ring.epoch < epoch:
            try:
                membership.view(epoch)
            except MembershipRefused as refused:  # the slot itself will be refused
                self._log.info("no keys for epoch %d: %s", epoch, refused)
            else:
                await way.keep_keys(membership)
        return membership

    async def keep_keys(self, beside: Membership) -> None:
        """Keep the keys of a roster as they are now; `beside` is the same one in the reconcile net."""
        if self._now is not None and self.current is not None and self.current.reconcile is beside:
            await self._now.keep_keys(self.current)
        else:
            await self.aside.keep_keys(beside)

    async def admit(self, membership: Membership, expected: frozenset[int]) -> None:
        """Refuse a slot in which somebody is expected whose edge is unconfirmed or withdrawn.

        Raises:
            MembershipRefused: `confirmation` or `revoked`.
        """
        way = self._now
        missing = bool(membership.ring.unconfirmed & expected)
        if missing and way is not None and await way.confirming.collect(membership):
            await way.keep_keys(membership)
        check_usable(membership, expected, self.withdrawn)

    async def _go_on(self, notice: VersionNotice | None) -> None:
        """Take the notice and go on with the version on the way."""
        version = self._on_the_way
        confirmed = version and await self._ledger.kept(f"keys-{version}") is not None
        if confirmed:
            pass  # nothing later takes the place of a roster whose edges we have confirmed
        elif notice is not None and await self._follows(notice):
            version = notice.open
        elif version == 0 and notice is None and self.current is None:
            version = 1
        if version == 0 or self._too_early():
            return
        if version != self._on_the_way:
            await self._set_out(version)
        if self._next is None:
            self._next = self._way(version, self.current)
        self.pending = await self._next.go_on()

    async def _follows(self, notice: VersionNotice) -> bool:
        """Whether to set out for the version that a notice names: never back, and not while leaving."""
        if not max(self._in_force, self._on_the_way) < notice.open < _MOST_VERSIONS:
            return False
        late = self._on_the_way and self._on_the_way == notice.in_force and not notice.wanted
        if late and await self._ledger.kept(f"roster-{self._on_the_way}") is not None:
            return False  # it is in force already, and we are in it
        if self._leaves_by(notice.first_epoch):
            return False
        outside = self.current is None or self._in_force < notice.in_force
        return notice.wanted or outside or bool(self._on_the_way)

    def _too_early(self) -> bool:
        """Whether a roster of the next epoch would begin before the register is this net's."""
        if self._begins_utc is None or self.current is not None:
            return False
        begins = self._rules.epoch_of(self._rules.slot_at(self._begins_utc))
        return self._rules.epoch_of(self._rules.slot_at(self._clock.now_utc())) + 1 < begins

    def _leaves_by(self, epoch: int) -> bool:
        leaving = self.leaving_epoch
        return leaving is not None and (epoch == 0 or epoch >= leaving)

    @property
    def leaving_epoch(self) -> int | None:
        """The first epoch without us, None if there is none yet."""
        return None if self._ends_utc is None else self._rules.epoch_of(self._rules.slot_at(self._ends_utc))

    async def _set_out(self, version: int) -> None:
        abandoned = self._on_the_way
        await self._decide(self._in_force, version, abandoned)
        self._next = None
        await self._forget(abandoned)
        if abandoned:
            await self._tell(NetEventKind.REDRAWN, None, 0, f"roster {abandoned} is given up for {version}")

    async def _switch(self, pending: Membership) -> None:
        before, epoch = self._in_force, pending.roster.first_epoch
        if self.current is not None and self._now is not None:
            kept = await self.aside.put(self._now, self.current, epoch, self._clock.now_utc())
            before = 0 if kept else before
        await self._decide(pending.roster.version, 0, before)
        self.current, self.pending = pending, None
        self._now, self._next = self._next, None
        await self._chain.open(self._in_force, pending.size)
        await self._forget(before)

    async def _decide(self, in_force: int, on_the_way: int, to_forget: int) -> None:
        await self._ledger.keep(_VERSIONS, encode([in_force, on_the_way, to_forget]))
        self._in_force, self._on_the_way = in_force, on_the_way

    async def _forget(self, version: int) -> None:
        if version:
            for name in reversed(RECORDS):  # the keys first
                await self._ledger.forget(f"{name}-{version}")

    def _way(self, version: int, before: Membership | None) -> Joining:
        slot = self._key_slot if before is None else self._key_slot.pending
        confirming = Confirming(
            self._gateway_id,
            signatures=self._signatures,
            client=self._client,
            tell=self._tell,
            withdrawn=lambda: self.withdrawn,
            log=self._log,
        )
        return self._make(version, slot, confirming, None if before is None else before.roster)

    async def _notice(self) -> VersionNotice | None:
        if (signed := await self._client.versions()) is None:
            return None
        notice = VersionNotice.from_bytes(await self._signatures.by_emp(signed))
        if notice.net != self._rules.net:
            raise MembershipRefused("net", "a notice of another net")
        return notice

    # -- withdrawing and leaving --------------------------------------------------------------------------

    async def withdraw(self, serial: int, certificates: frozenset[bytes]) -> bool:
        """Take the administrator's list of withdrawn peers, durably; False if a newer one is known."""
        await self.load()
        if serial < self.serial or (serial == self.serial and certificates != self.withdrawn):
            return False
        await self._ledger.keep(_WITHDRAWN, encode([serial, sorted(certificates)]))
        self.serial, self.withdrawn = serial, certificates
        return True

    async def _announce_leaving(self) -> None:
        """Tell the EMP in time from when on we are no member."""
        leaving, current = self.leaving_epoch, self.current
        if leaving is None or current is None:
            return
        said = Leave(self._rules.net, current.roster.version, current.index, leaving).to_bytes()
        if await self._ledger.kept(_LEFT) != said and await self._client.leave(
            self._gateway_id, await self._signatures.sign(said)
        ):
            await self._ledger.keep(_LEFT, said)

    async def forget_everything(self) -> None:
        """Erase every key of this net, in the store and in the module; what is owed stays."""
        await forget_net(self._ledger, self._module, (self._key_slot, self._key_slot.pending))
        self._in_force = self._on_the_way = 0
        self.current = self.pending = self._now = self._next = None
        self.aside.forgotten()


async def forget_net(ledger: Ledger, module: SecurityModule, slots: Iterable[KeySlot]) -> None:
    """Erase every key and roster of a net; what is owed, and what was withdrawn, stays.

    Args:
        ledger: of the net.
        module: holds the keys.
        slots: of the net; none if they are another's by now.

    Raises:
        HsmError: the module is not available; to be done again.
    """
    versions: set[int] = {1}
    if (data := await ledger.kept(_VERSIONS)) is not None:
        fields = Fields(decode_kept(data), 3)
        versions |= {fields.number(U32), fields.number(U32), fields.number(U32)}
    versions |= {version for version, _ in await aside.kept(ledger)}
    for version in versions:
        for name in reversed(RECORDS):
            await ledger.forget(f"{name}-{version}")
    for slot in slots:
        await erase(module, slot)
    await ledger.forget(_LEFT)
    await ledger.forget(aside.ASIDE)
    await ledger.forget(_VERSIONS)  # last: a power cut before it has all of this done again


async def erase(module: SecurityModule, slot: KeySlot) -> None:
    """Delete the key of a slot; no error if there is none. Raises `HsmError`."""
    try:
        await module.delete_key(slot)
    except CommandRefused as refused:
        if refused.sw != _NO_SUCH_KEY:
            raise
