"""What the local metrological network needs from the gateway around it. Declarations only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from lmn.model import MeterId


class ReceptionMode(Enum):
    """What a meter profile accepts on the air."""

    STRICT = "strict"
    """What a gateway may receive: mode T or C with frame A, security mode 7 or 10, rising counters."""
    OPEN = "open"
    """Also modes 0 and 5, link-layer encryption, compact frames, frame B: a per-meter choice of its owner."""


@dataclass(frozen=True, slots=True)
class MeterAccess:
    """What the meter profile says about receiving one meter."""

    meter: MeterId
    key: bytes | None
    """16 bytes: the meter's own key (mode 5) or its master key (modes 7, 10); None: it has none."""
    mode: ReceptionMode

    def __repr__(self) -> str:
        return f"MeterAccess({self.meter}, key={'yes' if self.key else 'no'}, {self.mode.value})"


class MeterKeys(Protocol):
    """The meters that the active meter profiles name."""

    def access(self, meter: MeterId) -> MeterAccess | None:
        """Return what may be received from `meter`, None for one that no profile names."""


class CounterStore(Protocol):
    """The last accepted message counter per (meter, key)."""

    def last(self, access: MeterAccess) -> int | None:
        """Return the last accepted counter, None if there was none under this key."""

    def advance(self, access: MeterAccess, counter: int) -> None:
        """Note an accepted counter; the implementer makes it durable before the value is released."""


class BytePort(Protocol):
    """A serial line, opened."""

    async def read(self) -> bytes:
        """Return what has arrived, at least one byte; b"" once the line is gone."""

    async def write(self, data: bytes) -> None:
        """Send all of `data`."""

    def close(self) -> None:
        """Give the line back; closing twice is no error."""
