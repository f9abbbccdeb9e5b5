"""DC-nets in the two servers: [[net]] of emp.toml is coordinated, what the spool orders is countersigned.

The administrator keeps its nonces and rosters in DIR/dcnet.
"""

from __future__ import annotations

import asyncio
import ssl
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp import web

from firmware.enforcement.dcnet.errors import NetRefused
from firmware.enforcement.dcnet.messages.conduct import Calendar
from firmware.enforcement.dcnet.policy import NetRules
from firmware.profile.model import CommunicationProfile, NetPolicy
from hsm.x509.certificate import load_pem_chain
from tools.counterparts.kept_files import KeptFiles
from tools.counterparts.net import NetCoordinator
from tools.counterparts.net_conduct import calendar_of
from tools.counterparts.net_journal import MEND, FileMedium, Journal, JournalDamaged
from tools.counterparts.net_keys import CmsKeys
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.net_slot_book import SlotBook
from tools.counterparts.net_swapping import SwapNet
from tools.counterparts.net_witness import NetWitness
from tools.counterparts.server import Emit, client_context, gateway_of, peer_common_name, split_address
from tools.counterparts.spool import profiles_ordered
from wan.errors import OrderRefused, UnexpectedReply

_ANSWER_TIMEOUT_S: Final = 20.0
_ADMINISTRATOR: Final = ".GWA"
_LOOK_S: Final = 1.0
"""Between two looks at emp.toml."""
_NET: Final = "{net:[0-9a-f]{16}}"
_VERSION: Final = "{version:[1-9][0-9]{0,8}}"


class AdministratorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One further administrator of a net."""

    name: str
    """Its name in rosters."""
    gwa: str
    """HOST:PORT."""
    gwa_server_name: str
    members: list[str]
    """Gateway ids, lower case, of `NetSettings.members` that it administers."""


class CalendarSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which slots of a net are blocked."""

    first_slot: int
    slots: int
    blocked: list[tuple[int, int]] = []
    """[first, last] of each run, rising."""
    jitter_s: float = 0.0


class NetSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One [[net]] of emp.toml."""

    policy: NetPolicy
    members: list[str]
    """Gateway ids, lower case, in the order of their indices."""
    gwa: str
    """HOST:PORT of the administrator that countersigns."""
    gwa_server_name: str
    administrator: str = "gwa"
    """The administrator's name in rosters."""
    others: list[AdministratorSettings] = []
    """Administrators of the members that are not `administrator`'s."""
    calendar: list[CalendarSettings] = []
    """What is blocked, if the policy has `calendar = "signed"`; never changed once published."""
    patience_s: float = 3600.0
    """How long the supplier waits for members that keep silent."""
    batch: int = 0
    """Fewest newcomers for whom a later roster is drafted; those in a net answer for each new roster."""
    verify: list[int] = []
    """[first slot, how many]: V-mode is ordered for these; followed while the server runs."""


def check_settings(net: NetSettings) -> None:
    """Refuse a [[net]] that can never get a roster or a total.

    Raises:
        ValueError: with the field, and what is needed.
    """
    place = f"[[net]] {net.policy.net_id}"
    try:
        least_s = NetRules.from_profile(net.policy).least_patience_s()
    except NetRefused as refused:
        raise ValueError(f"{place}: policy: {refused}") from refused
    if net.patience_s < least_s:
        raise ValueError(
            f"{place}: patience_s: at least slot_s, {least_s:g} s: members ask every poll_s, and not while "
            f"they serve a slot; in {net.patience_s:g} s they cannot be heard, and rosters would lack them"
        )


def identity(request: web.Request) -> str:
    """Gateway id behind a request; 403 if its certificate is not a gateway's."""
    gateway = gateway_of(peer_common_name(request))
    if gateway is None:
        raise web.HTTPForbidden(text="not a gateway's certificate")
    return gateway


