"""The one value that senders accept. The gate alone can make it; any other attempt raises.

The right to make releases is taken once, by `firmware.enforcement.gate` when it is imported. Whoever comes
second gets an error, and so does the gate itself if something took the right before it: then the gateway does
not start.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, final

from wan.ports import Release

_SEAL: Final = object()
_taken: list[bool] = []


@final
class GateRelease(Release):
    """Something that the policy lets out, for one recipient."""

    __slots__ = ("_body", "_message_id", "_owner", "_recipient", "_sender", "_via")

    def __init__(
        self,
        seal: object,
        *,
        recipient: str,
        message_id: str,
        body: bytes,
        owner: str = "",
        sender: str = "",
        via: str = "",
    ) -> None:
        if seal is not _SEAL:
            raise PermissionError("only the policy gate makes a release")
        object.__setattr__(self, "_recipient", recipient)
        object.__setattr__(self, "_message_id", message_id)
        object.__setattr__(self, "_body", body)
        object.__setattr__(self, "_owner", owner)
        object.__setattr__(self, "_sender", sender)
        object.__setattr__(self, "_via", via)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a release does not change")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a release does not change")

    def __init_subclass__(cls, **_options: object) -> None:
        raise TypeError("there is one kind of release")

    def __reduce_ex__(self, _protocol: object) -> Any:
        raise TypeError("a release is neither copied nor stored")

    def __repr__(self) -> str:
        return f"GateRelease({self.message_id} for {self.recipient}, {len(self.body)} bytes)"

    @property
    def recipient(self) -> str:
        """Name of the one peer that may receive it."""
        value: str = object.__getattribute__(self, "_recipient")
        return value

    @property
    def message_id(self) -> str:
        """Identifies the message for ever."""
        value: str = object.__getattribute__(self, "_message_id")
        return value

    @property
    def body(self) -> bytes:
        """What leaves, in plain."""
        value: bytes = object.__getattribute__(self, "_body")
        return value

    @property
    def owner(self) -> str:
        """Whose data it is; "" for nobody's."""
        value: str = object.__getattribute__(self, "_owner")
        return value

    @property
    def sender(self) -> str:
        """Under which name it leaves: a pseudonym, or "" for the gateway's own."""
        value: str = object.__getattribute__(self, "_sender")
        return value

    @property
    def via(self) -> str:
        """Name of the peer that forwards it, "" for none."""
        value: str = object.__getattribute__(self, "_via")
        return value


class Maker(Protocol):
    """Makes releases; whoever has one is the gate."""

    def __call__(
        self,
        recipient: str,
        message_id: str,
        body: bytes,
        *,
        owner: str = "",
        sender: str = "",
        via: str = "",
    ) -> GateRelease:
        """Make one."""


def take_right() -> Maker:
    """Give the right to make releases, once in the life of the process.

    Raises:
        PermissionError: it has been taken already.
    """
    if _taken:
        raise PermissionError("the right to make releases has been taken")
    _taken.append(True)

    def make(
        recipient: str,
        message_id: str,
        body: bytes,
        *,
        owner: str = "",
        sender: str = "",
        via: str = "",
    ) -> GateRelease:
        return GateRelease(
            _SEAL,
            recipient=recipient,
            message_id=message_id,
            body=body,
            owner=owner,
            sender=sender,
            via=via,
        )

    return make
