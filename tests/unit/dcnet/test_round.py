"""Each rule of a slot has a test that breaks it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.enforcement.dcnet.errors import Equivocation, OpeningRefused, Refusal, UnexpectedStep
from firmware.enforcement.dcnet.machines import SLOT, SlotState, Step
from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.frames import Frame, digest
from firmware.enforcement.dcnet.messages.manifest import Manifest
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.primitives import graph, merkle
from firmware.enforcement.dcnet.primitives.arithmetic import total
from firmware.enforcement.dcnet.slot.round import Round
from firmware.enforcement.dcnet.slot.view import Head
from tests.unit.dcnet.support import NET, head, rules, view

SEED = b"s" * 16


class Net:
    """`size` members who have submitted, on a complete graph unless edges are given."""

    def __init__(self, size: int = 5, edges: object = None, net_rules: NetRules | None = None) -> None:
        self.size, self.head = size, head(size)
        views = {i: view(i, size, edges, net_rules) for i in range(1, size + 1)}  # type: ignore[arg-type]
        self.rounds = {i: Round(v, self.head) for i, v in views.items()}
        self.bodies = {i: r.submit([i * 10, 0, 1], bytes([i]) * 16) for i, r in self.rounds.items()}

    def manifest(self, accepted: set[int] | None = None, **changes: object) -> Manifest:
        members = sorted(self.bodies if accepted is None else accepted)
        root = merkle.root([digest(self.bodies.get(i, b"")) for i in members])
        made = Manifest(
            NET, 1, 0, self.head.hash, to_bitmap(members, self.size), to_bitmap([], self.size), root
        )
        return replace(made, **changes)  # type: ignore[arg-type]

    def path(self, index: int, accepted: set[int] | None = None) -> tuple[bytes, ...]:
        members = sorted(self.bodies if accepted is None else accepted)
        return merkle.path([digest(self.bodies.get(i, b"")) for i in members], members.index(index))


def refused(net: Net, manifest: Manifest, path: tuple[bytes, ...], index: int = 1) -> Refusal:
    with pytest.raises(OpeningRefused) as caught:
        net.rounds[index].consider(manifest, path)
    assert net.rounds[index].state is SlotState.REFUSED
    with pytest.raises(UnexpectedStep):
        net.rounds[index].open()
    return caught.value.refusal


def test_a_good_slot_is_opened_and_sums_up() -> None:
    net = Net()
    accepted = {1, 2, 4, 5}
    openings = {}
    for index in accepted:
        found = net.rounds[index].consider(net.manifest(accepted), net.path(index, accepted))
        assert found is SlotState.ACCEPTED
        openings[index] = Frame.from_bytes(net.rounds[index].open())
    ys = [Frame.from_bytes(net.bodies[index]).lanes for index in accepted]
    assert total(ys, [frame.lanes for frame in openings.values()], 3) == (120, 0, 4)
    assert openings[1].reference == document_hash(net.manifest(accepted))


def test_another_past_is_refused() -> None:
    net = Net()
    assert refused(net, net.manifest(previous=bytes(32)), net.path(1)) is Refusal.PREVIOUS


@pytest.mark.parametrize(
    "changes",
    [
        {"net": bytes(8)},
        {"version": 2},
        {"slot": 1},
        {"accepted": b"\x1f\x00"},
        {"accepted": b"\xff"},
        {"hello": b"\x80"},
    ],
)
def test_another_net_roster_slot_or_size_is_refused(changes: dict[str, object]) -> None:
    net = Net()
    assert refused(net, replace(net.manifest(), **changes), net.path(1)) is Refusal.FORM  # type: ignore[arg-type]


def test_a_missing_leaf_is_refused() -> None:
    net = Net()
    assert refused(net, net.manifest(root=bytes(32)), net.path(1)) is Refusal.LEAF


def test_another_submission_in_our_name_is_refused() -> None:
    net = Net()
    net.bodies[1] = net.bodies[1][:-1] + bytes([net.bodies[1][-1] ^ 1])
    assert refused(net, net.manifest(), net.path(1)) is Refusal.LEAF


def test_a_wrong_path_is_refused() -> None:
    net = Net()
    assert refused(net, net.manifest(), net.path(2)) is Refusal.LEAF


def test_a_member_that_was_not_expected_is_refused() -> None:
    net = Net()
    absent = Head(20_000, -1, net.head.hash, frozenset({1, 2, 3, 4}))
    net.rounds[1] = Round(view(1, 5), absent)
    net.bodies[1] = net.rounds[1].submit([1, 0, 1], SEED)
    assert refused(net, net.manifest(), net.path(1)) is Refusal.NOT_PRESENT


def test_too_many_excluded_is_refused() -> None:
    net = Net()
    accepted = {1, 2, 3}  # 3 of 5, delta is a quarter
    assert refused(net, net.manifest(accepted), net.path(1, accepted)) is Refusal.EXCLUDED


def test_delta_is_exact_at_its_edge() -> None:
    loose = rules(delta=0.4)
    assert loose.enough_of(3, 5)
    assert not rules(delta=0.39).enough_of(3, 5)
    assert rules(delta=0.05).enough_of(19, 20)
    assert not rules(delta=0.05).enough_of(18, 19)


def test_i16_a_small_component_is_refused_by_every_member() -> None:
    """Seven members in a row of cliques; without member 4 the net falls apart into three and three."""
    cliques = [*graph.complete_graph([1, 2, 3]), *graph.complete_graph([5, 6, 7]), (3, 4), (4, 5)]
    strict = rules(n_min=4)
    net = Net(7, cliques, strict)
    accepted = {1, 2, 3, 5, 6, 7}
    for index in accepted:
        assert refused(net, net.manifest(accepted), net.path(index, accepted), index) is Refusal.COMPONENT
    whole = Net(7, cliques, rules(n_min=4, d_min=2))
    assert whole.rounds[1].consider(whole.manifest(), whole.path(1)) is SlotState.ACCEPTED


def test_too_few_neighbours_are_refused() -> None:
    """A ring: everybody is connected, and yet two neighbours are too few."""
    ring = [(i, i % 6 + 1) for i in range(1, 7)]
    net = Net(6, ring, rules(n_min=5, d_min=3))
    assert refused(net, net.manifest(), net.path(1)) is Refusal.DEGREE


def test_i4_a_second_manifest_is_proof_of_a_lie() -> None:
    net = Net()
    net.rounds[1].consider(net.manifest(), net.path(1))
    assert net.rounds[1].consider(net.manifest(), net.path(1)) is SlotState.ACCEPTED  # the same again
    net.rounds[1].open()
    accepted = {1, 2, 3, 4}
    with pytest.raises(Equivocation) as caught:
        net.rounds[1].consider(net.manifest(accepted), net.path(1, accepted), b"signed")
    assert caught.value.proof == (net.manifest().to_bytes(), b"signed")


def test_i3_a_slot_is_opened_once() -> None:
    net = Net()
    net.rounds[1].consider(net.manifest(), net.path(1))
    net.rounds[1].open()
    with pytest.raises(UnexpectedStep):
        net.rounds[1].open()


def test_i5_a_member_that_was_left_out_never_opens() -> None:
    net = Net()
    accepted = {2, 3, 4, 5}
    assert net.rounds[1].consider(net.manifest(accepted), ()) is SlotState.LEFT_OUT
    with pytest.raises(UnexpectedStep):
        net.rounds[1].open()


def test_nothing_is_opened_without_a_manifest() -> None:
    with pytest.raises(UnexpectedStep):
        Net().rounds[1].open()


def test_nothing_is_submitted_twice_or_unexpected() -> None:
    net = Net()
    with pytest.raises(UnexpectedStep):
        net.rounds[1].submit([1, 0, 1], SEED)
    absent = Round(view(1, 5), Head(20_000, -1, bytes(32), frozenset({2, 3, 4, 5})))
    with pytest.raises(UnexpectedStep):
        absent.submit([1, 0, 1], SEED)
    assert Frame.from_bytes(absent.hello()).lanes == ()


def test_a_resumed_round_opens_like_the_first() -> None:
    net = Net()
    again = Round.resume(view(1, 5), net.head, bytes([1]) * 16, net.bodies[1])
    for one in (again, net.rounds[1]):
        one.consider(net.manifest(), net.path(1))
    assert again.open() == net.rounds[1].open()


@settings(max_examples=200)
@given(st.sampled_from(SlotState), st.lists(st.sampled_from(Step), max_size=8))
def test_no_way_through_the_table_opens_twice(state: SlotState, steps: list[Step]) -> None:
    opened = 0
    for step in steps:
        try:
            state = SLOT.advance(state, step)
        except UnexpectedStep:
            continue
        opened += step is Step.OPEN
    assert opened <= 1
