"""A supplier's resources beside the slots: calendar, receipts, refusals, digests, outages, the relayed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from tools.counterparts.net_conduct import NetConduct
from tools.counterparts.net_request import answer, number

MAX_BODY_BYTES: Final = 1 << 20
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def conduct_routes(
    base: str,
    conduct: NetConduct,
    gateway: Callable[[web.Request], str],
    index: Callable[[web.Request], int],
) -> list[web.RouteDef]:
    """Return the routes below `base`; `gateway` and `index` name who asks, or refuse."""

    async def calendar(request: web.Request) -> web.Response:
        gateway(request)
        return answer(await conduct.publication())

    async def receipt(request: web.Request) -> web.Response:
        return answer(conduct.again(index(request), number(request, "slot")))

    async def receipts(request: web.Request) -> web.Response:
        return answer(await conduct.receipts(number(request, "epoch"), index(request)))

    async def refusal(request: web.Request) -> web.Response:
        taken = conduct.refusal(index(request), number(request, "slot"), await _body(request))
        return web.Response(status=201 if taken else 400)

    async def digest(request: web.Request) -> web.Response:
        member, epoch, body = index(request), number(request, "epoch"), await _body(request)
        taken = await conduct.digest(member, epoch, gateway(request), body)
        return web.Response(status=201 if taken else 400)

    async def outage(request: web.Request) -> web.Response:
        gateway(request)
        return answer(conduct.outage(number(request, "slot")))

    return [
        web.get(base + "/calendar", calendar),
        web.get(base + "/receipt/day/{epoch:\\d+}/{index:\\d+}", receipts),
        web.get(base + "/receipt/{slot:\\d+}/{index:\\d+}", receipt),
        web.put(base + "/refusal/{slot:\\d+}/{index:\\d+}", refusal),
        web.put(base + "/digest/{epoch:\\d+}/{index:\\d+}", digest),
        web.get(base + "/outage/{slot:\\d+}", outage),
    ]


def relayed_routes(base: str, handlers: Mapping[str, Handler]) -> list[web.RouteDef]:
    """Return the routes by which an administrator brings what belongs to a founding for its gateways.

    Args:
        base: path of the net.
        handlers: of bundle, reveal, roster, graph, confirm and (asked for) confirmed; they find the gateway
            in `spoken_for`.
    """
    spoken = base + "/relay/{spoken_for}"
    return [
        web.put(spoken + "/bundle/{version:\\d+}/{gateway}", handlers["bundle"]),
        web.put(spoken + "/reveal/{version:\\d+}/{gateway}", handlers["reveal"]),
        web.get(spoken + "/roster/{version:\\d+}", handlers["roster"]),
        web.get(spoken + "/graph/{version:\\d+}", handlers["graph"]),
        web.put(spoken + "/confirm/{version:\\d+}/{gateway}", handlers["confirm"]),
        web.get(spoken + "/confirm/{version:\\d+}/{gateway}", handlers["confirmed"]),
    ]


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, request.content_length or 0)
    return await request.read()
