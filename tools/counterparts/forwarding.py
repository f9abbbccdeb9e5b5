"""The administrator as a forwarder: checks who sent a message, takes the signature off, hands on the rest.

What it hands on is sealed for the participant, so it cannot read it; who sent it, it does not say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import aiohttp
import msgspec
from aiohttp import web

from tools.counterparts.messages import MessageRefused, Trust, check_signed
from tools.counterparts.server import Emit, client_context, gateway_of, require_gateway, split_address
from wan.cms import der as syntax
from wan.cms.oids import ContentType
from wan.emp.client import MEDIA_TYPE

_ANSWER_TIMEOUT_S: Final = 20.0
_TAKEN: Final = {200, 201}


class ForwardSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One [[forward]] of gwa.toml: a participant to which messages are handed on."""

    name: str
    """As gateways' profiles call it."""
    address: str
    """HOST:PORT."""
    server_name: str


def mount_forwarding(app: web.Application, folder: Path, ways: list[ForwardSettings], emit: Emit) -> None:
    """Add the resource to which gateways bring what is to be forwarded."""
    trust, known = Trust.load(folder), {one.name: one for one in ways}

    async def forward(request: web.Request) -> web.Response:
        about = request.match_info
        require_gateway(request, about["gateway"])
        way = known.get(about["recipient"])
        if way is None:
            raise web.HTTPNotFound(text="nobody of that name is forwarded to")
        try:
            envelope = await _without_signature(await request.read(), trust, about["gateway"])
        except MessageRefused as error:
            emit({"event": "refused", "gateway": about["gateway"], "reason": error.reason})
            raise web.HTTPUnprocessableEntity(text=error.reason) from error
        status = await _hand_on(folder, way, about["message_id"], envelope)
        emit(
            {
                "event": "forwarded",
                "gateway": about["gateway"],
                "recipient": way.name,
                "message_id": about["message_id"],
                "status": status,
            }
        )
        if status not in _TAKEN:
            raise web.HTTPBadGateway(text="the recipient did not take it")
        return web.Response(status=201)

    app.router.add_put("/gwa/v1/{gateway}/forwards/{recipient}/{message_id}", forward)


async def _without_signature(body: bytes, trust: Trust, gateway: str) -> bytes:
    checked = await check_signed(body, trust)
    if gateway_of(checked.signer_name) != gateway:
        raise MessageRefused("identity", "signed by somebody else than the connection's gateway")
    if checked.content_type is not ContentType.AUTH_ENVELOPED:
        raise MessageRefused("malformed", "SignedData is not over AuthEnvelopedData")
    return syntax.wrap(ContentType.AUTH_ENVELOPED, checked.content)


async def _hand_on(folder: Path, way: ForwardSettings, message_id: str, envelope: bytes) -> int:
    """Return what the participant answered, 0 if it did not."""
    host, port = split_address(way.address)
    timeout = aiohttp.ClientTimeout(total=_ANSWER_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.put(
                f"https://{host}:{port}/emp/v1/forwarded/{message_id}",
                data=envelope,
                headers={"Content-Type": MEDIA_TYPE},
                ssl=client_context(folder),
                server_hostname=way.server_name,
            ) as response,
        ):
            return response.status
    except (OSError, TimeoutError, aiohttp.ClientError):
        return 0
