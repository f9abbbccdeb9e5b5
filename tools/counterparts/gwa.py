"""An administrator: hands out signed orders from its spool, keeps the receipts."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

from hsm.api import KeySlot
from hsm.x509.certificate import Certificate
from tools.counterparts.flows import recording
from tools.counterparts.forwarding import ForwardSettings, mount_forwarding
from tools.counterparts.kept_files import KeptFiles
from tools.counterparts.keys import SoftwareKeys
from tools.counterparts.net_mount import mount_witness, ordered_net
from tools.counterparts.net_oversight_mount import mount_oversight
from tools.counterparts.net_succession import withdraw_orders
from tools.counterparts.net_swap_judge import SwapSettings
from tools.counterparts.net_swap_mount import mount_swaps
from tools.counterparts.net_withdrawal import restate
from tools.counterparts.net_withdrawal_mount import AdministratorWay, mount_withdrawal
from tools.counterparts.server import (
    MAX_BODY_BYTES,
    Emit,
    Listening,
    announce_tls,
    listen,
    replacing,
    require_gateway,
    server_context,
)
from wan.cms import signed
from wan.errors import OrderRefused
from wan.gwa import orders
from wan.ports import Order, Receipt

_GATEWAY: Final = re.compile(r"[a-z0-9]{14}")
_ORDERS_AT_ONCE: Final = 64
_LIST_BYTES: Final = 2 << 20
_UNVERIFIED: Final = "unverified-"
_receipt_decoder = msgspec.json.Decoder(Receipt)


def place_order(
    folder: Path,
    gateway: str,
    kind: str,
    body: dict[str, Any],
    *,
    signer: Path | None = None,
    now_utc: datetime | None = None,
) -> str:
    """Sign an order and put it into the administrator's spool; returns its message id.

    Args:
        folder: the administrator's.
        gateway: gateway id, in any case.
        kind: kind of order, e.g. "profiles".
        body: its document.
        signer: folder with the sig.pem and sig.key to sign with; the administrator's own if None.
        now_utc: when it is issued; now if None.

    Raises:
        ValueError: not a gateway id, or longer than gateways take.
    """
    identity = gateway.lower()
    if not _GATEWAY.fullmatch(identity):
        raise ValueError(f"not a gateway id: {gateway!r}")
    spool = folder / "spool" / identity
    spool.mkdir(parents=True, exist_ok=True)
    source = signer if signer is not None else folder
    certificate = Certificate.from_pem((source / "sig.pem").read_bytes())
    with (spool / ".lock").open("w") as lock:  # the server orders as well: no two orders of one version
        fcntl.flock(lock, fcntl.LOCK_EX)
        version = 1 + max((int(path.name[:8]) for path in spool.glob("[0-9]" * 8 + "-*.order")), default=0)
        message_id = f"{version:08d}-{os.urandom(6).hex()}"
        issued = (now_utc if now_utc is not None else datetime.now(UTC)).replace(microsecond=0)
        order = Order(message_id, kind, issued, version, msgspec.json.encode(body))
        unsigned = signed.prepare(orders.encode(order, identity), certificate=certificate)
        signature = SoftwareKeys(source).sign_now(KeySlot.WAN_SIG, unsigned.digest)
        der = unsigned.to_der(signature)
        if len(der) > orders.MAX_ORDER_BYTES:
            raise ValueError(f"the order has {len(der)} bytes, more than {orders.MAX_ORDER_BYTES}")
        with replacing(spool / f"{message_id}.order") as path:
            path.write_bytes(der)
    return message_id


def withdraw_peers(folder: Path, net: str, peers: Iterable[str]) -> list[str]:
    """Order each own gateway in a net to share no key with these peers any more; returns the message ids.

    Needs no supplier. The list replaces the one before: an empty one allows everybody again. For those of the
    peers that are our own the other administrators get a statement, from the server that runs on the folder.

    Args:
        folder: the administrator's.
        net: net id, hex.
        peers: gateway ids, in any case.

    Raises:
        OrderRefused: `policy`, no such net was ordered; `unknown`, a peer is not in its newest roster.
    """
    ordered = ordered_net(folder, net)
    if ordered is None:
        raise OrderRefused("policy", "no such net was ordered")
    wanted, kept = [peer.lower() for peer in peers], KeptFiles(folder / "dcnet")
    orders_for = withdraw_orders(kept, net, sorted(ordered.gateways), wanted)
    placed = [place_order(folder, gateway, kind, body) for gateway, (kind, body) in orders_for.items()]
    restate(kept, net, read_settings(folder).roster_name)
    return placed


def receipt_of(folder: Path, gateway: str, message_id: str) -> Receipt | None:
    """Return the gateway's answer to an order, None while there is none."""
    path = folder / "spool" / gateway.lower() / f"{message_id}.receipt"
    return _receipt_decoder.decode(path.read_bytes()) if path.exists() else None


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """DIR/gwa.toml."""

    name: str
    server_name: str
    roster_name: str = "gwa"
    """How rosters of DC-nets call the administrator."""
    partners: list[str] = []
    """Roster names of administrators whose gateways may be in nets with ours."""
    forward: list[ForwardSettings] = []
    """Participants that get messages under pseudonyms by way of this administrator."""
    refused_peers: list[str] = []
    """Gateway ids, lower case, that no gateway of ours shares a key with."""
    record: str = ""
    """File in DIR that gets every request of a gateway; none if empty."""
    administrator: list[AdministratorWay] = []
    """Where the other administrators are, for withdrawals that no supplier need know of."""
    swaps: SwapSettings = SwapSettings()
    """What suppliers may swap between their nets."""


