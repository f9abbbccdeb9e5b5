"""What reaches a market participant by way of the administrator, so that it sees no connection of ours.

The administrator checks who sent it, takes the gateway's signature off and hands on what lies below, which is
sealed for the participant alone (PP-0073, FPR_PSE.1; resource and form are this project's own).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from wan.emp.client import MEDIA_TYPE, Channel
from wan.errors import UnexpectedReply

_FORWARDED: Final = {200, 201}


def queue(via: str, recipient: str) -> str:
    """Return the name of the queue of what `via` forwards to `recipient`; no peer is called so."""
    return f"{recipient} by way of {via}"


class Forwarder:
    """Hands sealed messages for one participant to the administrator.

    Args:
        channel: to the administrator.
        recipient: name of the participant.
        gateway: gateway id, lower case; the administrator knows it, the participant does not learn it.
    """

    def __init__(self, channel: Channel, recipient: str, gateway: str) -> None:
        self._channel, self._recipient, self._gateway = channel, recipient, gateway

    async def deliver(self, message_id: str, sealed: bytes) -> None:
        """Hand over one message; doing so twice has the effect of doing it once.

        Raises:
            PeerUnavailable: it may or may not have arrived; try again.
            UnexpectedReply: the administrator answered, and did not or could not hand it on.
        """
        parts = (self._gateway, "forwards", self._recipient, message_id)
        resource = "/gwa/v1/" + "/".join(quote(part, safe="") for part in parts)
        reply = await self._channel.exchange("PUT", resource, sealed, (("Content-Type", MEDIA_TYPE),))
        if reply.status not in _FORWARDED:
            raise UnexpectedReply(f"forwarding to {self._recipient} answered with {reply.status}")
