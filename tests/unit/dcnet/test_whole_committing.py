"""V-mode over real HTTP with real signatures, in real time: an impossible total, and the slots behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from firmware.enforcement.dcnet.events import NetEventKind
from tests.unit.dcnet.conducted_net import running

ALL = sum(range(1, 7)) * 100  # tenths of Wh


@pytest.mark.punctual
@pytest.mark.nightly
@pytest.mark.timeout(300)
async def test_signed_commitments_pass_and_the_sums_are_right(tmp_path: Path) -> None:
    async with running(tmp_path / "pki", v_slots=2, max_wh=100, delta=0.4, longer=4) as (net, first):
        await net.over(first)
        await net.homes[2].member._ledger.measure(first, 10**9, 0)  # no gateway would take it
        await net.measure(first, 3)
        assert (await net.total(first))["verdict"] == "aborted"
        for slot in (first + 1, first + 2):
            await net.over(slot)
            await net.measure(slot)
            total = await net.total(slot)
            assert total["verdict"] == "totalled", net.told("refused")
            assert total["lanes"][0] == ALL
        checks = net.told("v-check")
        assert [(one["fits"], one["members"]) for one in checks] == [(True, 6), (True, 6)]
        assert not net.told("v-named")
        for home in net.homes:
            assert [event.kind for event in home.events].count(NetEventKind.V_MODE) == 1