def mount_coordinators(
    app: web.Application,
    folder: Path,
    nets: list[NetSettings],
    emit: Emit,
    told: Callable[[str], tuple[int, int]] = lambda _net: (0, -1),
) -> list[SwapNet]:
    """Add the routes of each net to the supplier's server, and run its coordinator while it is up.

    Args:
        app: the server.
        folder: the supplier's; a net's journal is DIR/dcnet/{net}.journal.
        nets: as in emp.toml.
        emit: takes events.
        told: net id (hex) -> number of totals that were told, slot of the last one.

    Returns:
        The nets, for whoever lets them exchange members.

    Raises:
        JournalError: a net cannot go on where it was.
    """
    mounted: list[SwapNet] = []
    for settings in nets:
        journal = open_journal(folder, settings.policy.net_id, emit, told)
        administrators = _administrators(folder, settings)
        coordinator = NetCoordinator(
            settings.policy,
            settings.members,
            CmsKeys(folder),
            emit,
            administrators=administrators,
            overseers=administrators,
            calendars=_calendars(settings),
            relayed_by=lambda request: peer_common_name(request).endswith(_ADMINISTRATOR),
            identity=identity,
            patience_s=settings.patience_s,
            batch=settings.batch,
            administrator_of=_contracts(settings),
            journal=journal,
        )
        app.router.add_routes(coordinator.routes())
        app.on_cleanup.append(_closing(journal))
        app.cleanup_ctx.append(_running(coordinator.run, coordinator, emit))
        app.cleanup_ctx.append(_running(partial(_follow, folder, coordinator), coordinator, emit))
        mounted.append(SwapNet(coordinator.rules, coordinator.rosters, administrators))
    return mounted


def open_journal(folder: Path, net: str, emit: Emit, told: Callable[[str], tuple[int, int]]) -> Journal:
    """Return the journal of a net of the supplier in `folder`.

    Raises:
        JournalError: it is damaged, another's, or older than what was told.
    """
    journal = Journal(FileMedium(folder / "dcnet" / f"{net}.journal"), bytes.fromhex(net))
    if journal.dropped_bytes:
        emit({"event": "journal", "net": net, "dropped_bytes": journal.dropped_bytes})
    kept, (count, last) = journal.room("totals"), told(net)
    if (before := kept.get("before")) is None:
        kept.put("before", str(count).encode())
    elif count > int(before) and last > max(SlotBook(journal).slots(), default=-1):
        journal.close()
        raise JournalDamaged(f"the journal of net {net} ends before slot {last}, whose total was told", MEND)
    return journal


def _closing(journal: Journal) -> Callable[[web.Application], Awaitable[None]]:
    async def close(_app: web.Application) -> None:
        journal.close()

    return close


def _contracts(settings: NetSettings) -> dict[str, str]:
    """Gateway id -> name of its administrator."""
    others = {member: one.name for one in settings.others for member in one.members}
    return {member: others.get(member, settings.administrator) for member in settings.members}


async def _follow(folder: Path, coordinator: NetCoordinator) -> None:
    """Take up who is added to `members` in emp.toml, or taken out, while the server runs."""
    path, seen = folder / "emp.toml", -1
    while True:
        await asyncio.sleep(_LOOK_S)
        if not path.exists() or (changed := path.stat().st_mtime_ns) == seen:
            continue
        seen = changed
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8")).get("net", [])
            nets = msgspec.convert(tables, list[NetSettings])
        except (tomllib.TOMLDecodeError, msgspec.ValidationError):
            continue  # half written, or wrong: what held goes on
        for settings in nets:
            if settings.policy.net_id == coordinator.net:
                coordinator.follow(_contracts(settings))
                coordinator.verify(settings.verify)


def _running(
    run: Callable[[], Coroutine[Any, Any, None]], coordinator: NetCoordinator, emit: Emit
) -> Callable[[web.Application], AsyncIterator[None]]:
    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            emit({"event": "failed", "net": coordinator.net, "error": repr(error)})

    async def context(_app: web.Application) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(run(), name=coordinator.name)
        task.add_done_callback(ended)
        yield
        task.cancel()
        await asyncio.wait([task])

    return context


