"""What the gateway believes of the time: unknown, synchronised or invalid, with a bound of its error. No I/O.

The clock runs on the monotonic clock alone and is corrected by samples of a time source: small offsets
slowly, large ones in one step. It is valid while its error stays below 3 % of the shortest registration
period. A source that jumps does not move it at once, and whatever happens, authentic samples make it right
again without a hand. Spec: BSI TR-03109-1 v2.0 details, chapter 14 (a jump of more than 1000 s is ignored;
an unknown or invalid time is set by the first authentic sample); the 3 % rule is that of a certified gateway
(docs/references.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

LIMIT_SHARE: Final = 0.03
"""Of the shortest registration period: the largest error of a valid time."""
DEFAULT_PERIOD_S: Final = 900.0
"""While no profile registers anything."""
JUMP_S: Final = 1000.0
"""A sample that differs more than this is not believed by itself."""


class TimeState(Enum):
    """How far the time can be trusted."""

    UNKNOWN = "unknown"
    SYNCED = "synced"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class TimeSample:
    """What an authenticated source said."""

    at_utc: datetime
    mono_s: float
    """The monotonic instant to which `at_utc` belongs."""
    error_s: float
    """The source's own bound: half the root delay plus the root dispersion, and what the way adds."""
    source: str


class Outcome(Enum):
    """What became of a sample."""

    SET = "set"
    """The time was unknown or invalid; it is the sample's now."""
    SLEWED = "slewed"
    """A small offset, corrected slowly."""
    DEVIATION = "deviation"
    """An offset beyond the limit: the time is invalid until the next sample."""
    DOUBTED = "doubted"
    """A jump that other samples have to confirm."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a sample, for logs."""

    outcome: Outcome
    offset_s: float
    """Sample minus clock."""
    limit_s: float


@dataclass(frozen=True, slots=True)
class Discipline:
    """How the clock is kept. Own knowledge: all of it are parameters."""

    drift_ppm: float = 100.0
    """Largest drift of the oscillator: lets the error bound grow with age."""
    slew_ppm: float = 500.0
    """Fastest slow correction."""
    confirmations: int = 3
    """Samples in a row that must agree before a jump beyond `JUMP_S` is followed."""
    limit_share: float = LIMIT_SHARE
    jump_s: float = JUMP_S

    def __post_init__(self) -> None:
        if min(self.drift_ppm, self.slew_ppm, self.limit_share, self.jump_s) <= 0 or self.confirmations < 1:
            raise ValueError("every parameter is above 0")


class TimeKeeper:
    """The clock's core: every method takes the monotonic instant.

    Args:
        start_utc: what is shown until the first sample.
        mono_s: the monotonic instant of that.
        discipline: parameters.
    """

    def __init__(self, start_utc: datetime, mono_s: float, discipline: Discipline | None = None) -> None:
        self._rules = discipline or Discipline()
        self._base_utc, self._base_s = start_utc, mono_s
        self._slew_s = 0.0
        """What is still to be corrected slowly, as of `_base_s`."""
        self._error_s, self._sampled_s = float("inf"), mono_s
        self._period_s = DEFAULT_PERIOD_S
        self._known = TimeState.UNKNOWN
        self._doubted: list[TimeSample] = []
        self.last: TimeSample | None = None
        """The last sample that was followed."""

    def set_period(self, period_s: float | None) -> None:
        """Say how short the shortest registration period is; None: nothing is registered."""
        self._period_s = DEFAULT_PERIOD_S if period_s is None else period_s

    @property
    def limit_s(self) -> float:
        """Return the largest error of a valid time."""
        return self._rules.limit_share * self._period_s

    def now_utc(self, mono_s: float) -> datetime:
        """Return the time."""
        elapsed_s = mono_s - self._base_s
        return self._base_utc + timedelta(seconds=elapsed_s + self._slewed(elapsed_s))

    def error_s(self, mono_s: float) -> float:
        """Return the bound of the error: the source's, what is still to be slewed, and drift since then."""
        elapsed_s = mono_s - self._base_s
        rest_s = abs(self._slew_s - self._slewed(elapsed_s))
        return self._error_s + rest_s + (mono_s - self._sampled_s) * self._rules.drift_ppm * 1e-6

    def state(self, mono_s: float) -> TimeState:
        """Return how far the time can be trusted at this instant."""
        if self._known is TimeState.SYNCED and self.error_s(mono_s) > self.limit_s:
            return TimeState.INVALID
        return self._known

    def take(self, sample: TimeSample) -> Taken:
        """Take an authentic sample."""
        offset_s = (sample.at_utc - self.now_utc(sample.mono_s)).total_seconds()
        if self.state(sample.mono_s) is not TimeState.SYNCED:
            jump = self._known is not TimeState.UNKNOWN and abs(offset_s) > self._rules.jump_s
            if jump and not self._confirmed(sample):
                return Taken(Outcome.DOUBTED, offset_s, self.limit_s)
            self._step(sample)
            return Taken(Outcome.SET, offset_s, self.limit_s)
        if abs(offset_s) > self.limit_s:
            self._known = TimeState.INVALID
            self._doubted = [sample]
            return Taken(Outcome.DEVIATION, offset_s, self.limit_s)
        self._base_utc, self._base_s = self.now_utc(sample.mono_s), sample.mono_s
        self._slew_s, self._error_s, self._sampled_s = offset_s, sample.error_s, sample.mono_s
        self.last = sample
        return Taken(Outcome.SLEWED, offset_s, self.limit_s)

    def _confirmed(self, sample: TimeSample) -> bool:
        """Whether the last samples tell one story: what passes between them passes here, too."""
        before = self._doubted[-1] if self._doubted else None
        if before is not None:
            passed_s = (sample.at_utc - before.at_utc).total_seconds()
            if abs(passed_s - (sample.mono_s - before.mono_s)) > max(self.limit_s, 1.0):
                self._doubted.clear()
        self._doubted.append(sample)
        return len(self._doubted) >= self._rules.confirmations

    def _step(self, sample: TimeSample) -> None:
        self._base_utc, self._base_s, self._slew_s = sample.at_utc, sample.mono_s, 0.0
        self._error_s, self._sampled_s = sample.error_s, sample.mono_s
        self._known, self.last = TimeState.SYNCED, sample
        self._doubted.clear()

    def _slewed(self, elapsed_s: float) -> float:
        most_s = max(0.0, elapsed_s) * self._rules.slew_ppm * 1e-6
        return max(-most_s, min(most_s, self._slew_s))
