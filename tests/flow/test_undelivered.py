"""What was measured for a recipient whom orders take away, through a whole gateway."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from firmware.flow.pipeline import DeliveryPipeline
from firmware.flow.undelivered import Undelivered
from firmware.life.states import Cause, Function
from firmware.log.entry import Event
from tests.flow.test_operation import smgw
from tests.support.whole_gateway import BILLING, CONSUMER, NAME, SUPPLIER, Life, Road, eventually
from tools.counterparts.gwa import place_order

pytestmark = pytest.mark.timeout(120)


def without_supplier(road: Road, *peers: dict[str, Any]) -> str:
    """Order a set that has nothing for the supplier; `peers` differ, so that it is another set each time."""
    return road.order({"communication": [], "processing": [], "meters": list(peers)})


async def applied(life: Life, order: str) -> None:
    async def look() -> bool:
        return any(
            one.subject == order
            for one in await life.system.entries()
            if one.event in (Event.ORDER_APPLIED, Event.ORDER_REFUSED)
        )

    await eventually(look, f"order {order}")


def watch_of(life: Life) -> Undelivered:
    services = [getattr(one, "service", one) for one in life.gateway.services]
    return next(one for one in services if isinstance(one, Undelivered))


async def values(life: Life) -> list[Any]:
    begin = datetime.fromisoformat("2000-01-01T00:00:00+00:00")
    end = datetime.fromisoformat("2100-01-01T00:00:00+00:00")
    found: list[Any] = await life.gateway.originals.between(BILLING, begin, end)
    return found


async def test_a_message_whose_recipient_no_profile_names_is_stranded_and_then_given_up(
    road: Road, tmp_path: Path
) -> None:
    site = road.site
    text = site.configuration.read_text(encoding="utf-8")
    site.configuration.write_text(
        text.replace("\n[wan]\n", "\n[wan]\ngive_up_after_days = 0\n"), encoding="utf-8"
    )
    async with site.running() as life:
        road.order_bill()
        async with road.metering():
            await road.waiting(life)  # the supplier does not listen
        kept = await values(life)
        assert kept
        (message_id, _), *_ = await life._parts.stores.consumer.items("outbox")
        await applied(life, without_supplier(road))
        assert await life._parts.stores.consumer.items("outbox")  # the set before still names him
        await applied(life, without_supplier(road))
        watch = watch_of(life)
        await watch.step()  # what the next seconds would bring
        entry = await life.entry(Event.DATA_UNDELIVERED, "stranded")
        assert entry.destination == SUPPLIER
        alarm = await road.gwa_events.first("alarm")
        assert (alarm["about"], alarm["gateway"]) == ("data-undelivered", NAME)
        _, out, _ = await smgw("status", "-c", str(site.configuration))
        assert "0 data sets overdue, 1 without a recipient" in out
        await watch.step()  # what ten minutes would bring
        assert not await life._parts.stores.consumer.items("outbox")
        await life.entry(Event.DATA_UNDELIVERED, "given-up")
        told = [
            (one.sub_event, one.evidence["message_id"])
            for one in await life.consumer().entries()
            if one.event is Event.DATA_UNDELIVERED
        ]
        assert told == [("stranded", message_id), ("given-up", message_id)]
        assert await values(life) == kept  # nothing of his is lost
        await life.consumer().verify()


async def test_an_order_in_a_secure_state_keeps_what_is_owed_and_nothing_leaves_before_it_ends(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Table of operating states: application forbids delivering, not what the administrator orders."""

    async def idle(_pipeline: DeliveryPipeline) -> None:
        return None

    await road.open_emp()
    async with road.site.running() as life:
        monkeypatch.setattr(DeliveryPipeline, "step", idle)  # so that something is due and still here
        road.order_bill()
        async with road.metering():

            async def registered() -> bool:
                ends = [one.valid_until for one in life._parts.registry.active.processing]
                through = await life.gateway.originals.registered_through(BILLING)
                return bool(ends) and through is not None and through >= ends[0]

            await eventually(registered, "the second of the bill")
        state = life._parts.life
        await state.enter(Cause.TAMPERED, "opened")
        assert not state.allows(Function.DELIVER)
        await applied(life, without_supplier(road))
        await road.waiting(life)  # the release lies in the outbox
        monkeypatch.undo()
        await asyncio.sleep(0.5)
        assert not road.emp_events.of("delivery")
        place_order(road.pki / "gwa", NAME, "acknowledge-tamper", {})
        bill = await road.delivered(life)
        assert bill["verified"]
        entries = [one.event for one in await life.consumer().entries()]
        assert entries.index(Event.DATA_RELEASED) < entries.index(Event.DATA_SENT)
        assert CONSUMER in life.consumer().name


async def test_a_supplier_who_comes_back_into_the_profiles_gets_what_waited(road: Road) -> None:
    async with road.site.running() as life:
        road.order_bill()
        async with road.metering():
            await road.waiting(life)
        for _ in range(2):
            await applied(life, without_supplier(road))
        await watch_of(life).step()
        await life.entry(Event.DATA_UNDELIVERED, "stranded")
        await road.open_emp()
        await asyncio.sleep(0.3)
        assert not road.emp_events.of("delivery")  # nobody names him
        road.order_bill()
        event = await road.delivered(life)
        assert event["verified"]
