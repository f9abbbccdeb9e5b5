"""How patient the outbox is. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between tries while a supplier does not take what waits."""

    first_s: float = 5.0
    factor: float = 2.0
    longest_s: float = 600.0

    def after(self, failures: int) -> float:
        """Return the pause after this many failures in a row (1, 2, ...)."""
        # The exponent is bounded so that a supplier that is down for months cannot overflow a float.
        return min(self.longest_s, self.first_s * self.factor ** min(failures - 1, 32))


DEFAULT_PACE: Final = Pace()
