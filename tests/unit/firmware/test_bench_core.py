"""`smgw bench core` measures what it says; the bar itself is for a quiet machine."""

from __future__ import annotations

from tools.bench import core


async def test_both_figures_stand_beside_a_reference():
    evaluation, registration = await core.run(1)
    assert "96 slots x 20 meters" in evaluation.name
    assert (evaluation.unit, evaluation.bar) == ("ms", 50)
    for figure in (evaluation, registration):
        assert figure.value > 0
        assert figure.reference_value > 0
