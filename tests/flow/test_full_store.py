"""A store over its limit empties itself: what waits leaves, and measuring goes on without a hand."""

from __future__ import annotations

import os

import pytest

from firmware.life.states import Cause, Function
from firmware.log.entry import Event, Outcome
from firmware.store.outbox import SealedOutbox
from hsm.x509 import Certificate
from tests.support.whole_gateway import NAME, SUPPLIER, Life, Road, eventually
from tools.counterparts.gwa import place_order
from wan.cms import message
from wan.emp import payload

pytestmark = pytest.mark.timeout(120)
MESSAGES = 12


async def leave_waiting(life: Life) -> None:
    """Put large messages for the supplier into the outbox, sealed as the gateway's own are."""
    assert life.gateway.wide_area is not None
    outbox = life.gateway.wide_area.outbox
    keys, peer = outbox._keys(), outbox._peers()[SUPPLIER]
    assert peer.enc_certificate is not None
    for number in range(MESSAGES):
        body = b'{"noise": "%s"}' % os.urandom(20_000).hex().encode()
        sealed = await message.to_recipient(
            payload.encode(f"large-{number}", NAME, SUPPLIER, body),
            recipient=Certificate.from_der(peer.enc_certificate),
            module=life.gateway.module,
            sig_slot=keys.sig_slot,
            sig_certificate=keys.sig_certificate,
            extra=keys.extra,
        )
        await SealedOutbox(life._parts.stores.consumer).put(f"large-{number}", SUPPLIER, sealed)


async def test_fpt_fls_1_a_store_over_its_limit_delivers_and_recovers_by_itself(road: Road) -> None:
    site = road.site
    text = site.configuration.read_text(encoding="utf-8")
    site.configuration.write_text(text + "\n[store]\nconsumer_mb = 4\n", encoding="utf-8")
    async with site.running() as life:
        road.order_bill()
        await life.entry(Event.ORDER_APPLIED)
        async with road.metering():
            await road.waiting(life)  # the bill: the supplier is away
        await leave_waiting(life)
        used = (await life._parts.stores.consumer.usage()).percent
        place_order(road.pki / "gwa", NAME, "memory-limit", {"percent": int(used) - 1})
        came = await life.entry(Event.MEMORY_CRITICAL)
        state = life.gateway._parts.life
        assert Cause.MEMORY_CRITICAL in state.causes
        assert state.state.name == "APPLICATION"
        assert not state.allows(Function.MEASURE)
        await road.open_emp()

        async def recovered() -> bool:
            return not state.causes

        await eventually(recovered, "the normal state")
        assert not await life._parts.stores.consumer.items("outbox")
        assert len({one["message_id"] for one in road.emp_events.of("delivery")}) == MESSAGES + 1
        over = await life.entry(Event.MEMORY_CRITICAL, after=came.number)
        assert (came.outcome, over.outcome) == (Outcome.FAILURE, Outcome.SUCCESS)
        await site.hears_again(life)  # and what comes from the meter is taken again
