"""What every stick core has in common: the frame it hears, its states, its statistics. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """One radio telegram as a stick delivered it."""

    data: bytes
    """L field and all that it counts, link CRCs checked and removed."""
    first_byte_at: float
    """Loop time, in seconds, of the read that brought the frame's first byte."""
    rssi_dbm: int | None = None
    """Signal strength; None where the stick does not say."""
    link_mode: str = ""
    """Radio mode in which the stick listens, e.g. "T1"."""

    def __repr__(self) -> str:
        return f"ReceivedFrame({len(self.data)} bytes, {self.rssi_dbm} dBm, {self.link_mode})"


@dataclass(slots=True)
class StickStatistics:
    """What `smgw doctor` shows of one stick; counted since the gateway started."""

    bytes: int = 0
    """All bytes that came from the stick."""
    frames: int = 0
    """Radio telegrams passed on."""
    crc_failures: int = 0
    """Messages whose checksum was wrong."""
    garbage_bytes: int = 0
    """Bytes thrown away while looking for the start of a message."""
    dropped: int = 0
    """Radio telegrams heard before the stick was configured."""
    truncated: int = 0
    """Telegrams that came shorter than their L field promised: this stick cannot hold them."""
    duplicates: int = 0
    """Telegrams that the receiver delivered twice."""
    opened: int = 0
    """How often the port was opened."""
    is_open: bool = False
    """Whether it is open now."""
    last_byte_at: float | None = None
    """Loop time of the last byte, None before the first."""
    link_mode: str = ""
    """Radio mode that was set."""
    device: str = ""
    """What the stick says it is; empty until it said so."""


class StickState(Enum):
    """How far the talk with a stick has come."""

    PROBING = "probing"
    IDENTIFYING = "identifying"
    CONFIGURING = "configuring"
    LISTENING = "listening"


class StickCore(Protocol):
    """The host protocol of one kind of stick."""

    state: StickState
    baudrate: int

    @property
    def undecided(self) -> bool:
        """Whether a message is whole if nothing follows; then the owner asks again and says so."""

    @property
    def recognised(self) -> bool:
        """Whether what answered is a stick of this kind beyond doubt."""

    def farewell(self) -> bytes:
        """Return what leaves a stick, that was only asked who it is, as it was before; b"" for nothing."""

    def start(self) -> bytes:
        """Return what to send first."""

    def receive(self, data: bytes, at: float) -> list[ReceivedFrame]:
        """Take bytes in any cut, read at loop time `at`; return the telegrams that became whole.

        No bytes say that nothing came by then, which settles what `undecided` left open.

        Raises:
            UnexpectedMessage: the stick said something that its state does not allow.
        """

    def to_send(self) -> bytes:
        """Return and forget what the protocol wants sent now; b"" for nothing. Call it after `receive`.

        Raises:
            UnexpectedMessage: as `receive`, for a message behind telegrams that it returned.
        """
