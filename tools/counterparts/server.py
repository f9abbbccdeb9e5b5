"""What the administrator's and the supplier's servers share: TLS by the standard library, events, names."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

from aiohttp import web
from cryptography import x509

Emit = Callable[[Mapping[str, Any]], None]
"""Takes one event: a JSON object with the key "event"."""

GROUP: Final = "brainpoolP256r1"
_SUITES: Final = ":".join(  # BSI TR-03116-3, chapter 3 (WAN)
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-SHA384",
        "ECDHE-ECDSA-AES128-SHA256",
    )
)
_GATEWAY_SUFFIX: Final = ".SMGW"
MAX_BODY_BYTES: Final = 4 << 20


def emit_jsonl(event: Mapping[str, Any]) -> None:
    """Print an event as one JSON line."""
    sys.stdout.write(json.dumps(event, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def emit_text(event: Mapping[str, Any]) -> None:
    """Print an event for people."""
    rest = "  ".join(f"{key}={value}" for key, value in event.items() if key != "event")
    sys.stdout.write(f"{event['event']:<10} {rest}\n")
    sys.stdout.flush()


def server_context(folder: Path, *, group: str = GROUP) -> ssl.SSLContext:
    """Mutual TLS 1.2 with DIR/tls.pem and tls.key; peers must lead to DIR/root.pem.

    With DIR/crls.pem every certificate of the peer's chain is looked up in it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Brainpool in TLS 1.3 needs OpenSSL 3.2 on both sides and code points the ssl module cannot set.
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_SUITES)
    context.set_ecdh_curve(group)
    context.load_cert_chain(folder / "tls.pem", folder / "tls.key")
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    context.load_verify_locations(folder / "root.pem")
    if (crls := folder / "crls.pem").exists():
        context.load_verify_locations(crls)
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
    return context


def client_context(folder: Path, *, group: str = GROUP) -> ssl.SSLContext:
    """The same the other way round, for one counterpart calling another."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_SUITES)
    context.set_ecdh_curve(group)
    context.load_cert_chain(folder / "tls.pem", folder / "tls.key")
    context.load_verify_locations(folder / "root.pem")
    context.hostname_checks_common_name = False
    return context


def peer_certificate(request: web.Request) -> bytes:
    """DER of the client certificate of this request's connection; 403 without one."""
    transport = request.transport
    session: ssl.SSLObject | None = transport.get_extra_info("ssl_object") if transport else None
    certificate = session.getpeercert(binary_form=True) if session is not None else None
    if certificate is None:
        raise web.HTTPForbidden(text="no client certificate")
    return certificate


def peer_common_name(request: web.Request) -> str:
    """Common name of the client certificate, checked by TLS; 403 without one."""
    names = x509.load_der_x509_certificate(peer_certificate(request)).subject.get_attributes_for_oid(
        x509.NameOID.COMMON_NAME
    )
    if len(names) != 1:
        raise web.HTTPForbidden(text="client certificate without one common name")
    return str(names[0].value)


def gateway_of(common_name: str) -> str | None:
    """Gateway id (lower case) that a common name stands for, None if it is no gateway's."""
    if not common_name.endswith(_GATEWAY_SUFFIX):
        return None
    return common_name.removesuffix(_GATEWAY_SUFFIX).lower()


def require_gateway(request: web.Request, gateway: str) -> None:
    """Let a request pass only if its TLS identity is `gateway` (lower case); 403 otherwise."""
    if gateway_of(peer_common_name(request)) != gateway:
        raise web.HTTPForbidden(text="the resource belongs to another gateway")


def announce_tls(emit: Emit, *, group: str = GROUP) -> Callable[..., Any]:
    """Return a middleware that emits {"event": "tls", ...} once per connection."""
    seen: WeakSet[asyncio.BaseTransport] = WeakSet()

    @web.middleware
    async def announce(request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
        transport = request.transport
        if transport is not None and transport not in seen:
            seen.add(transport)
            session = transport.get_extra_info("ssl_object")
            name, *_ = session.cipher()
            emit(
                {
                    "event": "tls",
                    "peer": peer_common_name(request),
                    "version": session.version(),
                    "cipher": name,
                    "group": group,  # the only one that the context allows
                }
            )
        response: web.StreamResponse = await handler(request)
        return response

    return announce


@dataclass(frozen=True, slots=True)
class Listening:
    """A server that runs."""

    host: str
    port: int
    runner: web.AppRunner

    async def close(self) -> None:
        """Stop listening and end open connections."""
        await self.runner.cleanup()


@web.middleware
async def broken_off(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Tell no fault of ours where a line broke before all of a request had come; nobody hears the answer."""
    try:
        return await handler(request)
    except ConnectionError as error:
        if request.content.exception() is None:  # another connection's
            raise
        raise web.HTTPBadRequest(text="the connection broke off") from error


async def listen(
    app: web.Application, context: ssl.SSLContext, host: str, port: int, emit: Emit
) -> Listening:
    """Serve `app`; port 0 takes a free one. Emits "listening" with the port in use."""
    app.middlewares.insert(0, broken_off)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=context)
    await site.start()
    chosen = int(runner.addresses[0][1])
    emit({"event": "listening", "host": host, "port": chosen})
    return Listening(host, chosen, runner)


def split_address(text: str) -> tuple[str, int]:
    """HOST:PORT (IPv6 in brackets) to its parts; ValueError for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 0xFFFF:
        raise ValueError("expected HOST:PORT")
    return host.strip("[]"), int(port)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to, and move it there when all went well."""
    temporary = path.with_name(f".{path.name}.tmp")
    yield temporary
    temporary.replace(path)
