"""Orders about the stores: one consumer's data go, another limit from which memory is critical. No I/O.

Both may be carried out again without harm: what is gone stays gone, and the same limit is the same limit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import msgspec

from firmware.document import read_json
from firmware.orders.desk import Carrier, Done
from firmware.profile.fields import Name
from firmware.profile.model import ProfileSet
from firmware.store.wiping import Belongings
from wan.ports import Order

WIPE: Final = "wipe-consumer"
MEMORY_LIMIT: Final = "memory-limit"


class WipeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a "wipe-consumer"."""

    consumer: Name


class MemoryLimitBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a "memory-limit": of a partition's quota."""

    percent: Annotated[int, msgspec.Meta(ge=1, le=100)]


def store_orders(
    *,
    active: Callable[[], ProfileSet],
    belongings: Callable[[str], Belongings],
    wipe: Callable[[str, Belongings], Awaitable[int]],
    set_limit: Callable[[int], Awaitable[None]],
) -> dict[str, Carrier]:
    """Return the carriers.

    Args:
        active: the active set; a consumer that it is about is not wiped, or he would be measured on.
        belongings: what is or was a consumer's, and when.
        wipe: removes what is kept of a consumer; returns how many records went. See `firmware.store.wiping`.
        set_limit: keeps the limit and looks at memory by it.
    """

    async def wiped(order: Order) -> Done:
        body = read_json(order.body, WipeBody, file="order").value
        consumer = body.consumer
        profiles = active()
        concerned = {one.consumer for one in profiles.meters} | {one.consumer for one in profiles.processing}
        if consumer in concerned:
            return Done("active", f"the active profiles are about {consumer}; first order a set without him")
        gone = await wipe(consumer, belongings(consumer))
        return Done("ok", f"what was kept of {consumer} is gone ({gone} records)", consumer)

    async def limited(order: Order) -> Done:
        limit = read_json(order.body, MemoryLimitBody, file="order").value
        await set_limit(limit.percent)
        return Done("ok", f"memory is critical from {limit.percent} % of a store on")

    return {WIPE: wiped, MEMORY_LIMIT: limited}
