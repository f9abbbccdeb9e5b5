"""Canary audit: whatever is wrong is found where it is, nothing is found where nothing is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.enforcement.dcnet.errors import AuditRefused
from firmware.enforcement.dcnet.machines import SlotState
from firmware.enforcement.dcnet.messages.faults import CanaryStatement
from firmware.enforcement.dcnet.messages.frames import Frame
from firmware.enforcement.dcnet.primitives import arithmetic, graph
from firmware.enforcement.dcnet.primitives.arithmetic import Prf
from firmware.enforcement.dcnet.slot import audit
from firmware.enforcement.dcnet.slot.opened import Account
from tests.unit.dcnet.support import rules
from tests.unit.dcnet.whole_net import Net

SIZE = 8


class Audited:
    """One slot in which some lie; then everybody is audited."""

    def __init__(self, canaries: dict[int, int], wrong_pads: set[tuple[int, int]], absent: set[int]) -> None:
        self.net = net = Net(
            rules(n_min=3, d_min=1, delta=0.45), SIZE, graph.complete_graph(range(1, SIZE + 1))
        )
        for owner, peer in wrong_pads:
            edges = dict(net.views[owner].edges) | {peer: Prf(b"another key 1234")}
            net.views[owner] = replace(net.views[owner], edges=edges)
        net.submit({i: (5, 6, canaries.get(i, 1)) for i in range(1, SIZE + 1)})
        net.close(set(range(1, SIZE + 1)) - absent)
        net.open()
        found = net.rounds[net.accepted[0]].found
        assert found is not None
        self.found = found
        self.y = {i: Frame.from_bytes(net.bodies[i]).lanes[2] for i in net.accepted}
        self.r = {i: Frame.from_bytes(net.openings[i]).lanes[2] for i in net.accepted}
        self.statements = {i: self.statement(i) for i in net.accepted}

    def statement(self, index: int, last: int | None = None) -> CanaryStatement:
        made = audit.statement(
            self.net.views[index],
            self.net.head,
            self.found,
            Account.of(self.net.bodies[index], self.net.openings[index]),
            state=SlotState.OPENED,
            last_audit_epoch=last,
        )
        assert CanaryStatement.from_bytes(made.to_bytes()) == made
        return made

    def judge(self) -> audit.Finding:
        adjacent = self.net.views[1].adjacent
        return audit.judge(self.statements, self.y, self.r, adjacent, self.net.head.present, self.found.hash)


members = st.integers(1, SIZE)


@settings(max_examples=60)
@given(
    st.dictionaries(members, st.integers(0, (1 << 64) - 1).filter(lambda x: x != 1), max_size=2),
    st.sets(st.tuples(members, members).filter(lambda e: e[0] != e[1]), max_size=2),
    st.sets(members, max_size=2),
)
def test_liars_and_wrong_edges_are_named_and_nobody_else(
    canaries: dict[int, int], wrong: set[tuple[int, int]], absent: set[int]
) -> None:
    slot = Audited(canaries, wrong, absent)
    finding = slot.judge()
    accepted = set(slot.net.accepted)
    assert finding.silent == set()
    assert finding.members == canaries.keys() & accepted
    edges = {(min(e), max(e)) for e in wrong if (e[1], e[0]) not in wrong}  # both wrong alike is right
    assert finding.edges == {e for e in edges if set(e) <= accepted}
    if slot.net.total()[2] != len(accepted):
        # An edge towards a missing member cancels out of z, so a miscount always has somebody to blame.
        assert not finding.clean


def test_whoever_says_nothing_or_something_else_is_named() -> None:
    slot = Audited({}, set(), set())
    assert slot.judge().clean
    del slot.statements[3]
    slot.statements[4] = replace(slot.statements[4], manifest_hash=bytes(32))
    slot.statements[5] = replace(slot.statements[5], pads=slot.statements[5].pads[1:])
    slot.statements[6] = replace(slot.statements[6], index=7)
    slot.statements[7] = replace(slot.statements[7], mask=slot.statements[7].mask ^ 1)
    finding = slot.judge()
    assert finding.silent == {3, 4, 5, 6}
    assert finding.members == {7}


def test_the_audit_opens_no_reading() -> None:
    """Pads and masks of the canary lane leave the other lanes' words as they were: fresh PRF output."""
    slot = Audited({}, set(), set())
    for index, one in slot.statements.items():
        view = slot.net.views[index]
        for peer, word in one.pads:
            lanes = arithmetic.to_lanes(view.edges[peer].output(slot.net.head.hash, 0, 0, 24))
            assert word == lanes[2]
            assert word not in lanes[:2]


def test_the_blame_budget_and_the_state_are_kept() -> None:
    slot = Audited({}, set(), set())
    assert slot.statement(1, last=20_000 - audit.EPOCHS_BETWEEN) == slot.statement(1)
    with pytest.raises(AuditRefused, match="once in 30"):
        slot.statement(1, last=20_000 - audit.EPOCHS_BETWEEN + 1)
    with pytest.raises(AuditRefused, match="TOTALLED"):
        audit.statement(
            slot.net.views[1],
            slot.net.head,
            slot.found,
            Account(0, 0, bytes(32), bytes(32)),
            state=SlotState.TOTALLED,
            last_audit_epoch=None,
        )
