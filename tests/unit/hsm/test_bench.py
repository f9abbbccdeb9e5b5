"""`smgw bench hsm` measures what it says; the bars themselves are for a quiet machine."""

from __future__ import annotations

from tools.bench import hsm


async def test_every_figure_is_there_and_has_its_reference() -> None:
    figures = await hsm.run(1)
    names = [figure.name for figure in figures]
    assert len(names) == 5
    assert all(figure.value > 0 for figure in figures)
    assert {figure.reference for figure in figures} >= {
        "libeac with libeac",
        "pyca alone (bar: twice that + 1 ms)",
    }
