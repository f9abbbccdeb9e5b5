"""When profiles fire: registration instants, deliveries, slots of a net. Pure functions of profile and time.

Everything lies on the profile's own grid, which starts at `valid_from`, or on the months of its billing
calendar; nothing here reads a clock. What a profile's end leaves of its last billing period is delivered too,
with one exception: TAF 1 counted in seconds registers at the end of whole periods alone.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from firmware.metering import billing_calendar
from firmware.profile.model import NetPolicy, ProcessingProfile

DAY_S: Final = 86400
MAX_INSTANTS: Final = 10_000
"""A longer list of instants is cut: who catches up after a long stop asks again."""
_EACH_VALUE: Final = frozenset((9, 10, 13, 14))
_NO_CYCLE: Final = frozenset((6, 11))
_END_OF_PERIOD: Final = 1
"""The use case that registers at the end of billing periods alone."""
_MICROSECOND: Final = timedelta(microseconds=1)


def delivery_period_s(profile: ProcessingProfile) -> int:
    """Return how much one delivery covers: the billing period; without one a day, or one value (TAF 9 on).

    Of calendar months it is the shortest that such a period can be; only its last one can be shorter.
    """
    if profile.billing_calendar is not None:
        return profile.billing_calendar.months * billing_calendar.SHORTEST_MONTH_S
    if profile.billing_period_s is not None:
        return profile.billing_period_s
    return profile.registration_period_s if profile.taf in _EACH_VALUE else DAY_S


def has_cycle(profile: ProcessingProfile) -> bool:
    """Tell whether anything is delivered without a request or an event."""
    if profile.taf == 9:
        return profile.feed_in is not None and profile.feed_in.send == "cycle"
    if profile.taf == 10:
        return profile.grid_state is None or profile.grid_state.send != "event"
    return profile.taf not in _NO_CYCLE


def last_instant(profile: ProcessingProfile) -> datetime | None:
    """Return when a profile ends: its own end or that of the consumer's consent, None if it has none."""
    ends = [
        end
        for end in (
            profile.valid_until,
            None if profile.visualisation is None else profile.visualisation.consent_until,
            None if profile.high_frequency is None else profile.high_frequency.consent_until,
        )
        if end is not None
    ]
    return min(ends, default=None)


def registration_step_s(profile: ProcessingProfile) -> int:
    """Return the distance of registration instants; TAF 1 registers at the end of the period alone."""
    return delivery_period_s(profile) if profile.taf == _END_OF_PERIOD else profile.registration_period_s


