"""`smgw bench hsm` measures what it says; the bars themselves are for a quiet machine."""

from __future__ import annotations

import pytest

from hsm.tls import TlsEngine
from tools.bench import hsm, hsm_memory


async def test_every_figure_is_there_and_has_its_reference() -> None:
    figures = await hsm.run(1)
    names = [figure.name for figure in figures]
    assert len(names) == 5
    assert all(figure.value > 0 and figure.reference_value for figure in figures)
    assert {figure.reference for figure in figures} >= {
        "libeac with libeac",
        "SELECT in the clear",
        "in memory",
        "pyca alone (bar: twice that + 1 ms)",
    }


async def test_growth_over_handshakes_is_measured_and_told() -> None:
    figure = await hsm_memory.growth(20, 30)
    assert figure.met is not None
    assert figure.unit == "KiB"
    assert figure.reference == "asyncio, key file"


async def test_growth_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever keeps each connection misses the bar in 500 handshakes."""
    kept: list[object] = []
    begin = TlsEngine.__init__

    def keep(self: TlsEngine, *arguments: object, **named: object) -> None:
        begin(self, *arguments, **named)  # type: ignore[arg-type]  # handed on as it came
        kept.append(b"\x01" * 1_000_000)  # written, so that its pages are there

    monkeypatch.setattr(TlsEngine, "__init__", keep)
    assert not (await hsm_memory.growth(20, 5)).met
