"""FPT_STM.1: unknown, synchronised, invalid; the 3 % rule; a clock that jumps in either direction."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.clock.clock import AdjustableClock
from firmware.clock.time_sync import DisciplinedClock, HostTime
from firmware.clock.timekeeping import Discipline, Outcome, TimeKeeper, TimeSample, TimeState

START = datetime(2026, 1, 1, tzinfo=UTC)


class Bench:
    """A keeper, true time, and a source that is off by `source_s`."""

    def __init__(self, wrong_s: float = 0.0, **rules: float) -> None:
        self.now_s = 0.0
        self.source_s = 0.0
        self.keeper = TimeKeeper(START + timedelta(seconds=wrong_s), 0.0, Discipline(**rules))

    def sample(self, error_s: float = 0.01):
        at_utc = START + timedelta(seconds=self.now_s + self.source_s)
        return self.keeper.take(TimeSample(at_utc, self.now_s, error_s, "test"))

    def poll(self, count: int = 1, every_s: float = 16.0):
        taken = None
        for _ in range(count):
            self.now_s += every_s
            taken = self.sample()
        return taken

    @property
    def state(self) -> TimeState:
        return self.keeper.state(self.now_s)

    @property
    def wrong_s(self) -> float:
        return (self.keeper.now_utc(self.now_s) - START).total_seconds() - self.now_s


def test_unknown_until_the_first_authentic_sample_sets_it_whatever_it_says():
    bench = Bench(wrong_s=-3e8)
    assert bench.state is TimeState.UNKNOWN
    assert bench.keeper.error_s(0.0) == float("inf")
    taken = bench.sample()
    assert (taken.outcome, bench.state, bench.wrong_s) == (Outcome.SET, TimeState.SYNCED, 0.0)
    assert round(taken.offset_s) == 3e8


def test_a_small_offset_is_slewed_and_never_steps():
    bench = Bench()
    bench.sample()
    bench.source_s = 0.004
    assert bench.poll().outcome is Outcome.SLEWED
    assert bench.wrong_s == pytest.approx(0, abs=1e-6)
    before = bench.keeper.now_utc(bench.now_s)
    for _ in range(100):
        bench.now_s += 0.1
        after = bench.keeper.now_utc(bench.now_s)
        assert 0.0999 <= (after - before).total_seconds() <= 0.1001
        before = after
    assert bench.wrong_s == pytest.approx(0.004, abs=1e-4)


def test_the_error_grows_with_age_until_the_time_is_invalid_and_a_sample_mends_it():
    bench = Bench(drift_ppm=100)
    bench.sample(error_s=0.01)
    assert bench.keeper.limit_s == 27  # 3 % of a quarter of an hour
    bench.now_s = 3600
    assert bench.keeper.error_s(bench.now_s) == pytest.approx(0.37)
    bench.now_s = 269_000
    assert bench.state is TimeState.SYNCED
    bench.now_s = 270_000
    assert bench.state is TimeState.INVALID
    assert bench.sample().outcome is Outcome.SET
    assert bench.state is TimeState.SYNCED


def test_the_limit_follows_the_shortest_registration_period():
    bench = Bench()
    bench.keeper.set_period(1)
    bench.sample(error_s=0.01)
    assert bench.state is TimeState.SYNCED
    bench.sample(error_s=0.031)
    assert bench.state is TimeState.INVALID
    bench.keeper.set_period(None)
    assert bench.state is TimeState.SYNCED


@pytest.mark.parametrize("jump_s", [28, -28, 900, -900])
def test_a_deviation_beyond_3_percent_makes_it_invalid_and_the_next_sample_sets_it(jump_s):
    bench = Bench()
    bench.sample()
    bench.source_s = jump_s
    taken = bench.poll()
    assert (taken.outcome, bench.state, round(taken.offset_s)) == (
        Outcome.DEVIATION,
        TimeState.INVALID,
        jump_s,
    )
    assert abs(bench.wrong_s) < 1  # not moved by it yet
    assert bench.poll().outcome is Outcome.SET
    assert (bench.state, round(bench.wrong_s)) == (TimeState.SYNCED, jump_s)


def test_just_below_the_limit_is_no_deviation():
    bench = Bench()
    bench.sample()
    bench.source_s = 26.9
    assert bench.poll().outcome is Outcome.SLEWED


@pytest.mark.parametrize("jump_s", [2000, -2000, 3e8, -3e8])
def test_a_source_that_jumps_far_and_comes_back_moves_nothing(jump_s):
    bench = Bench()
    bench.sample()
    bench.source_s = jump_s
    assert bench.poll().outcome is Outcome.DEVIATION
    bench.source_s = 0
    assert bench.poll().outcome is Outcome.SET
    assert (bench.state, round(bench.wrong_s)) == (TimeState.SYNCED, 0)


@pytest.mark.parametrize("jump_s", [2000, -2000, 3e8, -3e8])
def test_a_source_that_stays_where_it_jumped_is_followed_once_it_is_confirmed(jump_s):
    bench = Bench()
    bench.sample()
    bench.source_s = jump_s
    outcomes = [bench.poll().outcome for _ in range(3)]
    assert outcomes == [Outcome.DEVIATION, Outcome.DOUBTED, Outcome.SET]
    assert (bench.state, round(bench.wrong_s)) == (TimeState.SYNCED, jump_s)


def test_a_source_that_talks_at_random_is_never_followed():
    bench, source = Bench(), random.Random(4)
    bench.sample()
    for _ in range(200):
        bench.source_s = source.choice((-1, 1)) * source.uniform(5000, 1e8)
        assert bench.poll().outcome in (Outcome.DEVIATION, Outcome.DOUBTED)
    assert bench.state is TimeState.INVALID
    assert abs(bench.wrong_s) < 1


@given(
    st.lists(
        st.tuples(st.floats(-1e9, 1e9), st.floats(0.1, 1e5), st.floats(1e-4, 1.0)), min_size=1, max_size=30
    )
)
def test_whatever_the_source_said_a_few_true_samples_mend_it(story):
    bench = Bench()
    for source_s, passed_s, error_s in story:
        bench.now_s += passed_s
        bench.source_s = source_s
        bench.sample(error_s)
    bench.source_s = 0.0
    bench.poll(4)
    assert bench.state is TimeState.SYNCED
    assert abs(bench.wrong_s) <= bench.keeper.limit_s


def test_what_a_discipline_refuses():
    for wrong in ({"drift_ppm": 0}, {"slew_ppm": -1}, {"confirmations": 0}, {"limit_share": 0}):
        with pytest.raises(ValueError, match="above 0"):
            Discipline(**wrong)


async def test_the_disciplined_clock_runs_on_when_the_hosts_is_set():
    host = AdjustableClock(START)
    clock = DisciplinedClock(host)
    clock.keeper.take(await HostTime(host).sample())
    assert clock.valid()
    host.set_utc(START + timedelta(days=365))
    host.advance(10)
    assert clock.now_utc() == START + timedelta(seconds=10)
    assert clock.monotonic() == 10
    host.set_utc(START)
    assert clock.now_utc() == START + timedelta(seconds=10)
    assert clock.error_s == pytest.approx(0.011)


async def test_the_disciplined_clock_waits_by_its_own_time():
    host = AdjustableClock(START, rate=1000)
    clock = DisciplinedClock(host)
    await clock.sleep_until(clock.now_utc() + timedelta(seconds=65))
    assert clock.now_utc() >= START + timedelta(seconds=65)
    await clock.sleep(5)
    await clock.sleep_until(START)


class Slow:
    """A host that is interrupted between reading its two clocks, all but once."""

    def __init__(self) -> None:
        self.reads = 0

    def now_utc(self) -> datetime:
        return START

    def monotonic(self) -> float:
        self.reads += 1
        return self.reads * (0.0001 if self.reads >= 6 else 10.0)


async def test_a_reading_that_was_interrupted_is_done_again():
    sample = await HostTime(Slow(), error_s=0.01).sample()
    assert sample.error_s < 0.02
