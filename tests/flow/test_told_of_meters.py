"""What a whole gateway's logs are told of meters and data, and what it makes of it (FAU_GEN.1, FAU_SAA.1)."""

from __future__ import annotations

from datetime import UTC, datetime

from firmware.clock.clock import AdjustableClock
from firmware.log.entry import Entry, Event
from tests.support.whole_gateway import CONSUMER, SUPPLIER, Life, Road, eventually, registering, whole_second


async def _told(life: Life, event: Event) -> Entry:
    async def look() -> Entry | None:
        return next((one for one in await life.consumer().entries() if one.event is event), None)

    return await eventually(look, f"{event.value} in the consumer's log")


async def test_fau_gen_1_con_data_that_arrived_are_told_once_with_their_period(road: Road) -> None:
    await road.open_emp()
    async with road.site.running() as life, road.metering():
        road.order_bill()
        event = await road.delivered(life)
        arrived = await _told(life, Event.DATA_SENT)
        released = await _told(life, Event.DATA_RELEASED)
        closed = await _told(life, Event.REGISTRATION_CLOSED)
    assert arrived.destination == released.destination == SUPPLIER
    assert arrived.evidence["message_id"] == released.evidence["message_id"] == event["message_id"]
    assert closed.evidence["until_utc"] == released.evidence["to_utc"]
    async with road.site.running() as life:
        events = [one.event for one in await life.consumer().entries()]
    assert [events.count(one) for one in (Event.DATA_SENT, Event.REGISTRATION_CLOSED)] == [1, 1]


async def test_fau_gen_1_con_an_acknowledgement_that_is_lost_is_no_second_arrival(road: Road) -> None:
    await road.open_emp()
    async with road.site.running() as life, road.metering():
        road.order_bill()
        async with road.outbox_forgets(life):
            await road.emp_events.first("repeated")
        await road.delivered(life)
        await _told(life, Event.DATA_SENT)
        events = [one.event for one in await life.consumer().entries()]
    assert events.count(Event.DATA_SENT) == 1


async def test_fau_gen_1_con_a_meter_that_falls_silent_and_speaks_again(road: Road) -> None:
    """The stick is there and nothing comes: the consumer sees why values are missing, and since when."""
    clock = AdjustableClock(datetime.now(UTC), rate=20.0)
    async with road.site.running(clock=clock) as life:
        order = road.order(
            registering(
                road.site.meter,
                whole_second(clock.now_utc(), 20),
                registration_period_s=60,
                billing_period_s=60,
                window_s=0.0,
            )
        )
        assert (await life.entry(Event.ORDER_APPLIED)).subject == order
        await road.site.send()
        await life.entry(Event.METER_OK)
        clock.advance(700)
        fault = await _told(life, Event.METER_COMMUNICATION_FAULT)
        await road.site.send()
        clock.advance(70)
        again = await _told(life, Event.METER_OK)
        system = await life.entry(Event.METER_COMMUNICATION_FAULT, "silent")
    assert fault.subject == again.subject == system.subject == str(road.site.meter.meter)
    assert (fault.sub_event, again.sub_event) == ("silent", "heard-again")
    assert fault.at_utc < again.at_utc


async def test_fau_gen_1_cal_who_gets_a_meter_is_in_the_calibration_log(road: Road) -> None:
    async with road.site.running() as life:
        order = road.order(registering(road.site.meter, whole_second()))

        async def look() -> Entry | None:
            entries = await life.gateway._parts.logs.calibration.entries()
            return next((one for one in entries if one.event is Event.METER_ASSIGNMENT), None)

        given = await eventually(look, "the assignment")
        assert (given.subject, given.text) == (order, f"{road.site.meter.meter}: nobody -> {CONSUMER}")
        second = road.order({"meters": [], "processing": [], "communication": []})
        await life.entry(Event.ORDER_APPLIED, after=(await life.entry(Event.ORDER_APPLIED)).number)

        async def taken() -> bool:
            entries = await life.gateway._parts.logs.calibration.entries()
            texts = [(one.subject, one.text) for one in entries if one.event is Event.METER_ASSIGNMENT]
            return texts[1:] == [(second, f"{road.site.meter.meter}: {CONSUMER} -> nobody")]

        await eventually(taken, "the meter taken away")


async def test_fau_saa_1_sys_somebody_forges_telegrams_of_a_meter(road: Road) -> None:
    """Each is refused; that there are many is an alarm, which reaches the administrator."""
    clock = AdjustableClock(datetime.now(UTC))
    async with road.site.running(clock=clock) as life:
        road.order(registering(road.site.meter, whole_second()))
        await life.entry(Event.ORDER_APPLIED)
        for number in range(1, 33):
            forged = bytearray(road.site.next_telegram())
            forged[-1] ^= 1
            if number == 32:
                clock.advance(61)  # refusals are reported once a minute, with their number
            await road.site.send(bytes(forged))
            await life.rejected("mac", number)
        await life.entry(Event.TELEGRAM_REFUSED, "mac")
        clock.advance(31)
        told = await life.entry(Event.ATTACK_SUSPECTED, "forged-telegrams")

        async def alarmed() -> bool:
            return any(one["about"] == "attack-suspected" for one in road.gwa_events.of("alarm"))

        assert told.subject == str(road.site.meter.meter)
        clock.advance(31)
        await eventually(alarmed, "the alarm at the administrator")
        session = await life.entry(Event.MODULE_SESSION)
    assert session.evidence["sessions"] == "1"
