"""Orders about the gateway itself: end the tampered state, test everything, decommission. No I/O."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from firmware.document import read_json
from firmware.errors import AccessRefused
from firmware.orders.desk import Carrier, Done
from wan.ports import Order

ACKNOWLEDGE: Final = "acknowledge-tamper"
SELF_TEST: Final = "self-test"
DECOMMISSION: Final = "decommission"


class DecommissionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an order to decommission says: the first names the gateway, the second the code as well."""

    gateway: str
    code: str = ""


def life_orders(
    *,
    acknowledge: Callable[[], Awaitable[bool]],
    self_test: Callable[[], Awaitable[str]],
    decommission: Callable[[str, str], Awaitable[str]],
) -> dict[str, Carrier]:
    """Return the carriers.

    Args:
        acknowledge: ends the tampered state; False if it was not there.
        self_test: tests everything and says what came of it.
        decommission: (gateway, code) -> what to say; raises AccessRefused. See `firmware.life.decommission`.
    """

    async def acknowledged(_order: Order) -> Done:
        there = await acknowledge()
        return Done("ok", "the tampered state is over" if there else "nothing was to acknowledge")

    async def tested(_order: Order) -> Done:
        return Done("ok", await self_test())

    async def decommissioned(order: Order) -> Done:
        body = read_json(order.body, DecommissionBody, file="order").value
        try:
            return Done("ok", await decommission(body.gateway, body.code))
        except AccessRefused as refused:
            return Done("refused", str(refused))

    return {ACKNOWLEDGE: acknowledged, SELF_TEST: tested, DECOMMISSION: decommissioned}
