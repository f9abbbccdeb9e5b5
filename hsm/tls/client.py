"""Opening TLS connections."""

from __future__ import annotations

import asyncio
import socket

from hsm.tls.context import TlsContext
from hsm.tls.session import TlsStream, establish


async def connect(
    context: TlsContext,
    host: str,
    port: int,
    *,
    server_name: str | None = None,
    pinned: bytes | None = None,
    timeout_s: float | None = None,
) -> TlsStream:
    """Open a connection and run the handshake.

    Args:
        context: a client's settings.
        host: name or address to connect to.
        port: TCP port.
        server_name: name or IP address that the peer's certificate must be for; a name is also sent (SNI).
        pinned: DER form of the one certificate that is accepted; at least one of the two must be given.
        timeout_s: limit for the TCP connection, and again for the handshake; default: the profile's.

    Raises:
        CertificateRefused: the peer's certificate, with the reason.
        TlsRefused: no handshake, for another reason, or not in time.
        HsmError: from the security module, as it was raised there.
        OSError: no TCP connection (`TimeoutError`: not in time).
    """
    if server_name is None and pinned is None:
        raise ValueError("a peer is known by its name or by its certificate")
    limit_s = context.profile.handshake_limit_s if timeout_s is None else timeout_s
    try:
        async with asyncio.timeout(limit_s):
            sock = await _tcp(host, port)
    except TimeoutError as error:
        raise TimeoutError(f"no connection to {host}:{port} within {limit_s:g} s") from error
    return await establish(sock, context, server_name=server_name, pinned=pinned, limit_s=limit_s)


async def _tcp(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:  # an address needs no resolver, and so no thread
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    last: OSError = OSError(f"no address for {host}")
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            last = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise last
