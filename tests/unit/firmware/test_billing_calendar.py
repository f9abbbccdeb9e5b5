"""Billing periods of calendar months: where they begin, what fires, what they determine.

The time zone database is the judge of local midnights; everything else is counted by hand.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from firmware.enforcement.content import unfit
from firmware.enforcement.determination import Grid, after, conflicts, grids, until
from firmware.enforcement.schedule import (
    cycle_begin,
    deliveries,
    delivery_period_s,
    delivery_window,
    is_registration,
    next_registration,
    registrations,
)
from firmware.metering.billing_calendar import REPEATS_S, begin_before, begins, begins_between
from firmware.metering.dataset import Dataset
from firmware.profile.check import check
from firmware.profile.check_tariffs import check_tariff
from firmware.profile.model import ProfileSet
from firmware.profile.tariffs import BillingCalendar, ConsumptionVariable, LoadVariable, TimeVariable
from tests.unit.firmware.profile_set import bill, billing, group_total, household, net, series
from tests.unit.firmware.tariff_examples import TWO_STAGES
from tests.unit.firmware.tariff_task import profile, value

MONTHLY = BillingCalendar()
BERLIN = ZoneInfo("Europe/Berlin")
STRETCH = st.integers(86400 * 366, 86400 * 366 * 219).map(lambda second: datetime.fromtimestamp(second, UTC))


def utc(*fields: int) -> datetime:
    return datetime(*fields, tzinfo=UTC)


def monthly(**changes):
    return bill(billing_period_s=None, billing_calendar=MONTHLY, **changes)


# ------------------------------------------------------------------ the calendar


def test_months_begin_at_local_midnight():
    assert begins_between(MONTHLY, utc(2026, 1, 1), utc(2026, 5, 1)) == [
        utc(2026, 1, 31, 23),
        utc(2026, 2, 28, 23),
        utc(2026, 3, 31, 22),  # the clocks went forward on the 29th
        utc(2026, 4, 30, 22),
    ]


def test_a_leap_day_belongs_to_its_month():
    february = begins_between(MONTHLY, utc(2028, 1, 31, 22), utc(2028, 3, 1))
    assert february[1] - february[0] == timedelta(days=29)


@pytest.mark.parametrize(("month", "hours"), [(3, 31 * 24 - 1), (10, 31 * 24 + 1), (1, 31 * 24)])
def test_a_month_with_a_change_of_the_clocks_is_an_hour_off(month, hours):
    [begin] = begins_between(MONTHLY, utc(2026, month, 1) - timedelta(days=2), utc(2026, month, 1))
    [end] = begins_between(MONTHLY, begin, begin + timedelta(days=32))
    assert end - begin == timedelta(hours=hours)


def test_quarters_and_years_begin_where_they_are_told_to():
    quarterly = BillingCalendar(months=3, starts="02-15", summer_time="none", utc_offset_min=0)
    assert begins_between(quarterly, utc(2026, 1, 1), utc(2026, 12, 31)) == [
        utc(2026, 2, 15),
        utc(2026, 5, 15),
        utc(2026, 8, 15),
        utc(2026, 11, 15),
    ]
    yearly = BillingCalendar(months=12, starts="04-01")
    assert begins_between(yearly, utc(2026, 1, 1), utc(2027, 12, 31)) == [
        utc(2026, 3, 31, 22),
        utc(2027, 3, 31, 22),
    ]


@settings(max_examples=60)
@given(STRETCH, st.sampled_from([1, 2, 3, 4, 6, 12]), st.integers(1, 28))
def test_the_time_zone_database_agrees_since_the_rule_holds(instant, months, day):
    instant = max(instant, utc(1997, 1, 1))
    calendar = BillingCalendar(months=months, starts=f"01-{day:02}")
    first = datetime.fromtimestamp(next(begins(calendar, int(instant.timestamp()))), UTC)
    local = first.astimezone(BERLIN)
    if instant.year < 2037:  # beyond, the database of some hosts has no rule
        assert (local.day, local.time(), (local.month - 1) % months) == (day, time(), 0)
    assert first > instant
    assert begin_before(calendar, first + timedelta(seconds=1)) == first
    assert begin_before(calendar, first) <= instant < first + timedelta(seconds=1)


@settings(max_examples=60)
@given(STRETCH, st.integers(1, 400 * 86400))
def test_periods_join_without_gap(instant, length_s):
    until_utc = instant + timedelta(seconds=length_s)
    found = begins_between(MONTHLY, instant, until_utc)
    assert all(instant < one <= until_utc for one in found)
    assert all(begin_before(MONTHLY, later) == earlier for earlier, later in pairwise(found))


def test_the_pattern_repeats_after_400_years():
    start = int(utc(2026, 1, 1).timestamp())
    near, far = begins(MONTHLY, start), begins(MONTHLY, start + 7 * REPEATS_S)
    assert [next(far) - next(near) for _ in range(30)] == [7 * REPEATS_S] * 30
    assert next(begins(MONTHLY, start - 9 * REPEATS_S)) == next(begins(MONTHLY, start)) - 9 * REPEATS_S


# ------------------------------------------------------------------ what fires


def test_the_first_period_begins_with_the_profile():
    rule = monthly(valid_from=utc(2026, 1, 20))
    ends = deliveries(rule, utc(2025, 1, 1), utc(2026, 3, 1))
    assert ends == registrations(rule, utc(2025, 1, 1), utc(2026, 3, 1))
    assert ends == [utc(2026, 1, 31, 23), utc(2026, 2, 28, 23)]
    assert delivery_window(rule, ends[0]) == (utc(2026, 1, 20), ends[0])
    assert delivery_window(rule, ends[1]) == (ends[0], ends[1])


def test_the_last_period_ends_with_the_profile():
    end = utc(2026, 2, 10, 12)
    for rule in (monthly(valid_until=end), series(billing_calendar=MONTHLY, valid_until=end)):
        assert deliveries(rule, utc(2026, 1, 1), utc(2027, 1, 1)) == [utc(2026, 1, 31, 23), end]
        assert delivery_window(rule, end) == (utc(2026, 1, 31, 23), end)
        assert is_registration(rule, end)


def test_a_profile_that_ends_with_a_month_has_no_rest():
    rule = monthly(valid_until=utc(2026, 1, 31, 23))
    assert deliveries(rule, utc(2026, 1, 1), utc(2027, 1, 1)) == [utc(2026, 1, 31, 23)]
    inside = series(billing_period_s=3600, valid_until=utc(2026, 1, 1, 1, 20))
    assert deliveries(inside, utc(2025, 1, 1), utc(2027, 1, 1)) == [
        utc(2026, 1, 1, 1),
        utc(2026, 1, 1, 1, 15),
    ]
    assert delivery_window(inside, utc(2026, 1, 1, 1, 15))[0] == utc(2026, 1, 1, 1)
    whole = series(billing_period_s=3600, valid_until=utc(2026, 1, 1, 1))
    assert deliveries(whole, utc(2025, 1, 1), utc(2027, 1, 1)) == [utc(2026, 1, 1, 1)]


def test_taf_1_in_seconds_keeps_the_rest_to_itself():
    rule = bill(billing_period_s=3600, valid_until=utc(2026, 1, 1, 1, 20))
    assert deliveries(rule, utc(2025, 1, 1), utc(2027, 1, 1)) == [utc(2026, 1, 1, 1)]


def test_what_is_next_and_what_began():
    rule = monthly()
    assert next_registration(rule, utc(2026, 1, 31, 23)) == utc(2026, 2, 28, 23)
    yearly = monthly(), BillingCalendar(months=12)
    assert next_registration(replace(yearly[0], billing_calendar=yearly[1]), utc(2026, 1, 1)) == utc(
        2026, 12, 31, 23
    )
    assert cycle_begin(rule, utc(2026, 1, 31, 23)) == utc(2026, 1, 31, 23)
    assert cycle_begin(rule, utc(2026, 2, 20)) == utc(2026, 1, 31, 23)
    assert cycle_begin(rule, utc(2026, 1, 5)) == utc(2026, 1, 1)
    assert delivery_period_s(rule) == 28 * 86400 - 3600


def test_the_gate_takes_a_month_and_nothing_beside_it():
    rule, end = monthly(), utc(2026, 2, 28, 23)
    good = Dataset("bill", 1, "household", utc(2026, 1, 31, 23), end, (value(end, 5),))
    assert unfit(rule, good) is None
    early = Dataset("bill", 1, "household", utc(2026, 1, 1), end, (value(end, 5),))
    assert unfit(rule, early) == "the period does not begin where the last delivery ended"
    odd = utc(2026, 2, 27, 23)
    other = Dataset("bill", 1, "household", utc(2026, 1, 31, 23), odd, (value(odd, 5),))
    assert unfit(rule, other) == "the period does not end where a delivery is due"


# ------------------------------------------------------------------ what may be asked for


def places(rule) -> list[str]:
    return [problem.place.removeprefix("p.") for problem in check_tariff("p", rule)]


def test_a_monthly_bill_is_well():
    rule = monthly()
    profiles = ProfileSet(meters=household().meters, processing=(rule,), communication=(billing(),))
    assert check(profiles, small_nets_allowed=False) == []


@pytest.mark.parametrize(
    ("rule", "place"),
    [
        (monthly(), None),
        (profile(2, time_variable=TWO_STAGES, billing_calendar=MONTHLY), None),
        (bill(billing_calendar=MONTHLY), "billing_calendar"),
        (profile(6, billing_calendar=MONTHLY), "billing_calendar"),
        (series(registration_period_s=86400, billing_calendar=MONTHLY), "billing_calendar"),
        (series(valid_from=utc(2026, 1, 1, 0, 1), billing_calendar=MONTHLY), "billing_calendar"),
        (
            series(
                registration_period_s=86400,
                valid_from=utc(2025, 12, 31, 23),
                billing_calendar=BillingCalendar(summer_time="none"),
            ),
            None,
        ),
        (
            profile(2, time_variable=TimeVariable(utc_offset_min=0), billing_calendar=MONTHLY),
            "billing_calendar",
        ),
        (
            profile(
                4,
                consumption_variable=ConsumptionVariable(thresholds_wh=(5,), reset_s=86400),
                billing_calendar=MONTHLY,
            ),
            "billing_calendar",
        ),
        (
            profile(
                3,
                load_variable=LoadVariable(thresholds_w=(5,), measuring_period_s=7200),
                billing_calendar=MONTHLY,
            ),
            "load_variable.measuring_period_s",
        ),
        (series(registers="running"), "registers"),
        (profile(2, time_variable=TWO_STAGES, registers="running"), None),
    ],
)
def test_what_does_not_fit_is_named(rule, place):
    found = places(rule)
    assert place in found if place else found == []


# ------------------------------------------------------------------ what months determine


def found(*processing, communication=None) -> list[str]:
    sends = communication or (billing(), group_total())
    profiles = ProfileSet(meters=household().meters, processing=processing, communication=sends)
    return [f"{one.plain}+{one.other}" for one in conflicts(grids(profiles))]


def test_monthly_bills_undo_nothing():
    assert found(monthly(), series()) == []
    hourly = net(slot_s=3600)
    sends = (billing(), group_total(net=hourly))
    assert found(monthly(), series(registration_period_s=3600), communication=sends) == []


def test_a_contract_that_ends_a_slot_after_a_month_does():
    near = monthly(valid_until=utc(2026, 2, 28, 23, 15))
    assert found(near, series()) == ["billing+billing"]
    assert found(monthly(valid_until=utc(2026, 2, 28, 23, 30)), series()) == []


def test_two_calendars_a_slot_apart_do():
    later = bill("later", billing_period_s=30 * 86400, valid_from=utc(2026, 1, 1, 23, 15))
    sends = (billing(), billing("second", processing="later"), group_total())
    assert found(monthly(), later, series(), communication=sends)
    hours = bill("later", billing_period_s=30 * 86400, valid_from=utc(2026, 1, 1, 22))
    assert found(monthly(), hours, series(), communication=sends) == []


def test_an_hour_off_matters_where_slots_are_hours():
    """Months begin at 22 or 23 h UTC; thirty days at 22 h come within an hour of some of them."""
    hours = bill("later", billing_period_s=30 * 86400, valid_from=utc(2026, 1, 1, 22))
    hidden = series(registration_period_s=3600)
    sends = (billing(), billing("second", processing="later"), group_total(net=net(slot_s=3600)))
    assert found(monthly(), hours, hidden, communication=sends)


def test_given_months_are_remembered_and_followed():
    profiles = ProfileSet(
        meters=household().meters, processing=(monthly(), series()), communication=(billing(), group_total())
    )
    now = utc(2026, 3, 10)
    [remembered] = [one for one in until(grids(profiles), now) if not one.concealed]
    assert remembered.last == int(now.timestamp())
    assert remembered.calendar == MONTHLY
    assert remembered.extra is None
    twice = until((remembered, *grids(profiles)), now)
    assert len([one for one in twice if not one.concealed]) == 1
    [plain] = [one for one in after(grids(profiles), now) if not one.concealed]
    assert plain.first == int(now.timestamp()) + 1


def test_what_is_remembered_reads_back_also_from_before_there_were_months():
    given = grids(household(processing=(monthly(valid_until=utc(2027, 1, 1)), series())))
    assert msgspec.json.decode(msgspec.json.encode(given), type=tuple[Grid, ...]) == given
    old = msgspec.json.decode(msgspec.json.encode(given[1:]), type=list[dict[str, object]])
    del old[0]["calendar"], old[0]["extra"]
    [grid] = msgspec.convert(old, type=tuple[Grid, ...])
    assert (grid.calendar, grid.extra) == (None, None)


@settings(max_examples=40)
@given(st.dates(date(2026, 1, 1), date(2060, 1, 1)))
def test_a_day_lies_in_one_period(day):
    instant = datetime.combine(day, time(12), UTC)
    rule = monthly()
    begin = cycle_begin(rule, instant)
    [end] = deliveries(rule, begin, begin + timedelta(days=31, hours=2))[:1]
    assert begin <= instant < end
    assert delivery_window(rule, end) == (begin, end)
