"""What one recipient can work out from everything it gets, and whether that undoes a concealed value. Pure.

A recipient that knows the register of a meter at two instants knows the energy between them. A concealed
profile hides the energy of each slot; it is undone as soon as the recipient gets plain values of the same
meter at two instants that lie closer together than `MINIMUM_SLOTS` slots and enclose time in which values are
concealed. What a bill tells (the energy of a whole billing period of at least that many slots) is no secret
from who writes the bill.

The rule is kept on the safe side:

* all plain profiles of a recipient count together: two harmless grids can be one slot apart from each other;
* one recipient is who has the same name, address or key: a second name or certificate does not help;
* every measurand of the same meter counts (tariff registers add up to the total, power gives energy);
* plain values of earlier profile versions still count (`earlier`), so that replacing one set by another in
  small steps does not give what no set alone would;
* where the grids fit so badly that their pattern cannot be walked through, the set is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from heapq import merge
from math import lcm
from typing import Final

from firmware.enforcement.schedule import registration_step_s
from firmware.metering.billing_calendar import LONGEST_MONTH_S, REPEATS_S, begins
from firmware.profile.model import CommunicationProfile, PeerEntry, ProcessingProfile, ProfileSet
from firmware.profile.pem import key_fingerprint
from firmware.profile.tariffs import BillingCalendar

MINIMUM_SLOTS: Final = 2
"""A plain interval must cover at least so many concealed slots.

Two is the least number that tells no slot. An interval of one slot is the concealed value itself, and one of
less than two is that value with less of other time than of its own. From two on a slot is at most half of
what is told with it, and none follows from all intervals together, since the instants of all plain profiles
are walked through as one. It is no field of the net's policy: `n_min` says among how many households a value
hides, this says among how much of its own time; a longer billing period is the administrator's order.
"""
_KEEP_S: Final = 400 * 86400
_MAX_STEPS: Final = 200_000
_HOUR_S: Final = 3600
_Span = tuple[int, int]
"""First and last instant."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Instants first, first + step, ..., last (seconds since 1970) of one meter for one recipient.

    With a calendar the instants are those at which its periods begin, from `first` to `last`, and `extra`.
    """

    profile: str
    recipient: tuple[str, ...]
    """Marks of the recipient: name, address, public keys."""
    meter: str
    first: int
    step: int
    last: int | None
    concealed: bool
    """True: the instants are boundaries of hidden slots; False: the recipient gets the value at each."""
    calendar: BillingCalendar | None = None
    """Of a plain grid of calendar months, whose `step` is about the length of a period and no more."""
    extra: int | None = None
    """One instant more: where a contract ends inside a month."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A plain profile, perhaps with a second one, that would undo a concealed one."""

    concealed: str
    plain: str
    other: str

    def __str__(self) -> str:
        partner = "" if self.other == self.plain else f" together with {self.other}"
        return (
            f"{self.plain}{partner} would give plain values less than {MINIMUM_SLOTS} slots apart "
            f"and so undo {self.concealed}"
        )


def grids(profiles: ProfileSet) -> tuple[Grid, ...]:
    """Return what the recipients of a set would get; profiles without the right to send do not count."""
    found: list[Grid] = []
    for communication in profiles.communication:
        processing = profiles.processing_of(communication)
        if processing is not None and communication.recipient in processing.recipients:
            found += (_grid(communication, processing, meter) for meter in processing.meters)
    return tuple(found)


