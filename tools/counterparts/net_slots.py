"""What the supplier's side of a net's slots takes from members and serves to them.

Shares the codecs of the product and none of its checks. A net has one of these, and one more for its
reconcile net.
"""

from __future__ import annotations

from aiohttp import web

from firmware.enforcement.dcnet.messages.frames import FrameType
from firmware.enforcement.dcnet.messages.manifest import ManifestReply
from tools.counterparts.net_conduct_routes import conduct_routes
from tools.counterparts.net_playing import Playing
from tools.counterparts.net_request import answer, body_of, number
from tools.counterparts.net_tally import Taken


class NetSlots(Playing):
    """The slots of one net, with their resources."""

    def routes(self, base: str) -> list[web.RouteDef]:
        """What the EMP's server mounts below `base`."""
        return [
            web.get(base + "/manifest/epoch/{epoch:\\d+}", self._get_epoch),
            web.get(base + "/manifest/{slot:\\d+}/{index:\\d+}", self._get_manifest),
            web.get(base + "/result/{slot:\\d+}", self._get_result),
            web.put(base + "/submit/{slot:\\d+}/{index:\\d+}", self._put_submit),
            web.put(base + "/open/{slot:\\d+}/{index:\\d+}", self._put_open),
            *conduct_routes(base, self.conduct, self._gateway, self._sender),
            *self.commitments.routes(
                base, gateway_of=self._gateway, sender=self._sender, taken=self._taken_as
            ),
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
        if slot == tally.slot and (status := self.commitments.admits(slot, index, body)):
            return web.Response(status=status)
        taken, frame = (Taken.LATE, None) if slot < tally.slot else tally.submit(index, body)
        if frame is not None and taken is Taken.NEW and frame.type is FrameType.SUBMIT:
            self._book.took("submit", slot, index, body)
            event = {"event": "submit", "net": self.net, "slot": slot, "gateway": gateway}
            self._emit(event | {"lanes": list(frame.lanes)})
        elif taken not in (Taken.NEW, Taken.KNOWN):
            self._refuse(gateway, "submit", taken.name.lower())
        elif frame is not None and frame.type is FrameType.HELLO:
            self._book.took("hello", slot, index, body)
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
        if not late and not self.commitments.opens(slot, index):
            return web.Response(status=425)  # behind what opens its blindings
        taken = Taken.LATE if late else tally.open(index, body)
        if taken not in (Taken.NEW, Taken.KNOWN):
            self._refuse(gateway, "open", taken.name.lower())
        elif taken is Taken.NEW:
            self.conduct.opened(index, slot, body)
            self._book.took("open", slot, index, body)
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
