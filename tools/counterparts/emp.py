"""A supplier: takes sealed deliveries over mutual TLS, checks and opens them, and runs its DC-nets."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tools.counterparts.flows import recording
from tools.counterparts.keys import load_private_key
from tools.counterparts.messages import MessageRefused, Trust, open_delivery, open_envelope
from tools.counterparts.net_mount import NetSettings, check_settings, mount_coordinators
from tools.counterparts.net_swap_mount import mount_swapper
from tools.counterparts.net_totals import KeptTotals
from tools.counterparts.server import (
    MAX_BODY_BYTES,
    Emit,
    Listening,
    announce_tls,
    gateway_of,
    listen,
    peer_common_name,
    require_gateway,
    server_context,
)
from wan.emp import payload
from wan.errors import MalformedMessage

TOTALS: Final = "totals.jsonl"
_MESSAGE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_FORWARDED: Final = "forwarded"
_STATUS: Final = {"malformed": 400, "signature": 422, "certificate": 422, "envelope": 422, "identity": 403}


class DeliveredIds:
    """Ids of what arrived, on disk: a delivery repeated after a restart is known, and counted once."""

    def __init__(self, path: Path) -> None:
        """Read the file; a last line that was cut off by a crash was never acknowledged and is dropped."""
        self._path, self._known = path, dict[tuple[str, str], str]()
        if path.exists():
            text = path.read_bytes()
            whole = text[: text.rfind(b"\n") + 1]
            for line in whole.splitlines():
                entry = json.loads(line)
                self._known[entry["gateway"], entry["message_id"]] = entry["sha256"]
            if whole != text:
                path.write_bytes(whole)

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._known

    def __len__(self) -> int:
        return len(self._known)

    def add(self, gateway: str, message_id: str, body: bytes) -> None:
        """Note an id; durable on return."""
        digest = hashlib.sha256(body).hexdigest()
        entry = {"gateway": gateway, "message_id": message_id, "sha256": digest}
        with self._path.open("ab") as file:
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._known[gateway, message_id] = digest


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """DIR/emp.toml."""

    name: str
    """How gateways' profiles call the supplier."""
    server_name: str
    record: str = ""
    """File in DIR that gets every request of a gateway; none if empty."""
    net: list[NetSettings] = []


def read_settings(folder: Path) -> Settings:
    """Read DIR/emp.toml; ValueError if it is broken, or a net of it could never run."""
    text = (folder / "emp.toml").read_text(encoding="utf-8")
    settings = msgspec.convert(tomllib.loads(text), Settings)
    for one in settings.net:
        check_settings(one)
    return settings


class Supplier:
    """The supplier whose folder is DIR, see `tools.counterparts.pki`."""

    def __init__(self, folder: Path, emit: Emit) -> None:
        self._folder, self._emit = folder, KeptTotals(folder / TOTALS, emit)
        self._settings = read_settings(folder)
        self._trust = Trust.load(folder)
        self._key = load_private_key(folder / "enc.key")
        certificate = x509.load_pem_x509_certificate((folder / "enc.pem").read_bytes())
        self._certificate = certificate.public_bytes(serialization.Encoding.DER)
        self._lock = asyncio.Lock()
        self.delivered = DeliveredIds(folder / "delivered.jsonl")

    @property
    def name(self) -> str:
        """How gateways' profiles call it."""
        return self._settings.name

    def app(self) -> web.Application:
        """The routes: deliveries, and those of each [[net]]."""
        middlewares = [announce_tls(self._emit)]
        if self._settings.record:
            middlewares.append(recording(self._folder / self._settings.record, self._settings.name))
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=middlewares)
        app.router.add_put("/emp/v1/gateways/{gateway}/deliveries/{message_id}", self._take)
        app.router.add_put("/emp/v1/forwarded/{message_id}", self._take_forwarded)
        nets = mount_coordinators(app, self._folder, self._settings.net, self._emit, self._emit.told)
        mount_swapper(app, self._folder, nets, self._emit)
        return app

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Listening:
        """Listen; port 0 takes a free one. Raises `JournalError` if a net cannot go on where it was."""
        return await listen(self.app(), server_context(self._folder), host, port, self._emit)

    async def _take(self, request: web.Request) -> web.Response:
        gateway, message_id = request.match_info["gateway"], request.match_info["message_id"]
        require_gateway(request, gateway)
        if not _MESSAGE_ID.fullmatch(message_id):
            raise web.HTTPBadRequest(text="message id")
        body = await request.read()
        async with self._lock:  # two requests with one id must not both find it new
            if (gateway, message_id) in self.delivered:
                self._emit({"event": "repeated", "gateway": gateway, "message_id": message_id})
                return web.Response(status=200)
            try:
                document = await self._open(body, gateway, message_id)
            except MessageRefused as error:
                self._emit(
                    {
                        "event": "refused",
                        "gateway": gateway,
                        "message_id": message_id,
                        "reason": error.reason,
                        "detail": str(error),
                    }
                )
                return web.Response(status=_STATUS[error.reason], text=error.reason)
            self.delivered.add(gateway, message_id, body)
        self._emit(
            {
                "event": "delivery",
                "gateway": gateway,
                "message_id": message_id,
                "verified": True,
                "document": document,
            }
        )
        return web.Response(status=201)

    async def _take_forwarded(self, request: web.Request) -> web.Response:
        """Take what an administrator hands on: sealed for us, signed by nobody, under a pseudonym."""
        message_id = request.match_info["message_id"]
        if gateway_of(peer_common_name(request)) is not None or not _MESSAGE_ID.fullmatch(message_id):
            raise web.HTTPForbidden(text="only an administrator hands on")
        body = await request.read()
        async with self._lock:
            if (_FORWARDED, message_id) in self.delivered:
                self._emit({"event": "repeated", "message_id": message_id})
                return web.Response(status=200)
            try:
                delivery = self._unwrapped(open_envelope(body, self._key, self._certificate))
                if (delivery.message_id, delivery.recipient) != (message_id, self.name):
                    raise MessageRefused("identity", "the sealed message id or recipient is another one")
            except MessageRefused as error:
                self._emit({"event": "refused", "message_id": message_id, "reason": error.reason})
                return web.Response(status=_STATUS[error.reason], text=error.reason)
            self.delivered.add(_FORWARDED, message_id, body)
        document = self._document(delivery)
        self._emit(
            {
                "event": "pseudonymous",
                "pseudonym": delivery.gateway,
                "message_id": message_id,
                "document": document,
            }
        )
        return web.Response(status=201)

    async def _open(self, body: bytes, gateway: str, message_id: str) -> Any:
        content, signer = await open_delivery(body, self._trust, self._key, self._certificate)
        if gateway_of(signer) != gateway:
            raise MessageRefused("identity", "signed by somebody else than the connection's gateway")
        delivery = self._unwrapped(content)
        if (delivery.gateway, delivery.message_id, delivery.recipient) != (gateway, message_id, self.name):
            raise MessageRefused("identity", "the sealed gateway, message id or recipient is another one")
        return self._document(delivery)

    @staticmethod
    def _unwrapped(content: bytes) -> payload.Delivery:
        try:
            return payload.decode(content)
        except MalformedMessage as error:
            raise MessageRefused("malformed", str(error)) from error

    @staticmethod
    def _document(delivery: payload.Delivery) -> Any:
        document = msgspec.json.decode(delivery.document)
        if isinstance(document, dict):
            document.pop("padding", None)  # hides the size on the way, and says nothing here
        return document
