"""The administrator's orders by their kind: profiles to the registry, the rest to the life cycle. No I/O.

Each order acts once: its receipt is kept with its log entry in one commit before its effect is reported, and
the effects of the kinds here may be repeated without harm.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from firmware.errors import AccessRefused
from firmware.profile.registry import Registry
from firmware.store.operations import Operation
from firmware.store.partition import Partition
from firmware.store.stores import ReplayMemory
from wan.ports import Order, Receipt

ACKNOWLEDGE: Final = "acknowledge-tamper"
SELF_TEST: Final = "self-test"
DECOMMISSION: Final = "decommission"


class DecommissionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an order to decommission says: the first names the gateway, the second the code as well."""

    gateway: str
    code: str = ""


class OrderDesk:
    """`wan.ports.ProfileSink` for every kind of order.

    Args:
        registry: carries out profiles, and remembers refusals.
        partition: the system partition; keeps receipts.
        entries: what is logged of a receipt, for the same commit.
        report: told of every receipt that was kept.
        acknowledge: ends the tampered state; False if it was not there.
        self_test: tests everything and says what came of it.
        decommission: (gateway, code) -> what to say; raises AccessRefused. See `firmware.decommission`.
    """

    def __init__(
        self,
        registry: Registry,
        partition: Partition,
        *,
        entries: Callable[[Receipt], Sequence[Operation]],
        report: Callable[[Receipt], Awaitable[None]],
        acknowledge: Callable[[], Awaitable[bool]],
        self_test: Callable[[], Awaitable[str]],
        decommission: Callable[[str, str], Awaitable[str]],
    ) -> None:
        self._registry, self._partition, self._replay = registry, partition, ReplayMemory(partition)
        self._entries, self._report = entries, report
        self._acknowledge, self._self_test, self._decommission = acknowledge, self_test, decommission

    async def apply(self, order: Order) -> Receipt:
        """Carry out an order once; the same message id again returns the first receipt.

        Raises:
            StoreUnavailable: nothing changed for good; the order can be given again.
        """
        if order.kind not in (ACKNOWLEDGE, SELF_TEST, DECOMMISSION):
            return await self._registry.apply(order)
        known = await self._replay.receipt(order.message_id)
        if known is not None:
            return known
        receipt = await self._carry_out(order)
        await self._partition.commit((self._replay.operation(receipt), *self._entries(receipt)))
        await self._report(receipt)
        return receipt

    async def refuse(self, message_id: str, code: str, reason: str) -> Receipt:
        """Note an order that was refused before it could be applied (signature, form)."""
        return await self._registry.refuse(message_id, code, reason)

    async def _carry_out(self, order: Order) -> Receipt:
        if order.kind == SELF_TEST:
            return Receipt(order.message_id, accepted=True, code="ok", reason=await self._self_test())
        if order.kind == ACKNOWLEDGE:
            there = await self._acknowledge()
            reason = "the tampered state is over" if there else "nothing was to acknowledge"
            return Receipt(order.message_id, accepted=True, code="ok", reason=reason)
        try:
            body = msgspec.json.decode(order.body, type=DecommissionBody)
            said = await self._decommission(body.gateway, body.code)
        except msgspec.MsgspecError as error:
            return Receipt(order.message_id, accepted=False, code="invalid", reason=str(error))
        except AccessRefused as refused:
            return Receipt(order.message_id, accepted=False, code="refused", reason=str(refused))
        return Receipt(order.message_id, accepted=True, code="ok", reason=said)
