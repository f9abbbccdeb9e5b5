"""The supplier's side of one DC-net: founds it, then closes and totals slot after slot.

Shares the codecs of the product and none of its checks. Mounted into the EMP's server by `routes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from firmware.enforcement.dcnet.machines import MODE, ModeStep
from firmware.enforcement.dcnet.messages.conduct import Calendar
from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.frames import FrameType
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, ManifestReply, SlotResult, Verdict
from firmware.enforcement.dcnet.messages.roster import Roster
from firmware.enforcement.dcnet.policy import CANARY_LANE, TENTHS, NetRules
from firmware.profile.model import NetPolicy
from tools.counterparts.net_audit import Auditor
from tools.counterparts.net_conduct import NetConduct, Overseer, settle
from tools.counterparts.net_conduct_routes import conduct_routes, relayed_routes
from tools.counterparts.net_founding import CoordinatorKeys, Countersigner, Founding, FoundingRefused
from tools.counterparts.net_reconcile import BELOW
from tools.counterparts.net_recovering import Recovering
from tools.counterparts.net_tally import Taken, Tally, Terms
from tools.counterparts.server import Emit

KEPT_SLOTS: Final = 256
"""Manifests and results of this many slots stay available to members that were away."""
MAX_BODY_BYTES: Final = 1 << 16


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
        version: of the roster.
        tell_totals: whether members learn the totals.
        calendars: which slots are blocked.
        overseers: the administrators as those who are told rates and asked for outage notices.
        report_slots: after so many slots rates are told; a day's if None.
        relayed_by: whether a request comes from an administrator of this net, who may speak for members.
    """

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
        tell_totals: bool = True,
        calendars: Sequence[Calendar] = (),
        overseers: Mapping[str, Overseer] | None = None,
        report_slots: int | None = None,
        relayed_by: Callable[[web.Request], bool] = _by_nobody,
    ) -> None:
        self.members = tuple(members)
        self._keys, self._emit = keys, emit
        self._identity, self._now_utc = identity, now_utc
        self._version, self._tell_totals = version, tell_totals
        first = next(iter(administrators))
        chosen = administrator_of or {}
        self._chosen = {name: administrators[name] for name in {chosen.get(m, first) for m in self.members}}
        told = {
            name: one for name in sorted(self._chosen) if (one := (overseers or {}).get(name)) is not None
        }
        self._begin(
            NetRules.from_profile(policy), calendars=calendars, overseers=told, report_slots=report_slots
        )
        self.reconciling: ReconcileCoordinator | None = None
        if self.rules.reconcile_slots:
            self.reconciling = ReconcileCoordinator(
                self.rules,
                self.members,
                keys,
                emit,
                administrators=self._chosen,
                identity=identity,
                now_utc=now_utc,
                version=version,
                tell_totals=tell_totals,
            )
        self._founding = Founding(
            self.rules,
            {member: chosen.get(member, first) for member in self.members},
            keys,
            emit,
            administrators=administrators,
            now_utc=now_utc,
            version=version,
        )
        self._relayed_by = relayed_by

    def _begin(
        self,
        rules: NetRules,
        *,
        calendars: Sequence[Calendar] = (),
        overseers: Mapping[str, Overseer] | None = None,
        report_slots: int | None = None,
    ) -> None:
        """Set what belongs to the slots of one net."""
        self.conduct = NetConduct(
            rules, self._keys, self._emit, calendars=calendars, overseers=overseers, report_slots=report_slots
        )
        self.rules = rules
        self.net = rules.net.hex()
        self.name = f"net.{self.net}"
        self.marks: dict[str, str] = {}
        """What its totals say besides the net."""
        self.mode = MODE.start
        self._recovering = Recovering(rules, self._keys, self._chosen, self._emit, self._now_utc)
        self._auditor: Auditor | None = None
        self._suspended: frozenset[int] = frozenset()
        self._adjacent: Mapping[int, frozenset[int]] = {}
        self._taken = asyncio.Event()
        self._tally: Tally | None = None
        self._epochs: dict[int, bytes] = {}
        self._manifests: dict[int, tuple[Tally, bytes]] = {}
        self._results: dict[int, bytes] = {}

    # -- the timeline --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled."""
        roster, terms = await self._founding.found()
        async with asyncio.TaskGroup() as both:
            both.create_task(self.play(roster, terms, self._founding.adjacent, self._founding.certificates))
            if self.reconciling is not None and self._founding.reconcile_terms is not None:
                also = self._founding.reconcile_terms
                both.create_task(
                    self.reconciling.play(roster, also, self._founding.adjacent, self._founding.certificates)
                )

    async def play(
        self,
        roster: Roster,
        terms: Terms,
        adjacent: Mapping[int, frozenset[int]],
        certificates: Mapping[int, bytes],
    ) -> None:
        """Play slot after slot in a roster until cancelled."""
        self._adjacent = adjacent
        self._auditor = Auditor(self._keys, self._chosen, certificates, self._emit)
        self.conduct.begin(terms)
        slot = self._first_slot()
        present, result = frozenset(range(1, terms.size + 1)), None
        epoch, previous = -1, b""
        while True:
            while self.conduct.blocked(slot):
                slot += 1
            if epoch != (epoch := self.rules.epoch_of(slot)):
                previous = await self._begin_epoch(roster, epoch, slot, present, terms.size)
            self.conduct.latest = slot
            tally = self._tally = Tally(terms, slot, epoch, previous, present)
            result = await self._play(tally, result)
            assert tally.manifest is not None
            previous = document_hash(tally.manifest)
            present = frozenset(tally.accepted) | tally.hello
            slot += 1

    def _first_slot(self) -> int:
        """Return the first slot that is served: the next one, which members can have measured whole."""
        return max(0, self.rules.slot_at(self._now_utc()) + 1)

    async def _begin_epoch(
        self, roster: Roster, epoch: int, slot: int, present: frozenset[int], size: int
    ) -> bytes:
        manifest = EpochManifest(
            self.rules.net, self._version, document_hash(roster), epoch, slot, to_bitmap(present, size)
        )
        envelope = await self._recovering.envelope(manifest)
        assert envelope is not None  # it is asked for until it is there
        self._epochs[epoch] = envelope
        self.conduct.epoch(self._recovering.signed(envelope))
        return document_hash(manifest)

    async def _play(self, tally: Tally, before: SlotResult | None) -> SlotResult:
        """One slot: submissions until D1 or until all have spoken, manifest, openings until D3, result."""
        rules, slot = self.rules, tally.slot
        await self._end_audit(rules.slot_end(slot))
        tally.exclude(self._suspended)
        await self._until(rules.submit_until(slot), lambda: tally.everybody_spoke)
        manifest = tally.close(before, witnessed=self._recovering.witnessed)
        envelope = await self._recovering.envelope(manifest)
        assert envelope is not None  # it is asked for until it is there: the chain cannot go on without
        if self._recovering.witnessed:
            tally.cosigned()
        self._manifests[slot] = (tally, envelope)
        asked = None
        if not rules.enough_of(len(tally.accepted), len(tally.present)):
            asked = asyncio.get_running_loop().create_task(self.conduct.ask_outage(slot))
        await self._until(rules.open_until(slot), lambda: tally.complete)
        await settle(asked)
        if not tally.complete:
            await self._recovering.recover(tally, self._adjacent)
        limit = rules.max_wh * TENTHS
        result = tally.result((limit, limit, 1), CANARY_LANE)
        told = (
            result
            if self._tell_totals
            else SlotResult(result.net, slot, result.manifest_hash, result.verdict)
        )
        self._results[slot] = await self._keys.sign(told.to_bytes())
        await self.conduct.done(tally, self._recovering.signed(envelope), result.verdict)
        self._manifests.pop(slot - KEPT_SLOTS, None)
        self._results.pop(slot - KEPT_SLOTS, None)
        accepted = tally.accepted
        await self._judge_mode(tally, result)
        self._emit(
            {
                "event": "total",
                "net": self.net,
                **self.marks,
                "slot": slot,
                "members": [self.members[index - 1] for index in accepted],
                "left_out": [name for index, name in enumerate(self.members, 1) if index not in accepted],
                "lanes": list(result.totals or ()),
                "verdict": "totalled" if result.verdict is Verdict.TOTALLED else "aborted",
            }
        )
        return told

    async def _judge_mode(self, tally: Tally, result: SlotResult) -> None:
        """A canary lane that does not count its members begins an audit; a total ends the search."""
        if result.verdict is not Verdict.TOTALLED and not tally.miscounted:
            return
        step = ModeStep.MISCOUNT if tally.miscounted else ModeStep.CLEAN
        if self.mode is not (mode := MODE.advance(self.mode, step)):
            self.mode = mode
            self._emit({"event": "mode", "net": self.net, "slot": tally.slot, "mode": mode.value})
        if tally.miscounted and self._auditor is not None:
            await self._auditor.begin(tally)

    async def _end_audit(self, until: datetime) -> None:
        """Judge the audit that runs, if one does; whom it names takes no part until a new roster."""
        if self._auditor is not None:
            await self._auditor.tell()
            if (found := await self._auditor.end(until, self._now_utc)) is not None:
                self._suspended |= found.named

    async def _until(self, deadline: datetime, enough: Callable[[], bool]) -> None:
        """Wait for frames until there are enough of them, at the latest until the deadline."""
        while not enough() and (left_s := (deadline - self._now_utc()).total_seconds()) > 0:
            self._taken.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._taken.wait()
            except TimeoutError:
                return

    # -- the resources -------------------------------------------------------------------------------

    def routes(self) -> list[web.RouteDef]:
        """What the EMP's server mounts."""
        base = f"/dcnet/v1/{self.net}"
        reconcile = [] if self.reconciling is None else self.reconciling.slot_routes(base + BELOW)
        return [
            web.put(base + "/bundle/{version:\\d+}/{gateway}", self._put_bundle),
            web.get(base + "/roster/{version:\\d+}", self._get_roster),
            web.put(base + "/reveal/{version:\\d+}/{gateway}", self._put_reveal),
            web.get(base + "/graph/{version:\\d+}", self._get_graph),
            *relayed_routes(
                base,
                {
                    "bundle": self._put_bundle,
                    "reveal": self._put_reveal,
                    "roster": self._get_roster,
                    "graph": self._get_graph,
                },
            ),
            *self.slot_routes(base),
            *reconcile,
        ]

    def slot_routes(self, base: str) -> list[web.RouteDef]:
        """What belongs to slots, below `base`."""
        return [
            web.get(base + "/manifest/epoch/{epoch:\\d+}", self._get_epoch),
            web.get(base + "/manifest/{slot:\\d+}/{index:\\d+}", self._get_manifest),
            web.get(base + "/result/{slot:\\d+}", self._get_result),
            web.put(base + "/submit/{slot:\\d+}/{index:\\d+}", self._put_submit),
            web.put(base + "/open/{slot:\\d+}/{index:\\d+}", self._put_open),
            *conduct_routes(base, self.conduct, self._gateway, self._index),
            web.get(base + "/order/{slot:\\d+}/{index:\\d+}", self._get_order),
            web.put(base + "/share/{slot:\\d+}/{index:\\d+}/{member:\\d+}", self._put_share),
            web.get(base + "/audit/{slot:\\d+}", self._get_audit),
            web.put(base + "/canary/{slot:\\d+}/{index:\\d+}", self._put_canary),
        ]

    def _gateway(self, request: web.Request) -> str:
        spoken_for = request.match_info.get("spoken_for")
        if spoken_for is not None and not self._relayed_by(request):
            raise web.HTTPForbidden(text="not an administrator of this net")
        gateway = self._identity(request) if spoken_for is None else spoken_for
        if gateway not in self.members:
            raise web.HTTPForbidden(text="not a member of this net")
        return gateway

    def _index(self, request: web.Request) -> int:
        index = self.members.index(self._gateway(request)) + 1
        if request.match_info["index"] != str(index):
            raise web.HTTPForbidden(text="the resource belongs to another member")
        return index

    @staticmethod
    def _number(request: web.Request, name: str) -> int:
        text = request.match_info[name]
        if len(text) > 10:  # longer than any u32
            raise web.HTTPNotFound
        return int(text)

    @staticmethod
    async def _body(request: web.Request) -> bytes:
        if (request.content_length or 0) > MAX_BODY_BYTES:
            raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, request.content_length or 0)
        return await request.read()

    def _refuse(self, gateway: str, what: str, reason: str) -> None:
        self._emit({"event": "refused", "net": self.net, "gateway": gateway, "what": what, "reason": reason})

    async def _put_bundle(self, request: web.Request) -> web.Response:
        gateway = self._own(request)
        return await self._found(gateway, "bundle", self._founding.bundle(gateway, await self._body(request)))

    async def _put_reveal(self, request: web.Request) -> web.Response:
        gateway = self._own(request)
        return await self._found(gateway, "reveal", self._founding.reveal(gateway, await self._body(request)))

    async def _found(self, gateway: str, what: str, taken: Awaitable[int]) -> web.Response:
        """Answer with the status of a step of the founding; 400 if it is refused."""
        try:
            return web.Response(status=await taken)
        except FoundingRefused as error:
            self._refuse(gateway, what, str(error))
            raise web.HTTPBadRequest(text=f"the {what} is refused") from error

    def _own(self, request: web.Request) -> str:
        """Gateway id of a request about its own part in the roster of this version."""
        gateway = self._gateway(request)
        if request.match_info["gateway"] != gateway or self._number(request, "version") != self._version:
            raise web.HTTPForbidden(text="another gateway's or another roster's")
        return gateway

    async def _get_roster(self, request: web.Request) -> web.Response:
        self._gateway(request)
        right = self._number(request, "version") == self._version
        return self._answer(self._founding.publication if right else None)

    async def _get_graph(self, request: web.Request) -> web.Response:
        self._gateway(request)
        right = self._number(request, "version") == self._version
        return self._answer(self._founding.graph if right else None)

    async def _get_epoch(self, request: web.Request) -> web.Response:
        self._gateway(request)
        return self._answer(self._epochs.get(self._number(request, "epoch")))

    async def _get_manifest(self, request: web.Request) -> web.Response:
        index = self._index(request)
        known = self._manifests.get(self._number(request, "slot"))
        if known is None:
            raise web.HTTPNotFound
        tally, signed = known
        return self._answer(ManifestReply(signed, tally.siblings(index)).to_bytes())

    async def _get_result(self, request: web.Request) -> web.Response:
        self._gateway(request)
        return self._answer(self._results.get(self._number(request, "slot")))

    async def _put_submit(self, request: web.Request) -> web.Response:
        index, gateway, body = self._index(request), self._gateway(request), await self._body(request)
        slot, tally = self._number(request, "slot"), self._tally
        if tally is None or slot > tally.slot:
            raise web.HTTPNotFound  # not yet: the member tries again
        taken, frame = (Taken.LATE, None) if slot < tally.slot else tally.submit(index, body)
        if frame is not None and taken is Taken.NEW and frame.type is FrameType.SUBMIT:
            event = {"event": "submit", "net": self.net, "slot": slot, "gateway": gateway}
            self._emit(event | {"lanes": list(frame.lanes)})
        elif taken not in (Taken.NEW, Taken.KNOWN):
            self._refuse(gateway, "submit", taken.name.lower())
        receipt = (
            b""
            if frame is not None and frame.type is FrameType.HELLO
            else self.conduct.receipt(index, slot, body, taken)
        )
        self._taken.set()
        return web.Response(status=taken.value, body=receipt)

    async def _put_open(self, request: web.Request) -> web.Response:
        index, gateway, body = self._index(request), self._gateway(request), await self._body(request)
        slot, tally = self._number(request, "slot"), self._tally
        if tally is None or slot > tally.slot:
            raise web.HTTPNotFound
        late = slot < tally.slot or slot in self._results
        taken = Taken.LATE if late else tally.open(index, body)
        if taken not in (Taken.NEW, Taken.KNOWN):
            self._refuse(gateway, "open", taken.name.lower())
        elif taken is Taken.NEW:
            self.conduct.opened(index, slot, body)
        self._taken.set()
        return web.Response(status=taken.value)

    async def _get_order(self, request: web.Request) -> web.Response:
        index = self._index(request)
        return self._answer(self._recovering.reply(self._number(request, "slot"), index))

    async def _put_share(self, request: web.Request) -> web.Response:
        index, gateway, body = self._index(request), self._gateway(request), await self._body(request)
        member = self._number(request, "member")
        taken = self._recovering.share(self._number(request, "slot"), index, member, body)
        return self._taken_as(taken, gateway, "share")

    async def _get_audit(self, request: web.Request) -> web.Response:
        self._gateway(request)
        auditor = self._auditor
        return self._answer(None if auditor is None else auditor.order(self._number(request, "slot")))

    async def _put_canary(self, request: web.Request) -> web.Response:
        index, gateway, body = self._index(request), self._gateway(request), await self._body(request)
        if self._auditor is None:
            raise web.HTTPNotFound
        taken = await self._auditor.statement(self._number(request, "slot"), index, gateway, body)
        return self._taken_as(taken, gateway, "canary")

    def _taken_as(self, taken: Taken, gateway: str, what: str) -> web.Response:
        if taken not in (Taken.NEW, Taken.KNOWN):
            self._refuse(gateway, what, taken.name.lower())
        return web.Response(status=taken.value)

    @staticmethod
    def _answer(body: bytes | None) -> web.Response:
        if body is None:
            raise web.HTTPNotFound
        return web.Response(body=body, content_type="application/octet-stream")


class ReconcileCoordinator(NetCoordinator):
    """The reconcile net beside a net: founded with it, slots of a whole period, sums marked with its net."""

    def __init__(
        self,
        regular: NetRules,
        members: Iterable[str],
        keys: CoordinatorKeys,
        emit: Emit,
        *,
        administrators: Mapping[str, Countersigner],
        identity: Callable[[web.Request], str],
        now_utc: Callable[[], datetime],
        version: int,
        tell_totals: bool,
    ) -> None:
        """As `NetCoordinator`, beside the net with the rules `regular`, whose founding it shares."""
        self.members, self.reconciling = tuple(members), None
        self._keys, self._emit = keys, emit
        self._identity, self._now_utc = identity, now_utc
        self._version, self._tell_totals, self._chosen = version, tell_totals, dict(administrators)
        self._relayed_by = _by_nobody
        self._begin(regular.reconciled())
        self.marks = {"reconciles": regular.net.hex()}

    def _first_slot(self) -> int:
        """Return the slot that runs: it began before the net did, and ends with what is owed until then."""
        return max(0, self.rules.slot_at(self._now_utc()))
