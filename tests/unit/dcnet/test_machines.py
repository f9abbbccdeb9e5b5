"""The state machines: what a table does not list is an error; every state can be reached and left."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from firmware.enforcement.dcnet import machines
from firmware.enforcement.dcnet.errors import UnexpectedStep
from firmware.enforcement.dcnet.machines import MEMBER, MemberState, MemberStep

ENDS = {"TOTALLED", "SETTLED", "ARCHIVED", "ORDER_SEEN"}


@pytest.mark.parametrize("machine", machines.ALL, ids=lambda machine: machine.name)
def test_a_table_is_whole_and_what_it_does_not_list_is_an_error(machine: Any) -> None:
    states: type[Enum] = type(machine.start)
    steps: type[Enum] = type(next(iter(machine.next))[1])
    reached, frontier = {machine.start}, [machine.start]
    while frontier:
        state = frontier.pop()
        for (before, _), after in machine.next.items():
            if before is state and after not in reached:
                reached.add(after)
                frontier.append(after)
    assert reached == set(states)
    assert {step for _, step in machine.next} == set(steps)
    for state in states:
        assert state.name in ENDS or any(before is state for before, _ in machine.next)
        for step in steps:
            if (state, step) in machine.next:
                assert machine.advance(state, step) is machine.next[state, step]
            else:
                with pytest.raises(UnexpectedStep, match=machine.name):
                    machine.advance(state, step)


def test_a_proof_of_a_lie_quarantines_in_every_state_and_only_leaving_ends_it() -> None:
    for state in MemberState:
        assert MEMBER.advance(state, MemberStep.ACCUSE) is MemberState.QUARANTINE
    out = {step for state, step in MEMBER.next if state is MemberState.QUARANTINE}
    assert out == {MemberStep.ACCUSE, MemberStep.LEAVE}
