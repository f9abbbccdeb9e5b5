"""The reception benchmark on a short run: every figure is measured, and a loss would be seen."""

from __future__ import annotations

import pytest

from lmn.mbus.decoder import decode
from lmn.ports import MeterAccess, ReceptionMode
from tools.bench import reception


async def test_every_figure_of_reception_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "_TELEGRAMS", 60)
    monkeypatch.setattr(reception, "_STAMPED_S", 0.3)
    monkeypatch.setattr(reception, "CEILING", 24)
    cost, wall, lost, single, growth, stamp = await reception.run(1, 0.05)
    assert (cost.bar, single.bar, stamp.bar) == (400, 400, 500)
    assert cost.value > 0
    assert cost.reference_value
    assert wall.value > 0
    assert (lost.value, lost.reference_value) == (0, 3 * (24 + 3))
    assert growth.unit == "MB"
    assert stamp.value >= 0


def test_a_short_telegram_is_short_and_right() -> None:
    telegram = reception.short_telegram(2, 0x010203)
    assert len(telegram) == 20
    found = decode(telegram, MeterAccess(reception.neighbour(2), None, ReceptionMode.OPEN), None)
    assert [record.value_text for record in found.records] == [str(0x010203)]
