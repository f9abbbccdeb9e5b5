"""What an emulated card keeps in its non-volatile memory, and its encoding."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import msgspec

from hsm.errors import ModuleFailed


class LifeCycle(Enum):
    """Life-cycle state of the card (ISO/IEC 7816-4, 7.4.10; phases of TR-03109-2)."""

    CREATION = "creation"
    INITIALISATION = "initialisation"
    PRE_PERSONALISED = "pre-personalised"
    OPERATIONAL = "operational"
    TERMINATED = "terminated"


class StoredKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A private key: curve by libcrypto's name, scalar and point at full length."""

    curve: str
    scalar: bytes
    point: bytes

    def __repr__(self) -> str:
        return f"StoredKey({self.curve})"


class CardState(msgspec.Struct, forbid_unknown_fields=True):
    """The whole state; `pin_left` counts down from `pin_start` before each PACE nonce."""

    life_cycle: LifeCycle
    pin: bytes
    pin_start: Annotated[int, msgspec.Meta(ge=1, le=15)]
    pin_left: Annotated[int, msgspec.Meta(ge=0, le=15)]
    keys: dict[int, StoredKey] = {}
    files: dict[int, bytes] = {}

    def __repr__(self) -> str:
        return f"CardState({self.life_cycle.value}, {len(self.keys)} keys)"


def encode_state(state: CardState) -> bytes:
    """State to bytes."""
    return msgspec.msgpack.encode(state)


def decode_state(data: bytes) -> CardState:
    """Bytes to state.

    Raises:
        ModuleFailed: not a state of this version.
    """
    try:
        return msgspec.msgpack.decode(data, type=CardState)
    except msgspec.MsgspecError:
        # No detail and no cause: a decoder's message may quote what it read.
        raise ModuleFailed("the card's state cannot be read") from None
