"""What an emulated card keeps in its non-volatile memory, and its encoding."""

from __future__ import annotations

from typing import Annotated

import msgspec

from hsm.api import LifeCycle
from hsm.errors import ModuleFailed

VERSION = 2
"""Of the encoded state; 1 had neither pending keys, public keys, a counter nor a version."""


class StoredKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A private key: curve by libcrypto's name, scalar and point at full length."""

    curve: str
    scalar: bytes
    point: bytes

    def __repr__(self) -> str:
        return f"StoredKey({self.curve})"


class StoredPublic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A public key."""

    curve: str
    point: bytes


class CardState(msgspec.Struct, forbid_unknown_fields=True):
    """The whole state; `pin_left` counts down from `pin_start` before each use of the PIN."""

    life_cycle: LifeCycle
    pin: bytes
    pin_start: Annotated[int, msgspec.Meta(ge=1, le=15)]
    pin_left: Annotated[int, msgspec.Meta(ge=0, le=15)]
    serial: bytes = b""
    pin_active: bool = True
    keys: dict[int, StoredKey] = {}
    deactivated: list[int] = []
    receivers: dict[int, StoredPublic] = {}  # of service keys, by the key's reference
    public: dict[int, StoredPublic] = {}
    files: dict[int, bytes] = {}
    created: dict[int, int] = {}  # file identifier -> size in bytes
    closed: list[int] = []  # terminated files
    counter: Annotated[int, msgspec.Meta(ge=0, le=1 << 62)] = 0
    version: int = VERSION

    def __repr__(self) -> str:
        return f"CardState({self.life_cycle.value}, {len(self.keys)} keys)"

    def copy(self) -> CardState:
        """A state that may be changed without this one noticing."""
        return msgspec.structs.replace(
            self,
            keys=dict(self.keys),
            deactivated=list(self.deactivated),
            receivers=dict(self.receivers),
            public=dict(self.public),
            files=dict(self.files),
            created=dict(self.created),
            closed=list(self.closed),
        )


def encode_state(state: CardState) -> bytes:
    """State to bytes."""
    return msgspec.msgpack.encode(state)


def decode_state(data: bytes) -> CardState:
    """Bytes to state.

    Raises:
        ModuleFailed: not a state of this version.
    """
    try:
        state = msgspec.msgpack.decode(data, type=CardState)
    except (msgspec.MsgspecError, ValueError):  # the latter for text that is no UTF-8
        # No detail and no cause: a decoder's message may quote what it read.
        raise ModuleFailed("the card's state cannot be read") from None
    if state.version != VERSION:
        raise ModuleFailed(f"the card's state has version {state.version}, this firmware reads {VERSION}")
    return state
