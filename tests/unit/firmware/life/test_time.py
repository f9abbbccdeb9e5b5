"""FPT_STM.1: the state that follows from the time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from firmware.clock.clock import AdjustableClock
from firmware.clock.time_sync import HostTime, TimeSync, TimeUnavailable
from firmware.clock.timekeeping import Outcome as TimeOutcome
from firmware.life.states import Cause, Function, State
from firmware.log.entry import Event
from tests.unit.firmware.life.world import START


class Source:
    name = "test"

    def __init__(self, clock: AdjustableClock) -> None:
        self._host, self.silent = HostTime(clock), False

    async def sample(self):
        if self.silent:
            raise TimeUnavailable("no answer")
        return await self._host.sample()


@pytest.fixture
def sync(world):
    return TimeSync(world.clock, Source(world.host), world.logs, world.life, period_s=lambda: 900)


async def test_fpt_stm_1_the_hosts_clock_jumps_far_ahead_and_back(world, sync):
    await sync.once()
    assert await world.events() == [Event.TIME_SYNCHRONISED]
    world.host.set_utc(START + timedelta(days=400))
    world.host.advance(16)
    assert (await sync.once()).outcome is TimeOutcome.DEVIATION
    assert world.clock.now_utc() == START + timedelta(seconds=16)
    assert not world.clock.valid()
    assert world.life.state is State.MEASUREMENT
    assert world.life.allows(Function.MEASURE)
    world.host.set_utc(START + timedelta(seconds=16))
    world.host.advance(16)
    await sync.once()
    assert (world.clock.valid(), world.life.state) == (True, State.NORMAL)
    assert world.clock.now_utc() == START + timedelta(seconds=32)
    assert [one.event for one in await world.logs.calibration.entries()] == [Event.TIME_DEVIATION]
    assert [one.event for one in await world.notices.waiting()] == [Event.TIME_INVALID]


async def test_fpt_stm_1_a_deviation_may_stop_measuring_instead(world):
    sync = TimeSync(
        world.clock, Source(world.host), world.logs, world.life, period_s=lambda: 900, stop_on_deviation=True
    )
    await sync.once()
    world.host.set_utc(START + timedelta(seconds=60))
    await sync.once()
    assert world.life.state is State.APPLICATION
    await sync.once()
    assert world.life.state is State.NORMAL


async def test_fpt_stm_1_a_silent_source_lets_trust_fade_and_comes_back(world, sync):
    sync._source.silent = True
    with pytest.raises(TimeUnavailable):
        await sync.once()
    assert world.life.causes == {Cause.TIME_INVALID: "it is unknown"}
    sync._source.silent = False
    await sync.once()
    assert world.life.state is State.NORMAL
    sync._source.silent = True
    world.host.advance(300_000)
    with pytest.raises(TimeUnavailable):
        await sync.once()
    assert world.life.state is State.MEASUREMENT
