"""What can go wrong between the gateway and its peers in the wide area network."""

from __future__ import annotations


class WanError(Exception):
    """Base of every error of the wide area network."""


class MalformedMessage(WanError):
    """A peer's bytes are not what the protocol allows."""


class UnexpectedReply(WanError):
    """A peer's reply is well-formed and yet not one that the request allows."""


class SignatureRefused(WanError):
    """A signature does not match, or its signer is not the one that may sign this."""


class EnvelopeRefused(WanError):
    """A sealed message is not for us, or was altered; the text says no more, on purpose."""


class OrderRefused(WanError):
    """An administrator's order is not for us, not new, or not applicable; `code` goes into the receipt."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason


class DestinationRefused(WanError):
    """An address that is on no list of allowed destinations."""


class PeerUnavailable(WanError):
    """The peer cannot be reached, closed the connection, or did not answer in time."""


class PeerRefused(PeerUnavailable):
    """Somebody answers at the peer's address whose certificate is not the one that it must be."""
