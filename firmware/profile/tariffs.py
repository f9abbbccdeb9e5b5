"""Parameters of the tariff use cases (TAF): one typed structure each, for processing profiles. No I/O.

Use cases 1 and 7 need none beyond the common fields of a processing profile. What a single field may be is
said here; what fields must be together is checked in `firmware.profile.check_tariffs`. Sources and how sure
they are: docs/tariffs.md.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from firmware.profile.fields import DecimalText, Name, ObisText, Seconds, Utc

ERROR_STAGE: Final = 63
"""Group E of the register that takes what belongs to no stage (1-0:1.8.63)."""
LAST_STAGE: Final = 62

Stage = Annotated[int, msgspec.Meta(ge=1, le=LAST_STAGE, description="a tariff stage, 1 to 62")]
TimeOfDay = Annotated[
    str, msgspec.Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z", description="a local time such as 06:00")
]
MonthDay = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])\Z", description="month and day such as 03-21"
    ),
]
DayText = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^([0-9]{4}-)?(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])\Z",
        description="a date such as 2026-04-06, or 12-25 for every year",
    ),
]
MonthBegin = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])\Z",
        description="month and day such as 04-01, the day at most 28",
    ),
]
Amount = Annotated[int, msgspec.Meta(ge=0, le=10**15)]


class BillingCalendar(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Billing periods of whole calendar months, each from 00:00 local time on."""

    months: Literal[1, 2, 3, 4, 6, 12] = 1
    """How many one period has."""
    starts: MonthBegin = "01-01"
    """Where one period of each year begins; the day holds for all of them."""
    utc_offset_min: Annotated[int, msgspec.Meta(ge=-720, le=840)] = 60
    """Standard time of the place, minutes east of UTC."""
    summer_time: Literal["eu", "none"] = "eu"
    """As in the switch table of TAF 2, which must say the same."""


class Switch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From a local time on a stage runs."""

    at: TimeOfDay
    stage: Stage


class DayTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The stages of one kind of day; the first switch is at 00:00."""

    id: Name
    switches: Annotated[tuple[Switch, ...], msgspec.Meta(min_length=1, max_length=96)]


class WeekTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The day tables of one kind of week."""

    id: Name
    days: Annotated[
        tuple[Name, ...],
        msgspec.Meta(min_length=7, max_length=7, description="seven day tables from Monday on"),
    ]


class Season(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From a date on, every year, a week table holds; the last season of a year reaches into the next."""

    starts: MonthDay
    week: Name


class SpecialDay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A date with a day table of its own."""

    date: DayText
    day: Name


class TimeVariable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TAF 2: stages by local time. Special day before season, season before `default_stage`."""

    utc_offset_min: Annotated[int, msgspec.Meta(ge=-720, le=840)] = 60
    """Standard time of the place, minutes east of UTC."""
    summer_time: Literal["eu", "none"] = "eu"
    """"eu": an hour ahead from the last Sunday of March to that of October, 01:00 UTC each."""
    default_stage: Stage = 1
    days: tuple[DayTable, ...] = ()
    weeks: tuple[WeekTable, ...] = ()
    seasons: tuple[Season, ...] = ()
    special_days: tuple[SpecialDay, ...] = ()


class LoadVariable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TAF 3: stages by the mean power of a measuring period; below the first threshold runs stage 1."""

    thresholds_w: Annotated[tuple[Amount, ...], msgspec.Meta(min_length=1, max_length=LAST_STAGE - 1)]
    """Rising; a mean power at a threshold belongs to the higher stage."""
    measuring_period_s: Seconds | None = None
    """The registration period if absent."""


class ConsumptionVariable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TAF 4: stages by the quantity used since the last reset; up to the first threshold runs stage 1."""

    thresholds_wh: Annotated[tuple[Amount, ...], msgspec.Meta(min_length=1, max_length=LAST_STAGE - 1)]
    """Rising."""
    reset_s: Seconds | None = None
    """The quantity starts from nothing after this time; at the start of each billing period if absent."""


class EventStage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An outside event and the stage that it starts."""

    id: Name
    stage: Stage
    timeout_s: Seconds | None = None
    """After this time the default stage runs again; None: until the next event."""


class EventVariable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TAF 5: stages by events that an order of the administrator reports."""

    events: Annotated[tuple[EventStage, ...], msgspec.Meta(min_length=1, max_length=256)]
    default_stage: Stage = 1


class OnDemand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TAF 6: snapshots that are kept and leave on request alone."""

    retention_days: Annotated[int, msgspec.Meta(ge=1, le=366)] = 42


class Extremes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TAF 8: the highest and lowest mean powers of a period, with the ends of their intervals."""

    count: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    which: Literal["highest", "lowest", "both"] = "both"
    interval_s: Seconds | None = None
    """Over which the mean is taken; the registration period if absent."""


class FeedIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TAF 9: the present power of a generator."""

    send: Literal["request", "cycle", "change"] = "request"
    change_w: Annotated[int, msgspec.Meta(ge=1, le=10**9)] | None = None
    """With "change": sent when it differs by at least this from the registered value before."""


class Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the state of the grid becomes an event: a value below or above a bound, and the way back."""

    obis: ObisText
    below: DecimalText | None = None
    above: DecimalText | None = None


class GridState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TAF 10: the state of the grid at the connection."""

    send: Literal["cycle", "event", "both"] = "cycle"
    limits: Annotated[tuple[Limit, ...], msgspec.Meta(max_length=64)] = ()


class Control(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TAF 11: switching of a load or generator, with the readings around it."""

    cls_device: Name
    events: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=64)]
    """Ids of the switching commands, as orders report them."""
    before_s: Annotated[int, msgspec.Meta(ge=0, le=86400)] = 0
    """So much earlier than the last reading before the event the readings begin."""
    after_s: Annotated[int, msgspec.Meta(ge=0, le=86400)] = 0
    """So long after the event they end, at the next registration instant."""


class Prepaid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TAF 12: what is left of a credit since the profile became active."""

    credit: Amount
    """Without prices in the unit of the register (Wh), with prices in millionths of the currency."""
    prices: Annotated[tuple[Amount, ...], msgspec.Meta(max_length=LAST_STAGE)] = ()
    """Millionths of the currency per 1000 units of the register (kWh), one a price stage."""
    thresholds_wh: tuple[Amount, ...] = ()
    """Rising; where the next price stage begins, counted from the activation. One fewer than prices."""
    warn_at: Annotated[tuple[Amount, ...], msgspec.Meta(max_length=16)] = ()
    """What is left when a warning is sent; nothing left is always told."""
    top_up: Name = "top-up"
    """Id of the event that adds to the credit."""
    credit_obis: ObisText = "1-0:1.8.60"
    """Under which the rest is written; no code for it was found in the texts that could be read."""


class Visualisation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TAF 13: value sets for a portal of the consumer's choice."""

    consent_until: Utc
    """Nothing leaves for a time after this."""


class HighFrequency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TAF 14: frequent values for an added service; not kept once they are delivered."""

    consent_until: Utc
    """Nothing leaves for a time after this."""
