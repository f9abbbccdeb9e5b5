"""The gateway's links into the wide area network: who its peers are, and how each is spoken to.

Holds no rule: the registry says who is a peer, the identity what we show, `wan.dial` who may be dialled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from firmware.clock.clock import Clock
from firmware.config import GwaTable
from firmware.enforcement.dcnet.messages.canonical import MAX_DOCUMENT_BYTES
from firmware.profile.registry import Forwarded
from firmware.wide_area.identity import Identity
from hsm.api import CertificateUse, KeySlot
from hsm.tls import TlsContext
from hsm.x509 import Certificate, check_path
from wan.client import HttpChannel, TlsFacts
from wan.dial import Dialer
from wan.emp.client import EmpClient
from wan.emp.forward import Forwarder, queue
from wan.emp.outbox import Deliverer, SealingKeys
from wan.ports import Peer

NET_TIMEOUT_S: Final = 5.0
"""A frame of a DC-net that was not answered by then is better sent again: its deadlines are near."""


class Recipients(Protocol):
    """The part of `firmware.profile.registry.Registry` that is used here."""

    def peers(self) -> Mapping[str, Peer]:
        """Return the recipients of the active profiles by name."""

    def former_peers(self) -> Mapping[str, Peer]:
        """Return those that the set before had and the active one lacks; only what waits may reach them."""

    def forwarded(self) -> Forwarded:
        """Return which of all these get something by way of the administrator."""


class Links:
    """One allow-list, and the channels of each peer.

    Args:
        identity: our certificates and the anchors.
        administrator: from gateway.toml; no profile can replace it.
        recipients: the registry.
        context: the TLS context of our connections.
        clock: for validity periods.
    """

    def __init__(
        self,
        identity: Identity,
        administrator: Peer,
        recipients: Recipients,
        context: Callable[[], Awaitable[TlsContext]],
        clock: Clock,
    ) -> None:
        self.identity, self.administrator = identity, administrator
        self._recipients, self._clock = recipients, clock
        self._channels: list[HttpChannel] = []
        self._suppliers: dict[str, tuple[Peer, EmpClient]] = {}
        self._forwarders: dict[str, Forwarder] = {}
        self.dialer = Dialer(context, self.peers)

    def peers(self) -> Mapping[str, Peer]:
        """Return everybody who may be dialled now, by name; a recipient of pseudonyms alone never is."""
        return {**self._direct(), self.administrator.name: self.administrator}

    def recipients(self) -> Mapping[str, Peer]:
        """Return everybody for whom a message may be sealed now, by name."""
        return self._recipients.peers()

    def _direct(self) -> dict[str, Peer]:
        hidden = self._recipients.forwarded().alone
        known = {**self._recipients.former_peers(), **self._recipients.peers()}
        return {name: peer for name, peer in known.items() if name not in hidden}

    def channel(self, peer: str, *, for_nets: bool = False) -> HttpChannel:
        """Make a channel to a configured peer; it connects when it is used."""
        channel = (
            HttpChannel(self.dialer, peer, timeout_s=NET_TIMEOUT_S, max_reply_bytes=MAX_DOCUMENT_BYTES)
            if for_nets
            else HttpChannel(self.dialer, peer)
        )
        self._channels.append(channel)
        return channel

    def suppliers(self) -> Mapping[str, Deliverer]:
        """Return who brings messages to each recipient, former ones too; kept while address and keys stay.

        By recipient or, of what is forwarded, by queue.
        """
        wanted = self._direct()
        for name, peer in wanted.items():
            known = self._suppliers.get(name)
            if known is None or known[0] != peer:
                self._suppliers[name] = (peer, self.supplier(name))
        ways: dict[str, Deliverer] = {name: self._suppliers[name][1] for name in wanted}
        for name in self._recipients.forwarded().names:
            if name not in self._forwarders:
                channel = self.channel(self.administrator.name)
                self._forwarders[name] = Forwarder(channel, name, self.identity.gateway_id)
            ways[queue(self.administrator.name, name)] = self._forwarders[name]
        return ways

    def supplier(self, name: str, *, for_nets: bool = False) -> EmpClient:
        """Make a client with a connection of its own."""
        return EmpClient(self.channel(name, for_nets=for_nets), name, self.identity.gateway_id)

    def sealing_keys(self) -> SealingKeys:
        """Return what a message is signed with, and what lets its recipient check that."""
        return SealingKeys(KeySlot.WAN_SIG, self.identity.triple[CertificateUse.SIG], self.identity.sub_ca)

    def check_recipient(self, certificate: Certificate) -> None:
        """Demand that data may be encrypted for a certificate now; raises CertificateRefused."""
        self.check(certificate, CertificateUse.ENC)

    def check(self, certificate: Certificate, use: CertificateUse) -> None:
        """Demand that a certificate leads to our anchors now.

        Raises:
            CertificateRefused: with the reason.
        """
        check_path(
            certificate, self.identity.sub_ca, self.identity.anchors, at_utc=self._clock.now_utc(), use=use
        )

    def tls_facts(self) -> list[TlsFacts]:
        """Return what the handshakes settled on, one entry a channel that ever connected."""
        return [channel.tls_facts for channel in self._channels if channel.tls_facts is not None]

    async def close(self) -> None:
        """Close every connection."""
        for channel in self._channels:
            await channel.close()


def administrator(table: GwaTable) -> Peer:
    """Return the administrator of gateway.toml as a peer.

    Raises:
        OSError, CertificateRefused: a certificate file cannot be read (it was there before).
    """
    return Peer(
        name=table.name,
        host=table.host,
        port=table.port,
        server_name=table.server_name,
        tls_certificate=Certificate.from_pem(table.tls_certificate.read_bytes()).der,
        sig_certificate=Certificate.from_pem(table.sig_certificate.read_bytes()).der,
    )
