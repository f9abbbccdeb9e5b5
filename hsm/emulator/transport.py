"""The in-process way to an emulated card."""

from __future__ import annotations

from hsm.emulator.card import Card, PowerEvent
from hsm.errors import ModuleUnavailable


class EmulatorTransport:
    """A `CardTransport` that calls the card directly; a command blocks the loop for its 0.05 to 2 ms."""

    def __init__(self, card: Card) -> None:
        self._card = card
        self._connected = False

    async def connect(self) -> None:
        """Reset the card."""
        self._card.power(PowerEvent.ON)
        self._connected = True

    async def transmit(self, command: bytes) -> bytes:
        """Let the card answer one command."""
        if not self._connected:
            raise ModuleUnavailable("the emulated card is not connected")
        return self._card.apdu(command)

    async def close(self) -> None:
        """Take the power away, which ends the session and clears every volatile key."""
        if self._connected:
            self._connected = False
            self._card.power(PowerEvent.OFF)
