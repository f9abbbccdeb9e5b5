"""HTTP/1.1 to one peer: httpcore speaks it, over a stream of `hsm.tls` that `wan.dial` opened."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from hsm.errors import TlsRefused
from hsm.tls import TlsStream
from wan.dial import Dialer
from wan.errors import MalformedMessage, PeerUnavailable
from wan.ports import Peer

if TYPE_CHECKING:
    import httpcore

EXCHANGE_TIMEOUT_S: Final = 40.0
"""A peer has 20 s for an answer by default (COSEM/HTTP companion text); connecting comes on top."""
IDLE_S: Final = 60.0
MAX_REPLY_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Reply:
    """A peer's answer, whatever its status."""

    status: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What a handshake settled on."""

    version: str
    group: str
    cipher: str


class HttpChannel:
    """Keeps one connection to one peer, opened when it is needed and again after it broke.

    Calls may come from several tasks; they take turns on the connection.
    """

    def __init__(
        self,
        dialer: Dialer,
        peer_name: str,
        *,
        timeout_s: float = EXCHANGE_TIMEOUT_S,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        self._dialer, self._peer_name = dialer, peer_name
        self._timeout_s, self._max_reply_bytes = timeout_s, max_reply_bytes
        self._pool: httpcore.AsyncConnectionPool | None = None
        self._peer: Peer | None = None
        self._cause: BaseException | None = None
        self.tls_facts: TlsFacts | None = None
        """Facts of the last connection; None before the first."""
        self.connections = 0
        """How many connections were opened so far."""

    @property
    def peer_name(self) -> str:
        """Name of the peer at the other end."""
        return self._peer_name

    async def exchange(
        self, method: str, resource: str, body: bytes = b"", headers: Iterable[tuple[str, str]] = ()
    ) -> Reply:
        """Send a request and return the reply, whatever its status.

        GET and PUT are sent a second time if the connection that was kept open turns out to be dead:
        every resource here is idempotent.

        Args:
            method: GET, PUT or POST.
            resource: path beginning with "/".
            body: what to send.
            headers: besides Host and Content-Length.

        Raises:
            DestinationRefused: the peer is no longer configured.
            PeerUnavailable: no connection, a refused handshake, a broken connection, or no answer in time;
                PeerRefused if it is the peer's certificate.
            MalformedMessage: the answer is not HTTP, or longer than allowed.
            HsmError: the security module does not work.
        """
        before = self.connections
        try:
            return await self._once(method, resource, body, headers)
        except PeerUnavailable:
            if self.connections != before or before == 0 or method not in ("GET", "PUT"):
                raise
        return await self._once(method, resource, body, headers)

    async def _once(
        self, method: str, resource: str, body: bytes, headers: Iterable[tuple[str, str]]
    ) -> Reply:
        # Not at module level: httpcore takes 0.1 s to import, and a gateway hears meters before it calls.
        import httpcore

        peer = self._dialer.peer(self._peer_name)
        if peer != self._peer:  # its profile has changed: the old connection was to somebody else
            await self.close()
            self._peer = peer
        if self._pool is None:
            self._pool = httpcore.AsyncConnectionPool(
                max_connections=1, keepalive_expiry=IDLE_S, network_backend=_backend(self)
            )
        # "http", because TLS is below: the network backend hands out streams that are secured already.
        url = httpcore.URL(scheme=b"http", host=peer.host.encode(), port=peer.port, target=resource.encode())
        lines = [("Host", peer.server_name), ("Content-Length", str(len(body))), *headers]
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._pool.stream(method, url, headers=lines, content=body) as response:
                    received = bytearray()
                    async for part in response.aiter_stream():
                        received += part
                        if len(received) > self._max_reply_bytes:
                            raise MalformedMessage(f"{self._peer_name}: reply is too long")
                    return Reply(response.status, bytes(received))
        except PeerUnavailable as error:
            raise error from self._cause  # httpcore has cut the chain
        except (httpcore.NetworkError, httpcore.TimeoutException, TimeoutError) as error:
            raise PeerUnavailable(f"{self._peer_name}: {type(error).__name__}") from error
        except httpcore.RemoteProtocolError as error:
            # httpcore reports a connection that ended before its answer as a protocol error as well.
            if "disconnected" in str(error) or "closed connection" in str(error):
                raise PeerUnavailable(f"{self._peer_name}: connection ended") from error
            raise MalformedMessage(f"{self._peer_name}: answer is not HTTP") from error

    async def _connect(self) -> TlsStream:
        try:
            stream = await self._dialer.open(self._peer_name)
        except PeerUnavailable as error:
            self._cause = error.__cause__
            raise
        self.connections += 1
        self.tls_facts = TlsFacts(stream.version, stream.group, stream.cipher)
        return stream

    async def close(self) -> None:
        """Close the connection; the next exchange opens a new one."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()


def _backend(channel: HttpChannel) -> Any:
    """Make httpcore's network backend for `channel`; its base classes come with the late import."""
    import httpcore

    class Stream(httpcore.AsyncNetworkStream):
        def __init__(self, stream: TlsStream) -> None:
            self._stream = stream

        # The timeouts are httpcore's interface; they are never set, `exchange` bounds the whole.
        async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
            try:
                return await self._stream.read(max_bytes)
            except (OSError, TlsRefused) as error:
                raise httpcore.ReadError(type(error).__name__) from error

        async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
            try:
                await self._stream.write(buffer)
            except (OSError, TlsRefused) as error:
                raise httpcore.WriteError(type(error).__name__) from error

        async def aclose(self) -> None:
            await self._stream.close()

        def get_extra_info(self, info: str) -> None:
            return None

    class Backend(httpcore.AsyncNetworkBackend):
        async def connect_tcp(self, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
            # Where to is the dialer's business alone, not the URL's.
            return Stream(await channel._connect())  # noqa: SLF001 - its own channel

        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(seconds)

    return Backend()
