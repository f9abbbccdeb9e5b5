"""What the gateway says to one supplier."""

from __future__ import annotations

from typing import Final, Protocol
from urllib.parse import quote

from wan.client import Reply
from wan.errors import DestinationRefused, UnexpectedReply
from wan.ports import Release

_DELIVERED: Final = {200, 201}
# BSI TR-03109-1 v2.0 details, table 6.1
MEDIA_TYPE: Final = 'application/cms+json;encapsulatingContent="signedData, authEnvelopedData"'


class Channel(Protocol):
    """The part of `wan.client.HttpChannel` that clients use."""

    async def exchange(
        self, method: str, resource: str, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()
    ) -> Reply:
        """Send a request and return the reply."""


class EmpClient:
    """Delivers sealed messages and DC-net frames to one supplier."""

    def __init__(self, channel: Channel, name: str, gateway: str) -> None:
        """Take the supplier's configured name and the gateway id (lower case)."""
        self._channel, self.name, self._gateway = channel, name, gateway

    async def deliver(self, message_id: str, sealed: bytes) -> None:
        """Hand over one message; doing so twice has the effect of doing it once.

        Raises:
            PeerUnavailable: it may or may not have arrived; try again.
            UnexpectedReply: the supplier answered, and did not take it.
        """
        resource = f"/emp/v1/gateways/{quote(self._gateway, safe='')}/deliveries/{quote(message_id, safe='')}"
        reply = await self._channel.exchange("PUT", resource, sealed, (("Content-Type", MEDIA_TYPE),))
        if reply.status not in _DELIVERED:
            raise UnexpectedReply(f"{self.name}: delivery answered with {reply.status}")

    async def exchange(self, method: str, resource: str, release: Release | None = None) -> Reply:
        """Send one request of a DC-net round; what it carries must have been released for this supplier.

        Raises:
            DestinationRefused: the release is another recipient's.
            TypeError: `release` was not made by the policy gate.
        """
        if release is None:
            return await self._channel.exchange(method, resource)
        check_release(release, self.name)
        headers = (("Content-Type", "application/octet-stream"),)
        return await self._channel.exchange(method, resource, release.body, headers)


def check_release(release: Release, recipient: str) -> None:
    """Make sure that `release` is one, and is for `recipient`.

    Raises:
        DestinationRefused: it is for somebody else.
        TypeError: it is no release: a mistake of ours that must stop the gateway.
    """
    if not isinstance(release, Release):
        raise TypeError("only a Release may leave")
    if release.recipient != recipient:
        raise DestinationRefused(f"released for {release.recipient!r}, not for {recipient!r}")
