"""What all profiles of one recipient determine: a plain one must not undo a concealed one (FPR_CON.1)."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from firmware.enforcement.determination import MINIMUM_SLOTS, Grid, after, conflicts, grids, until
from firmware.profile.model import ProfileSet
from tests.unit.firmware.profile_set import (
    EMP_TLS,
    at,
    bill,
    billing,
    certificate,
    group_total,
    household,
    peer,
    series,
)


def found(*communication, processing) -> list[str]:
    profiles = ProfileSet(
        meters=household().meters, processing=tuple(processing), communication=tuple(communication)
    )
    return [f"{one.plain}+{one.other}" for one in conflicts(grids(profiles))]


def short_bill(identity="bill", slots=2, **changes):
    return bill(identity, billing_period_s=slots * 900, **changes)


def test_a_monthly_bill_undoes_nothing():
    assert conflicts(grids(household())) == []


def test_a_bill_over_two_slots_is_the_shortest():
    assert found(billing(), group_total(), processing=[short_bill(slots=2), series()]) == []
    assert found(billing(), group_total(), processing=[short_bill(slots=1), series()]) == ["billing+billing"]


def test_a_plain_series_beside_a_concealed_one_is_refused():
    assert found(billing(processing="series"), group_total(), processing=[series()])


def test_a_coarser_plain_series_is_a_bill():
    coarse = series("coarse", registration_period_s=3600)
    assert found(billing(processing="coarse"), group_total(), processing=[coarse, series()]) == []


def test_a_finer_or_shifted_plain_series_is_refused():
    fine = series("fine", registration_period_s=60)
    assert found(billing(processing="fine"), group_total(), processing=[fine, series()])
    odd = series("odd", registration_period_s=901)
    assert found(billing(processing="odd"), group_total(), processing=[odd, series()])


def test_two_harmless_bills_can_be_one_slot_apart():
    late = short_bill("late", slots=4, valid_from=at(900))
    both = [short_bill(slots=4), late, series()]
    assert found(billing(), group_total(), processing=[short_bill(slots=4), series()]) == []
    assert found(billing(), billing("second", processing="late"), group_total(), processing=both)


def test_two_bills_on_one_grid_are_fine():
    both = [short_bill(slots=4), short_bill("half", slots=2), series()]
    assert found(billing(), billing("second", processing="half"), group_total(), processing=both) == []


def test_bills_of_four_and_of_six_slots_meet_at_two():
    four, six = short_bill(slots=4), short_bill("six", slots=6)
    assert (
        found(billing(), billing("b6", processing="six"), group_total(), processing=[four, six, series()])
        == []
    )
    five = short_bill("five", slots=5)
    assert found(
        billing(), billing("b5", processing="five"), group_total(), processing=[four, five, series()]
    )


def test_another_measurand_of_the_meter_counts():
    tariff = series("tariff", obis="1-0:1.8.1")
    assert found(billing(processing="tariff"), group_total(), processing=[tariff, series()])


def test_another_meter_does_not():
    other = series("other", meter="ELS-87654321-33-02")
    assert found(billing(processing="other"), group_total(), processing=[other, series()]) == []


def test_another_recipient_does_not():
    plain = series("plain", recipients=("other",))
    sent = billing(processing="plain", recipient="other", peer=peer("other"))
    assert found(sent, group_total(), processing=[plain, series()]) == []


@pytest.mark.parametrize(
    "disguise",
    [
        {"tls_certificate": EMP_TLS},
        {"enc_certificate": EMP_TLS},
        {"host": "EMP.example", "port": 443},
    ],
)
def test_a_second_name_does_not_help(disguise):
    plain = series("plain", recipients=("other",))
    sent = billing(processing="plain", recipient="other", peer=peer("other", **disguise))
    assert found(sent, group_total(), processing=[plain, series()])


def test_a_second_certificate_of_the_same_key_does_not_help():
    key = ec.generate_private_key(ec.SECP256R1())
    plain = series("plain", recipients=("other",))
    sent = billing(
        processing="plain", recipient="other", peer=peer("other", enc_certificate=certificate("OTHER", key))
    )
    concealed = group_total(peer=peer(enc_certificate=certificate("EMP", key)))
    assert found(sent, concealed, processing=[plain, series()])


def test_a_profile_that_the_gate_always_denies_does_not_count():
    plain = series("plain", recipients=("nobody",))
    assert found(billing(processing="plain"), group_total(), processing=[plain, series()]) == []


def test_plain_until_the_net_begins_and_concealed_from_then_on():
    plain = series("plain", valid_until=at(9000))
    later = series(valid_from=at(9000))
    monthly = bill(valid_from=at(9000))
    order = (billing(processing="plain"), billing("bill"), group_total())
    assert found(*order, processing=[plain, later, monthly]) == []
    overlapping = series("plain", valid_until=at(9900))
    assert found(*order, processing=[overlapping, later, monthly])


def test_a_first_bill_right_after_plain_values_is_refused():
    plain = series("plain", valid_until=at(9000))
    soon = bill(valid_from=at(9900) - timedelta(days=30))
    assert found(
        billing(processing="plain"),
        billing("soon", processing="bill"),
        group_total(),
        processing=[plain, series(valid_from=at(9000)), soon],
    )


def test_concealed_until_the_end_and_plain_afterwards():
    hidden = series(valid_until=at(9000))
    plain = series("plain", valid_from=at(9000))
    assert found(billing(processing="plain"), group_total(), processing=[hidden, plain]) == []
    early = series("plain", valid_from=at(8100))
    assert found(billing(processing="plain"), group_total(), processing=[hidden, early])


def test_what_was_given_under_earlier_profiles_still_counts():
    """Version 1 bills at even hours, version 2 fifteen minutes later: together they give one slot."""
    first = household(processing=(short_bill(slots=8), series()))
    second = household(processing=(short_bill(slots=8, valid_from=at(900)), series()))
    now = at(7200 + 60)
    given_so_far = until(grids(first), now)
    assert conflicts(grids(first)) == []
    assert conflicts(grids(second)) == []
    assert conflicts((*given_so_far, *after(grids(second), now))) != []
    assert conflicts((*given_so_far, *after(grids(first), now))) == []


def test_a_plain_profile_right_after_a_concealed_one_counts():
    first, now = household(processing=(short_bill(slots=8), series())), at(7200 + 60)
    second = household(processing=(series("series"),), communication=(billing(processing="series"),))
    assert conflicts((*until(grids(first), now), *after(grids(second), now))) != []
    much_later = at(7200 + 3600)
    assert conflicts((*until(grids(first), much_later), *after(grids(second), much_later))) == []


def test_memory_is_bounded():
    given_so_far = ()
    for day in range(1, 50):
        given_so_far = until((*given_so_far, *grids(household())), at(day * 86400))
    assert len(given_so_far) == 2
    assert until(given_so_far, at(500 * 86400)) == ()
    assert until(grids(household()), at(-1)) == ()


def test_grids_that_do_not_fit_are_refused():
    first = Grid("hidden", ("name emp",), "m", 0, 2, None, concealed=True)
    plain = [
        Grid(f"plain{step}", ("name emp",), "m", 10**7, step, None, concealed=False)
        for step in (30_030, 46_189 * 2, 1_000_003 * 4)
    ]
    assert conflicts([first, *plain])


grid = st.builds(
    lambda first, step, length: Grid(
        f"{first}/{step}/{length}",
        ("name emp",),
        "m",
        first,
        step,
        None if length is None else first + length,
        False,
    ),
    st.integers(0, 60),
    st.integers(1, 12),
    st.none() | st.integers(0, 60),
)


@given(st.lists(grid, max_size=3), st.integers(0, 60), st.none() | st.integers(1, 60), st.integers(1, 4))
def test_found_exactly_when_two_instants_are_too_close(plain, begin, length, slot):
    """Against the definition: enumerate every pair of instants in a long stretch of time."""
    end = None if length is None else begin + length
    hidden = Grid("hidden", ("name emp",), "m", begin, slot, end, concealed=True)
    instants = sorted(
        {
            instant
            for one in plain
            for instant in range(one.first, 2000, one.step)
            if one.last is None or instant <= one.last
        }
    )
    close = any(
        right - left < MINIMUM_SLOTS * slot and right > begin and (end is None or left < end)
        for left, right in pairwise(instants)
    )
    assert bool(conflicts([hidden, *plain])) == close


def test_a_profile_without_processing_gives_nothing():
    assert grids(household(processing=())) == ()
    assert replace(household(), communication=()).communication == ()


@pytest.mark.parametrize("step", range(1, 17))
def test_two_is_the_least_number_of_slots_from_which_no_slot_follows(step):
    """By linear algebra: plain instants every `step` quarters of a slot, at every phase."""
    quarters, slots = 4, 12
    told = [
        [1.0 if begin <= quarter < begin + step else 0.0 for quarter in range(quarters * slots)]
        for begin in range(0, quarters * slots - step + 1, step)
    ]
    rank, shares = np.linalg.matrix_rank(told), []
    follows = False
    for first in range(quarters * slots - quarters):  # a slot at any phase against the plain grid
        slot = [1.0 if first <= quarter < first + quarters else 0.0 for quarter in range(quarters * slots)]
        follows |= np.linalg.matrix_rank([*told, slot]) == rank
        shares += [np.dot(slot, one) / step for one in told]
    harmless = step >= MINIMUM_SLOTS * quarters
    assert not (harmless and follows)
    assert follows == (quarters % step == 0)
    assert (max(shares) <= 0.5) == harmless  # what is told is at most half one slot's