def _grid(
    origin: datetime, step_s: int, first: int, after_utc: datetime, until_utc: datetime
) -> list[datetime]:
    """Return origin + k * step_s in (after_utc, until_utc] for k >= first, the first MAX_INSTANTS of them."""
    step = timedelta(seconds=step_s)
    index = max(first, (after_utc - origin) // step + 1)
    instants: list[datetime] = []
    while (instant := origin + index * step) <= until_utc and len(instants) < MAX_INSTANTS:
        instants.append(instant)
        index += 1
    return instants


def _end(profile: ProcessingProfile, until_utc: datetime) -> datetime:
    end = last_instant(profile)
    return until_utc if end is None else min(until_utc, end)


def _registers_at_ends_of_months(profile: ProcessingProfile) -> bool:
    return profile.taf == _END_OF_PERIOD and profile.billing_calendar is not None


def registrations(profile: ProcessingProfile, after_utc: datetime, until_utc: datetime) -> list[datetime]:
    """Return the registration instants of (after_utc, until_utc], oldest first."""
    if _registers_at_ends_of_months(profile):
        return deliveries(profile, after_utc, until_utc)
    first = 1 if profile.taf == _END_OF_PERIOD else 0
    return _grid(profile.valid_from, registration_step_s(profile), first, after_utc, _end(profile, until_utc))


def deliveries(profile: ProcessingProfile, after_utc: datetime, until_utc: datetime) -> list[datetime]:
    """Return the ends of delivery periods in (after_utc, until_utc], oldest first."""
    if not has_cycle(profile):
        return []
    end_utc = _end(profile, until_utc)
    if profile.billing_calendar is None:
        ends = _grid(profile.valid_from, delivery_period_s(profile), 1, after_utc, end_utc)
    else:
        begin_utc = max(after_utc, profile.valid_from)
        ends = billing_calendar.begins_between(profile.billing_calendar, begin_utc, end_utc)[:MAX_INSTANTS]
    remainder = _end_of_remainder(profile)
    if remainder is not None and after_utc < remainder <= end_utc and len(ends) < MAX_INSTANTS:
        ends.append(remainder)
    return ends


def _end_of_remainder(profile: ProcessingProfile) -> datetime | None:
    """Return the last registration instant of a profile that ends inside a delivery period."""
    end_utc = last_instant(profile)
    if end_utc is None:
        return None
    if not _registers_at_ends_of_months(profile):
        if profile.taf == _END_OF_PERIOD:
            return None
        step = timedelta(seconds=profile.registration_period_s)
        end_utc = profile.valid_from + (end_utc - profile.valid_from) // step * step
    begin_utc = _begin_of_period(profile, end_utc)
    return end_utc if begin_utc < end_utc != _end_of_period(profile, begin_utc) else None


def _begin_of_period(profile: ProcessingProfile, end_utc: datetime) -> datetime:
    """Return where the delivery period begins that an instant ends or lies in."""
    if profile.billing_calendar is not None:
        begin_utc = billing_calendar.begin_before(profile.billing_calendar, end_utc)
    else:
        period = timedelta(seconds=delivery_period_s(profile))
        begin_utc = profile.valid_from + (end_utc - _MICROSECOND - profile.valid_from) // period * period
    return max(profile.valid_from, begin_utc)


def _end_of_period(profile: ProcessingProfile, begin_utc: datetime) -> datetime:
    if profile.billing_calendar is None:
        return begin_utc + timedelta(seconds=delivery_period_s(profile))
    following = next(billing_calendar.begins(profile.billing_calendar, int(begin_utc.timestamp())))
    return datetime.fromtimestamp(following, begin_utc.tzinfo)


def next_registration(profile: ProcessingProfile, after_utc: datetime) -> datetime | None:
    """Return the first registration instant after `after_utc`, None if the profile has ended by then."""
    step = timedelta(seconds=registration_step_s(profile))
    found = registrations(profile, after_utc, max(after_utc, profile.valid_from) + 2 * step)
    return found[0] if found else None


def delivery_window(profile: ProcessingProfile, end_utc: datetime) -> tuple[datetime, datetime]:
    """Return (start, end) of the delivery period that ends at `end_utc`."""
    return _begin_of_period(profile, end_utc), end_utc


def cycle_begin(profile: ProcessingProfile, instant_utc: datetime) -> datetime:
    """Return the end of the last whole delivery period at or before an instant; `valid_from` before that."""
    return _begin_of_period(profile, max(instant_utc, profile.valid_from) + _MICROSECOND)


def is_registration(profile: ProcessingProfile, instant_utc: datetime) -> bool:
    """Tell whether the profile registers at exactly this instant."""
    return registrations(profile, instant_utc - _MICROSECOND, instant_utc) == [instant_utc]


def is_delivery(profile: ProcessingProfile, instant_utc: datetime) -> bool:
    """Tell whether a delivery period of the profile ends at exactly this instant."""
    return deliveries(profile, instant_utc - _MICROSECOND, instant_utc) == [instant_utc]


def slot_ending_at(policy: NetPolicy, instant_utc: datetime) -> int | None:
    """Return the number of the slot that ends at this instant, None if none does."""
    slots, rest = divmod(instant_utc - policy.t0_utc, timedelta(seconds=policy.slot_s))
    return slots - 1 if not rest and slots >= 1 else None
