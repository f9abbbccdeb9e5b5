"""The supplier's side of a net's slots: takes frames, closes and totals them, serves what comes of it.

Shares the codecs of the product and none of its checks. A net has one of these, and one more for its
reconcile net; which roster rules a slot is told from outside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from aiohttp import web

from firmware.enforcement.dcnet.machines import MODE, ModeStep
from firmware.enforcement.dcnet.messages.conduct import Calendar, SlotDigest
from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.frames import FrameType
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, ManifestReply, SlotResult, Verdict
from firmware.enforcement.dcnet.policy import CANARY_LANE, TENTHS, NetRules
from tools.counterparts.net_audit import Auditor
from tools.counterparts.net_conduct import NetConduct, Overseer, settle
from tools.counterparts.net_conduct_routes import conduct_routes
from tools.counterparts.net_founding import CoordinatorKeys, Countersigner
from tools.counterparts.net_probation import Accused
from tools.counterparts.net_recovering import Recovering
from tools.counterparts.net_request import answer, body_of, number
from tools.counterparts.net_rosters import Version
from tools.counterparts.net_tally import Taken, Tally, Terms
from tools.counterparts.server import Emit

KEPT_SLOTS: Final = 256
"""Manifests and results of this many slots stay available to members that were away."""

Ruling = Callable[[int], Awaitable[Version]]
"""Slot -> the roster it is played in; called once for each slot, in their order."""


class NetSlots:
    """Plays the slots of one net.

    Args:
        rules: of the net, or of its reconcile net.
        keys: the supplier's.
        emit: takes events.
        administrators: each by its name in the rosters.
        gateway_of: gateway id behind a request; refuses strangers.
        now_utc: the supplier's clock.
        tell_totals: whether members learn the totals.
        marks: what the totals say besides the net.
        accused: takes whom an audit names.
        calendars: what is blocked.
        overseers: who is told how often members took part.
        report_slots: after so many slots.
    """

    def __init__(
        self,
        rules: NetRules,
        keys: CoordinatorKeys,
        emit: Emit,
        *,
        administrators: Mapping[str, Countersigner],
        gateway_of: Callable[[web.Request], str],
        now_utc: Callable[[], datetime],
        tell_totals: bool,
        marks: Mapping[str, str],
        accused: Callable[[Accused], None],
        calendars: Sequence[Calendar] = (),
        overseers: Mapping[str, Overseer] | None = None,
        report_slots: int | None = None,
    ) -> None:
        self.rules, self.net = rules, rules.net.hex()
        self._keys, self._emit, self._gateway = keys, emit, gateway_of
        self._administrators, self._accused = administrators, accused
        self._now_utc, self._tell_totals, self._marks = now_utc, tell_totals, dict(marks)
        self.conduct = NetConduct(
            rules,
            keys,
            emit,
            calendars=calendars,
            overseers=overseers,
            report_slots=report_slots,
            compare=self._compare,
        )
        self.recovering = Recovering(rules, keys, administrators, emit, now_utc)
        self.mode = MODE.start
        self.now: Version | None = None
        """The roster of the slot that is played."""
        self._auditor: Auditor | None = None
        self._suspended: frozenset[int] = frozenset()
        self._taken = asyncio.Event()
        self._tally: Tally | None = None
        self.epochs: dict[int, bytes] = {}
        self.manifests: dict[int, tuple[Tally, bytes, tuple[str, ...]]] = {}
        """Slot -> submissions, signed manifest, members in the order of their indices."""
        self._results: dict[int, bytes] = {}

    @property
    def adjacent(self) -> Mapping[int, frozenset[int]]:
        """The key graph of the roster that is played."""
        return {} if self.now is None else self.now.founding.adjacent

    @property
    def members(self) -> tuple[str, ...]:
        """Gateway ids of the roster that is played, in the order of their indices."""
        return () if self.now is None else self.now.members

    # -- the timeline --------------------------------------------------------------------------------

    async def play(self, slot: int, ruling: Ruling) -> None:
        """Play slot after slot from `slot` on, until cancelled."""
        present: frozenset[int] = frozenset()
        result: SlotResult | None = None
        epoch, previous = -1, b""
        while True:
            while self.conduct.blocked(slot):
                slot += 1
            now = await ruling(slot)
            if now is not self.now:
                self._enter(now)
                epoch, present = -1, now.present
            if epoch != (epoch := self.rules.epoch_of(slot)):
                previous = await self._begin_epoch(now, epoch, slot, present)
            self.conduct.latest = slot
            tally = self._tally = Tally(self._terms(now), slot, epoch, previous, present)
            result = await self._play(tally, result)
            assert tally.manifest is not None
            previous = document_hash(tally.manifest)
            present = frozenset(tally.accepted) | tally.hello
            slot += 1

    def _enter(self, now: Version) -> None:
        """Go on in another roster; whom an audit had named is not in it, or was judged."""
        self.now, self._suspended = now, frozenset()
        named = {entry.administrator for entry in now.roster.entries}
        administrators = {name: self._administrators[name] for name in sorted(named)}
        self.recovering.begin(administrators)
        self._auditor = Auditor(self._keys, administrators, now.founding.certificates, self._emit)
        self.conduct.begin(self._terms(now))

    def _terms(self, now: Version) -> Terms:
        if not self.rules.reconciles:
            return now.terms
        assert now.founding.reconcile_terms is not None
        return now.founding.reconcile_terms

    async def _begin_epoch(self, now: Version, epoch: int, slot: int, present: frozenset[int]) -> bytes:
        roster = now.roster
        manifest = EpochManifest(
            self.rules.net,
            roster.version,
            document_hash(roster),
            epoch,
            slot,
            to_bitmap(present, now.terms.size),
        )
        envelope = await self.recovering.envelope(manifest)
        assert envelope is not None  # it is asked for until it is there
        self.epochs[epoch] = envelope
        self.conduct.epoch(self.recovering.signed(envelope))
        return document_hash(manifest)

    async def _play(self, tally: Tally, before: SlotResult | None) -> SlotResult:
        """One slot: submissions until D1 or until all have spoken, manifest, openings until D3, result."""
        rules, slot, members = self.rules, tally.slot, self.members
        await self._end_audit(rules.slot_end(slot))
        tally.exclude(self._suspended)
        await self._until(rules.submit_until(slot), lambda: tally.everybody_spoke)
        manifest = tally.close(before, witnessed=self.recovering.witnessed)
        envelope = await self.recovering.envelope(manifest)
        assert envelope is not None  # it is asked for until it is there: the chain cannot go on without
        if self.recovering.witnessed:
            tally.cosigned()
        self.manifests[slot] = (tally, envelope, members)
        asked = None
        if not rules.enough_of(len(tally.accepted), len(tally.present)):
            asked = asyncio.get_running_loop().create_task(self.conduct.ask_outage(slot))
        await self._until(rules.open_until(slot), lambda: tally.complete)
        await settle(asked)
        if not tally.complete:
            await self.recovering.recover(tally, self.adjacent)
        limit = rules.max_wh * TENTHS
        result = tally.result((limit, limit, 1), CANARY_LANE)
        told = (
            result
            if self._tell_totals
            else SlotResult(result.net, slot, result.manifest_hash, result.verdict)
        )
        self._results[slot] = await self._keys.sign(told.to_bytes())
        await self.conduct.done(tally, self.recovering.signed(envelope), result.verdict)
        self.manifests.pop(slot - KEPT_SLOTS, None)
        self._results.pop(slot - KEPT_SLOTS, None)
        accepted = tally.accepted
        await self._judge_mode(tally, result)
        self._emit(
            {
                "event": "total",
                "net": self.net,
                **self._marks,
                "slot": slot,
                "members": [members[index - 1] for index in accepted],
                "left_out": [name for index, name in enumerate(members, 1) if index not in accepted],
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
                name = dict(enumerate(self.members, start=1))
                self._accused(
                    Accused(
                        frozenset(name[index] for index in found.members),
                        frozenset(name[index] for index in found.silent),
                        frozenset((name[a], name[b]) for a, b in found.edges),
                    )
                )

    async def _compare(self, said: SlotDigest, signed: bytes) -> bool:
        """Hold a member's day against what it said in an audit."""
        return self._auditor is not None and await self._auditor.compare(said, signed)

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

    def routes(self, base: str) -> list[web.RouteDef]:
        """What the EMP's server mounts below `base`."""
        return [
            web.get(base + "/manifest/epoch/{epoch:\\d+}", self._get_epoch),
            web.get(base + "/manifest/{slot:\\d+}/{index:\\d+}", self._get_manifest),
            web.get(base + "/result/{slot:\\d+}", self._get_result),
            web.put(base + "/submit/{slot:\\d+}/{index:\\d+}", self._put_submit),
            web.put(base + "/open/{slot:\\d+}/{index:\\d+}", self._put_open),
            *conduct_routes(base, self.conduct, self._gateway, self._sender),
            web.get(base + "/order/{slot:\\d+}/{index:\\d+}", self._get_order),
            web.put(base + "/share/{slot:\\d+}/{index:\\d+}/{member:\\d+}", self._put_share),
            web.get(base + "/audit/{slot:\\d+}", self._get_audit),
            web.get(base + "/audit/{slot:\\d+}/{index:\\d+}", self._get_other_ends),
            web.put(base + "/canary/{slot:\\d+}/{index:\\d+}", self._put_canary),
        ]

    def _index(self, request: web.Request, members: tuple[str, ...]) -> int:
        gateway = self._gateway(request)
        if gateway not in members or request.match_info["index"] != str(members.index(gateway) + 1):
            raise web.HTTPForbidden(text="the resource belongs to another member")
        return members.index(gateway) + 1

    def _sender(self, request: web.Request) -> int:
        """The index behind a request about the slot that is played; before there is one, nobody has any."""
        if self.now is None:
            self._gateway(request)
            raise web.HTTPNotFound
        return self._index(request, self.members)

    def _usable(self, gateway: str, index: int) -> None:
        """Refuse frames of a member whose edges nobody has confirmed, or that was withdrawn."""
        if self.now is not None and index not in self.now.present:
            self._refuse(gateway, "submit", "unconfirmed or withdrawn")
            raise web.HTTPForbidden(text="not confirmed, or withdrawn")

    def _refuse(self, gateway: str, what: str, reason: str) -> None:
        self._emit({"event": "refused", "net": self.net, "gateway": gateway, "what": what, "reason": reason})

    async def _get_epoch(self, request: web.Request) -> web.Response:
        self._gateway(request)
        return answer(self.epochs.get(number(request, "epoch")))

    async def _get_manifest(self, request: web.Request) -> web.Response:
        known = self.manifests.get(number(request, "slot"))
        if known is None:
            self._sender(request)
            raise web.HTTPNotFound
        tally, signed, members = known
        index = self._index(request, members)
        return answer(ManifestReply(signed, tally.siblings(index)).to_bytes())

    async def _get_result(self, request: web.Request) -> web.Response:
        self._gateway(request)
        return answer(self._results.get(number(request, "slot")))

    async def _put_submit(self, request: web.Request) -> web.Response:
        index, gateway, body = self._sender(request), self._gateway(request), await body_of(request)
        slot, tally = number(request, "slot"), self._tally
        if tally is not None:
            self._usable(gateway, index)
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
        index, gateway, body = self._sender(request), self._gateway(request), await body_of(request)
        slot, tally = number(request, "slot"), self._tally
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
        index = self._sender(request)
        return answer(self.recovering.reply(number(request, "slot"), index))

    async def _put_share(self, request: web.Request) -> web.Response:
        index, gateway, body = self._sender(request), self._gateway(request), await body_of(request)
        taken = self.recovering.share(number(request, "slot"), index, number(request, "member"), body)
        return self._taken_as(taken, gateway, "share")

    async def _get_audit(self, request: web.Request) -> web.Response:
        self._gateway(request)
        auditor = self._auditor
        return answer(None if auditor is None else auditor.order(number(request, "slot")))

    async def _get_other_ends(self, request: web.Request) -> web.Response:
        index, auditor = self._sender(request), self._auditor
        return answer(None if auditor is None else auditor.other_ends(number(request, "slot"), index))

    async def _put_canary(self, request: web.Request) -> web.Response:
        index, gateway, body = self._sender(request), self._gateway(request), await body_of(request)
        if self._auditor is None:
            raise web.HTTPNotFound
        taken = await self._auditor.statement(number(request, "slot"), index, gateway, body)
        return self._taken_as(taken, gateway, "canary")

    def _taken_as(self, taken: Taken, gateway: str, what: str) -> web.Response:
        if taken not in (Taken.NEW, Taken.KNOWN):
            self._refuse(gateway, what, taken.name.lower())
        return web.Response(status=taken.value)
