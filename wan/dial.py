"""The only opener of outgoing sockets, and the list of where they may lead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from hsm.errors import CertificateRefused, TlsRefused
from hsm.tls import TlsContext, TlsStream, connect
from wan.errors import DestinationRefused, PeerRefused, PeerUnavailable
from wan.ports import Peer

CONNECT_TIMEOUT_S: Final = 20.0


class Connect(Protocol):
    """How a TLS connection is made; `hsm.tls.connect` is the one in use."""

    async def __call__(
        self,
        context: TlsContext,
        host: str,
        port: int,
        *,
        server_name: str,
        pinned: bytes | None,
        timeout_s: float,
    ) -> TlsStream:
        """Connect, check the peer's certificate against `pinned` (DER) and its name."""


class Dialer:
    """Opens TLS connections to configured peers and to nothing else (BSI TR-03109-1 v2.0 details, 13)."""

    def __init__(
        self,
        context_factory: Callable[[], Awaitable[TlsContext]],
        peers: Callable[[], Mapping[str, Peer]],
        *,
        connect: Connect = connect,
        timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        """Take `peers` as a callable, because profiles change while the gateway runs."""
        self._context_factory, self._peers = context_factory, peers
        self._connect, self._timeout_s = connect, timeout_s

    def peer(self, name: str) -> Peer:
        """Return the configured peer called `name`.

        Raises:
            DestinationRefused: no active profile names it.
        """
        peer = self._peers().get(name)
        if peer is None:
            raise DestinationRefused(f"{name!r} is not a configured peer")
        return peer

    async def open(self, name: str) -> TlsStream:
        """Connect to the peer called `name` with mutual TLS; its certificate must be the pinned one.

        Raises:
            DestinationRefused: no active profile names it.
            PeerRefused: its certificate; the cause is chained.
            PeerUnavailable: no connection or no handshake, for another reason.
            HsmError: the security module does not work; not the peer's fault.
        """
        peer = self.peer(name)
        context = await self._context_factory()
        try:
            return await self._connect(
                context,
                peer.host,
                peer.port,
                server_name=peer.server_name,
                pinned=peer.tls_certificate,
                timeout_s=self._timeout_s,
            )
        except CertificateRefused as error:
            raise PeerRefused(f"{name}: {error}") from error
        except (TlsRefused, OSError) as error:  # OSError includes TimeoutError
            raise PeerUnavailable(f"{name}: {type(error).__name__}: {error}") from error
