"""When profiles fire: grids that start at valid_from, pure functions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.enforcement.schedule import (
    MAX_INSTANTS,
    cycle_begin,
    deliveries,
    delivery_window,
    has_cycle,
    is_delivery,
    is_registration,
    last_instant,
    next_registration,
    registrations,
    slot_ending_at,
)
from firmware.profile.tariffs import FeedIn, GridState, Visualisation
from tests.unit.firmware.profile_set import at, bill, net, series


def test_an_interval_series_registers_from_the_first_instant_on():
    assert registrations(series(), at(-5000), at(1800)) == [at(0), at(900), at(1800)]


def test_the_beginning_is_excluded_and_the_end_included():
    assert registrations(series(), at(900), at(1800)) == [at(1800)]
    assert registrations(series(), at(1800), at(1800)) == []


def test_taf_1_registers_at_the_end_of_the_period_alone():
    profile = bill(billing_period_s=2700)
    assert registrations(profile, at(-1), at(8000)) == [at(2700), at(5400)]
    assert deliveries(profile, at(-1), at(8000)) == [at(2700), at(5400)]


def test_nothing_fires_after_the_end_of_a_profile():
    profile = series(valid_until=at(1000))
    assert registrations(profile, at(-1), at(9000)) == [at(0), at(900)]
    assert next_registration(profile, at(900)) is None
    assert next_registration(profile, at(899)) == at(900)
    assert next_registration(profile, at(-99999)) == at(0)


def test_an_interval_series_is_delivered_once_a_day_unless_told_otherwise():
    assert deliveries(series(), at(-1), at(86400)) == [at(86400)]
    assert deliveries(series(billing_period_s=1800), at(-1), at(3600)) == [at(1800), at(3600)]
    assert delivery_window(series(billing_period_s=1800), at(3600)) == (at(1800), at(3600))


def test_a_long_list_is_cut():
    assert len(registrations(series(registration_period_s=1), at(-1), at(10**9))) == MAX_INSTANTS


def test_slots():
    assert [slot_ending_at(net(), at(second)) for second in (-900, 0, 1, 900, 1800)] == [
        None,
        None,
        None,
        0,
        1,
    ]


@settings(deadline=None)
@given(st.integers(1, 4000), st.integers(-10_000, 10_000), st.integers(0, 10_000))
def test_cutting_time_anywhere_changes_nothing(period, start, length):
    profile, middle = series(registration_period_s=period), start + length // 3
    whole = registrations(profile, at(start), at(start + length))
    assert whole == registrations(profile, at(start), at(middle)) + registrations(
        profile, at(middle), at(start + length)
    )
    assert all(is_registration(profile, instant) for instant in whole)


@settings(deadline=None)
@given(st.integers(-100_000_000, 100_000_000) | st.integers(-100, 100).map(lambda number: number * 900_000))
def test_an_instant_is_on_the_grid_or_not(millisecond):
    instant = at(millisecond / 1000)
    assert is_registration(series(), instant) == (millisecond >= 0 and millisecond % 900_000 == 0)
    ends = millisecond > 0 and millisecond % 1_800_000 == 0
    assert is_delivery(bill(billing_period_s=1800), instant) == ends


def test_use_cases_that_send_the_present_state_deliver_each_value():
    quick = series(taf=13, visualisation=Visualisation(consent_until=at(2000)))
    assert deliveries(quick, at(0), at(9999)) == [at(900), at(1800)]
    assert last_instant(quick) == at(2000)
    assert last_instant(series(taf=13, valid_until=at(1000), visualisation=quick.visualisation)) == at(1000)
    assert last_instant(series()) is None


@pytest.mark.parametrize(
    ("changes", "cycle"),
    [
        ({"taf": 6}, False),
        ({"taf": 9}, False),
        ({"taf": 9, "feed_in": FeedIn(send="cycle")}, True),
        ({"taf": 9, "feed_in": FeedIn(send="change", change_w=1)}, False),
        ({"taf": 10}, True),
        ({"taf": 10, "grid_state": GridState(send="both")}, True),
        ({"taf": 10, "grid_state": GridState(send="event")}, False),
        ({"taf": 11}, False),
        ({"taf": 12}, True),
    ],
)
def test_what_has_a_cycle(changes, cycle):
    assert has_cycle(series(**changes)) is cycle
    assert bool(deliveries(series(**changes), at(0), at(86400))) is cycle


def test_the_begin_of_a_cycle():
    hourly = series(billing_period_s=3600)
    assert [cycle_begin(hourly, at(second)) for second in (-5, 0, 3599, 3600, 9000)] == [
        at(0), at(0), at(0), at(3600), at(7200),
    ]  # fmt: skip
