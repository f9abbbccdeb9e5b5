"""The road inside the gateway under a clock that is wrong, jumps, or cannot be trusted."""

from __future__ import annotations

import random

import pytest

from firmware.metering.status import GatewayStatus, gateway_half
from tests.unit.firmware.pipeline_street import demo_profiles, started
from tests.unit.firmware.profile_set import at


async def test_a_clock_that_goes_back_registers_nothing_again(street):
    gateway = await started(street, demo_profiles())
    gateway.hear(0, 1)
    gateway.hear(900, 2)
    await gateway.until(1000)
    before = gateway.registering.registered
    await gateway.until(-50)
    await gateway.until(1000)
    assert gateway.registering.registered == before
    assert gateway.stage.taken == [(0, 1)]


async def test_a_clock_put_back_bills_no_value_of_its_first_pass(street):
    """Put back by 40 minutes just before the end of a period: what was heard then is no value of that end."""
    gateway = await started(street, demo_profiles())
    gateway.hear(0, 0)
    await gateway.until(20)
    gateway.hear(2699, 100)  # the bill's instant is 2700, its window has not closed yet
    gateway.hear(300, 101)  # the clock was put back
    await gateway.until(320)
    gateway.hear(2701, 190)
    await gateway.until(2800)
    [bill] = gateway.documents()
    assert [entry["value"] for entry in bill["entries"]] == ["190"]


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_the_clock_does_nothing_counts_twice(street, seed):
    """Steps in both directions and restarts: slots and bills once, never more energy than flowed."""
    source = random.Random(seed)
    gateway = await started(street, demo_profiles())
    register = second = 0
    for _ in range(60):
        second += 300
        register += source.randrange(50)
        match source.randrange(12):
            case 0:
                second = max(0, second - source.randrange(7200))
            case 1:
                second += source.randrange(7200)
            case 2:
                stage = gateway.stage
                gateway = await street.start()
                assert gateway.stage is stage
                continue
        second -= second % 100
        gateway.hear(second, register)
        await gateway.until(second + 20)
    slots = [slot for slot, _ in gateway.stage.taken]
    again = {(slot, energy) for slot, energy in gateway.stage.taken}
    assert len(again) == len(set(slots))  # offered again after a restart, but never with another value
    spent = sum(energy for _, energy in again if energy is not None)
    spent += sum(energy for *_, energy in set(gateway.stage.owed))
    assert spent <= register
    identities = [release.message_id for release in gateway.outbox.sent]
    assert len(set(identities)) == len(identities)
    bills = [int(entry["value"]) for one in gateway.documents() for entry in one["entries"] if entry["value"]]
    assert bills == sorted(bills)


async def test_a_clock_that_was_far_ahead_does_not_stop_registration_until_then(street):
    """What was registered at the false time is taken back; then it goes on as if nothing was."""
    withdrawn = []

    async def note(processing, count):
        withdrawn.append((processing, count))

    gateway = await started(street, demo_profiles())
    gateway.registering._withdrawn = note
    gateway.hear(0, 100)
    await gateway.until(20)
    far = 900 * 200  # a little more than two days
    await gateway.until(far + 20)
    assert await gateway.originals.registered_through("series") == at(far)
    gateway.hear(900, 140)
    await gateway.until(920)
    assert dict(withdrawn).keys() == {"series", "bill"}
    assert dict(withdrawn)["series"] == 199  # the instants that are still to come
    assert await gateway.originals.registered_through("series") == at(920)
    for slot in range(2, 5):
        gateway.hear(900 * slot, 100 + 40 * slot)
        await gateway.until(900 * slot + 20)
    values = await gateway.originals.between("series", at(900), at(3600))
    assert [int(value.value) for value in values] == [180, 220, 260]


async def test_a_clock_that_was_a_little_ahead_registers_nothing_twice(street):
    gateway = await started(street, demo_profiles())
    gateway.hear(0, 100)
    await gateway.until(20)
    await gateway.until(3620)
    before = await gateway.originals.between("series", at(0), at(3600))
    gateway.hear(900, 140)
    await gateway.until(920)
    assert await gateway.originals.between("series", at(0), at(3600)) == before


async def test_fpt_stm_1_values_of_an_invalid_time_bear_status_bit_9(street):
    gateway = await started(street, demo_profiles())
    valid = [False]
    gateway.registering._time_valid = lambda: valid[0]
    for slot in range(3):
        gateway.hear(900 * slot, 100 + slot)
        valid[0] = slot == 1
        await gateway.until(900 * slot + 20)
    values = await gateway.originals.between("series", at(-1), at(1800))
    assert [bool(gateway_half(one.status) & GatewayStatus.TIME_INVALID) for one in values] == [
        True,
        False,
        True,
    ]
    assert [int(one.value) for one in values] == [100, 101, 102]  # marked, not lost
