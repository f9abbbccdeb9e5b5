"""The road inside the gateway: registration on the grid, concealment, delivery, restarts."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from firmware.errors import StoreUnavailable
from firmware.flow.pipeline import DELIVERIES_WAITING
from firmware.metering.status import GatewayStatus, gateway_half
from lmn.model import ACTIVE_ENERGY_IMPORT, MeterId, Reading
from tests.unit.firmware.pipeline_street import demo_profiles, reached, registered, started
from tests.unit.firmware.profile_set import (
    at,
    bill,
    billing,
    group_total,
    household,
    meter_profile,
    peer,
    plain_series,
    series,
)
from tests.unit.firmware.test_registry import order


async def test_slots_are_concealed_and_one_bill_leaves(street):
    gateway = await started(street, demo_profiles())
    for slot in range(4):
        gateway.hear(900 * slot + 3, 1000 + 100 * slot * slot)
        await gateway.until(900 * slot + 30)
    assert gateway.stage.taken == [(0, 100), (1, 300), (2, 500)]
    (document,) = gateway.documents()
    assert document["taf"] == 1
    assert [(one["time_utc"], one["value"]) for one in document["entries"]] == [
        ("2026-01-01T00:45:00Z", "1900")
    ]
    assert (gateway.denials, len(gateway.notes)) == ([], 1)


async def test_nothing_is_registered_before_its_window_has_closed(street):
    gateway = await started(street, demo_profiles())
    gateway.hear(-5, 10)
    await gateway.until(9)
    assert gateway.registering.registered == 0
    gateway.hear(1, 11)
    await gateway.until(9.3)
    assert (await gateway.originals.at("series", at(0))).value == 11


async def test_a_missing_value_is_an_entry_and_its_energy_is_owed(street):
    gateway = await started(street, demo_profiles())
    for second, value in ((0, 100), (900, 150), (3600, 400), (4500, 450)):
        gateway.hear(second, value)
    await gateway.until(4600)
    assert gateway.stage.taken == [(0, 50), (1, None), (2, None), (3, None), (4, 50)]
    assert gateway.stage.owed == [(1, 3, 250)]
    missing = await gateway.originals.at("series", at(1800))
    assert missing.value is None
    assert GatewayStatus.NO_VALUE in gateway_half(missing.status)
    (document,) = gateway.documents()
    assert document["entries"][0]["value"] is None


async def test_an_interval_series_is_delivered_with_its_gaps(street):
    gateway = await started(street, plain_series())
    for second in (0, 900, 2700, 3600):
        gateway.hear(second, second)
    await gateway.until(3700)
    (document,) = gateway.documents()
    assert [one["value"] for one in document["entries"]] == ["900", None, "2700", "3600"]
    assert document["period"] == {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T01:00:00Z"}


async def test_a_profile_without_right_is_denied_once_a_period(street):
    wrong = billing("wrong", recipient="other", peer=peer("other"))
    gateway = await started(street, demo_profiles(communication=(billing(), group_total(), wrong)))
    gateway.hear(2700, 5)
    await gateway.until(2800)
    await gateway.until(2900)
    assert [denial.reason.value for denial in gateway.denials] == ["recipient"]
    assert [release.recipient for release in gateway.outbox.sent] == ["emp"]


async def test_a_concealed_value_is_in_no_release(street):
    gateway = await started(street, demo_profiles(communication=(group_total(),)))
    for slot in range(5):
        gateway.hear(900 * slot, 1000 + slot)
    await gateway.until(86400 + 100)
    assert (gateway.outbox.sent, gateway.denials) == ([], [])
    assert gateway.stage.taken[:4] == [(0, 1), (1, 1), (2, 1), (3, 1)]


async def test_a_slot_from_before_the_profile_is_passed_over(street):
    later = household(processing=(bill(billing_period_s=2700), series(valid_from=at(1800))))
    gateway = await started(street, later)
    for slot in range(5):
        gateway.hear(900 * slot, 10 * slot)
    await gateway.until(3700)
    assert (gateway.stage.taken, gateway.denials) == ([(2, 10), (3, 10)], [])


async def test_a_restart_registers_nothing_twice_and_delivers_nothing_twice(street):
    gateway = await started(street, demo_profiles())
    for second in (0, 900, 1800, 2700):
        gateway.hear(second, second)
    await gateway.until(2800)
    assert (gateway.registering.registered, len(gateway.outbox.sent)) == (5, 1)
    again = await street.start()
    again.hear(1800, 99999)
    again.hear(3600, 3600)
    await again.until(3700)
    assert (again.registering.registered, again.outbox.sent) == (1, [])
    assert (await again.originals.at("series", at(1800))).value == 1800
    # The last slot before the stop is offered once more: the net itself takes it once.
    assert street.stage.taken == [(0, 900), (1, 900), (2, 900), (2, 900), (3, 900)]


async def test_what_fell_into_a_stop_is_registered_afterwards(street):
    gateway = await started(street, demo_profiles())
    gateway.hear(0, 0)
    await gateway.until(60)
    again = await street.start()
    for second in (900, 2700):
        again.hear(second, second)
    await again.until(3000)
    assert street.stage.taken[-3:] == [(0, 900), (1, None), (2, None)]
    assert [one["entries"][0]["value"] for one in again.documents()] == ["2700"]


async def test_an_outbox_that_fails_is_tried_again(street):
    gateway = await started(street, demo_profiles())
    gateway.hear(2700, 7)
    gateway.outbox.fail = True
    with pytest.raises(StoreUnavailable):
        await gateway.until(2800)
    gateway.outbox.fail = False
    await gateway.until(2900)
    await gateway.until(3000)
    assert len(gateway.outbox.sent) == 1


async def test_values_from_before_a_change_are_not_sent_under_it(street):
    """FDP_IFF.1/MTR: a concealed series does not become a plain one afterwards."""
    gateway = await started(street, demo_profiles())
    for slot in range(12):
        gateway.hear(900 * slot, slot)
    await gateway.until(4550)
    plain = plain_series()
    street.clock.set_utc(at(2 * 3600 + 3000))
    assert (await gateway.registry.apply(order(plain, version=2))).accepted
    await gateway.until(4 * 3600)
    sent = [one["time_utc"] for document in gateway.documents()[1:] for one in document["entries"]]
    assert min(sent) == "2026-01-01T03:00:00Z"


async def test_a_profile_that_takes_another_meter_conceals_no_difference_of_two_meters(street):
    gateway = await started(street, demo_profiles())
    gateway.hear(0, 1000)
    gateway.hear(900, 1010)
    await gateway.until(1000)
    other = "ELS-87654321-33-02"
    profiles = household(
        meters=(meter_profile(meter=other),),
        processing=(bill(billing_period_s=2700, meter=other), series(meter=other)),
    )
    assert (await gateway.registry.apply(order(profiles, version=2))).accepted
    for second, value in ((1800, 1500), (2700, 1507)):
        reading = Reading(MeterId.from_text(other), ACTIVE_ENERGY_IMPORT, Decimal(value), "Wh", at(second))
        gateway.register.add(reading)
        await gateway.until(second + 20)
    assert gateway.stage.taken == [(0, 10), (1, None), (2, 7)]
    assert gateway.stage.owed == []


async def test_services_run_on_time_alone(street):
    gateway = await started(street, demo_profiles())
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(service.run()) for service in (gateway.registering, gateway.deliver)]
        for slot in range(4):
            gateway.hear(900 * slot, 10 * slot)
            street.clock.set_utc(at(900 * slot + 20))
            await registered(gateway, 900 * slot)
        await reached(lambda: gateway.outbox.sent)
        for task in tasks:
            task.cancel()
    assert [slot for slot, _ in gateway.stage.taken] == [0, 1, 2]


async def test_new_profiles_wake_the_service(street):
    gateway = await street.start()
    task = asyncio.create_task(gateway.registering.run())
    await asyncio.sleep(0)
    await gateway.registry.apply(order(demo_profiles()))
    gateway.hear(0, 5)
    street.clock.set_utc(at(20))
    await registered(gateway, 0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_announcements_never_wait(street):
    gateway = await street.start()
    for _ in range(DELIVERIES_WAITING * 3):
        gateway.deliver.announce()
