"""Which slots a net passes over: what a member takes from the EMP's calendars, and what it never does.

A calendar may name slots without a sum, and nothing else: the grid is the policy's, at most half of its slots
are blocked and no more than a day in a row, and what it once said of a slot stays so. No I/O besides the
ledger's store. Spec: docs/dcnet.md, calendars.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from firmware.enforcement.dcnet.errors import CalendarRefused, MalformedObject
from firmware.enforcement.dcnet.messages.canonical import decode_kept, encode
from firmware.enforcement.dcnet.messages.conduct import Calendar
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.slot.ledger import RETAINED_SLOTS, Ledger
from firmware.errors import StoreCorrupt

KEPT: Final = 8
"""So many calendars are kept at once, the present one and those to come."""
MAX_EPOCHS: Final = 400
MAX_AHEAD_EPOCHS: Final = 40
_DAY_S: Final = 86400
_NAME: Final = "calendars"
_EPOCH_ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)


def check_calendar(rules: NetRules, calendar: Calendar, now_slot: int) -> None:
    """Judge a calendar whose signature is good.

    Args:
        rules: the policy the administrator signed.
        calendar: as the EMP says.
        now_slot: the slot that is under way.

    Raises:
        CalendarRefused: `net`, `grid`, `range`, `ahead`, `share`, `run` or `jitter`.
    """
    if calendar.net != rules.net:
        raise CalendarRefused("net", "a calendar of another net")
    t0_ms = (rules.t0_utc - _EPOCH_ZERO) // timedelta(milliseconds=1)
    if (calendar.slot_s, calendar.t0_ms) != (rules.slot_s, t0_ms):
        raise CalendarRefused("grid", "the grid is the policy's, and this is another one")
    day = max(1, _DAY_S // rules.slot_s)
    if not 1 <= calendar.slots <= MAX_EPOCHS * day or not rules.has_slot(calendar.last_slot):
        raise CalendarRefused("range", f"{calendar.slots} slots from {calendar.first_slot}")
    if calendar.first_slot > now_slot + MAX_AHEAD_EPOCHS * day:
        raise CalendarRefused("ahead", f"begins with slot {calendar.first_slot}, this is {now_slot}")
    inside = range(calendar.first_slot, calendar.last_slot + 1)
    if any(first not in inside or last not in inside for first, last in calendar.blocked):
        raise CalendarRefused("range", "blocks slots that it does not rule")
    if 2 * sum(last - first + 1 for first, last in calendar.blocked) > calendar.slots:
        raise CalendarRefused("share", "more than half of the slots are blocked")
    if longest_run(calendar) > day:
        raise CalendarRefused("run", "more than a day is blocked in a row")
    if calendar.jitter_ms > rules.submit_ms // 2:
        raise CalendarRefused("jitter", f"{calendar.jitter_ms} ms are more than half the time to submit")


def longest_run(calendar: Calendar) -> int:
    """Return the largest number of blocked slots without one in between that is not."""
    longest = length = 0
    end = -2
    for first, last in calendar.blocked:
        length = last - first + 1 + (length if first == end + 1 else 0)
        longest, end = max(longest, length), last
    return longest


class Calendars:
    """The calendars of one net, durable; what one of them says of a slot is said for ever."""

    def __init__(self, rules: NetRules, ledger: Ledger) -> None:
        """Keep them beside the ledger's slots."""
        self._rules, self._ledger = rules, ledger
        self._kept: list[tuple[Calendar, bytes]] = []

    async def load(self) -> None:
        """Read what was kept. Raises `StoreCorrupt`."""
        data = await self._ledger.kept(_NAME)
        try:
            items = [] if data is None else decode_kept(data)
            assert isinstance(items, list)
            self._kept = [(Calendar.from_bytes(content), signed) for content, signed in items]
        except (MalformedObject, TypeError, ValueError) as error:
            raise StoreCorrupt("the kept calendars cannot be read") from error

    async def take(self, calendar: Calendar, signed: bytes, now_slot: int) -> bool:
        """Take a calendar whose signature is good; whether it is a new one.

        Raises:
            CalendarRefused: `check_calendar`, or `overlap`: it contradicts one taken before; or `many`.
        """
        if any(known == calendar for known, _ in self._kept):
            return False
        check_calendar(self._rules, calendar, now_slot)
        for known, _ in self._kept:
            if calendar.first_slot <= known.last_slot and known.first_slot <= calendar.last_slot:
                raise CalendarRefused("overlap", f"slots from {known.first_slot} on are ruled already")
        kept = [one for one in self._kept if one[0].last_slot >= now_slot - RETAINED_SLOTS]
        if len(kept) == KEPT:
            raise CalendarRefused("many", f"{KEPT} calendars are kept already")
        kept = sorted([*kept, (calendar, signed)], key=lambda one: one[0].first_slot)
        await self._ledger.keep(_NAME, encode([[one.to_bytes(), sign] for one, sign in kept]))
        self._kept = kept
        return True

    def ruling(self, slot: int) -> Calendar | None:
        """Return the calendar that rules a slot."""
        return next((one for one, _ in self._kept if one.first_slot <= slot <= one.last_slot), None)

    def blocked(self, slot: int) -> bool:
        """Tell whether a slot has no sum."""
        calendar = self.ruling(slot)
        return calendar is not None and any(first <= slot <= last for first, last in calendar.blocked)

    def before(self, slot: int) -> int:
        """Return the last slot before `slot` that is not blocked; -1 if there is none."""
        slot -= 1
        while slot >= 0 and self.blocked(slot):
            slot -= 1
        return slot

    def jitter_ms(self, slot: int) -> int:
        """Return the window in which submissions of a slot leave."""
        calendar = self.ruling(slot)
        return 0 if calendar is None else calendar.jitter_ms

    def signed_between(self, first_slot: int, last_slot: int) -> tuple[bytes, ...]:
        """Return the signed calendars that rule any of these slots: evidence of why a chain leaps."""
        return tuple(
            signed
            for one, signed in self._kept
            if one.first_slot <= last_slot and first_slot <= one.last_slot
        )
