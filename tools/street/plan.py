"""What a street consists of: its homes, how often meters send, what gateways register. A value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tools.homes.household import Household

READINGS: Final = "readings"
SUPPLIER: Final = "testemp"
GWA_POLL_S: Final = 60.0
OBIS: Final = "1-0:1.8.0*255"
_REGULAR_PERIOD_S: Final = 900
_TELEGRAMS_IN_WINDOW: Final = 3
_LARGEST_WINDOW: Final = 0.45


@dataclass(frozen=True, slots=True)
class StreetPlan:
    """How large, how fast, how long."""

    folder: Path
    gateways: int
    interval_s: float = 1.0
    """Between two telegrams of one meter, in the street's time."""
    period_s: int = 900
    """Registration period: each gateway registers a value and delivers it, TAF 7."""
    rate: float = 1.0
    """Seconds of the street's time in a real one."""
    duration_s: float = 60.0
    """How long the meters send, in the street's time."""

    @property
    def households(self) -> tuple[Household, ...]:
        """All homes."""
        return tuple(Household(number) for number in range(1, self.gateways + 1))

    @property
    def window_s(self) -> float:
        """How far from its instant a value may lie where the 1 % of a regular period are not the rule."""
        if self.period_s >= _REGULAR_PERIOD_S:
            return 0.0
        return min(_TELEGRAMS_IN_WINDOW * self.interval_s, _LARGEST_WINDOW * self.period_s)

    def profiles(self, household: Household, supplier: dict[str, Any], from_utc: datetime) -> dict[str, Any]:
        """The body of the administrator's order for one home."""
        processing: dict[str, Any] = {
            "id": READINGS,
            "taf": 7,
            "meter": str(household.meter),
            "obis": OBIS,
            "consumer": household.consumer,
            "registration_period_s": self.period_s,
            "billing_period_s": self.period_s,
            "window_s": self.window_s,
            "recipients": [SUPPLIER],
            "valid_from": from_utc.isoformat(),
        }
        return {
            "meters": [
                {
                    "id": "electricity",
                    "meter": str(household.meter),
                    "key_hex": household.meter_key.hex(),
                    "mode": "strict",
                    "consumer": household.consumer,
                }
            ],
            "processing": [processing],
            "communication": [
                {
                    "id": READINGS,
                    "processing": READINGS,
                    "recipient": SUPPLIER,
                    "purpose": "billing",
                    "peer": supplier,
                }
            ],
        }
