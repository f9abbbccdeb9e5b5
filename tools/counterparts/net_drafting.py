"""The supplier's next rosters: who is in the next one, and when it is drafted; survives a kill.

Shares the codecs of the product and none of its checks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from firmware.enforcement.dcnet.founding.succession import (
    NO_ROSTER,
    PeerWithdrawal,
    VersionNotice,
)
from firmware.enforcement.dcnet.messages.canonical import decode, encode
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.policy import NetRules
from tools.counterparts.net_filling import Filling
from tools.counterparts.net_founding import (
    CoordinatorKeys,
    Countersigner,
    DraftStale,
    Founding,
    MembersSilent,
)
from tools.counterparts.net_journal import Journal
from tools.counterparts.net_probation import Probation, Untold
from tools.counterparts.net_versions import PendingChange, PlannedSwap, Version
from tools.counterparts.server import Emit

_ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)
WAITING_EPOCHS: Final = 3
"""A change too small for a roster waits so long before the operator is told."""
REDRAWN_AFTER: Final = 30
"""A roster of so many epochs is drawn anew, graph and keys, though nobody changes: none lasts for ever."""
WHOLE_ROSTERS: Final = 4
"""Of so many newest versions everything is kept, of the ones before only what others may follow them by."""
KEPT_ROSTERS: Final = 64
"""So far back a member looks for the roster that it is in."""


class Drafting:
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
        batch: fewest newcomers for whom a later roster is drafted.
        journal: outlives this process; what it holds of the net's rosters goes on.
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
        batch: int = 0,
        journal: Journal | None = None,
    ) -> None:
        self._filling = Filling(rules, batch)
        self._told_waiting: Mapping[str, object] = {}
        self._journal = journal or Journal()
        self._kept = self._journal.room("rosters")
        self._rules, self.contracts = rules, dict(contracts)
        self._listed, self._moved_in = dict(contracts), dict[str, str]()
        self._keys, self._emit = keys, emit
        self._administrators, self._now_utc = administrators, now_utc
        self._patience_s, self._look_s = patience_s, min(look_s, rules.poll_ms / 1000)
        self._leaving: dict[str, int] = {}
        self._silent: frozenset[str] = frozenset()
        self._excluded: frozenset[str] = frozenset()
        self._probation = Probation(self._journal.room("probation"))
        self._untold = Untold(self._journal.room("disputes"), administrators)
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
        self.change = PendingChange(frozenset(), frozenset())
        self.lone = False
        """Whether `change` is too small for a roster, and has waited long enough for a swap."""
        planned = self._kept.get("swap")
        self.swap: PlannedSwap | None = None if planned is None else PlannedSwap.from_bytes(planned)
        """Changed by `plan` alone."""
        self.gathering = False
        """Whether the next roster may still hold this or that."""
        self._numbers = (0, 0, 0, False)
        """As kept: versions before, in force and ready, and whether the last one had its time."""
        if (data := self._kept.get("state")) is None:
            self.open = self._new(version)
        else:
            self._restore(data)

    def _restore(self, data: bytes) -> None:
        state: Any = decode(data)
        version, *numbers, late, wanted, epoch, drafted, silent, excluded, leaving = state
        before, in_force, ready = numbers
        self._numbers = (before, in_force, ready, bool(late))
        self._wanted, self._silent, self._excluded = bool(wanted), frozenset(silent), frozenset(excluded)
        self._drafted = None if drafted is None else _ZERO + timedelta(milliseconds=drafted)
        self._leaving = dict(leaving)
        for name, said in self._kept.items("withdrawn/"):
            self._withdrawn[name] = PeerWithdrawal.from_bytes(said)
        for number in map(int, self._journal.rooms("roster/")):
            if number != version:
                self._old[number] = self._new(number)
        self.open = self._new(version)
        self.open.first_epoch = self.open.first_epoch or epoch

    def _keep(self) -> None:
        """Stage where we are; see `Journal`."""
        versions = (self._before, self.in_force, self.ready)
        before, in_force, ready = (0 if one is None else one.roster.version for one in versions)
        self._numbers = (before, in_force, ready, self.ready is not None and self.ready.late)
        drafted = None if self._drafted is None else (self._drafted - _ZERO) // timedelta(milliseconds=1)
        lists = [sorted(self._silent), sorted(self._excluded), [list(one) for one in self._leaving.items()]]
        *numbers, late = self._numbers
        state = [self.open.version, *numbers, int(late), int(self._wanted), self.open.first_epoch, drafted]
        self._kept.put("state", encode([*state, *lists]))

    async def restore(self) -> None:
        """Bring back the rosters that were in force or ready, with the keys of their frames."""
        *numbers, late = self._numbers
        before, in_force, ready = [await self._whole(number) if number else None for number in numbers]
        self._before, self.in_force, self.ready = before, in_force, ready
        for one in (before, in_force):
            if one is not None:
                one.late = True
        if ready is not None:
            ready.late = late

    # -- swaps -----------------------------------------------------------------------------------------

    def plan(self, swap: PlannedSwap | None) -> None:
        """Have a swap to draft for, or none; outlives this process."""
        if swap == self.swap:
            return
        self.swap = swap
        if swap is None:
            self._kept.drop("swap")
        else:
            self._kept.put("swap", swap.to_bytes())

    async def synced(self) -> None:
        """Wait until all that was changed is durable, for as long as the disk is full or away."""
        await self._journal.sync_patiently()

    @property
    def drafted(self) -> bool:
        """Whether the roster after the one in force has its members already."""
        begun = self.in_force is not None and self.in_force.founding is self.open
        return self.ready is not None or (self.open.settled and not begun)

    def _wait_since(self, epoch: int | None) -> None:
        """Keep since when too small a change waits, and whether it is to be paired with a swap."""
        if epoch is None:
            self.lone = False
            self._kept.drop("small")
        elif (data := encode([epoch, int(self.lone)])) != self._kept.get("small"):
            self._kept.put("small", data)

    def _waiting_since(self) -> int | None:
        """Return the epoch since which too small a change waits, in a process before this one as well."""
        if (data := self._kept.get("small")) is None:
            return None
        small: Any = decode(data)
        self.lone = bool(small[1])
        return int(small[0])

    async def _whole(self, version: int) -> Version:
        founding = self.founding(version)
        assert founding is not None
        return Version(founding, *await founding.found())

    async def of_a_period(self, number: int) -> Version | None:
        """Bring back an older roster whose reconcile slot is played; None if nothing whole is kept of it."""
        founding = self.founding(number)
        if founding is None or founding.archived:
            return None
        found = await self._whole(number)
        found.late = True
        return found

    def version(self, number: int) -> Version | None:
        """Return the roster in force or the one before, if it has this number."""
        for one in (self.in_force, self._before):
            if one is not None and one.roster.version == number:
                return one
        return None

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
            kept=self._journal.room(f"roster/{version}"),
        )

    # -- the drafts ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Draft one roster after another, until cancelled."""
        while True:
            founding = self.open
            if self.ready is None and (self.in_force is None or self.in_force.founding is not founding):
                await self._found(founding)
            if self.ready is not None:
                await self._confirmed_or_late(self.ready)
                while self.ready is not None:  # until the timeline has begun it
                    self._moved.clear()
                    await self._moved.wait()
            self._old[founding.version] = founding
            self._wanted = False
            self.open = self._new(founding.version + 1)
            self._forget_old(self.open.version)
            self._keep()

    async def _found(self, founding: Founding) -> None:
        """Gather members and found a roster; it is ready then, or given up."""
        if not founding.settled:
            await self._pause()
            if self.in_force is None:
                await self._gather_first(founding)
            else:
                self.gathering = True
                await self._gather_next(founding, self.in_force)
                self.gathering = False
                self._wait_since(None)
            self._keep()
        try:
            roster, terms = await founding.found()
        except MembersSilent as silent:
            self._silent |= silent.names
            self._drafted = self._now_utc()
            self._tell("redrawn", version=founding.version, silent=sorted(silent.names))
        except DraftStale as stale:
            self._drafted = self._now_utc()
            self._tell("redrawn", version=founding.version, silent=[], reason=str(stale))
        else:
            self._drafted, self._silent = self._now_utc(), frozenset()
            self.ready = Version(founding, roster, terms)
            self._keep()

    def _forget_old(self, version: int) -> None:
        used = {
            one.roster.version for one in (self._before, self.in_force, *self.lingering()) if one is not None
        }
        for number in [one for one in self._old if one < version - KEPT_ROSTERS and one not in used]:
            self._journal.room(f"roster/{number}").clear()
            del self._old[number]
        for number, founding in self._old.items():
            if number < version - WHOLE_ROSTERS and number not in used and not founding.archived:
                founding.archive()

    async def _gather_first(self, founding: Founding) -> None:
        """Wait for everybody; after a while also for enough. Who is one too many for a graph waits."""
        begun, enough = self._now_utc(), self._rules.starts_with()
        if len(self.contracts.keys() - self._silent) < enough <= len(self.contracts):
            self._silent = frozenset()  # too few are left: whoever is back by now may be in it again
        while True:
            here = self._come(founding, ())
            late = (self._now_utc() - begun).total_seconds() >= self._patience_s
            everybody = len(here) == len(self.contracts.keys() - self._silent - self._excluded)
            chosen = self._filling.first(here) if everybody or late else []
            if chosen:
                break
            if late:
                self._tell_waiting(len(here), 0)
            await self._poll()
        self._tell_waiting(len(here) - len(chosen), len(chosen))
        founding.settle(chosen)

    def _come(self, founding: Founding, stay: Collection[str]) -> list[str]:
        """Return who has offered a bundle and may come, in the order of the contracts."""
        barred = self._silent | self._excluded | set(stay)
        return [name for name in self.contracts if name in founding.offered and name not in barred]

    def _tell_waiting(self, waiting: int, members: int) -> None:
        """Tell the operator, once, that some wait, and why."""
        if waiting and (said := self._filling.waiting(waiting, members)) != self._told_waiting:
            self._told_waiting = said
            self._tell("waits", **said)

    def _holds(self, members: int, least: int) -> bool:
        """Whether so many are enough, also for the neighbours that each of them insists on."""
        return members >= max(least, self._rules.cells * (self._rules.required_degree() + 1))

    async def _gather_next(self, founding: Founding, now: Version) -> None:
        """Wait for a change that is large enough, then for the bundles of those who stay."""
        small_since = self._waiting_since()
        while True:
            epoch, complete = self._next_epoch(), self._all_swapped(founding)
            gone = {name for name in now.members if self._gone(name, epoch) or name in self._silent}
            stay = [name for name in now.members if name not in gone]
            here = self._come(founding, now.members)
            come = self._filling.later(stay, here)
            self._tell_waiting(len(here) - len(come), len(stay) + len(come))
            changed = len(gone) + len(come)
            waited = small_since is not None and epoch - small_since >= WAITING_EPOCHS
            large = (
                complete
                and (self._filling.worth(len(gone), len(come), waited=waited) or self._rekeys(now, epoch))
                and self._in_time(epoch)
            )
            if large and self._holds(len(stay) + len(come), self._rules.n_min):
                if not self._wanted and changed < self._rules.churn_min:
                    edges = [list(edge) for edge in sorted(self._probation.edges(now.roster.version))]
                    self._tell("rekey", version=founding.version, edges=edges)
                founding.first_epoch, self._wanted = epoch, True
                if await self._stayers(founding, now, epoch):
                    return
            elif changed and small_since is None:
                small_since = epoch
            elif waited and 0 < changed < self._rules.churn_min:
                self._tell("change-waits", changed=changed, needed=self._rules.churn_min)
                small_since, self.lone = epoch, True
            self.change = PendingChange(frozenset(gone), frozenset(come))
            self.lone &= 0 < changed < self._rules.churn_min
            if small_since is not None:
                self._wait_since(small_since)
            await self._poll()

    def _all_swapped(self, founding: Founding) -> bool:
        """Whether whoever comes by a swap is here, or late; before the swap's epoch nothing is drafted."""
        swap, epoch = self.swap, self._next_epoch()
        if swap is not None and epoch > swap.first_epoch:
            self._tell("swap-missed", epoch=swap.first_epoch)
            self.plan(swap := None)
        if swap is None:
            return True
        return epoch == swap.first_epoch and (swap.into <= founding.offered or not self._in_time(epoch, 2))

    async def _stayers(self, founding: Founding, now: Version, epoch: int) -> bool:
        """Collect bundles until the roster can be drafted; False if it must be another one."""
        begun = self._now_utc()
        while True:
            if epoch != self._next_epoch():
                return False
            stay = {name for name in now.members if not self._gone(name, epoch) and name not in self._silent}
            late = (self._now_utc() - begun).total_seconds() >= self._patience_s
            if late or founding.offered >= stay:
                stayers = stay & founding.offered
                come = self._filling.later(stayers, self._come(founding, now.members))
                if len(come) < self._rules.churn_min and self._rekeys(now, epoch):
                    come = []  # nobody comes with new keys alone: a lone newcomer waits on
                members = stayers | set(come)
                changed = len(members ^ set(now.members))
                enough = self._holds(len(members), self._rules.n_min)
                if enough and not 0 < changed < self._rules.churn_min:
                    founding.settle(members)
                    return True
                if late:
                    return False
            await self._poll()

    def _rekeys(self, now: Version, epoch: int) -> bool:
        """Whether disputed edges, or age, want new keys and the same members can have them: nobody goes."""
        disputed = now.founding.confirming.disputed
        self._excluded |= self._probation.note(now.roster.version, disputed)
        lost = any(self._gone(name, epoch) or name in self._silent for name in now.members)
        old = epoch - now.roster.first_epoch >= REDRAWN_AFTER
        return (old or bool(self._probation.edges(now.roster.version))) and not lost

    def _gone(self, name: str, epoch: int) -> bool:
        """Whether a member is out in `epoch`: it leaves, its contract is over, or it was withdrawn."""
        if (
            name in self._excluded
            or name not in self.contracts
            or self._leaving.get(name, epoch + 1) <= epoch
        ):
            return True
        if (swap := self.swap) is not None and name in swap.out and swap.first_epoch <= epoch:
            return True
        now = self.in_force
        if now is None or name not in now.members:
            return False
        return now.members.index(name) + 1 in now.founding.confirming.withdrawn

    def next_epoch(self) -> int:
        """Return the next epoch."""
        return self._next_epoch()

    def _next_epoch(self) -> int:
        """The next epoch; members believe no roster that begins later."""
        return self._rules.epoch_of(max(0, self._rules.slot_at(self._now_utc()))) + 1

    def _in_time(self, epoch: int, times: int = 1) -> bool:
        """Whether there is time, or so many times as much, to found and confirm a roster before `epoch`."""
        lead = times * timedelta(seconds=min(self._patience_s, self._rules.epoch_s / (2 * times)))
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
        if not version.late:
            version.late = True
            self._keep()

    async def _poll(self) -> None:
        await asyncio.sleep(self._look_s)

    def founding(self, version: int) -> Founding | None:
        """Return a roster version, on its way, in force or past."""
        return self.open if version == self.open.version else self._old.get(version)

    def _tell(self, event: str, **more: object) -> None:
        self._emit({"event": event, "net": self._rules.net.hex()} | more)
