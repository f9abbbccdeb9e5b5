"""Which rosters a supplier drafts, one after another: who comes, who goes, who keeps silent.

Shares the codecs of the product and none of its checks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from aiohttp import ClientError

from firmware.enforcement.dcnet.errors import DcNetError
from firmware.enforcement.dcnet.founding.succession import (
    NO_ROSTER,
    Leave,
    PeerWithdrawal,
    VersionNotice,
)
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.roster import Attestation, Roster, SignedBundle
from firmware.enforcement.dcnet.policy import NetRules
from tools.counterparts.messages import MessageRefused
from tools.counterparts.net_founding import (
    CoordinatorKeys,
    Countersigner,
    Founding,
    FoundingRefused,
    MembersSilent,
)
from tools.counterparts.net_probation import Accused, Probation, Untold
from tools.counterparts.net_tally import Terms
from tools.counterparts.server import Emit
from wan.errors import WanError

WAITING_EPOCHS: Final = 3
"""A change too small for a roster waits so long before the operator is told."""


@dataclass
class Version:
    """A roster that was founded."""

    founding: Founding
    roster: Roster
    terms: Terms
    members: tuple[str, ...] = field(init=False)
    late: bool = False
    """Whether members had their time to confirm."""

    def __post_init__(self) -> None:
        self.members = self.founding.members

    @property
    def present(self) -> frozenset[int]:
        """Who may take part."""
        return self.founding.confirming.present


class Rosters:
    """Drafts the rosters of one net.

    Args:
        rules: of the net.
        contracts: gateway id -> name of its administrator; who may be a member, in the order of the indices.
        keys: the supplier's.
        emit: takes events.
        administrators: by their names in the roster.
        now_utc: the supplier's clock.
        version: of the first roster.
        patience_s: so long it waits for who keeps silent.
        look_s: at most so long between two looks at what has come in.
    """

    def __init__(
        self,
        rules: NetRules,
        contracts: Mapping[str, str],
        keys: CoordinatorKeys,
        emit: Emit,
        *,
        administrators: Mapping[str, Countersigner],
        now_utc: Callable[[], datetime],
        version: int = 1,
        patience_s: float = 3600.0,
        look_s: float = 1.0,
    ) -> None:
        self._rules, self.contracts = rules, dict(contracts)
        self._keys, self._emit = keys, emit
        self._administrators, self._now_utc = administrators, now_utc
        self._patience_s, self._look_s = patience_s, min(look_s, rules.poll_ms / 1000)
        self._leaving: dict[str, int] = {}
        self._silent: frozenset[str] = frozenset()
        self._excluded: frozenset[str] = frozenset()
        self._probation, self._untold = Probation(), Untold()
        self._wanted = False
        self._drafted: datetime | None = None
        self._moved = asyncio.Event()
        self._old: dict[int, Founding] = {}
        self._withdrawn: dict[str, PeerWithdrawal] = {}
        self._noticed: tuple[VersionNotice | None, bytes] = (None, b"")
        self.lingering: Callable[[], Iterable[Version]] = tuple
        """Rosters besides the one in force whose reconcile slots are played."""
        self.in_force: Version | None = None
        self._before: Version | None = None
        self.ready: Version | None = None
        """Founded, and waiting for its first epoch."""
        self.open = self._new(version)

    def _new(self, version: int) -> Founding:
        before = None if self.in_force is None else self.in_force.roster
        return Founding(
            self._rules,
            self.contracts,
            self._keys,
            self._emit,
            administrators=self._administrators,
            now_utc=self._now_utc,
            version=version,
            previous=NO_ROSTER if before is None else document_hash(before),
            patience_s=self._patience_s,
        )

    # -- the drafts ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Draft one roster after another, until cancelled."""
        while True:
            founding = self.open
            await self._pause()
            if self.in_force is None:
                await self._gather_first(founding)
            else:
                await self._gather_next(founding, self.in_force)
            try:
                roster, terms = await founding.found()
            except MembersSilent as silent:
                self._silent |= silent.names
                self._drafted = self._now_utc()
                self._tell("redrawn", version=founding.version, silent=sorted(silent.names))
            else:
                self._drafted, self._silent = self._now_utc(), frozenset()
                self.ready = Version(founding, roster, terms)
                await self._confirmed_or_late(self.ready)
                while self.ready is not None:  # until the timeline has begun it
                    self._moved.clear()
                    await self._moved.wait()
            self._old[founding.version] = founding
            self._wanted = False
            self.open = self._new(founding.version + 1)

    async def _gather_first(self, founding: Founding) -> None:
        """Wait for everybody; after a while also for enough."""
        begun, enough = self._now_utc(), self._rules.starts_with()
        if len(self.contracts.keys() - self._silent) < enough <= len(self.contracts):
            self._silent = frozenset()  # too few are left: whoever is back by now may be in it again
        while True:
            expected = self.contracts.keys() - self._silent - self._excluded
            here = founding.offered & expected
            late = (self._now_utc() - begun).total_seconds() >= self._patience_s
            if (here and here >= expected) or (late and self._holds(len(here), enough)):
                break
            await self._poll()
        founding.settle(here)

    def _holds(self, members: int, least: int) -> bool:
        """Whether so many are enough, also for the neighbours that each of them insists on."""
        return members >= max(least, self._rules.required_degree() + 1)

    async def _gather_next(self, founding: Founding, now: Version) -> None:
        """Wait for a change that is large enough, then for the bundles of those who stay."""
        small_since: int | None = None
        while True:
            epoch = self._next_epoch()
            gone = {name for name in now.members if self._gone(name, epoch)}
            come = founding.offered - set(now.members) - self._silent - self._excluded
            changed = len(gone | (set(now.members) & self._silent)) + len(come)
            stay = [name for name in now.members if name not in gone and name not in self._silent]
            large = (changed >= self._rules.churn_min or self._rekeys(now, epoch)) and self._in_time(epoch)
            if large and self._holds(len(stay) + len(come), self._rules.n_min):
                if not self._wanted and changed < self._rules.churn_min:
                    edges = [list(edge) for edge in sorted(self._probation.edges(now.roster.version))]
                    self._tell("rekey", version=founding.version, edges=edges)
                founding.first_epoch, self._wanted = epoch, True
                if await self._stayers(founding, now, epoch):
                    return
            elif changed and small_since is None:
                small_since = epoch
            elif (
                0 < changed < self._rules.churn_min
                and small_since is not None
                and epoch - small_since >= WAITING_EPOCHS
            ):
                self._tell("change-waits", changed=changed, needed=self._rules.churn_min)
                small_since = epoch
            await self._poll()

    async def _stayers(self, founding: Founding, now: Version, epoch: int) -> bool:
        """Collect bundles until the roster can be drafted; False if it must be another one."""
        begun = self._now_utc()
        while True:
            if epoch != self._next_epoch():
                return False
            stay = {name for name in now.members if not self._gone(name, epoch) and name not in self._silent}
            come = founding.offered - set(now.members) - self._silent - self._excluded
            late = (self._now_utc() - begun).total_seconds() >= self._patience_s
            if late or founding.offered >= stay:
                members = (stay & founding.offered) | come
                if len(come) < self._rules.churn_min and self._rekeys(now, epoch):
                    members -= come  # nobody comes with new keys alone: a lone newcomer waits on
                changed = len(members ^ set(now.members))
                enough = self._holds(len(members), self._rules.n_min)
                if enough and not 0 < changed < self._rules.churn_min:
                    founding.settle(members)
                    return True
                if late:
                    return False
            await self._poll()

    def _rekeys(self, now: Version, epoch: int) -> bool:
        """Whether disputed edges want new keys and the same members can have them: nobody goes."""
        disputed = now.founding.confirming.disputed
        self._excluded |= self._probation.note(now.roster.version, disputed)
        lost = any(self._gone(name, epoch) or name in self._silent for name in now.members)
        return bool(self._probation.edges(now.roster.version)) and not lost

    def _gone(self, name: str, epoch: int) -> bool:
        """Whether a member is out in `epoch`: it leaves, its contract is over, or it was withdrawn."""
        if (
            name in self._excluded
            or name not in self.contracts
            or self._leaving.get(name, epoch + 1) <= epoch
        ):
            return True
        now = self.in_force
        if now is None or name not in now.members:
            return False
        return now.members.index(name) + 1 in now.founding.confirming.withdrawn

    def _next_epoch(self) -> int:
        """The next epoch; members believe no roster that begins later."""
        return self._rules.epoch_of(max(0, self._rules.slot_at(self._now_utc()))) + 1

    def _in_time(self, epoch: int) -> bool:
        """Whether there is time to found and confirm a roster before `epoch` begins."""
        lead = timedelta(seconds=min(self._patience_s, self._rules.epoch_s / 2))
        begin = self._rules.slot_end(self._rules.first_slot_of(epoch) - 1)
        return self._now_utc() + lead <= begin

    async def _pause(self) -> None:
        """Keep the least time between two rosters; administrators and members insist on it."""
        if self._drafted is not None:
            until = self._drafted + timedelta(seconds=self._rules.roster_pause_s)
            await asyncio.sleep(max(0.0, (until - self._now_utc()).total_seconds()))

    async def _confirmed_or_late(self, version: Version) -> None:
        begun = self._now_utc()
        while len(version.present) < version.terms.size:
            if (self._now_utc() - begun).total_seconds() >= self._patience_s:
                self._tell("unconfirmed", version=version.roster.version, confirmed=len(version.present))
                break
            await self._poll()
        version.late = True

    async def _poll(self) -> None:
        await asyncio.sleep(self._look_s)

    # -- the timeline ----------------------------------------------------------------------------------

    async def first(self) -> Version:
        """Wait for the first roster that enough members have confirmed, and let it be in force."""
        while (version := self.ready) is None or not self._complete(version):
            await self._poll()
        return self._begin(version)

    def due(self, epoch: int) -> Version | None:
        """Return the roster that takes over with `epoch`, None if the one in force goes on."""
        version = self.ready
        if version is None or epoch < version.roster.first_epoch or not version.present:
            return None
        if len(version.present) < self._rules.n_min:
            self._tell("unconfirmed", version=version.roster.version, confirmed=len(version.present))
            return None
        return self._begin(version)

    def _complete(self, version: Version) -> bool:
        """Whether everybody has confirmed, or those who have are enough and the others had their time."""
        if len(version.present) == version.terms.size:
            return True
        return version.late and len(version.present) >= self._rules.starts_with()

    def _begin(self, version: Version) -> Version:
        self._before, self.in_force, self.ready = self.in_force, version, None
        self._leaving = {name: epoch for name, epoch in self._leaving.items() if name in version.members}
        self._moved.set()
        return version

    def accuse(self, found: Accused) -> None:
        """Let no later roster hold who lied, or was named too often; edges get new keys by the next one."""
        if self.in_force is not None:
            version = self.in_force.roster.version
            self._excluded |= found.out | self._probation.note(version, found.edges, found.silent)

    async def tell_disputes(self) -> None:
        """Tell the administrators of a roster in force or on its way which of its edges are disputed."""
        for one in (self.in_force, self.ready):
            if one is not None and (reports := one.founding.confirming.reports):
                names = sorted({entry.administrator for entry in one.roster.entries})
                self._untold.waiting += [(name, report.to_bytes()) for report in reports for name in names]
                reports.clear()

        def refused(_name: str, reason: str) -> None:
            self._tell("refused", what="dispute", reason=reason)

        await self._untold.tell(self._administrators, refused)

    # -- contracts ---------------------------------------------------------------------------------------

    def knows(self, gateway: str) -> bool:
        """Whether a gateway has a contract, or had one while in the roster in force or the one before."""
        return gateway in self.contracts or any(
            one is not None and gateway in one.members for one in (self.in_force, self._before)
        )

    def follow(self, contracts: Mapping[str, str]) -> None:
        """Take up a changed list of contracts."""
        self.contracts = dict(contracts)
        if not self.open.settled:
            self.open.allow(contracts)

    # -- what members and administrators say -----------------------------------------------------------

    def founding(self, version: int) -> Founding | None:
        """Return a roster version, on its way, in force or past."""
        return self.open if version == self.open.version else self._old.get(version)

    async def notice(self) -> bytes:
        """Return the signed `VersionNotice`."""
        in_force = 0 if self.in_force is None else self.in_force.roster.version
        epoch = self.open.first_epoch
        made = VersionNotice(self._rules.net, in_force, self.open.version, epoch, self._wanted)
        if self._noticed[0] != made:
            self._noticed = made, await self._keys.sign(made.to_bytes())
        return self._noticed[1]

    async def leave(self, gateway: str, body: bytes) -> int:
        """Take a member's word that it leaves; HTTP status of the answer. Raises `FoundingRefused`."""
        now = self.in_force
        if now is None or gateway not in now.members:
            raise FoundingRefused("not in the roster in force")
        try:
            certificate = now.founding.certificate_of(gateway)
            signer, content = await self._keys.open_bundle(SignedBundle(certificate, body))
            said = Leave.from_bytes(content)
        except (DcNetError, MessageRefused) as error:
            raise FoundingRefused(str(error)) from error
        own = (self._rules.net, now.roster.version, now.members.index(gateway) + 1)
        if signer != gateway or (said.net, said.version, said.index) != own:
            raise FoundingRefused("another member's, or of another roster")
        if self._leaving.get(gateway) != said.from_epoch:
            self._leaving[gateway] = said.from_epoch
            self._tell("leaves", gateway=gateway, from_epoch=said.from_epoch)
        return 201

    async def ask_withdrawals(self) -> None:
        """Ask each administrator once whom it has withdrawn since; who is away is asked again later."""
        now = self.in_force
        if now is None:
            return
        for name in sorted({entry.administrator for entry in now.roster.entries}):
            try:
                attestation = Attestation.from_bytes(await self._administrators[name].revoked())
                given = PeerWithdrawal.from_bytes(await self._keys.open_attestation(attestation))
            except (WanError, OSError, ClientError, DcNetError, MessageRefused) as error:
                self._tell("refused", what="revoked", reason=str(error))
                continue
            known = self._withdrawn.get(name)
            if given.net != self._rules.net or (known is not None and given.serial <= known.serial):
                continue
            self._withdrawn[name] = given
        gone = {one for given in self._withdrawn.values() for one in given.certificates}
        out = {entry.index for entry in now.roster.entries if entry.certificate_hash in gone}
        if out - now.founding.confirming.withdrawn:
            self._tell("withdrawn", gateways=[now.members[index - 1] for index in sorted(out)])
        now.founding.confirming.withdrawn = out
        for one in self.lingering():
            one.founding.confirming.withdrawn |= {
                entry.index for entry in one.roster.entries if entry.certificate_hash in gone
            }

    def _tell(self, event: str, **more: object) -> None:
        self._emit({"event": event, "net": self._rules.net.hex()} | more)
