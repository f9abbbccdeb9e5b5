"""FAU_GEN.1: what an order did is told to each log once, also after a kill."""

from __future__ import annotations

import pytest

from firmware.chronicle import Chronicle
from firmware.errors import StoreCorrupt
from firmware.log.entry import Event
from firmware.log.news import News
from wan.ports import Receipt


async def test_fau_gen_1_an_orders_entry_shares_the_commit_and_the_calibration_log_is_told_after_a_kill(
    world,
):
    chronicle = Chronicle(world.logs, world.clock, world.stores.system)
    receipt = Receipt("o1", accepted=True, code="ok", reason="version 1 is active")
    await world.stores.system.commit(chronicle.receipt_entries(receipt))
    # killed here: the effect is there, `receipt` was never called
    again = Chronicle(world.logs, world.clock, world.stores.system)
    for _ in range(2):
        await again.recover()
    assert await world.events() == [Event.ORDER_APPLIED]
    changes = [one.subject for one in await world.logs.calibration.entries()]
    assert changes == ["o1"]


async def test_fau_gen_1_a_kill_between_the_two_logs_tells_the_calibration_log_once(world, monkeypatch):
    chronicle = Chronicle(world.logs, world.clock, world.stores.system)
    receipt = Receipt("o2", accepted=True, code="ok", reason="")
    await world.stores.system.commit(chronicle.receipt_entries(receipt))
    await world.logs.calibration.write(Event.PROFILE_CHANGE, subject="o2", user="gwa")  # killed after this
    await Chronicle(world.logs, world.clock, world.stores.system).recover()
    assert len(await world.logs.calibration.entries()) == 1
    assert await world.stores.system.items("untold") == []


async def test_fau_gen_1_con_a_consumer_is_told_of_his_profiles_once_also_after_a_kill(world):
    """Killed before the consumer's log was told, and killed between telling and noting that it was."""
    news = [
        News(consumer=who, event=Event.PROFILE_CHANGE, text=f"version 1 is active: ~processing/{who}")
        for who in ("anna", "bert")
    ]
    chronicle = Chronicle(world.logs, world.clock, world.stores.system)
    receipt = Receipt("o5", accepted=True, code="ok", reason="version 1 is active")
    await world.stores.system.commit(chronicle.receipt_entries(receipt, news))
    await world.logs.consumer("bert").write(Event.PROFILE_CHANGE, subject="o5", user="gwa", text=news[1].text)
    for _ in range(2):
        await Chronicle(world.logs, world.clock, world.stores.system).recover()
    for one in news:
        (entry,) = await world.logs.consumer(one.consumer).entries()
        assert (entry.event, entry.subject, entry.user, entry.text) == (one.event, "o5", "gwa", one.text)
    assert await world.stores.system.items("untold-consumer") == []


async def test_fau_gen_1_con_an_order_without_a_kill_tells_the_consumer_once(world):
    chronicle = Chronicle(world.logs, world.clock, world.stores.system)
    receipt = Receipt("o6", accepted=True, code="ok", reason="done")
    await world.stores.system.commit(chronicle.instruction_entries(receipt, "anna"))
    await chronicle.instruction(receipt, "anna")
    await Chronicle(world.logs, world.clock, world.stores.system).recover()
    (entry,) = await world.logs.consumer("anna").entries()
    assert (entry.event, entry.subject, entry.text) == (Event.CONTRACT_CHANGE, "o6", "done")


async def test_what_a_consumer_must_be_told_and_cannot_be_read_is_named(world):
    await world.stores.system.put("untold-consumer", "o7/0", b"{}")
    with pytest.raises(StoreCorrupt, match="told"):
        await Chronicle(world.logs, world.clock, world.stores.system).recover()


async def test_fau_gen_1_refusals_are_logged_once_whichever_way_they_came(world):
    chronicle = Chronicle(world.logs, world.clock, world.stores.system)
    refused = Receipt("o3", accepted=False, code="version", reason="too old")
    await world.stores.system.commit(chronicle.receipt_entries(refused))
    await chronicle.receipt(refused)
    await chronicle.receipt(Receipt("o4", accepted=False, code="signature", reason="broken"))
    entries = await world.logs.system.entries()
    assert [(one.event, one.subject) for one in entries] == [
        (Event.ORDER_REFUSED, "o3"),
        (Event.ORDER_REFUSED, "o4"),
    ]
    assert chronicle.counts.orders_refused == 2