def after(given: Iterable[Grid], now_utc: datetime) -> tuple[Grid, ...]:
    """Return the part of each grid after `now_utc`: values older than an activation are never sent.

    A concealed grid keeps the slot that `now_utc` lies in.
    """
    now = int(now_utc.timestamp())
    kept: list[Grid] = []
    for grid in given:
        if grid.calendar is not None:
            extra = None if grid.extra is None or grid.extra <= now else grid.extra
            moved = replace(grid, first=max(grid.first, now + 1), extra=extra)
        else:
            behind = max(0, (now - grid.first) // grid.step + (0 if grid.concealed else 1))
            moved = replace(grid, first=grid.first + behind * grid.step)
        if moved.last is None or moved.first <= moved.last:
            kept.append(moved)
    return tuple(kept)


def until(given: Iterable[Grid], now_utc: datetime) -> tuple[Grid, ...]:
    """Return what has been given up to `now_utc`, to be remembered after a change of profiles.

    Grids that ended more than 400 days ago are forgotten; one that was continued is remembered once, one that
    paused as two: what was hidden in between is not enclosed by it.
    """
    now = int(now_utc.timestamp())
    kept: dict[Grid, list[_Span]] = {}
    for grid in given:
        last = now if grid.last is None else min(grid.last, now)
        if grid.first <= last and last >= now - _KEEP_S:
            first = 0 if grid.calendar is not None else grid.first % grid.step
            extra = None if grid.extra is None or grid.extra > now else grid.extra
            pattern = replace(grid, first=first, last=None, extra=extra)
            kept.setdefault(pattern, []).append((grid.first, last))
    return tuple(
        replace(pattern, first=first, last=last)
        for pattern, spans in kept.items()
        for first, last in _joined(spans, pattern.step)
    )


def _joined(spans: list[_Span], step: int) -> Iterator[_Span]:
    """Join what overlaps or goes on at the next instant."""
    first, last = min(spans)
    for begin, end in sorted(spans):
        if begin > last + step:
            yield first, last
            first = begin
        last = max(last, end)
    yield first, last


def conflicts(given: Iterable[Grid]) -> list[Conflict]:
    """Find every concealed grid that plain grids for the same recipient and meter undo; empty means none."""
    everything = list(given)
    found: list[Conflict] = []
    for hidden in (grid for grid in everything if grid.concealed):
        plain = [grid for grid in everything if not grid.concealed and _concern(hidden, grid)]
        pair = _closest(hidden, plain)
        if pair is not None:
            found.append(Conflict(hidden.profile, *pair))
    return found


def _grid(communication: CommunicationProfile, processing: ProcessingProfile, meter: str) -> Grid:
    step = registration_step_s(processing)
    start = int(processing.valid_from.timestamp())
    last = None if processing.valid_until is None else int(processing.valid_until.timestamp())
    calendar = processing.billing_calendar if processing.taf == 1 else None
    if calendar is not None:
        first, step = start + 1, calendar.months * LONGEST_MONTH_S
    else:
        first = start + step if processing.taf == 1 else start
    return Grid(
        profile=communication.id,
        recipient=marks(communication.peer),
        meter=meter,
        first=first,
        step=step,
        last=last,
        concealed=communication.concealment != "none",
        calendar=calendar,
        extra=last if calendar is not None else None,
    )


def marks(peer: PeerEntry) -> tuple[str, ...]:
    """Return by what a recipient is known: who shares one of them is the same."""
    certificates = (peer.tls_certificate, peer.sig_certificate, peer.enc_certificate)
    return (
        f"name {peer.name}",
        f"address {peer.host.lower()}:{peer.port}",
        *(f"key {key_fingerprint(text)}" for text in certificates if text is not None),
    )


def _concern(hidden: Grid, plain: Grid) -> bool:
    return hidden.meter == plain.meter and not set(hidden.recipient).isdisjoint(plain.recipient)


def _closest(hidden: Grid, plain: list[Grid]) -> tuple[str, str] | None:
    """Return the names of two plain grids (or one twice) that come too close inside the hidden time.

    Months lie on the hours of their place's time. Where nothing comes too close even if each of those hours
    were told, nothing does; only else the months of 400 years are looked at.
    """
    if not plain:
        return None
    if any(grid.calendar is not None for grid in plain):
        hours = [part for grid in plain for part in _hourly(grid)]
        if _walk(hidden, hours) is None:
            return None
    return _walk(hidden, plain)


def _hourly(grid: Grid) -> Iterator[Grid]:
    """Return simple grids whose instants hold all of a calendar's."""
    if grid.calendar is None:
        yield grid
        return
    phase = next(begins(grid.calendar, grid.first)) % _HOUR_S
    first = grid.first + (phase - grid.first) % _HOUR_S
    yield replace(grid, first=first, step=_HOUR_S, calendar=None, extra=None)
    if grid.extra is not None:
        yield replace(grid, first=grid.extra, last=grid.extra, step=1, calendar=None, extra=None)


def _walk(hidden: Grid, plain: list[Grid]) -> tuple[str, str] | None:
    """Walk along the merged instants of plain grids.

    They repeat after the least common multiple of the steps once all grids have begun, and a grid that ends
    only thins them out: walking that far sees every distance that ever occurs.
    """
    distance = MINIMUM_SLOTS * hidden.step
    begin = hidden.first - distance
    repeats = lcm(*(grid.step if grid.calendar is None else REPEATS_S for grid in plain))
    horizon = max(hidden.first, *(grid.first for grid in plain)) + repeats + distance
    if hidden.last is not None:
        horizon = min(horizon, hidden.last + distance)
    previous: tuple[int, str] | None = None
    for steps, (instant, name) in enumerate(merge(*(_instants(grid, begin, horizon) for grid in plain))):
        if previous is not None and instant != previous[0]:
            encloses = instant > hidden.first and (hidden.last is None or previous[0] < hidden.last)
            if encloses and instant - previous[0] < distance:
                return previous[1], name
        if steps >= _MAX_STEPS:
            return name, name
        previous = (instant, name)
    return None


def _instants(grid: Grid, begin: int, horizon: int) -> Iterator[tuple[int, str]]:
    end = horizon if grid.last is None else min(horizon, grid.last)
    if grid.calendar is not None:
        yield from ((instant, grid.profile) for instant in _months(grid.calendar, grid, begin, end))
        return
    instant = grid.first + max(0, -((grid.first - begin) // grid.step)) * grid.step
    while instant <= end:
        yield instant, grid.profile
        instant += grid.step


def _months(calendar: BillingCalendar, grid: Grid, begin: int, end: int) -> Iterator[int]:
    """Yield where a calendar's periods begin, and at last the extra instant."""
    for instant in begins(calendar, max(grid.first, begin) - 1):
        if instant > end:
            break
        yield instant
    if grid.extra is not None and grid.extra <= end:
        yield grid.extra
