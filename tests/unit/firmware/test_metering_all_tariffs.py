"""What holds of every tariff use case, over random original lists."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from firmware.metering.status import GatewayStatus, gateway_half, wireless
from firmware.metering.tariff.catalogue import USE_CASES, evaluate, fired
from firmware.metering.tariff.task import TariffEvent
from tests.unit.firmware.profile_set import at
from tests.unit.firmware.tariff_examples import example_of, time_variable
from tests.unit.firmware.tariff_task import SLOT, amounts, registers_of, task, value


def test_every_use_case_is_there():
    assert sorted(USE_CASES) == list(range(1, 15))


quantities = st.lists(st.none() | st.integers(0, 1500), min_size=1, max_size=60)
happenings = st.lists(
    st.builds(
        lambda second, name: TariffEvent(at(second), name),
        st.integers(0, 50000),
        st.sampled_from(["peak", "night"]),
    ),
    max_size=5,
)


@given(st.sampled_from(sorted(USE_CASES)), quantities, happenings, st.randoms(use_true_random=False))
def test_the_same_list_in_any_order_gives_the_same(taf, used, events, shuffler):
    entries = registers_of(used)
    given_task = task(example_of(taf), entries, 0, SLOT * len(used), events)
    shuffler.shuffle(entries)
    shuffler.shuffle(events)
    again = task(example_of(taf), entries, 0, SLOT * len(used), events)
    assert evaluate(given_task) == evaluate(again)
    assert fired(given_task) == fired(again)


@given(st.sampled_from([2, 3, 4, 5]), quantities, happenings, st.integers(1, 12))
def test_no_energy_is_lost_or_made(taf, used, events, cut):
    """Over any division into periods: stages and error registers add up to the difference of the total."""
    entries = registers_of(used)
    rule, end = example_of(taf), SLOT * len(used)
    length = SLOT * 4 * cut
    counted = 0
    for begin in range(0, end, length):
        result = amounts(evaluate(task(rule, entries, begin, min(begin + length, end), events)))
        counted += sum(amount or 0 for stage, amount in result.items() if stage)
    known = [entry.value for entry in entries if entry.value is not None]
    assert counted == known[-1] - known[0]


@given(quantities, st.integers(0, 50))
def test_a_missing_value_loses_nothing(used, gap):
    """A list without one inner value counts the same in sum; nothing was guessed for where it stood."""
    entries = registers_of([quantity or 0 for quantity in used])
    place = gap % len(entries)
    assume(0 < place < len(entries) - 1)
    without = [*entries[:place], *entries[place + 1 :]]
    whole, holed = (
        amounts(evaluate(task(time_variable(), given_list, 0, SLOT * len(used))))
        for given_list in (entries, without)
    )
    assert sum(whole[stage] for stage in (1, 2, 63)) == sum(holed[stage] for stage in (1, 2, 63))
    assert whole[63] == 0


def test_a_meter_s_fault_shows_in_the_registers():
    start = 8 * 3600
    entries = registers_of([100, 100], origin=at(start))
    entries[1] = value(at(start + 900), 1100, status=wireless(0x08, time_valid=True))
    result = evaluate(task(time_variable(), entries, start, start + 1800))
    assert all(GatewayStatus.METER_ERROR in gateway_half(one.status) for one in result[1:])
