"""A net in which anybody is killed at any time: measured energy arrives once or is owed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from firmware.enforcement.dcnet.machines import SlotState
from tests.support.instant_loop import VirtualLoop
from tests.unit.dcnet.mortal_net import MortalNet

SIZE, PERIOD = 8, 4
UNDECIDED = (SlotState.MEASURED, SlotState.SUBMITTED, SlotState.OPENED, SlotState.REFUSED)
member = st.integers(0, SIZE - 1)
instant = st.floats(0, 55, allow_nan=False)


class MortalParties(RuleBasedStateMachine):
    """Supplier, members and administrators of one net; each rule goes on in virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.net: MortalNet | None = None
        self.slot = self.measured = 0

    def go(self, main: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(main)

    @initialize(recovery=st.sampled_from(["none", "witness"]))
    def founded(self, recovery: str) -> None:
        self.net = MortalNet(SIZE, recovery=recovery, reconcile_slots=PERIOD, poll_s=4.0)
        self.go(self.net.__aenter__())
        self.slot = self.net.first

    @precondition(lambda self: self.net is not None)
    @rule(point=st.integers(1, 160), down_s=st.sampled_from([0.5, 5.0, 20.0, 50.0, 130.0]))
    def the_supplier_will_die(self, point: int, down_s: float) -> None:
        assert self.net is not None
        self.net.down_s = down_s
        if not self.net.life.dead:
            self.net.life.die_in = point

    @precondition(lambda self: self.net is not None)
    @rule(index=st.integers(1, 2), away=st.booleans())
    def an_administrator_goes_or_comes(self, index: int, away: bool) -> None:
        assert self.net is not None
        self.net.administrators[f"gwa{index}"].away = away

    @precondition(lambda self: self.net is not None)
    @rule(killed=st.dictionaries(member, instant, max_size=2), lost=st.sets(member, max_size=2))
    def a_slot_passes(self, killed: dict[int, float], lost: set[int]) -> None:
        self.go(self._pass(killed, lost))

    async def _pass(self, killed: dict[int, float], lost: set[int]) -> None:
        net = self.net
        assert net is not None
        await net.until(self.slot, 0)
        for number, home in enumerate(net.homes):
            home.cut = (
                (lambda resource: "/open/" in resource) if number in lost else (lambda _resource: False)
            )
            self.measured += 100 + self.slot
            await home.member.contribute(self.slot, 100 + self.slot)  # type: ignore[union-attr]
        for number, after_s in sorted(killed.items(), key=lambda one: one[1]):
            await net.until(self.slot, after_s)
            await net.restart(net.homes[number])
        await net.until(self.slot, 58)
        self.slot += 1

    @invariant()
    def nobody_was_asked_to_sign_twice(self) -> None:
        if self.net is not None:
            assert all(one.refused == 0 for one in self.net.administrators.values())

    def teardown(self) -> None:
        if self.net is not None:
            self.go(self._settled(self.net))
            self.go(self.net.__aexit__())
        self.runner.close()

    async def _settled(self, net: MortalNet) -> None:
        net.life.die_in = None
        for one in net.administrators.values():
            one.away = False
        for home in net.homes:
            home.cut = lambda _resource: False
        last = self.slot + 2 * PERIOD + 2
        for later in (last, last + 1):
            await net.until(later, 0)
            for home in net.homes:  # so that everybody learns every result
                await home.member.contribute(later, 0)  # type: ignore[union-attr]
        await net.until(last + 1, 59)
        owed = 0
        for home in net.homes:
            assert home.member is not None
            await net.kill(home)
            owed += sum(one.import_wh for one in await home.member.owed())
            assert not [one for one in await home.member.slots() if one.state in UNDECIDED and one.import_wh]
        totals = sum(event["lanes"][0] for event in net.said.values() if event["lanes"]) // 10
        assert totals + owed == self.measured, (totals, owed, self.measured, net.deaths)


MortalParties.TestCase.settings = settings(
    max_examples=4,
    stateful_step_count=10,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestMortalParties = MortalParties.TestCase
