"""An administrator's watch over DC-nets in its server: rates, outages, complaints, and the relay.

Rosters, reports and complaints are kept in DIR/dcnet.
"""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from firmware.profile.model import PeerEntry
from tools.counterparts.kept_files import KeptFiles
from tools.counterparts.net_keys import CmsKeys
from tools.counterparts.net_mount import ordered_net
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.net_oversight import NetOversight
from tools.counterparts.net_relay import NetRelay
from tools.counterparts.server import Emit, client_context, gateway_of, peer_common_name
from tools.counterparts.spool import profiles_ordered
from wan.errors import OrderRefused, UnexpectedReply

_NET: Final = "{net:[0-9a-f]{16}}"
_NUMBER: Final = "[0-9]{1,10}"
_TIMEOUT_S: Final = 4.0
"""A gateway waits 5 s for the relay."""


def oversight(folder: Path, emit: Emit) -> NetOversight:
    """Return the watch of the administrator whose folder is DIR."""
    keys = CmsKeys(folder)

    def ordered(net: str) -> OrderedNet | None:
        return ordered_net(folder, net)

    return NetOversight(
        keys.certificate, ordered, keys.trust, keys.sign, emit, kept=KeptFiles(folder / "dcnet")
    )


def mount_oversight(app: web.Application, folder: Path, emit: Emit) -> None:
    """Add what suppliers and gateways tell and ask an administrator about running nets."""
    watch = oversight(folder, emit)

    def member(net: str, gateway: str) -> bool:
        ordered = ordered_net(folder, net)
        return ordered is not None and gateway in ordered.gateways

    relay = NetRelay(member, _Forward(folder), emit, kept=KeptFiles(folder / "dcnet"))

    async def answer(asked: Awaitable[bytes]) -> web.Response:
        try:
            return web.Response(body=await asked, content_type="application/octet-stream")
        except OrderRefused as error:
            return web.Response(status=web.HTTPForbidden.status_code, text=error.code)

    async def rates(request: web.Request) -> web.Response:
        return await answer(watch.rates(request.match_info["net"], await request.read()))

    async def outage(request: web.Request) -> web.Response:
        about = request.match_info
        return await answer(watch.outage(about["net"], int(about["version"]), int(about["slot"])))

    async def complaint(request: web.Request) -> web.Response:
        gateway = _gateway(request)
        return await answer(watch.complaint(request.match_info["net"], gateway, await request.read()))

    async def relayed(request: web.Request) -> web.Response:
        about, gateway = request.match_info, _gateway(request)
        try:
            status, body = await relay.relay(
                about["net"], gateway, request.method, about["resource"], await request.read()
            )
        except OrderRefused as error:
            return web.Response(status=web.HTTPForbidden.status_code, text=error.code)
        return web.Response(status=status, body=body, content_type="application/octet-stream")

    base = f"/dcnet/v1/{_NET}"
    app.router.add_post(f"{base}/rates", rates)
    app.router.add_post(f"{base}/outage/{{version:{_NUMBER}}}/{{slot:{_NUMBER}}}", outage)
    app.router.add_post(f"{base}/complaint", complaint)
    app.router.add_get(f"{base}/relay/{{resource:.+}}", relayed)
    app.router.add_put(f"{base}/relay/{{resource:.+}}", relayed)


def _gateway(request: web.Request) -> str:
    gateway = gateway_of(peer_common_name(request))
    if gateway is None:
        raise web.HTTPForbidden(text="not a gateway's certificate")
    return gateway


class _Forward:
    """A `net_relay.Forward` over mutual TLS, to where the administrator's own orders say the supplier is."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._context = folder, client_context(folder)

    async def __call__(
        self, net: str, gateway: str, method: str, resource: str, body: bytes
    ) -> tuple[int, bytes]:
        peer = self._supplier(net, gateway)
        url = f"https://{peer.host}:{peer.port}/dcnet/v1/{net}/relay/{gateway}/{resource}"
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(
                method, url, data=body, ssl=self._context, server_hostname=peer.server_name
            ) as response,
        ):
            return response.status, await response.read()

    def _supplier(self, net: str, gateway: str) -> PeerEntry:
        for profile in profiles_ordered(self._folder, gateway).active.communication:
            if profile.net is not None and profile.net.net_id == net:
                return profile.peer
        raise UnexpectedReply(f"no supplier of net {net} was ordered")
