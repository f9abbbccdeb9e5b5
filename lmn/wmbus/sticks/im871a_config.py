"""What an iM871A tells of itself and what it is told to do, declared. Never does I/O.

IMST HCI as public host software knows it (docs/lmn.md, 2). Configuration is no hot path: a declaration may be
easy to read instead of quick here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from construct import Byte, Const, ConstructError, GreedyBytes, Int32ul, Struct, Terminated

from lmn.errors import MalformedFrame

# Set configuration: in RAM only; flags say which fields follow, here the link mode, then RSSI and time stamp.
_SET_CONFIG = Struct(
    Const(b"\x00"),  # not into the stick's own memory: that would be changed for its next owner, too
    Const(b"\x02"),  # first group of fields: link mode
    "link_mode" / Byte,
    Const(b"\x30"),  # second group: RSSI and time stamp on each telegram
    Const(b"\x01"),
    Const(b"\x01"),
    Terminated,
)
_DEVICE_INFORMATION = Struct(
    "module" / Byte,
    "role" / Byte,
    "firmware" / Byte,
    "hci" / Byte,
    "device_id" / Int32ul,
    "more" / GreedyBytes,  # later versions append fields
)


@dataclass(frozen=True, slots=True)
class SetConfiguration:
    """The one configuration that the gateway asks for."""

    link_mode: int

    def to_payload(self) -> bytes:
        """Payload of the request."""
        return bytes(_SET_CONFIG.build({"link_mode": self.link_mode}))

    @classmethod
    def from_payload(cls, payload: bytes) -> Self:
        """Read a request, for the emulated stick.

        Raises:
            MalformedFrame: not this request.
        """
        try:
            return cls(_SET_CONFIG.parse(payload).link_mode)
        except ConstructError as error:
            raise MalformedFrame(f"set configuration: {type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class DeviceInformation:
    """Which stick it is: one byte each for module type, role, firmware and HCI version (nibbles)."""

    module: int
    role: int
    firmware: int
    hci: int
    device_id: int

    def to_payload(self) -> bytes:
        """Payload of the answer."""
        fields = {
            "more": b"",
            "module": self.module,
            "role": self.role,
            "firmware": self.firmware,
            "hci": self.hci,
            "device_id": self.device_id,
        }
        return bytes(_DEVICE_INFORMATION.build(fields))

    @classmethod
    def from_payload(cls, payload: bytes) -> Self:
        """Read an answer.

        Raises:
            MalformedFrame: it is too short.
        """
        try:
            found = _DEVICE_INFORMATION.parse(payload)
        except ConstructError as error:
            raise MalformedFrame(f"device information: {type(error).__name__}") from error
        return cls(found.module, found.role, found.firmware, found.hci, found.device_id)
