"""The supplier's side of one DC-net: founds it, then closes and totals slot after slot.

Shares the codecs of the product and none of its checks. Mounted into the EMP's server by `routes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.frames import FrameType
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, ManifestReply, SlotResult, Verdict
from firmware.enforcement.dcnet.messages.roster import Roster
from firmware.enforcement.dcnet.policy import CANARY_LANE, TENTHS, NetRules
from firmware.profile.model import NetPolicy
from tools.counterparts.net_founding import CoordinatorKeys, Countersigner, Founding, FoundingRefused
from tools.counterparts.net_tally import Taken, Tally
from tools.counterparts.server import Emit

KEPT_SLOTS: Final = 256
"""Manifests and results of this many slots stay available to members that were away."""
MAX_BODY_BYTES: Final = 1 << 16


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
    ) -> None:
        self.rules = NetRules.from_profile(policy)
        self.members = tuple(members)
        self.net = self.rules.net.hex()
        self.name = f"net.{self.net}"
        self._keys, self._emit = keys, emit
        self._identity, self._now_utc = identity, now_utc
        self._version, self._tell_totals = version, tell_totals
        first = next(iter(administrators))
        chosen = administrator_of or {}
        self._founding = Founding(
            self.rules,
            {member: chosen.get(member, first) for member in self.members},
            keys,
            emit,
            administrators=administrators,
            now_utc=now_utc,
            version=version,
        )
        self._taken = asyncio.Event()
        self._tally: Tally | None = None
        self._epochs: dict[int, bytes] = {}
        self._manifests: dict[int, tuple[Tally, bytes]] = {}
        self._results: dict[int, bytes] = {}

    # -- the timeline --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled."""
        roster, terms = await self._founding.found()
        slot = max(0, self.rules.slot_at(self._now_utc()) + 1)
        present, result = frozenset(range(1, terms.size + 1)), None
        epoch, previous = -1, b""
        while True:
            if epoch != (epoch := self.rules.epoch_of(slot)):
                previous = await self._begin_epoch(roster, epoch, slot, present, terms.size)
            tally = self._tally = Tally(terms, slot, epoch, previous, present)
            result = await self._play(tally, result)
            assert tally.manifest is not None
            previous = document_hash(tally.manifest)
            present = frozenset(tally.accepted) | tally.hello
            slot += 1

    async def _begin_epoch(
        self, roster: Roster, epoch: int, slot: int, present: frozenset[int], size: int
    ) -> bytes:
        manifest = EpochManifest(
            self.rules.net, self._version, document_hash(roster), epoch, slot, to_bitmap(present, size)
        )
        self._epochs[epoch] = await self._keys.sign(manifest.to_bytes())
        return document_hash(manifest)

    async def _play(self, tally: Tally, before: SlotResult | None) -> SlotResult:
        """One slot: submissions until D1 or until all have spoken, manifest, openings until D3, result."""
        rules, slot = self.rules, tally.slot
        await self._until(rules.submit_until(slot), lambda: tally.everybody_spoke)
        manifest = tally.close(before)
        self._manifests[slot] = (tally, await self._keys.sign(manifest.to_bytes()))
        await self._until(rules.open_until(slot), lambda: tally.complete)
        limit = rules.max_wh * TENTHS
        result = tally.result((limit, limit, 1), CANARY_LANE)
        told = (
            result
            if self._tell_totals
            else SlotResult(result.net, slot, result.manifest_hash, result.verdict)
        )
        self._results[slot] = await self._keys.sign(told.to_bytes())
        self._manifests.pop(slot - KEPT_SLOTS, None)
        self._results.pop(slot - KEPT_SLOTS, None)
        accepted = tally.accepted
        self._emit(
            {
                "event": "total",
                "net": self.net,
                "slot": slot,
                "members": [self.members[index - 1] for index in accepted],
                "left_out": [name for index, name in enumerate(self.members, 1) if index not in accepted],
                "lanes": list(result.totals or ()),
                "verdict": "totalled" if result.verdict is Verdict.TOTALLED else "aborted",
            }
        )
        return told

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
        return [
            web.put(base + "/bundle/{version:\\d+}/{gateway}", self._put_bundle),
            web.get(base + "/roster/{version:\\d+}", self._get_roster),
            web.put(base + "/reveal/{version:\\d+}/{gateway}", self._put_reveal),
            web.get(base + "/graph/{version:\\d+}", self._get_graph),
            web.get(base + "/manifest/epoch/{epoch:\\d+}", self._get_epoch),
            web.get(base + "/manifest/{slot:\\d+}/{index:\\d+}", self._get_manifest),
            web.get(base + "/result/{slot:\\d+}", self._get_result),
            web.put(base + "/submit/{slot:\\d+}/{index:\\d+}", self._put_submit),
            web.put(base + "/open/{slot:\\d+}/{index:\\d+}", self._put_open),
        ]

    def _gateway(self, request: web.Request) -> str:
        gateway = self._identity(request)
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
        self._taken.set()
        return web.Response(status=taken.value)

    async def _put_open(self, request: web.Request) -> web.Response:
        index, gateway, body = self._index(request), self._gateway(request), await self._body(request)
        slot, tally = self._number(request, "slot"), self._tally
        if tally is None or slot > tally.slot:
            raise web.HTTPNotFound
        late = slot < tally.slot or slot in self._results
        taken = Taken.LATE if late else tally.open(index, body)
        if taken not in (Taken.NEW, Taken.KNOWN):
            self._refuse(gateway, "open", taken.name.lower())
        self._taken.set()
        return web.Response(status=taken.value)

    @staticmethod
    def _answer(body: bytes | None) -> web.Response:
        if body is None:
            raise web.HTTPNotFound
        return web.Response(body=body, content_type="application/octet-stream")
