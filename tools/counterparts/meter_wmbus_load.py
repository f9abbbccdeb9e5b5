"""What a household draws: seeded load curves over the day. Pure functions of a random source and the hour."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum


class MeterKind(Enum):
    """What a virtual meter measures."""

    ELECTRICITY = "electricity"
    GAS = "gas"
    WATER = "water"
    HEAT = "heat"

    @property
    def device_type(self) -> int:
        """Device type of the M-Bus address."""
        return {"electricity": 0x02, "gas": 0x03, "water": 0x07, "heat": 0x04}[self.value]


def _peak(hour: float, at: float, width: float) -> float:
    away = min(abs(hour - at), 24 - abs(hour - at))
    return math.exp(-((away / width) ** 2))


def electric_power_w(hour: float, chance: random.Random) -> float:
    """Base load, a morning and an evening peak, now and then a kettle."""
    power_w = 120 + 500 * _peak(hour, 7, 1.5) + 1100 * _peak(hour, 19, 2.5)
    return power_w * chance.uniform(0.7, 1.3) + (2000 if chance.random() < 0.05 else 0)


def sun_power_w(hour: float, chance: random.Random) -> float:
    """A small roof: nothing at night."""
    return max(0.0, math.sin((hour - 6) / 12 * math.pi)) * 3000 * chance.uniform(0.2, 1.0)


def heat_power_w(hour: float, chance: random.Random) -> float:
    """Heating with a lowered night."""
    return (2500 if hour < 5 or hour > 22 else 7000) * chance.uniform(0.8, 1.2)


def water_flow_l_per_h(hour: float, chance: random.Random) -> float:
    """Taps: mostly nothing, more likely in the morning and the evening."""
    likely = 0.05 + 0.4 * _peak(hour, 7, 1.5) + 0.3 * _peak(hour, 19, 2)
    return chance.uniform(200, 600) if chance.random() < likely else 0.0


@dataclass(slots=True)
class Registers:
    """Counts up; whole units on the wire, fractions kept in between. Nothing ever falls."""

    kind: MeterKind
    chance: random.Random = field(repr=False)
    import_wh: float = 0.0
    export_wh: float = 0.0
    volume_l: float = 0.0
    power_w: float = 0.0
    flow_l_per_h: float = 0.0

    def start(self) -> None:
        """Give the registers a past."""
        self.import_wh = float(self.chance.randrange(1_000_000, 9_000_000))
        self.volume_l = float(self.chance.randrange(10_000, 900_000))

    def advance(self, now: datetime, elapsed_s: float) -> None:
        """Let time pass; `now` is its end, in the meter's local time.

        Raises:
            ValueError: time runs backwards.
        """
        if elapsed_s < 0:
            raise ValueError("a register never falls")
        hour, hours = now.hour + now.minute / 60, elapsed_s / 3600
        if self.kind is MeterKind.ELECTRICITY:
            balance = electric_power_w(hour, self.chance) - sun_power_w(hour, self.chance)
            self.power_w = balance
            self.import_wh += max(balance, 0) * hours
            self.export_wh += max(-balance, 0) * hours
        elif self.kind is MeterKind.WATER:
            self.flow_l_per_h = water_flow_l_per_h(hour, self.chance)
            self.volume_l += self.flow_l_per_h * hours
        else:
            self.power_w = heat_power_w(hour, self.chance)
            self.import_wh += self.power_w * hours
            # Gas: about 10 kWh a cubic metre. Heat: 20 K between flow and return, 23 Wh a litre.
            per_wh = 0.1 if self.kind is MeterKind.GAS else 1 / 23
            self.flow_l_per_h = self.power_w * per_wh
            self.volume_l += self.flow_l_per_h * hours

    def main_value(self) -> Decimal:
        """What the main register shows, in its base unit: Wh or m3."""
        if self.kind is MeterKind.ELECTRICITY:
            return Decimal(int(self.import_wh))
        if self.kind is MeterKind.HEAT:
            return Decimal(int(self.import_wh) // 1000 * 1000)
        if self.kind is MeterKind.GAS:
            return Decimal(int(self.volume_l) // 10) / 100
        return Decimal(int(self.volume_l)) / 1000
