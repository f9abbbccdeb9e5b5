from __future__ import annotations

from tools.bench import sml


async def test_the_figure_of_a_frame_is_measured() -> None:
    [figure] = await sml.run(1)
    assert figure.value > 0
    assert figure.bar == 150
    assert 280 < len(sml.sample()) < 340
