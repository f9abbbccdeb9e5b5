"""Running members and a running supplier with a hostile network between them, in virtual time.

Invariants I1, I3, I5, I6, I12, I13, I17 and I18 after each run (`invariants.all_hold`), and that a net whose
trouble is over totals everybody again.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from firmware.enforcement.dcnet.machines import SlotState
from tests.support.instant_loop import Stalled, VirtualLoop, run
from tests.unit.dcnet.hostile_net import WholeNet
from tests.unit.dcnet.invariants import all_hold, durable
from tests.unit.dcnet.trouble import SLOT_S, Fault, Trouble, storm

SIZE, SLOTS, CALM_SLOTS = 4, 4, 4
EXAMPLES, NIGHTLY_EXAMPLES = 40, 600
CASES, NIGHTLY_CASES = 20, 400

amounts = st.floats(0, 1, exclude_max=True)
troubles = st.dictionaries(
    st.integers(1, SIZE),
    st.builds(
        Trouble,
        st.dictionaries(st.integers(1, 45), st.tuples(st.sampled_from(Fault), amounts), max_size=8),
        st.dictionaries(st.integers(1, 160), st.floats(1, 1.5 * SLOT_S), max_size=2),
        st.floats(-300, 300),
    ),
)


async def lived(net: WholeNet, slots: int = SLOTS) -> WholeNet:
    """The net after some slots of trouble and some of peace; everything that must hold, holds."""
    await net.run(slots + CALM_SLOTS, calm_after=slots)
    await all_hold(net)
    return net


def back_to_normal(net: WholeNet) -> None:
    last = net.totals[SLOTS + CALM_SLOTS]
    assert last["verdict"] == "totalled"
    assert last["left_out"] == [], "somebody did not come back"


def whatever_happens(trouble: dict[int, Trouble]) -> None:
    back_to_normal(run(lived(WholeNet(SIZE, trouble))))


@settings(max_examples=EXAMPLES)
@given(troubles)
def test_i1_i3_i5_i6_i12_i13_i17_i18_whatever_network_and_power_do(trouble: dict[int, Trouble]) -> None:
    whatever_happens(trouble)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@settings(max_examples=NIGHTLY_EXAMPLES)
@given(troubles)
def test_more_of_it(trouble: dict[int, Trouble]) -> None:
    whatever_happens(trouble)


def storms(numbers: range) -> Counter[str]:
    seen: Counter[str] = Counter()
    for number in numbers:
        source = random.Random(number)
        rate, kills = source.choice(((0.02, 0), (0.05, 1), (0.15, 3)))
        net = WholeNet(5, {i: storm(source, rate, kills) for i in range(1, 6)}, seed=number)
        run(lived(net, 6))
        seen.update(one["verdict"] for one in net.totals.values())
        seen["lives"] += sum(gateway.lives for gateway in net.gateways)
        seen["left out"] += sum(len(one["left_out"]) > 0 for one in net.totals.values())
    return seen


def test_storms_in_which_a_seventh_of_all_messages_goes_wrong() -> None:
    seen = storms(range(CASES))
    assert seen["totalled"] > 3 * CASES  # the net did not simply refuse everything,
    assert seen["aborted"] > CASES // 4  # and the trouble was real
    assert seen["left out"] > CASES // 4
    assert seen["lives"] > 5 * CASES


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_more_storms() -> None:
    storms(range(CASES, CASES + NIGHTLY_CASES))


@pytest.mark.parametrize(
    ("away_s", "first", "step"),
    [
        (60.0, 1, 2),
        pytest.param(60.0, 2, 2, marks=pytest.mark.nightly),
        (0.9 * SLOT_S, 3, 7),
        (6.2 * SLOT_S, 5, 7),
    ],
)
def test_i13_a_power_cut_at_every_await_point(away_s: float, first: int, step: int) -> None:
    """One gateway dies at each point in turn: founding, submission, opening, result, a new epoch."""
    points = run(lived(WholeNet(4))).gateways[0].points
    assert points > 100
    for point in range(first, points // 2 if away_s < SLOT_S / 2 else points // 4, step):
        net = run(lived(WholeNet(4, {1: Trouble({}, {point: away_s})})))
        assert net.gateways[0].lives == 2, point
        if away_s < SLOT_S:
            back_to_normal(net)


def test_a_total_that_became_known_to_nobody_in_time_is_not_owed() -> None:
    """Found by the runs above: opened, then away over an epoch's end, the result was never asked for."""

    async def away_over_midnight() -> WholeNet:
        net = WholeNet(4)
        async with net:
            await net.until(1)
            gateway = net.gateways[2]  # opens as soon as there is a manifest; results come a poll later
            await gateway.clock.sleep_until(net.rules.submit_until(2) + timedelta(seconds=60))
            assert (gateway, 2) in [(one, slot) for one, slot, _ in net.frames("open")]
            gateway.kill(1.7 * SLOT_S)
            await net.until(8)
        return net

    net = run(away_over_midnight())
    run(all_hold(net))
    entries, owed = run(durable(net.gateways[2]))
    assert net.totals[2]["members"] == ["gw1", "gw2", "gw3", "gw4"]
    assert entries[2].state is SlotState.TOTALLED
    assert 2 not in [one.first_slot for one in owed]


