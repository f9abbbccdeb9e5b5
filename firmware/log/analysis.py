"""Attacks seen in several entries of the system log together: rules, and a pure count over entries.

One refused telegram is noise, a hundred of one meter within an hour are somebody who tries (PP-0073,
FAU_SAA.1/SYS; which patterns and how many is own choice, so the rules are a table). Entries that stand for
several count as many times as they say. A rule that has met its number of one subject is quiet about it until
its time has passed once more: an alarm is told, not repeated with each further try.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from firmware.log.entry import Entry, Event, Outcome

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
MAX_SUBJECTS: Final = 1024
"""Subjects that one rule follows at a time; an attacker may choose them, so the oldest goes."""


@dataclass(frozen=True, slots=True)
class Rule:
    """So many entries of some kinds within a time are taken for an attack."""

    name: str
    text: str
    events: frozenset[Event]
    count: int
    within: timedelta = _HOUR
    sub_events: frozenset[str] = frozenset()
    """Which cases of the events; empty: all."""
    each_subject: bool = True
    """Counted for each subject apart, or all together."""


RULES: Final = (
    Rule(
        "forged-telegrams",
        "many telegrams of one meter whose authentication fails",
        frozenset({Event.TELEGRAM_REFUSED}),
        30,
        sub_events=frozenset({"mac", "key"}),
    ),
    Rule(
        "replayed-telegrams",
        "many telegrams of one meter that were heard before",
        frozenset({Event.TELEGRAM_REFUSED}),
        30,
        sub_events=frozenset({"counter"}),
    ),
    Rule(
        "downgraded-telegrams",
        "telegrams of one meter without the protection that it has",
        frozenset({Event.TELEGRAM_REFUSED}),
        10,
        sub_events=frozenset({"downgrade"}),
    ),
    Rule(
        "false-peers",
        "peers or signatures that fail to prove themselves again and again",
        frozenset({Event.AUTHENTICATION_FAILED, Event.CONNECTION_REFUSED}),
        5,
        each_subject=False,
    ),
    Rule(
        "refused-orders",
        "orders that are refused again and again",
        frozenset({Event.ORDER_REFUSED}),
        10,
        each_subject=False,
    ),
    Rule(
        "forbidden-access",
        "what the role table forbids is asked for again and again",
        frozenset({Event.ACCESS_DENIED}),
        10,
        each_subject=False,
    ),
    Rule(
        "denied-releases",
        "much that the policy gate does not let out",
        frozenset({Event.RELEASE_DENIED}),
        100,
        each_subject=False,
    ),
    Rule(
        "time-under-attack",
        "the clock was wrong by too much several times a day",
        frozenset({Event.TIME_DEVIATION}),
        3,
        within=_DAY,
        each_subject=False,
    ),
)


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A rule has met its number."""

    rule: Rule
    subject: str
    """Of the entries, where the rule counts each apart; else empty."""
    count: int
    last: int
    """Number of the entry that made it full."""


@dataclass(slots=True)
class _Window:
    seen: deque[tuple[datetime, int]] = field(default_factory=deque)
    total: int = 0
    quiet_until: datetime | None = None


class Analysis:
    """Counts entries as they come; the same entries in the same order give the same suspicions.

    Args:
        rules: in force.
    """

    def __init__(self, rules: Iterable[Rule] = RULES) -> None:
        self._rules = tuple(rules)
        self._windows: dict[str, dict[str, _Window]] = {rule.name: {} for rule in self._rules}

    @property
    def longest(self) -> timedelta:
        """How far back entries matter."""
        return max((rule.within for rule in self._rules), default=timedelta())

    def take(self, entry: Entry) -> list[Suspicion]:
        """Count one entry; return what it makes full. What ended well (a cause that is over) is none."""
        if entry.outcome is Outcome.SUCCESS:
            return []
        return [
            found
            for rule in self._rules
            if entry.event in rule.events and (not rule.sub_events or entry.sub_event in rule.sub_events)
            if (found := self._count(rule, entry)) is not None
        ]

    def watched(self) -> Mapping[str, int]:
        """Return how many subjects each rule follows."""
        return {name: len(windows) for name, windows in self._windows.items()}

    def _count(self, rule: Rule, entry: Entry) -> Suspicion | None:
        windows, subject = self._windows[rule.name], entry.subject if rule.each_subject else ""
        window = windows.pop(subject, None) or _Window()
        windows[subject] = window
        while len(windows) > MAX_SUBJECTS:
            del windows[next(iter(windows))]
        times = entry.repeated + 1
        window.seen.append((entry.at_utc, times))
        window.total += times
        # A clock that was put back must not keep old entries for ever: both directions are far away.
        while abs(entry.at_utc - window.seen[0][0]) >= rule.within:
            window.total -= window.seen.popleft()[1]
        quiet = window.quiet_until
        if quiet is not None and entry.at_utc < quiet <= entry.at_utc + rule.within:
            return None
        if window.total < rule.count:
            return None
        window.quiet_until = entry.at_utc + rule.within
        return Suspicion(rule, subject, window.total, entry.number)
