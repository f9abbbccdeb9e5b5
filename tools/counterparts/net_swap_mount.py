"""Swaps between nets in the two servers: the administrator judges and orders, the supplier proposes.

What administrators keep is in DIR/dcnet; what the supplier keeps of who came where, in DIR/swaps, and of the
swap under way, in DIR/dcnet/swaps.journal.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from firmware.profile.model import ProfileSet
from tools.counterparts.kept_files import KeptFiles
from tools.counterparts.net_journal import FileMedium, Journal, JournalError
from tools.counterparts.net_keys import CmsKeys
from tools.counterparts.net_mount import ordered_net
from tools.counterparts.net_swap_book import JOURNAL_NAME, MEND_SWAPS
from tools.counterparts.net_swap_judge import SwapJudge, SwapSettings
from tools.counterparts.net_swapping import SwapNet, Swapper
from tools.counterparts.net_withdrawal import Place
from tools.counterparts.server import Emit
from tools.counterparts.spool import profiles_ordered
from wan.errors import OrderRefused

_NET: Final = "{net:[0-9a-f]{16}}"
_TARGET: Final = "{target:[0-9a-f]{16}}"
_EPOCH: Final = "{epoch:[0-9]{1,9}}"
_ASKED: Final = "swap-asked-"


def mount_swaps(
    app: web.Application,
    folder: Path,
    name: str,
    emit: Emit,
    *,
    place: Place,
    partners: Iterable[str],
    refused_peers: Iterable[str],
    settings: SwapSettings,
) -> None:
    """Add the administrator's part to its server."""
    keys = CmsKeys(folder)

    def profiles(gateway: str) -> ProfileSet:
        return profiles_ordered(folder, gateway).active

    judge = SwapJudge(
        name,
        keys.certificate,
        lambda net: ordered_net(folder, net),
        profiles,
        keys.trust,
        keys.open_attestation,
        keys.sign,
        emit,
        kept=KeptFiles(folder / "dcnet"),
        place=place,
        partners=frozenset(partners),
        refused_peers=frozenset(refused_peers),
        settings=settings,
    )

    async def answer(asked: Awaitable[bytes]) -> web.Response:
        try:
            return web.Response(body=await asked, content_type="application/octet-stream")
        except OrderRefused as error:
            return web.Response(status=web.HTTPForbidden.status_code, text=error.code)

    async def offer(request: web.Request) -> web.Response:
        about = request.match_info
        return await answer(judge.offer(about["net"], about["target"], int(about["epoch"])))

    async def consent(request: web.Request) -> web.Response:
        return await answer(judge.consent(request.match_info["net"], await request.read()))

    async def carry(request: web.Request) -> web.Response:
        return await answer(judge.carry(request.match_info["net"], await request.read()))

    base = f"/dcnet/v1/{_NET}"
    app.router.add_post(f"{base}/swap-offer/{_TARGET}/{_EPOCH}", offer)
    app.router.add_post(f"{base}/swap", consent)
    app.router.add_post(f"{base}/swap-orders", carry)


def swaps_asked(folder: Path) -> list[dict[str, Any]]:
    """Return the proposals that the operator was asked about, the latest last."""
    kept = KeptFiles(folder / "dcnet")
    found: list[dict[str, Any]] = [json.loads(kept[one]) for one in kept if one.startswith(_ASKED)]
    return sorted(found, key=lambda one: (one["first_epoch"], one["proposal"]))


def answer_swap(folder: Path, proposal: str, *, agree: bool) -> dict[str, Any]:
    """Note the operator's word on a proposal; the server that runs on the folder acts on it.

    Args:
        folder: the administrator's.
        proposal: its name, 16 hexadecimal digits.
        agree: else it is refused.

    Raises:
        OrderRefused: `unknown`; no such proposal.
    """
    kept, record = KeptFiles(folder / "dcnet"), f"{_ASKED}{proposal}"
    if len(proposal) != 16 or record not in kept:
        raise OrderRefused("unknown", f"no proposal {proposal}")
    said: dict[str, Any] = json.loads(kept[record]) | {"answer": "agree" if agree else "refuse"}
    kept[record] = json.dumps(said).encode()
    return said


def mount_swapper(app: web.Application, folder: Path, nets: Sequence[SwapNet], emit: Emit) -> None:
    """Let a supplier with several nets pair lone changes with swaps while its server is up.

    Raises:
        JournalError: what was under way cannot be gone on with.
    """
    if len(nets) < 2:
        return
    journal = _swaps_journal(folder, emit)
    swapper = Swapper(
        nets,
        CmsKeys(folder),
        emit,
        now_utc=lambda: datetime.now(UTC),
        kept=KeptFiles(folder / "swaps"),
        journal=journal,
    )

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            emit({"event": "failed", "what": task.get_name(), "error": repr(error)})

    async def running(_app: web.Application) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(swapper.run(), name="swaps")
        task.add_done_callback(ended)
        yield
        task.cancel()
        await asyncio.wait([task])
        journal.close()

    app.cleanup_ctx.append(running)


def _swaps_journal(folder: Path, emit: Emit) -> Journal:
    medium = FileMedium(folder / "dcnet" / "swaps.journal")
    try:
        journal = Journal(medium, JOURNAL_NAME)
    except JournalError as error:
        medium.close()
        what, _, _ = str(error).partition("; hint: ")
        raise type(error)(f"swaps: {what}", MEND_SWAPS) from error
    if journal.dropped_bytes:
        emit({"event": "journal", "net": "swaps", "dropped_bytes": journal.dropped_bytes})
    return journal
