"""Orders of the administrator by kind, each carried out once. Implements `wan.ports.ProfileSink`. No I/O.

Profiles go to the registry, which keeps receipt and effect in one commit. Every other kind has a carrier
here, whose effect may be repeated without harm: a kill before the receipt has the order carried out again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from firmware.enforcement.roles import ORDERS, Reader, Role, require
from firmware.errors import AccessRefused, ConfigurationRefused
from firmware.store.operations import Operation
from firmware.store.partition import Partition
from firmware.store.stores import ReplayMemory
from wan.ports import Order, Receipt

_REASON_CHARS: Final = 2000
ADMINISTRATOR: Final = Reader(Role.GWA)
"""Who signed: the link takes no order of anybody else (`wan.gwa.orders`)."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an order; it was carried out if the code is "ok"."""

    code: str
    reason: str
    consumer: str = ""
    """Whose tariff or values it changes, for his log."""


Carrier = Callable[[Order], Awaitable[Done]]
"""Carries out orders of one kind; ConfigurationRefused for a body of another form."""


class Profiles(Protocol):
    """The part of `firmware.profile.registry.Registry` that is used here."""

    async def apply(self, order: Order) -> Receipt:
        """Carry out an order about profiles."""

    async def refuse(self, message_id: str, code: str, reason: str) -> Receipt:
        """Note an order that was refused before it could be applied."""


class OrderDesk:
    """Where orders go.

    Args:
        profiles: the registry; gets every kind that no carrier was given for.
        partition: the system partition; keeps receipts.
        entries: what is logged of a receipt and the consumer concerned ("" for none), for the same commit.
        report: told of every receipt that was kept here, and of the consumer concerned ("" for none).
    """

    def __init__(
        self,
        profiles: Profiles,
        partition: Partition,
        *,
        entries: Callable[[Receipt, str], Sequence[Operation]],
        report: Callable[[Receipt, str], Awaitable[None]],
    ) -> None:
        self._profiles, self._partition, self._replay = profiles, partition, ReplayMemory(partition)
        self._entries, self._report = entries, report
        self._carriers: dict[str, Carrier] = {}

    def take(self, carriers: Mapping[str, Carrier]) -> None:
        """Carry out further kinds of orders from now on; ValueError if the role table has no row for one."""
        if unknown := carriers.keys() - ORDERS.keys():
            raise ValueError(f"no row in the role table: {', '.join(sorted(unknown))}")
        self._carriers.update(carriers)

    async def apply(self, order: Order) -> Receipt:
        """Carry out an order once; the same message id again returns the first receipt.

        Raises:
            StoreUnavailable: the order can be given again.
        """
        carrier = self._carriers.get(order.kind)
        try:
            for right in ORDERS.get(order.kind, ()):
                require(ADMINISTRATOR, right)
        except AccessRefused as refused:
            return await self.refuse(order.message_id, "access", str(refused))
        if carrier is None:  # an order about profiles, or of a kind that nobody knows: it is refused there
            return await self._profiles.apply(order)
        known = await self._replay.receipt(order.message_id)
        if known is not None:
            return known
        try:
            done = await carrier(order)
        except ConfigurationRefused as error:
            done = Done("invalid", str(error))
        receipt = Receipt(order.message_id, done.code == "ok", done.code, done.reason[:_REASON_CHARS])
        await self._partition.commit(
            (self._replay.operation(receipt), *self._entries(receipt, done.consumer))
        )
        await self._report(receipt, done.consumer)
        return receipt

    async def refuse(self, message_id: str, code: str, reason: str) -> Receipt:
        """Note an order that was refused before it could be applied (signature, form)."""
        return await self._profiles.refuse(message_id, code, reason)
