"""One measured figure beside its reference."""

from __future__ import annotations

import pytest

from tools.bench.figure import Figure


@pytest.mark.parametrize(
    ("value", "options", "met"),
    [
        (1.0, {}, None),
        (1.0, {"bar": 1.0}, True),
        (1.1, {"bar": 1.0}, False),
        (1.0, {"bar": 1.0, "at_least": True}, True),
        (0.9, {"bar": 1.0, "at_least": True}, False),
        (3.0, {"bar": 1.7, "bar_on_ratio": True, "reference": "r", "reference_value": 2.0}, True),
        (4.0, {"bar": 1.7, "bar_on_ratio": True, "reference": "r", "reference_value": 2.0}, False),
        (1.3, {"bar": 0.6, "bar_on_ratio": True, "at_least": True, "reference_value": 2.0}, True),
        (1.1, {"bar": 0.6, "bar_on_ratio": True, "at_least": True, "reference_value": 2.0}, False),
        (1.0, {"bar": 1.7, "bar_on_ratio": True}, None),
        (1.0, {"bar": 1.7, "bar_on_ratio": True, "reference_value": 0.0}, None),
    ],
)
def test_met(value: float, options: dict[str, object], met: bool | None) -> None:
    assert Figure("figure", value, "s", **options).met is met


def test_ratio() -> None:
    assert Figure("figure", 3.0, "s", reference="r", reference_value=2.0).ratio == 1.5
    assert Figure("figure", 3.0, "s").ratio is None


def test_as_json() -> None:
    figure = Figure("f", 1.23456789, "ms", bar=2.0, reference="r", reference_value=3.0)
    assert figure.to_dict() == {
        "name": "f",
        "value": 1.2346,
        "unit": "ms",
        "reference": "r",
        "reference_value": 3.0,
        "ratio": 0.412,
        "bar": 2.0,
        "at_least": False,
        "bar_on_ratio": False,
        "met": True,
    }