def _calendars(settings: NetSettings) -> list[Calendar]:
    rules = NetRules.from_profile(settings.policy)
    return [
        calendar_of(rules, one.first_slot, one.slots, one.blocked, round(one.jitter_s * 1000))
        for one in settings.calendar
    ]


def _administrators(folder: Path, settings: NetSettings) -> dict[str, AdministratorClient]:
    """Each administrator of a net by its name in rosters, the one of most members first."""
    net, context = settings.policy.net_id, client_context(folder)
    links = [(settings.administrator, settings.gwa, settings.gwa_server_name)]
    links += [(other.name, other.gwa, other.gwa_server_name) for other in settings.others]
    return {name: AdministratorClient(address, host, net, context) for name, address, host in links}


class AdministratorClient:
    """Implements `net_founding.Countersigner` over mutual TLS."""

    def __init__(self, address: str, server_name: str, net: str, context: ssl.SSLContext) -> None:
        """Ask about `net` at HOST:PORT."""
        host, port = split_address(address)
        self._base, self._server_name = f"https://{host}:{port}/dcnet/v1/{net}", server_name
        self._context = context

    async def commit(self, version: int) -> bytes:
        """Ask for the commitment to a nonce."""
        return await self._ask(f"commit/{version}", b"")

    async def countersign(self, draft: bytes) -> bytes:
        """Ask for a countersignature."""
        return await self._ask("countersign", draft)

    async def reveal(self, version: int) -> bytes:
        """Ask for the nonce."""
        return await self._ask(f"reveal/{version}", b"")

    async def authorise(self, version: int) -> bytes:
        """Ask whom its gateways may share keys with."""
        return await self._ask(f"authorise/{version}", b"")

    async def rates(self, report: bytes) -> bytes:
        """Tell how often members took part."""
        return await self._ask("rates", report)

    async def outage(self, version: int, slot: int) -> bytes:
        """Ask for an outage notice."""
        return await self._ask(f"outage/{version}/{slot}", b"")

    async def cosign(self, signed: bytes) -> bytes:
        """Ask for a co-signature of a manifest or an order."""
        return await self._ask("cosign", signed)

    async def faults(self, report: bytes) -> bytes:
        """Tell what an audit brought."""
        return await self._ask("faults", report)

    async def revoked(self) -> bytes:
        """Ask whom it has withdrawn."""
        return await self._ask("revoke", b"")

    async def swap_offer(self, target: str, first_epoch: int) -> bytes:
        """Ask which of its gateways may change into another net."""
        return await self._ask(f"swap-offer/{target}/{first_epoch}", b"")

    async def swap(self, presentation: bytes) -> bytes:
        """Ask for its consent to a swap."""
        return await self._ask("swap", presentation)

    async def swap_orders(self, warrant: bytes) -> bytes:
        """Have it give the orders of a swap that all agree to."""
        return await self._ask("swap-orders", warrant)

    async def _ask(self, what: str, body: bytes) -> bytes:
        timeout = aiohttp.ClientTimeout(total=_ANSWER_TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(
                f"{self._base}/{what}", data=body, ssl=self._context, server_hostname=self._server_name
            ) as response,
        ):
            answer = await response.read()
            if response.status == web.HTTPForbidden.status_code:
                raise OrderRefused(answer.decode("utf-8", "replace"), what)
            if response.status != web.HTTPOk.status_code:
                raise UnexpectedReply(f"administrator answered {response.status} to {what}")
            return answer


