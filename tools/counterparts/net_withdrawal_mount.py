"""Withdrawals from administrator to administrator in the server: told over mutual TLS, taken, or by hand.

What is stated and taken is kept in DIR/dcnet.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
from aiohttp import web

from tools.counterparts.kept_files import KeptFiles
from tools.counterparts.net_keys import CmsKeys
from tools.counterparts.net_mount import ordered_net
from tools.counterparts.net_withdrawal import Place, WithdrawalTaker, WithdrawalTeller
from tools.counterparts.server import Emit, client_context, peer_common_name, split_address
from wan.errors import OrderRefused, UnexpectedReply

_NET: Final = "{net:[0-9a-f]{16}}"
_ADMINISTRATOR: Final = ".GWA"
_TIMEOUT_S: Final = 20.0
_LOOK_S: Final = 1.0
"""Between two looks at what was stated."""
_RETRY_LOOKS: Final = 10
"""Who could not be told is asked again after so many."""


class AdministratorWay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One [[administrator]] of gwa.toml: another administrator."""

    name: str
    """Its name in rosters."""
    gwa: str
    """HOST:PORT."""
    gwa_server_name: str


def teller(folder: Path, name: str, emit: Emit, ways: Iterable[AdministratorWay] = ()) -> WithdrawalTeller:
    """Return what tells the statements of the administrator whose folder is DIR."""
    keys, context = CmsKeys(folder), client_context(folder)
    known = {way.name: _Way(way.gwa, way.gwa_server_name, context) for way in ways}
    kept = KeptFiles(folder / "dcnet")
    return WithdrawalTeller(name, keys.certificate, keys.sign, emit, kept=kept, ways=known)


def taker(folder: Path, name: str, emit: Emit, place: Place) -> WithdrawalTaker:
    """Return what judges the statements of others for the administrator whose folder is DIR."""
    return WithdrawalTaker(
        name,
        lambda net: ordered_net(folder, net),
        CmsKeys(folder).trust,
        emit,
        kept=KeptFiles(folder / "dcnet"),
        place=place,
    )


def mount_withdrawal(
    app: web.Application,
    folder: Path,
    name: str,
    emit: Emit,
    *,
    place: Place,
    ways: Iterable[AdministratorWay],
) -> None:
    """Take other administrators' statements, and tell ours while the server is up."""
    taking, telling = taker(folder, name, emit, place), teller(folder, name, emit, ways)

    async def withdrawn(request: web.Request) -> web.Response:
        if not peer_common_name(request).endswith(_ADMINISTRATOR):
            raise web.HTTPForbidden(text="not an administrator's certificate")
        try:
            await taking.take(request.match_info["net"], await request.read())
        except OrderRefused as error:
            return web.Response(status=web.HTTPForbidden.status_code, text=error.code)
        return web.Response()

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            emit({"event": "failed", "what": task.get_name(), "error": repr(error)})

    async def tell(_app: web.Application) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(_telling(telling), name="withdrawals")
        task.add_done_callback(ended)
        yield
        task.cancel()
        await asyncio.wait([task])

    app.router.add_post(f"/dcnet/v1/{_NET}/withdrawn", withdrawn)
    app.cleanup_ctx.append(tell)


async def _telling(telling: WithdrawalTeller) -> None:
    while True:
        looks = 1 if await telling.look() else _RETRY_LOOKS
        await asyncio.sleep(_LOOK_S * looks)


class _Way:
    """Implements `net_withdrawal.Ask` over mutual TLS."""

    def __init__(self, address: str, server_name: str, context: ssl.SSLContext) -> None:
        self._host, self._port = split_address(address)
        self._server_name, self._context = server_name, context

    async def withdrawn(self, net: str, statement: bytes) -> None:
        """Tell a statement."""
        url = f"https://{self._host}:{self._port}/dcnet/v1/{net}/withdrawn"
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session,
            session.post(
                url, data=statement, ssl=self._context, server_hostname=self._server_name
            ) as response,
        ):
            answer = await response.text()
            if response.status == web.HTTPForbidden.status_code:
                raise OrderRefused(answer, "withdrawn")
            if response.status != web.HTTPOk.status_code:
                raise UnexpectedReply(f"an administrator answered {response.status}")
