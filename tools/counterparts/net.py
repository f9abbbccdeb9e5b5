"""The supplier's side of one DC-net: drafts its rosters and plays its slots and those of its reconcile net.

Shares the codecs of the product and none of its checks. Mounted into the EMP's server by `routes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, Final

from aiohttp import web

from firmware.enforcement.dcnet.errors import DcNetError
from firmware.enforcement.dcnet.messages.canonical import decode, encode
from firmware.enforcement.dcnet.messages.conduct import Calendar
from firmware.enforcement.dcnet.policy import NetRules
from firmware.profile.model import NetPolicy
from tools.counterparts.net_asking import durably_asked, durably_told
from tools.counterparts.net_conduct import Overseer
from tools.counterparts.net_conduct_routes import relayed_routes
from tools.counterparts.net_confirmed import ConfirmationRefused
from tools.counterparts.net_founding import CoordinatorKeys, Countersigner, Founding, FoundingRefused
from tools.counterparts.net_journal import MEND, Journal, JournalDamaged, JournalForeign
from tools.counterparts.net_reconcile import BELOW
from tools.counterparts.net_request import answer, body_of, number
from tools.counterparts.net_rosters import Rosters
from tools.counterparts.net_slots import NetSlots
from tools.counterparts.net_versions import Version
from tools.counterparts.server import Emit

_RULED: Final = 4
"""So many rosters that were in force last are known by their epochs."""


def _by_nobody(_request: web.Request) -> bool:
    return False


class NetCoordinator:
    """One net of one supplier.

    Args:
        policy: as in the communication profile.
        members: gateway ids (lower case), in the order of their indices.
        keys: the supplier's.
        emit: takes events.
        administrators: each by its name in the roster.
        identity: gateway id behind a request, from its TLS certificate.
        administrator_of: gateway id -> name of its administrator; those not listed have the first one.
        now_utc: the supplier's clock.
        version: of the first roster.
        patience_s: how long it waits for members that keep silent.
        look_s: at most so long between two looks at what has come in for the next roster.
        batch: fewest newcomers for whom a later roster is drafted.
        tell_totals: whether members learn the totals.
        calendars: what is blocked.
        overseers: administrators that are told how often members took part, by their names.
        report_slots: after so many slots.
        relayed_by: whether a request comes from an administrator that may speak for its gateways.
        journal: outlives this process: the net goes on as it is kept there; None: it begins anew each time.

    Raises:
        JournalForeign: the journal is of another policy, or of other calendars.
    """

    slots_type: ClassVar[type[NetSlots]] = NetSlots
    """What plays the slots; another one in a supplier that lies."""

    def __init__(
        self,
        policy: NetPolicy,
        members: Iterable[str],
        keys: CoordinatorKeys,
        emit: Emit,
        *,
        administrators: Mapping[str, Countersigner],
        identity: Callable[[web.Request], str],
        administrator_of: Mapping[str, str] | None = None,
        now_utc: Callable[[], datetime] = lambda: datetime.now(UTC),
        version: int = 1,
        patience_s: float = 3600.0,
        look_s: float = 1.0,
        batch: int = 0,
        tell_totals: bool = True,
        calendars: Sequence[Calendar] = (),
        overseers: Mapping[str, Overseer] | None = None,
        report_slots: int | None = None,
        relayed_by: Callable[[web.Request], bool] = _by_nobody,
        journal: Journal | None = None,
    ) -> None:
        self.rules = NetRules.from_profile(policy)
        self._journal = journal or Journal()
        self._kept = self._journal.room("net")
        self._own_journal()
        administrators = durably_asked(administrators, self._journal)
        self.net = self.rules.net.hex()
        self.name = f"net.{self.net}"
        self._emit, self._now_utc = emit, now_utc
        self._identity, self._relayed_by = identity, relayed_by
        first = next(iter(administrators))
        chosen = administrator_of or {}
        contracts = {member: chosen.get(member, first) for member in members}
        self.rosters = Rosters(
            self.rules,
            contracts,
            keys,
            emit,
            administrators=administrators,
            now_utc=now_utc,
            version=version,
            patience_s=patience_s,
            look_s=look_s,
            batch=batch,
            journal=self._journal,
        )
        self.rosters.lingering = self._lingering
        slots = partial(
            self.slots_type,
            keys=keys,
            emit=emit,
            administrators=administrators,
            gateway_of=self._gateway,
            now_utc=now_utc,
            tell_totals=tell_totals,
            accused=self.rosters.accuse,
            journal=self._journal,
        )
        known = durably_told(overseers or {}, self._journal)
        told = {name: known[name] for name in sorted(set(contracts.values())) if name in known}
        self.slots = slots(
            self.rules, marks={}, calendars=calendars, overseers=told, report_slots=report_slots
        )
        self.reconciling = (
            slots(self.rules.reconciled(), marks={"reconciles": self.net}, prefix="reconcile/")
            if self.rules.reconcile_slots
            else None
        )
        self._verified: list[int] = []
        self._epoch = -1
        self._ruled: list[tuple[int, Version]] = []
        """(first epoch, roster) of those that were in force last, in their order."""
        self._restored = self._kept.get("ruled") is None

    def _own_journal(self) -> None:
        policy = self.rules.policy_hash()
        if (kept := self._kept.get("policy")) is None:
            self._kept.put("policy", policy)
        elif kept != policy:
            raise JournalForeign(
                f"net {self.rules.net.hex()} was founded under another policy",
                "put the policy back into emp.toml; another one needs a net of another id",
            )

    def follow(self, contracts: Mapping[str, str]) -> None:
        """Take up a changed list of contracts: newcomers may offer bundles, who is not in it any more goes.

        Args:
            contracts: gateway id -> name of its administrator.
        """
        self.rosters.follow(contracts)

    def verify(self, slots: Sequence[int]) -> None:
        """Order V-mode as the operator wants it; the same again, or nothing, changes nothing.

        Args:
            slots: first slot and how many; a wish that the policy does not allow is only told.
        """
        if not slots or list(slots) == self._verified:
            return
        self._verified = list(slots)
        try:
            first, count = slots
            self.slots.commitments.demand(first, slots=count)
        except ValueError as error:
            self._emit({"event": "refused", "net": self.net, "what": "verify", "reason": str(error)})

    # -- the timeline --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            JournalDamaged: what is kept contradicts itself, or the keys.
        """
        await self._restore()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.rosters.run())
            group.create_task(self._serve())
            group.create_task(self._watch_withdrawals())

    async def _restore(self) -> None:
        """Bring back what a process before this one has kept of the net."""
        try:
            await self._bring_back()
        except DcNetError as error:
            raise JournalDamaged(
                f"net {self.net}: a record has another form than ours: {error}", MEND
            ) from error
        self._restored = True

    async def _bring_back(self) -> None:
        await self.rosters.restore()
        if (data := self._kept.get("ruled")) is not None:
            record: Any = decode(data)
            self._epoch, ruled = record
            for first, number in ruled:
                known = self.rosters.version(number) or await self.rosters.of_a_period(number)
                if known is not None:
                    self._ruled.append((first, known))
            self.slots.restore(self._version, self._members_of)
            if self.reconciling is not None:
                self.reconciling.restore(self._version, self._members_of)

    def _version(self, number: int) -> Version | None:
        return next((one for _, one in self._ruled if one.roster.version == number), None)

    def _members_of(self, version: int) -> tuple[str, ...]:
        founding = self.rosters.founding(version)
        return () if founding is None else founding.members

    def _keep(self) -> None:
        lingering = [one.roster.version for one in self._lingering()]
        while len(self._ruled) > _RULED and self._ruled[0][1].roster.version not in lingering:
            del self._ruled[0]
        ruled = [[first, version.roster.version] for first, version in self._ruled]
        self._kept.put("ruled", encode([self._epoch, ruled]))

    async def _serve(self) -> None:
        rules = self.rules
        if not self._ruled:
            now = await self.rosters.first()
            begin = rules.first_slot_of(now.roster.first_epoch)
            slot = max(0, rules.slot_at(self._now_utc()) + 1, begin)
            self._epoch = rules.epoch_of(slot)
            self._ruled.append((self._epoch, now))
            self._keep()
        else:
            slot = max(0, rules.slot_at(self._now_utc()) + 1)  # where nothing was played yet
        async with asyncio.TaskGroup() as group:
            group.create_task(self.slots.play(slot, self._of_slot))
            if self.reconciling is not None:
                group.create_task(self.reconciling.play(self._first_period(slot), self._of_period))

    async def _of_slot(self, slot: int) -> Version:
        """Return the roster of a regular slot; another one may take over when an epoch begins."""
        epoch = self.rules.epoch_of(slot)
        if epoch != self._epoch:
            self._epoch = epoch
            self._keep()
            if (later := self.rosters.due(epoch)) is not None:
                self._ruled.append((epoch, later))
                self._keep()
                self._emit({"event": "in-force", "net": self.net, "version": later.roster.version})
        return self._ruled[-1][1]

    def _first_period(self, slot: int) -> int:
        """Return the reconcile slot that ends first in an epoch of the first roster."""
        assert self.reconciling is not None
        rules = self.reconciling.rules
        period = max(0, rules.slot_at(self._now_utc()))
        while rules.epoch_of(period) < self.rules.epoch_of(slot):
            period += 1
        return period

    async def _of_period(self, period: int) -> Version:
        """Return the roster of a reconcile slot, at its end; who has left since is still in it."""
        assert self.reconciling is not None
        rules = self.reconciling.rules
        await asyncio.sleep(max(0.0, (rules.slot_end(period) - self._now_utc()).total_seconds()))
        return self._ruling(period)

    def _ruling(self, period: int) -> Version:
        """Return the roster that was in force before a period, in the net's first one its first."""
        ruling = self.rules.ruling_epoch(period)
        return next((one for first, one in reversed(self._ruled) if first <= ruling), self._ruled[0][1])

    def _lingering(self) -> list[Version]:
        """Return the rosters of the reconcile slots that run or have just ended."""
        if self.reconciling is None or not self._ruled:
            return []
        period = self.reconciling.rules.slot_at(self._now_utc())
        return [self._ruling(one) for one in (period, period - 1) if one >= 0]

    async def _watch_withdrawals(self) -> None:
        while True:
            await self.rosters.ask_withdrawals()
            await self.rosters.tell_disputes()
            await asyncio.sleep(max(0.5, float(self.rules.slot_s)))

    # -- the resources -------------------------------------------------------------------------------

    def routes(self) -> list[web.RouteDef]:
        """What the EMP's server mounts."""
        return [self._durable(route) for route in self._routes()]

    def _durable(self, route: web.RouteDef) -> web.RouteDef:
        """Let no answer leave before all that was changed until then is durable; see `Journal`."""
        if not self._journal.keeps:
            return route

        async def answered(request: web.Request) -> web.StreamResponse:
            if not self._restored:
                raise web.HTTPServiceUnavailable(text="the net is being restored")
            try:
                response: web.StreamResponse = await route.handler(request)
            except web.HTTPException as refused:
                await self._synced()
                raise refused
            await self._synced()
            return response

        return web.RouteDef(route.method, route.path, answered, route.kwargs)

    async def _synced(self) -> None:
        try:
            await self._journal.sync()
        except OSError as error:
            self._emit({"event": "refused", "net": self.net, "what": "journal", "reason": str(error)})
            raise web.HTTPServiceUnavailable(text="nothing can be kept now") from error

    def _routes(self) -> list[web.RouteDef]:
        base = f"/dcnet/v1/{self.net}"
        return [
            web.put(base + "/bundle/{version:\\d+}/{gateway}", self._put_bundle),
            web.get(base + "/roster/{version:\\d+}", self._get_roster),
            web.put(base + "/reveal/{version:\\d+}/{gateway}", self._put_reveal),
            web.get(base + "/graph/{version:\\d+}", self._get_graph),
            web.get(base + "/versions", self._get_versions),
            web.put(base + "/confirm/{version:\\d+}/{gateway}", self._put_confirm),
            web.get(base + "/confirm/{version:\\d+}/{gateway}", self._get_confirm),
            web.put(base + "/dispute/{version:\\d+}/{gateway}", self._put_dispute),
            web.put(base + "/leave/{gateway}", self._put_leave),
            *relayed_routes(
                base,
                {
                    "bundle": self._put_bundle,
                    "reveal": self._put_reveal,
                    "roster": self._get_roster,
                    "graph": self._get_graph,
                    "confirm": self._put_confirm,
                    "confirmed": self._get_confirm,
                },
            ),
            *self.slots.routes(base),
            *([] if self.reconciling is None else self.reconciling.routes(base + BELOW)),
        ]

    def _gateway(self, request: web.Request) -> str:
        spoken_for = request.match_info.get("spoken_for")
        if spoken_for is not None and not self._relayed_by(request):
            raise web.HTTPForbidden(text="not an administrator of this net")
        gateway = self._identity(request) if spoken_for is None else spoken_for
        if not self.rosters.knows(gateway) and all(gateway not in one.members for one in self._lingering()):
            raise web.HTTPForbidden(text="no contract for this net")
        return gateway

    async def _put_bundle(self, request: web.Request) -> web.Response:
        gateway, founding = self._own(request)
        return await self._found(gateway, "bundle", founding.bundle(gateway, await body_of(request)))

    async def _put_reveal(self, request: web.Request) -> web.Response:
        gateway, founding = self._own(request)
        return await self._found(gateway, "reveal", founding.reveal(gateway, await body_of(request)))

    async def _put_confirm(self, request: web.Request) -> web.Response:
        gateway, founding = self._own(request)
        body = await body_of(request)
        return await self._found(gateway, "confirm", founding.confirming.confirm(gateway, body))

    async def _put_dispute(self, request: web.Request) -> web.Response:
        gateway, founding = self._own(request)
        return await self._found(gateway, "dispute", founding.dispute(gateway, await body_of(request)))

    async def _put_leave(self, request: web.Request) -> web.Response:
        gateway = self._gateway(request)
        if request.match_info["gateway"] != gateway:
            raise web.HTTPForbidden(text="another gateway's")
        return await self._found(gateway, "leave", self.rosters.leave(gateway, await body_of(request)))

    async def _found(self, gateway: str, what: str, taken: Awaitable[int]) -> web.Response:
        """Answer with the status of a step of the founding; 400 if it is refused."""
        try:
            return web.Response(status=await taken)
        except (FoundingRefused, ConfirmationRefused) as error:
            told = {"event": "refused", "net": self.net, "gateway": gateway, "what": what}
            self._emit(told | {"reason": str(error)})
            raise web.HTTPBadRequest(text=f"the {what} is refused") from error

    def _own(self, request: web.Request) -> tuple[str, Founding]:
        """Gateway id of a request about its own part in a roster, and that roster."""
        gateway, founding = self._gateway(request), self.rosters.founding(number(request, "version"))
        if request.match_info["gateway"] != gateway or founding is None:
            raise web.HTTPForbidden(text="another gateway's, or no such roster")
        return gateway, founding

    async def _get_versions(self, request: web.Request) -> web.Response:
        self._gateway(request)
        return answer(await self.rosters.notice())

    async def _get_roster(self, request: web.Request) -> web.Response:
        self._gateway(request)
        founding = self.rosters.founding(number(request, "version"))
        return answer(None if founding is None else founding.publication)

    async def _get_graph(self, request: web.Request) -> web.Response:
        self._gateway(request)
        founding = self.rosters.founding(number(request, "version"))
        return answer(None if founding is None else founding.graph)

    async def _get_confirm(self, request: web.Request) -> web.Response:
        gateway, founding = self._own(request)
        return answer(founding.confirming.for_member(gateway))
