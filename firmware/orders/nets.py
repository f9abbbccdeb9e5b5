"""Orders about DC-nets: whom this gateway shares keys with no more, from the next slot on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Final, Protocol

import msgspec

from firmware.document import read_json
from firmware.orders.desk import Carrier, Done
from wan.ports import Order

WITHDRAW: Final = "dcnet-withdraw"
_Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class WithdrawBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whom the gateway must not share keys with in a net; replaces the list before."""

    net: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]
    serial: Annotated[int, msgspec.Meta(ge=1, lt=2**32)]
    """Rises with each list."""
    certificates: Annotated[tuple[_Hash, ...], msgspec.Meta(max_length=4096)]
    """SHA-256 of the peers' SIG certificates (DER)."""


class Withdrawing(Protocol):
    """The part of a net's member that is used here."""

    async def withdraw(self, serial: int, certificates: frozenset[bytes]) -> bool:
        """Take a list, durably; False if a newer one is known."""


def net_orders(member: Callable[[str], Withdrawing | None]) -> dict[str, Carrier]:
    """Return the carriers.

    Args:
        member: net id -> this gateway's member of it, None if there is none.
    """

    async def withdrawn(order: Order) -> Done:
        body = read_json(order.body, WithdrawBody, file="order").value
        if (found := member(body.net)) is None:
            return Done("unknown", f"no net {body.net}")
        taken = await found.withdraw(body.serial, frozenset(map(bytes.fromhex, body.certificates)))
        if not taken:
            return Done("serial", f"list {body.serial} is not newer than the one that is known")
        return Done("ok", f"{len(body.certificates)} peers are withdrawn from net {body.net}")

    carriers: dict[str, Callable[[Order], Awaitable[Done]]] = {WITHDRAW: withdrawn}
    return carriers
