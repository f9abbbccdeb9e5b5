"""What the scenes of a district wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from tools.homes.parties import Event, PartyFailed

Progress = Callable[[str], None]
RECEIPT_TIMEOUT_S: Final = 60.0


def accepted(gateway: str, message_id: str) -> Callable[[Event], bool]:
    """Return what finds the receipt of an order; `PartyFailed` if it was refused."""

    def wanted(event: Event) -> bool:
        if event["event"] != "receipt" or (event["gateway"], event["message_id"]) != (gateway, message_id):
            return False
        if not event["accepted"]:
            raise PartyFailed(f"{gateway} refused its order: {event['reason']}")
        return True

    return wanted


def total_of(net_id: str, slot: int) -> Callable[[Event], bool]:
    """Return what finds a net's result of a slot, or a later one."""
    return lambda event: event["event"] == "total" and event["net"] == net_id and event["slot"] >= slot


async def until(instant_utc: datetime) -> None:
    """Wait until an instant."""
    await asyncio.sleep(max(0.0, (instant_utc - datetime.now(UTC)).total_seconds()))