def test_an_earlier_answer_at_any_moment_costs_nothing_but_time() -> None:
    """Found by the runs above: another slot's result counted as "aborted", and energy was owed twice."""
    for message in range(6, 22):
        net = run(lived(WholeNet(4, {2: Trouble({message: (Fault.OLD_ANSWER, 0.3)})})))
        assert {one["verdict"] for one in net.totals.values()} == {"totalled"}, message
        assert not any(one["left_out"] for one in net.totals.values()), message


@pytest.mark.parametrize("fault", list(Fault))
def test_one_bad_message_never_costs_more_than_its_slot_and_the_next(fault: Fault) -> None:
    """Each kind of trouble at each message of one member's second slot."""
    for message in (11, 14):
        net = run(lived(WholeNet(4, {2: Trouble({message: (fault, 0.3)})})))
        back_to_normal(net)
        missed = [slot for slot, one in net.totals.items() if one["left_out"] or one["verdict"] == "aborted"]
        assert len(missed) <= 3, (message, missed)


class Street(RuleBasedStateMachine):
    """A net that lives on while lines break and power goes, in any order; the invariants always hold."""

    @initialize(size=st.integers(4, 6))
    def found(self, size: int) -> None:
        self.loop = asyncio.Runner(loop_factory=VirtualLoop)
        self.net, self.slot = WholeNet(size), 1
        self.loop.run(self.net.__aenter__())
        self.later(1)

    @rule(slots=st.integers(1, 5))
    def later(self, slots: int) -> None:
        self.slot += slots
        self.loop.run(self.net.until(self.slot))

    @rule(member=st.integers(0, 3), away=st.floats(0.01, 5))
    def power_cut(self, member: int, away: float) -> None:
        self.net.gateways[member].kill(away * SLOT_S)

    @rule(member=st.integers(0, 3))
    def line_breaks(self, member: int) -> None:
        self.net.gateways[member].cut = True

    @rule()
    def lines_are_mended(self) -> None:
        for gateway in self.net.gateways:
            gateway.cut = False

    @invariant()
    def everything_holds(self) -> None:
        if hasattr(self, "net"):
            self.loop.run(all_hold(self.net))

    def teardown(self) -> None:
        if hasattr(self, "net"):
            self.lines_are_mended()
            self.later(9)
            assert self.net.totals[self.slot]["left_out"] == []
            self.loop.run(self.net.__aexit__())
            self.loop.close()


Street.TestCase.settings = settings(max_examples=10, stateful_step_count=8, deadline=None)
test_i12_i13_i18_a_street_in_any_order_of_events = Street.TestCase


async def test_the_virtual_loop_says_when_nothing_can_happen_any_more() -> None:
    async def waits_for_nothing() -> None:
        await asyncio.Event().wait()

    def in_a_thread_of_its_own() -> None:
        with pytest.raises(Stalled):
            run(waits_for_nothing())

    await asyncio.to_thread(in_a_thread_of_its_own)


def test_the_virtual_loop_takes_no_time_for_a_year() -> None:
    async def year() -> float:
        await asyncio.sleep(365 * 86400)
        return asyncio.get_running_loop().time()

    assert run(year()) == pytest.approx(365 * 86400)