def read_settings(folder: Path) -> Settings:
    """Read DIR/gwa.toml; ValueError if it is broken."""
    return msgspec.convert(tomllib.loads((folder / "gwa.toml").read_text(encoding="utf-8")), Settings)


class Administrator:
    """The administrator whose folder is DIR, see `tools.counterparts.pki`."""

    def __init__(self, folder: Path, emit: Emit) -> None:
        self._folder, self._emit = folder, emit
        self._settings = read_settings(folder)

    def app(self) -> web.Application:
        """The routes: orders, receipts and alarms."""
        middlewares = [announce_tls(self._emit)]
        if self._settings.record:
            middlewares.append(recording(self._folder / self._settings.record, self._settings.name))
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=middlewares)
        app.router.add_get("/gwa/v1/{gateway}/orders", self._orders)
        app.router.add_put("/gwa/v1/{gateway}/receipts/{message_id}", self._receipt)
        app.router.add_put("/gwa/v1/{gateway}/notices/{number}", self._notice)
        mount_forwarding(app, self._folder, self._settings.forward, self._emit)
        mount_witness(
            app,
            self._folder,
            self._settings.roster_name,
            self._emit,
            partners=self._settings.partners,
            refused_peers=self._settings.refused_peers,
        )
        mount_oversight(app, self._folder, self._emit)
        place = partial(place_order, self._folder)
        mount_withdrawal(
            app,
            self._folder,
            self._settings.roster_name,
            self._emit,
            place=place,
            ways=self._settings.administrator,
        )
        mount_swaps(
            app,
            self._folder,
            self._settings.roster_name,
            self._emit,
            place=place,
            partners=self._settings.partners,
            refused_peers=self._settings.refused_peers,
            settings=self._settings.swaps,
        )
        return app

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Listening:
        """Listen; port 0 takes a free one."""
        return await listen(self.app(), server_context(self._folder), host, port, self._emit)

    def _waiting(self, gateway: str) -> list[Path]:
        """Orders without a receipt, oldest first."""
        spool = self._folder / "spool" / gateway
        return [path for path in sorted(spool.glob("*.order")) if not path.with_suffix(".receipt").exists()]

    async def _orders(self, request: web.Request) -> web.Response:
        gateway = _gateway(request)
        texts: list[str] = []
        for path in self._waiting(gateway)[:_ORDERS_AT_ONCE]:
            if sum(map(len, texts)) > _LIST_BYTES:
                break  # the rest comes with the next poll
            texts.append(base64.b64encode(path.read_bytes()).decode("ascii"))
        return web.json_response({"orders": texts})

    async def _receipt(self, request: web.Request) -> web.Response:
        gateway, message_id = _gateway(request), request.match_info["message_id"]
        try:
            receipt = _receipt_decoder.decode(await request.read())
        except msgspec.MsgspecError as error:
            raise web.HTTPBadRequest(text="not a receipt") from error
        if receipt.message_id != message_id:
            raise web.HTTPBadRequest(text="message id")
        path = self._order_of(gateway, message_id)
        if path is None:
            raise web.HTTPNotFound(text="no such order")
        target = path.with_suffix(".receipt")
        if target.exists():
            return web.Response(status=200)
        with replacing(target) as temporary:
            temporary.write_text(json.dumps(msgspec.to_builtins(receipt)), encoding="utf-8")
        self._emit(
            {
                "event": "receipt",
                "gateway": gateway,
                "message_id": path.stem,
                "accepted": receipt.accepted,
                "code": receipt.code,
                "reason": receipt.reason,
            }
        )
        return web.Response(status=201)

    async def _notice(self, request: web.Request) -> web.Response:
        gateway, number = _gateway(request), request.match_info["number"]
        try:
            notice = json.loads(await request.read())
        except ValueError as error:
            raise web.HTTPBadRequest(text="not a notice") from error
        if not isinstance(notice, dict) or str(notice.get("number")) != number:
            raise web.HTTPBadRequest(text="number")
        said = {key: str(notice.get(key, "")) for key in ("subject", "text", "at_utc")}
        self._emit(
            {
                "event": "alarm",
                "gateway": gateway,
                "number": int(number),
                "about": str(notice.get("event", "")),
                **said,
            }
        )
        return web.Response(status=201)

    def _order_of(self, gateway: str, message_id: str) -> Path | None:
        """Find the order that a receipt names: by id, or by digest if the gateway did not believe the id."""
        digest = message_id.removeprefix(_UNVERIFIED) if message_id.startswith(_UNVERIFIED) else None
        for path in (self._folder / "spool" / gateway).glob("*.order"):
            if digest is None and path.stem == message_id:
                return path
            if digest is not None and hashlib.sha256(path.read_bytes()).hexdigest()[:32] == digest:
                return path
        return None


def _gateway(request: web.Request) -> str:
    gateway = request.match_info["gateway"]
    if not _GATEWAY.fullmatch(gateway):
        raise web.HTTPNotFound
    require_gateway(request, gateway)
    return gateway