def mount_witness(
    app: web.Application,
    folder: Path,
    name: str,
    emit: Emit,
    *,
    partners: Iterable[str],
    refused_peers: Iterable[str],
) -> None:
    """Add the administrator's part in founding nets, bound to what its own orders say."""
    keys = CmsKeys(folder)

    def ordered(net: str) -> OrderedNet | None:
        return ordered_net(folder, net)

    witness = NetWitness(
        name,
        keys.certificate,
        ordered,
        keys.trust,
        keys.sign,
        emit,
        kept=KeptFiles(folder / "dcnet"),
        partners=frozenset(partners),
        refused_peers=frozenset(refused_peers),
    )

    async def answer(asked: Awaitable[bytes]) -> web.Response:
        try:
            return web.Response(body=await asked, content_type="application/octet-stream")
        except OrderRefused as error:
            return web.Response(status=web.HTTPForbidden.status_code, text=error.code)

    async def commit(request: web.Request) -> web.Response:
        about = request.match_info
        return await answer(witness.commit(about["net"], int(about["version"])))

    async def countersign(request: web.Request) -> web.Response:
        return await answer(witness.countersign(request.match_info["net"], await request.read()))

    async def reveal(request: web.Request) -> web.Response:
        about = request.match_info
        return await answer(witness.reveal(about["net"], int(about["version"])))

    async def authorise(request: web.Request) -> web.Response:
        about = request.match_info
        return await answer(witness.authorise(about["net"], int(about["version"])))

    async def cosign(request: web.Request) -> web.Response:
        return await answer(witness.cosign(request.match_info["net"], await request.read()))

    async def faults(request: web.Request) -> web.Response:
        return await answer(witness.faults(request.match_info["net"], await request.read()))

    app.router.add_post(f"/dcnet/v1/{_NET}/cosign", cosign)
    app.router.add_post(f"/dcnet/v1/{_NET}/faults", faults)

    async def revoked(request: web.Request) -> web.Response:
        return await answer(witness.revoked(request.match_info["net"]))

    app.router.add_post(f"/dcnet/v1/{_NET}/revoke", revoked)
    app.router.add_post(f"/dcnet/v1/{_NET}/authorise/{_VERSION}", authorise)
    app.router.add_post(f"/dcnet/v1/{_NET}/commit/{_VERSION}", commit)
    app.router.add_post(f"/dcnet/v1/{_NET}/countersign", countersign)
    app.router.add_post(f"/dcnet/v1/{_NET}/reveal/{_VERSION}", reveal)


def ordered_net(folder: Path, net: str) -> OrderedNet | None:
    """What the newest orders say about a net; None if nothing, or not the same to all its gateways."""
    found: dict[str, CommunicationProfile] = {}
    for spool in sorted((folder / "spool").glob("*")):
        for profile in profiles_ordered(folder, spool.name).active.communication:
            if profile.concealment == "dc-net" and profile.net is not None and profile.net.net_id == net:
                found[spool.name] = profile
    terms = {(profile.net, profile.peer.sig_certificate) for profile in found.values()}
    if len(terms) != 1:
        return None
    ((policy, pem),) = terms
    if policy is None or pem is None:
        return None
    (certificate,) = load_pem_chain(pem.encode("utf-8"))[:1]
    return OrderedNet(policy, certificate.der, frozenset(found))


def to_toml(settings: NetSettings) -> str:
    """Write a [[net]] for emp.toml."""
    table: dict[str, Any] = msgspec.to_builtins(settings, builtin_types=(datetime,))
    policy, others, calendars = table.pop("policy"), table.pop("others"), table.pop("calendar")
    lines = ["", "[[net]]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    lines += ["[net.policy]", *(f"{key} = {_value(value)}" for key, value in policy.items())]
    for other in others:
        lines += ["[[net.others]]", *(f"{key} = {_value(value)}" for key, value in other.items())]
    for one in calendars:
        lines += ["[[net.calendar]]", *(f"{key} = {_value(value)}" for key, value in one.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    # JSON's strings, numbers, booleans and arrays are TOML's as well.
    return msgspec.json.encode(value).decode("utf-8")
