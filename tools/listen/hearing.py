"""Which meters a receiver hears: counted and described, never decoded without a key. Memory is bounded."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

from lmn.errors import LmnError
from lmn.mbus.decoder import Security, Telegram, decode_layers
from lmn.mbus.fragments import Fragments
from lmn.mbus.transport import Layers
from lmn.model import MeterId
from lmn.ports import MeterAccess, ReceptionMode
from lmn.wmbus.link import ReceivedFrame

MAX_METERS: Final = 500
"""More meters than one antenna hears; above it the one heard longest ago is forgotten."""

MEDIA: Final = {
    0x00: "other", 0x01: "oil", 0x02: "electricity", 0x03: "gas", 0x04: "heat", 0x05: "steam",
    0x06: "warm water", 0x07: "water", 0x08: "heat cost", 0x0A: "cooling", 0x0B: "cooling", 0x0C: "heat",
    0x0D: "heat/cooling", 0x15: "hot water", 0x16: "cold water", 0x1A: "smoke", 0x1B: "room sensor",
    0x28: "waste water", 0x31: "gateway", 0x36: "radio adapter", 0x37: "radio adapter",
}  # fmt: skip
"""Device types of the M-Bus address, in words."""
_MODES: Final = {0: "none", 5: "mode5", 7: "mode7", 8: "mode8", 10: "mode10", 13: "tls"}


@dataclass(slots=True)
class Heard:
    """One meter as it sounds."""

    meter: MeterId
    number: int
    """By which a person picks it; stays the same as long as it is remembered."""
    telegrams: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    rssi_dbm: int | None = None
    link_mode: str = ""
    security: str = ""
    last: Layers | None = field(default=None, repr=False)

    @property
    def medium(self) -> str:
        """What it measures, in a word."""
        return MEDIA.get(self.meter.device_type, f"type {self.meter.device_type:02x}")

    @property
    def interval_s(self) -> float | None:
        """Mean time between its telegrams; None after a single one."""
        return (self.last_at - self.first_at) / (self.telegrams - 1) if self.telegrams > 1 else None

    def to_json(self) -> dict[str, Any]:
        """The row for programs."""
        meter, interval_s = self.meter, self.interval_s
        return {
            "meter": str(meter),
            "manufacturer": meter.manufacturer,
            "id": meter.identification,
            "version": meter.version,
            "type": meter.device_type,
            "kind": self.medium,
            "mode": self.link_mode,
            "security": self.security,
            "rssi_dbm": self.rssi_dbm,
            "telegrams": self.telegrams,
            "interval_s": None if interval_s is None else round(interval_s, 2),
        }


def security_of(layers: Layers) -> str:
    """What protects a telegram, as far as it says so without a key."""
    if layers.sealed is not None and layers.extended is not None and layers.extended.session is not None:
        encrypted = int.from_bytes(layers.extended.session, "little") >> 29
        return Security.LINK_CTR.value if encrypted else Security.NONE.value
    if layers.transport is None:
        return "?"
    return _MODES.get(layers.transport.mode, f"mode{layers.transport.mode}")


class Hearing:
    """Gathers what comes in."""

    def __init__(self) -> None:
        self._meters: OrderedDict[MeterId, Heard] = OrderedDict()
        self._fragments = Fragments()
        self._numbered = 0
        self.refused: Counter[str] = Counter()
        """Telegrams that could not be taken apart, by error code."""

    def take(self, frame: ReceivedFrame) -> Heard | None:
        """Note a telegram; None where it is none, or one piece of a longer message."""
        try:
            layers = self._fragments.take(frame.data, frame.first_byte_at)
        except LmnError as error:
            self.refused[error.code] += 1
            return None
        if layers is None:
            return None
        heard = self._meters.pop(layers.meter, None)
        if heard is None:
            self._numbered += 1
            heard = Heard(layers.meter, self._numbered, first_at=frame.first_byte_at)
        self._meters[layers.meter] = heard
        while len(self._meters) > MAX_METERS:
            self._meters.popitem(last=False)
        heard.telegrams += 1
        heard.last_at, heard.rssi_dbm, heard.last = frame.first_byte_at, frame.rssi_dbm, layers
        heard.link_mode, heard.security = frame.link_mode, security_of(layers)
        return heard

    def meters(self) -> list[Heard]:
        """All that were heard, by number."""
        return sorted(self._meters.values(), key=lambda heard: heard.number)

    def numbered(self, number: int) -> Heard | None:
        """The meter with a number, None if there is none."""
        return next((heard for heard in self._meters.values() if heard.number == number), None)


def open_last(heard: Heard, key: bytes | None) -> Telegram:
    """Decode a meter's last telegram with its key.

    Raises:
        LmnError: a check failed; `code` says which.
    """
    assert heard.last is not None
    return decode_layers(heard.last, MeterAccess(heard.meter, key, ReceptionMode.OPEN))
