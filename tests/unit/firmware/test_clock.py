"""Time: FPT_STM.1; waiting follows the wall clock, registration instants lie on a grid."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.clock.clock import EPOCH_UTC, AdjustableClock, SystemClock, slot_number, slot_start

START = datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC)


async def test_the_system_clock_is_aware_and_waits():
    clock = SystemClock()
    before = clock.now_utc()
    assert before.tzinfo is UTC
    mark = clock.monotonic()
    await clock.sleep_until(before)
    await clock.sleep_until(before + timedelta(milliseconds=20))
    assert clock.now_utc() >= before + timedelta(milliseconds=20)
    await clock.sleep(-1)
    await clock.sleep(0.001)
    assert clock.monotonic() > mark


async def test_an_adjustable_clock_moves_when_told():
    clock = AdjustableClock(START)
    assert clock.now_utc() == START
    assert clock.monotonic() == 0
    waits = [asyncio.ensure_future(clock.sleep_until(START + timedelta(seconds=n))) for n in (5, 10)]
    await asyncio.sleep(0)
    clock.advance(5)
    await waits[0]
    assert not waits[1].done()
    clock.set_utc(START + timedelta(hours=1))
    await waits[1]
    assert clock.monotonic() == 5
    clock.set_utc(START)
    assert clock.now_utc() == START
    nap = asyncio.ensure_future(clock.sleep(3))
    await asyncio.sleep(0)
    clock.set_utc(START + timedelta(days=1))  # a nap is no matter of the wall clock
    await asyncio.sleep(0)
    assert not nap.done()
    clock.advance(3)
    await nap
    assert not clock._sleepers


async def test_a_cancelled_wait_leaves_nothing_behind():
    clock = AdjustableClock(START)
    wait = asyncio.ensure_future(clock.sleep(3))
    await asyncio.sleep(0)
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait
    assert not clock._sleepers


async def test_an_accelerated_clock_runs_by_itself():
    clock = AdjustableClock(START, rate=1_000_000)
    await clock.sleep_until(START + timedelta(days=1))
    assert clock.now_utc() >= START + timedelta(days=1)
    before = clock.monotonic()
    await clock.sleep(1000)
    assert clock.monotonic() >= before + 1000


def test_what_a_clock_refuses():
    with pytest.raises(ValueError, match="aware"):
        AdjustableClock(datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test
    with pytest.raises(ValueError, match="rate"):
        AdjustableClock(START, rate=-1)
    with pytest.raises(ValueError, match="forwards"):
        AdjustableClock(START).advance(-1)
    with pytest.raises(ValueError, match="1 s"):
        slot_number(START, START, 0)


@pytest.mark.parametrize(
    ("at", "period_s", "expected"),
    [
        ("2026-03-29T00:59:59+00:00", 900, "2026-03-29T01:00:00+00:00"),
        ("2026-03-29T01:00:00+00:00", 900, "2026-03-29T01:15:00+00:00"),  # strictly after
        ("2026-03-29T02:59:59.999999+02:00", 900, "2026-03-29T01:00:00+00:00"),
        ("2026-03-29T23:59:59+00:00", 86400, "2026-03-30T00:00:00+00:00"),
        ("2026-03-29T00:00:00+00:00", 1, "2026-03-29T00:00:01+00:00"),
    ],
)
def test_registration_instants(at, period_s, expected):
    after = slot_number(datetime.fromisoformat(at), EPOCH_UTC, period_s) + 1
    assert slot_start(after, EPOCH_UTC, period_s) == datetime.fromisoformat(expected)


def test_the_grid_may_start_anywhere():
    origin = EPOCH_UTC + timedelta(seconds=7)
    assert slot_start(slot_number(EPOCH_UTC, origin, 10) + 1, origin, 10) == origin
    assert slot_start(slot_number(origin, origin, 10) + 1, origin, 10) == origin + timedelta(seconds=10)


INSTANTS = st.integers(0, 2**32).map(
    lambda seconds: EPOCH_UTC + timedelta(seconds=seconds, microseconds=seconds % 7)
)


@given(
    at=INSTANTS,
    t0=INSTANTS,
    slot_s=st.integers(1, 86400),
)
def test_each_instant_lies_in_its_slot(at, t0, slot_s):
    slot = slot_number(at, t0, slot_s)
    assert slot_start(slot, t0, slot_s) <= at < slot_start(slot + 1, t0, slot_s)
    assert slot_number(at.astimezone(timezone(timedelta(hours=2))), t0, slot_s) == slot
