"""How a card's code says no: an exception that carries the status word."""

from __future__ import annotations


class Refused(Exception):  # never leaves the card: `Card.apdu` turns it into a response
    """A command ends with this status word, and with the data that came before it if any."""

    def __init__(self, sw: int, data: bytes = b"") -> None:
        super().__init__(f"{sw:04X}")
        self.sw, self.data = sw, data
