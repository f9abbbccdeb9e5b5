"""The way to a card: bytes in, bytes out. A transport never interprets what it carries."""

from __future__ import annotations

from typing import Protocol


class CardTransport(Protocol):
    """One connection to one card. Used by one task at a time; thrown away after any error."""

    async def connect(self) -> None:
        """Power the card, or reset it: afterwards it has no session and no volatile keys.

        Raises:
            ModuleUnavailable: no reader, no card.
        """

    async def transmit(self, command: bytes) -> bytes:
        """Send one command APDU and return the response APDU.

        If the caller is cancelled the connection may be used no more: a late answer would belong to the
        wrong command.

        Raises:
            ModuleUnavailable: the card is gone or does not answer.
        """

    async def close(self) -> None:
        """Release the card; closing twice is no error."""
