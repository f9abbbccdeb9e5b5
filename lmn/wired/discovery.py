"""How stations that have no address yet are found. No I/O, no clock, no chance.

The published rules demand it; the wire format stands in DIN VDE 0418-63-7, which was not at hand. What is
below is ASSUMED, both ends of it are this project's, and no interoperability is claimed. To replace it,
replace this module.

    call      UI to everybody:          01, number of slots
    answer    UI from an unnamed one:   02, server id       after as many slots as the meter drew
    naming    UI to unnamed ones:       03, server id, address
    silence   a named station answers no call
    release   UI to everybody:          04, server id       that meter has no address any more

A primary that starts, or that lost a station, does not know who still has a name: it releases whom it misses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lmn.wired.hdlc import HdlcFrame, Kind

SERVER_ID_BYTES: Final = 10
_CALL, _ANSWER, _NAMING, _RELEASE = 0x01, 0x02, 0x03, 0x04


@dataclass(frozen=True, slots=True)
class Addresses:
    """Numbers with a role of their own; own knowledge, so configuration."""

    primary: int = 1
    unnamed: int = 2
    broadcast: int = 127
    first: int = 3
    last: int = 126

    def __post_init__(self) -> None:
        special = {self.primary, self.unnamed, self.broadcast}
        if len(special) != 3 or not 0 < self.first <= self.last:
            raise ValueError("addresses with a role differ, and there is a range for stations")
        if any(self.first <= each <= self.last for each in special):
            raise ValueError("an address with a role is none of a station's")


class Discovery:
    """The primary's side: whom it heard, and which address each was given."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self.stations: dict[bytes, int] = {}
        """Server id -> address, volatile as the rules demand."""

    def call(self, slots: int) -> HdlcFrame:
        """Return the call; answers come within `slots` slots.

        Raises:
            ValueError: 1 <= slots <= 255 does not hold.
        """
        return self._unnumbered(self._addresses.broadcast, bytes((_CALL,)) + slots.to_bytes(1, "big"))

    def heard(self, frame: HdlcFrame) -> bytes | None:
        """Take a frame; return the server id that it announces, None for any other frame."""
        data = frame.information
        if (
            frame.kind is Kind.UNNUMBERED_INFORMATION
            and frame.source == self._addresses.unnamed
            and frame.destination == self._addresses.primary
            and len(data) == 1 + SERVER_ID_BYTES
            and data[0] == _ANSWER
        ):
            return data[1:]
        return None

    def name(self, server_id: bytes) -> HdlcFrame | None:
        """Return what gives a meter its address, the one it had if any; None: there is no address left."""
        address = self.stations.get(server_id)
        if address is None:
            free = set(range(self._addresses.first, self._addresses.last + 1)) - set(self.stations.values())
            if not free:
                return None
            address = self.stations[server_id] = min(free)
        return self._unnumbered(
            self._addresses.unnamed, bytes((_NAMING,)) + server_id + address.to_bytes(2, "big")
        )

    def release(self, server_id: bytes) -> HdlcFrame:
        """Return what takes a meter's address away, so that it answers the next call."""
        return self._unnumbered(self._addresses.broadcast, bytes((_RELEASE,)) + server_id)

    def forget(self, server_id: bytes) -> None:
        """A station fell silent: its address is free."""
        self.stations.pop(server_id, None)

    def _unnumbered(self, destination: int, data: bytes) -> HdlcFrame:
        own = self._addresses.primary
        return HdlcFrame(destination, own, Kind.UNNUMBERED_INFORMATION, data, poll=False)


class Discovered:
    """The meter's side."""

    def __init__(self, addresses: Addresses, server_id: bytes) -> None:
        if len(server_id) != SERVER_ID_BYTES:
            raise ValueError("a server id has ten bytes")
        self._addresses, self._server_id = addresses, server_id
        self.address: int | None = None

    def slots(self, frame: HdlcFrame) -> int | None:
        """Return how many slots a call offers, None if it is no call or the meter has its address."""
        if (
            frame.kind is not Kind.UNNUMBERED_INFORMATION
            or frame.destination != self._addresses.broadcast
            or len(frame.information) != 2
            or frame.information[0] != _CALL
            or self.address is not None
        ):
            return None
        return frame.information[1] or None

    def answer(self) -> HdlcFrame:
        """Return what the meter says in its slot."""
        return HdlcFrame(
            self._addresses.primary, self._addresses.unnamed, Kind.UNNUMBERED_INFORMATION,
            bytes((_ANSWER,)) + self._server_id, poll=False,
        )  # fmt: skip

    def take(self, frame: HdlcFrame) -> bool:
        """Take an address if the frame gives this meter one."""
        data = frame.information
        if (
            frame.kind is Kind.UNNUMBERED_INFORMATION
            and frame.destination == self._addresses.unnamed
            and len(data) == 3 + SERVER_ID_BYTES
            and data[0] == _NAMING
            and data[1:-2] == self._server_id
        ):
            self.address = int.from_bytes(data[-2:], "big")
            return True
        return False

    def released(self, frame: HdlcFrame) -> bool:
        """Give the address up if the frame says so."""
        mine = (
            frame.kind is Kind.UNNUMBERED_INFORMATION
            and frame.destination == self._addresses.broadcast
            and frame.information == bytes((_RELEASE,)) + self._server_id
        )
        if mine:
            self.address = None
        return mine
