"""One measured figure and the bar it is held against."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A median of one run, beside the reference measured in the same run."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    """The largest value that meets the goal (the smallest, where `at_least`); None: for information."""
    at_least: bool = False
    reference: str | None = None
    """What was measured beside it."""
    reference_value: float | None = None
    """In the same unit."""
    bar_on_ratio: bool = False
    """Whether the bar is about the ratio to the reference and not about the value itself."""

    @property
    def ratio(self) -> float | None:
        """This figure as a multiple of its reference."""
        return self.value / self.reference_value if self.reference_value else None

    @property
    def met(self) -> bool | None:
        """Whether the bar is met, None where there is none."""
        if self.bar is None:
            return None
        measured = self.ratio if self.bar_on_ratio else self.value
        if measured is None:
            return None
        return measured >= self.bar if self.at_least else measured <= self.bar

    def to_dict(self) -> dict[str, object]:
        """The form that `smgw bench --json` prints."""
        return {
            "name": self.name,
            "value": round(self.value, 4),
            "unit": self.unit,
            "reference": self.reference,
            "reference_value": None if self.reference_value is None else round(self.reference_value, 4),
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "bar": self.bar,
            "at_least": self.at_least,
            "bar_on_ratio": self.bar_on_ratio,
            "met": self.met,
        }
