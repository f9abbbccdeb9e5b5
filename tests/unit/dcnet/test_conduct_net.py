"""A running net whose supplier shuns one home, blocks slots, and leaves somebody out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.policy import NetRules
from tests.unit.dcnet.conducted_net import GATEWAYS, RunningNet, running
from tools.counterparts.net_conduct import calendar_of
from tools.counterparts.net_tally import Tally

ALL = sum(range(1, 7)) * 100  # tenths of Wh
pytestmark = [pytest.mark.punctual, pytest.mark.timeout(300)]


def every_third_blocked(rules: NetRules) -> Mapping[str, Any]:
    blocked = [(slot, slot) for slot in range(0, 300, 3)]
    return {"calendars": [calendar_of(rules, 0, 300, blocked, rules.submit_ms // 4)], "report_slots": 2}


async def play(net: RunningNet, slot: int) -> Mapping[str, Any]:
    await net.over(slot)
    await net.measure(slot)
    return await net.total(slot)


async def test_a_shunned_home_joins_through_its_administrator_and_blocked_slots_are_leapt_over(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "pki", every_third_blocked, shunned=3, calendar="signed") as (net, first):
        first += -first % 3  # a blocked one
        relayed, *_ = [one for one in net.told("relay") if one["resource"].startswith("bundle/")]
        assert (relayed["gateway"], relayed["answer"]) == (GATEWAYS[2], 201)
        await net.over(first)
        await net.measure(first)
        for slot in (first + 1, first + 2):
            total = await play(net, slot)
            assert (total["verdict"], total["lanes"][0]) == ("totalled", ALL)
        await net.over(first + 3)
        await net.measure(first + 3)
        total = await play(net, first + 4)
        assert (total["verdict"], total["lanes"][0]) == ("totalled", ALL)
        assert not {first, first + 3} & {event["slot"] for event in net.told("total")}
        for home in net.homes:
            states = await home.reasons()
            assert states[first] == states[first + 3] == ("OWED", "blocked by the calendar")
            assert [states[first + k][0] for k in (1, 2, 4)] == ["TOTALLED"] * 3
            assert NetEventKind.REFUSED not in {event.kind for event in home.events}
        assert next(rates["suggest_removal"] for rates in net.told("rates")) == {}
        assert not [one for one in net.told("refused") if one["what"] == "rates"]


async def test_a_supplier_that_leaves_out_what_it_confirmed_is_accused_with_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Tally.close

    def forgetful(self: Tally, result: Any, **more: Any) -> Any:
        if self.everybody_spoke:
            self._submitted.pop(3, None)
        return close(self, result, **more)

    monkeypatch.setattr(Tally, "close", forgetful)
    async with running(tmp_path / "pki") as (net, first):
        for slot in range(first, first + 5):  # left out, hello, left out again; told before the next slot
            await play(net, slot)
        told = [event.slot for event in net.homes[2].events if event.kind is NetEventKind.LEFT_OUT]
        assert told
        complaint = net.told("complaint")[0]
        assert (complaint["gateway"], complaint["charge"], complaint["proven"]) == (
            GATEWAYS[2],
            "left-out",
            True,
        )
        assert not [one for home in net.homes[:2] for one in home.events if one.kind is NetEventKind.LEFT_OUT]
