"""Invariants I1 to I20 of the protocol, as far as they concern the pure core; each test is named after one.

I9 and I10 are in test_adversary.py, I13 over the ledger in test_member.py and test_ledger.py, I18 and I20 in
test_whole_net.py and test_vectors.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from firmware.enforcement.dcnet.errors import (
    Equivocation,
    MembershipRefused,
    OpeningRefused,
    Refusal,
    UnexpectedStep,
)
from firmware.enforcement.dcnet.founding.keyring import KeyRing, edge_keys
from firmware.enforcement.dcnet.machines import SlotState, Step
from firmware.enforcement.dcnet.messages.frames import Frame
from firmware.enforcement.dcnet.policy import NetRules, Recovery, reconcile_net
from firmware.enforcement.dcnet.primitives import arithmetic, graph, kdf
from firmware.enforcement.dcnet.primitives.arithmetic import Lanes, Prf, Purpose
from firmware.enforcement.dcnet.slot.ledger import Ledger
from firmware.enforcement.dcnet.slot.reconcile import Lots, carry
from firmware.enforcement.dcnet.slot.round import Round
from tests.unit.dcnet.support import NET, MemoryStore, edge_key, rules
from tests.unit.dcnet.whole_net import Net, fresh

key16, hash32 = st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)
word = st.integers(0, arithmetic.MASK)
CHI_SQUARE_255 = 400.0
"""A chi-square of 255 degrees of freedom exceeds this with a probability below 1e-8."""


def loose(recovery: bool = True) -> NetRules:
    made = rules(n_min=4, d_min=3, delta=0.49)
    return replace(made, recovery=Recovery.WITNESS, holders=5, threshold=3) if recovery else made


class Slots(RuleBasedStateMachine):
    """I1, I3, I4, I5, I6, I12, I17: slots with any drop-outs, resends, second manifests, recovery."""

    @initialize(size=st.integers(7, 10), witness=st.booleans())
    def start(self, size: int, witness: bool) -> None:
        self.net = Net(loose(witness), size, graph.complete_graph(range(1, size + 1)))
        self.measured = self.totalled = 0
        self.owed: dict[int, int] = dict.fromkeys(range(1, size + 1), 0)
        self.inputs: set[tuple[Any, ...]] = set()

    @rule(data=st.data())
    def slot(self, data: st.DataObject) -> None:
        net = self.net
        everybody = list(range(1, net.size + 1))
        values = {i: data.draw(st.integers(0, 1000)) for i in everybody}
        self.measured += sum(values.values())
        readings: dict[int, Lanes] = {i: (values[i], 7, 1) for i in everybody}
        net.submit(readings)
        left_out = data.draw(st.sets(st.sampled_from(everybody), max_size=2))
        net.close(set(everybody) - left_out, hello=set(everybody) - net.head.present - left_out)
        accepted = set(net.accepted)
        lost = data.draw(st.sets(st.sampled_from(sorted(accepted)), max_size=2)) if accepted else set()
        self.note_inputs(readings)
        try:
            net.open(lost)
        except OpeningRefused:
            self.give_up(values, set(everybody))
            self.restart()
            return
        recovered = net.recover(lost) if lost and net.rules.recovery else None
        if not lost or recovered is not None:
            total = net.total(recovered)
            assert total == arithmetic.add(*(readings[i] for i in sorted(accepted)))  # I1
            assert total[2] == len(accepted)  # I17
            self.totalled += total[0]
            self.give_up(values, set(everybody) - accepted)
        else:
            self.give_up(values, set(everybody))
        for index in sorted(accepted - lost):
            with pytest.raises(UnexpectedStep):
                net.rounds[index].open()  # I3
            assert net.manifest is not None
            other = replace(net.manifest, root=bytes(32))
            with pytest.raises(Equivocation):
                net.rounds[index].consider(other, net.path(index))  # I4
        for index in left_out & net.rounds.keys():
            net.rounds[index].consider(net.manifest, ())  # type: ignore[arg-type]
            with pytest.raises(UnexpectedStep):
                net.rounds[index].open()  # I5
        if accepted - lost:
            net.next()
        else:
            self.restart()

    def note_inputs(self, readings: Mapping[int, Lanes]) -> None:
        """I6: no key of an edge serves one input twice, and a resend is the same bytes."""
        net = self.net
        for index, body in net.bodies.items():
            seed = fresh("b", index, net.head.slot + 1)
            coefficients = [fresh("c", index, net.head.slot + 1, n) for n in range(2)]
            again = Round(net.views[index], net.head)
            assert again.submit(readings[index], seed, coefficients if net.rules.recovery else ()) == body
        entry = (net.head.hash, net.head.slot + 1)
        assert entry not in self.inputs
        self.inputs.add(entry)

    def give_up(self, values: Mapping[int, int], members: set[int]) -> None:
        for index in members:
            self.owed[index] += values[index]

    def restart(self) -> None:
        """Nobody opened: a new epoch manifest starts another chain at the next slot."""
        slot = self.net.head.slot + 1
        everybody = frozenset(range(1, self.net.size + 1))
        self.net.head = replace(
            self.net.head, slot=slot, hash=fresh("epoch", slot, size=32), present=everybody
        )

    @invariant()
    def i12_totals_and_what_is_owed_are_what_was_measured(self) -> None:
        if hasattr(self, "net"):
            assert self.totalled + sum(self.owed.values()) == self.measured


Slots.TestCase.settings = settings(max_examples=25, stateful_step_count=6, deadline=None)
test_i1_i3_i4_i5_i6_i12_i17_over_many_slots = Slots.TestCase


def chi_square(octets: bytes) -> float:
    expected = len(octets) / 256
    return sum((octets.count(value) - expected) ** 2 / expected for value in range(256))


@settings(max_examples=3)
@given(word, key16)
@example(0, bytes(16))
@example(arithmetic.MASK, bytes(16))
def test_i2_submissions_and_openings_are_uniform_whatever_the_reading(reading: int, root: bytes) -> None:
    edges = {peer: Prf(fresh("edge", root, peer)) for peer in (2, 3, 4)}
    sent: dict[str, bytes] = {"y": b"", "r": b""}
    for number in range(4000):
        seed = fresh("seed", root, number)
        y = arithmetic.submission((reading,), seed, 1, edges, {2, 3, 4}, bytes(32), 5)
        r = arithmetic.opening(seed, 1, edges, {4}, bytes(32), 5, 1)
        sent["y"] += arithmetic.from_lanes(y)
        sent["r"] += arithmetic.from_lanes(r)
    for name, octets in sent.items():
        assert chi_square(octets) < CHI_SQUARE_255, name
    assert chi_square(bytes(32_000)) > CHI_SQUARE_255  # what is not uniform is noticed


@given(
    st.integers(0, 20),
    st.integers(1, 1 << 31),
    key16,
    hash32,
    st.integers(0, (1 << 32) - 1),
    st.integers(1, 9),
)
def test_i7_both_ends_of_an_edge_derive_one_pad_in_every_epoch(
    first: int, ahead: int, root: bytes, previous: bytes, slot: int, lanes: int
) -> None:
    ahead %= 40
    here, there = (
        KeyRing(first, bytes(16), {1: edge_keys(root, NET, bytes(32), lower=lower)})
        for lower in (True, False)
    )
    for epoch in range(first, first + ahead + 1):
        here.move(NET, epoch)  # one end was there every day, the other one comes back
    there = KeyRing.from_bytes(there.to_bytes())  # after a restart
    there.move(NET, first + ahead)
    keys = [end.epoch_keys(NET)[1] for end in (here, there)]
    assert keys[0] == keys[1]
    low = arithmetic.pads(1, {2: Prf(keys[0])}, {2}, previous, slot, lanes)
    high = arithmetic.pads(2, {1: Prf(keys[1])}, {1}, previous, slot, lanes)
    assert arithmetic.add(low, high) == (0,) * lanes
    assert any(low)


@settings(max_examples=40)
@given(st.sets(st.integers(1, 8), min_size=1, max_size=7))
def test_i8_two_stories_destroy_the_next_total(fooled: set[int]) -> None:
    net = Net(loose(recovery=False), 8, graph.complete_graph(range(1, 9)))
    readings: dict[int, Lanes] = {i: (i, 0, 1) for i in range(1, 9)}
    heads = {i: replace(net.head, hash=bytes([i in fooled]) * 32) for i in readings}
    frames = {
        i: Frame.from_bytes(Round(net.views[i], heads[i]).submit(readings[i], fresh(i))) for i in readings
    }
    masks = [arithmetic.self_mask(fresh(i), 0, 3) for i in readings]
    total = arithmetic.total([frame.lanes for frame in frames.values()], masks, 3)
    assert total[2] != 8


@given(st.lists(st.integers(0, 500), min_size=1, max_size=12), st.data())
async def test_i12_the_ledger_and_the_reconcile_slot_lose_nothing(
    energies: list[int], data: st.DataObject
) -> None:
    ledger, totalled = Ledger(MemoryStore(), NET), 0
    for slot, energy in enumerate(energies):
        await ledger.measure(slot, energy, 0)
        if data.draw(st.booleans()):
            await ledger.submitting(slot, epoch=1, seed=b"s" * 16, frame=b"f", previous=b"p")
            await ledger.opening(slot, manifest_hash=b"m", members=5, frame=b"o")
            await ledger.totalled(slot)
            totalled += energy
        else:
            await ledger.failed(slot, Step.LEAVE_OUT, "test")
    nothing = frozenset[tuple[int, int]]()
    lots = Lots().joined_by(ledger.owed(), before_slot=12, max_wh=10**9, least=1, waiting=nothing)
    carried = carry(ledger.owed(), lots, 10**9, nothing)
    assert totalled + carried.import_wh == sum(energies)
    await ledger.settled(carried.spans)
    assert ledger.owed() == []
    assert {entry.state for entry in ledger.entries()} <= {SlotState.TOTALLED, SlotState.SETTLED}


@settings(max_examples=25)
@given(st.integers(192, 300), st.binary(min_size=4, max_size=8), st.data())
def test_i14_joining_and_leaving_change_few_edges_and_keep_the_graph_whole(
    size: int, beacon: bytes, data: st.DataObject
) -> None:
    """Degrees are what the beacon gives; a roster with one below d_min + 2 takes a new beacon."""
    degree, members = 16, set(range(1, size + 1))
    before = graph.key_graph(members, degree, beacon)
    leaver = data.draw(st.sampled_from(sorted(members)))
    after_leaving = graph.key_graph(members - {leaver}, degree, beacon)
    after_joining = graph.key_graph(members | {size + 1}, degree, beacon)
    assert len(before ^ after_leaving) <= 3 * degree // 2
    assert len(before ^ after_joining) <= 3 * degree // 2
    for who, edges in ((members - {leaver}, after_leaving), (members | {size + 1}, after_joining)):
        assert graph.component(min(who - {leaver}), graph.neighbours(edges), who) == who
        assert graph.lowest_degree(who, edges) <= degree
        drawn = next(
            chosen
            for number in itertools.count()
            if graph.lowest_degree(who, chosen := graph.key_graph(who, degree, beacon + b"%d" % number)) >= 14
        )
        assert graph.component(min(who), graph.neighbours(drawn), who) == who


@given(key16, hash32, st.integers(0, 1000))
def test_i15_pads_of_two_nets_never_cancel(root: bytes, previous: bytes, slot: int) -> None:
    """Two suppliers, the same two gateways and even the same secret: the net id alone keeps them apart."""
    other = b"net-0002"
    keys = [kdf.epoch_key(kdf.chain_start(root, net), net, 3) for net in (NET, other, reconcile_net(NET))]
    assert len(set(keys)) == 3
    here = arithmetic.pads(1, {2: Prf(keys[0])}, {2}, previous, slot, 3)
    there = arithmetic.pads(2, {1: Prf(keys[1])}, {1}, previous, slot, 3)
    assert all(arithmetic.add(here, there))


@given(st.integers(2, 6), st.integers(2, 6))
def test_i16_in_a_component_below_n_min_every_member_refuses(left: int, right: int) -> None:
    size = left + right
    edges = graph.complete_graph(range(1, left + 1)) | graph.complete_graph(range(left + 1, size + 1))
    net = Net(rules(n_min=5, d_min=1), size, edges)
    net.submit({i: (i, 0, 1) for i in range(1, size + 1)})
    shown = net.close()
    for index, current in net.rounds.items():
        part = left if index <= left else right
        if part >= 5:
            assert current.consider(shown, net.path(index)) is SlotState.ACCEPTED
        else:
            with pytest.raises(OpeningRefused) as refused:
                current.consider(shown, net.path(index))
            assert refused.value.refusal is Refusal.COMPONENT


@given(st.sets(st.integers(1, 8), max_size=3))
def test_i17_the_canary_counts_exactly_if_all_pads_cancel(wrong: set[int]) -> None:
    net = Net(loose(recovery=False), 8, graph.complete_graph(range(1, 9)))
    for index in wrong:  # a member whose pad towards one neighbour is another one
        peer = index % 8 + 1
        edges = dict(net.views[index].edges) | {peer: Prf(fresh("wrong", index, peer))}
        net.views[index] = replace(net.views[index], edges=edges)
    net.submit({i: (i, 0, 1) for i in range(1, 9)})
    net.close()
    net.open()
    assert (net.total()[2] == 8) is (not wrong)


@given(key16, st.integers(1, 30))
def test_i19_erased_keys_cannot_make_old_pads(root: bytes, ahead: int) -> None:
    edge = edge_keys(root, NET, bytes(32), lower=True)
    ring = KeyRing(10, bytes(16), {2: edge})
    old = ring.epoch_keys(NET)[2]
    ring.move(NET, 10 + ahead)
    kept = ring.to_bytes()  # what lies sealed in the store
    for epoch in range(10, 10 + ahead):
        with pytest.raises(MembershipRefused, match="erased"):
            KeyRing.from_bytes(kept).move(NET, epoch)
    assert old not in kept
    reachable, key = set(), edge.chain
    for _ in range(3):  # all that a thief can derive from what is left
        reachable |= {key, *(kdf.epoch_key(key, NET, epoch) for epoch in range(9, 42))}
        key = kdf.chain_next(key, NET)
    assert ring.epoch_keys(NET)[2] in reachable  # so the search would find a key that can be made
    assert old not in reachable
    assert edge.chain.hex() not in repr(ring) + repr(edge)
    assert repr(edge.chain) not in repr(ring) + repr(edge)


@given(st.sets(st.tuples(st.integers(1, 9), st.integers(0, 4), st.sampled_from(list(Purpose))), max_size=20))
def test_i6_prf_inputs_that_differ_give_outputs_that_differ(inputs: set[tuple[int, int, Purpose]]) -> None:
    edge = Prf(edge_key(NET, 1, 2))
    outputs = {edge.output(bytes([before]) * 32, slot, purpose, 16) for before, slot, purpose in inputs}
    assert len(outputs) == len(inputs)


@settings(max_examples=25)
@given(st.integers(60, 130), st.sampled_from([4, 16]), st.integers(1, 16), st.binary(max_size=6))
def test_a_graph_is_drawn_exactly_if_nobody_falls_short(
    size: int, degree: int, least: int, beacon: bytes
) -> None:
    members = range(1, size + 1)
    edges = graph.key_graph(members, degree, beacon)
    enough = graph.lowest_degree(members, edges) >= least
    assert graph.drawn(members, degree, beacon, least) == (edges if enough else None)
    with pytest.raises(ValueError, match="even"):
        graph.drawn(range(1, 99), 3, beacon, 1)
