"""How long a demo's slots are, and when the first one begins."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tools.demo.plan import Plan

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("gateways", "boot_s", "slot_s"), [(5, 0.4, 2), (4, 0.4, 2), (5, 1.1, 5), (10, 1.1, 9), (32, 0.5, 13)]
)
def test_a_slot_is_as_long_as_machine_and_number_of_gateways_need(
    gateways: int, boot_s: float, slot_s: int
) -> None:
    plan = Plan(Path("unused"), gateways, 3, 0).starting(NOW, start_s=0.5, boot_s=boot_s)
    assert plan.slot_s == slot_s


def test_the_first_slot_of_many_gateways_begins_later() -> None:
    few, many = (
        Plan(Path("unused"), gateways, 3, 0).starting(NOW, start_s=0.5, boot_s=0.6) for gateways in (5, 20)
    )
    assert NOW < few.t0_utc < many.t0_utc


def test_a_length_that_was_asked_for_stands() -> None:
    assert Plan(Path("unused"), 32, 3, 4).starting(NOW, start_s=0.5, boot_s=2.0).slot_s == 4
