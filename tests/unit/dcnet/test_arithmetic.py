"""Invariants of the arithmetic and of the graph, on random nets."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.enforcement.dcnet.primitives import graph, merkle
from firmware.enforcement.dcnet.primitives.arithmetic import MASK, Prf, opening, pads, prf, submission, total
from tests.unit.dcnet.support import edge_key

LANES = 3


@dataclass
class Drawn:
    size: int
    edges: frozenset[tuple[int, int]]
    readings: dict[int, list[int]]
    accepted: frozenset[int]
    lanes: int


@st.composite
def nets(draw: st.DrawFn) -> Drawn:
    size, lanes = draw(st.integers(2, 14)), draw(st.integers(1, 5))
    if draw(st.booleans()):
        edges = graph.h_graph(
            range(1, size + 1), draw(st.sampled_from([2, 4, 6])), draw(st.binary(max_size=8))
        )
    else:
        every = sorted(graph.complete_graph(range(1, size + 1)))
        edges = frozenset(draw(st.sets(st.sampled_from(every))))
    word = st.integers(0, MASK)
    readings = {i: draw(st.lists(word, min_size=lanes, max_size=lanes)) for i in range(1, size + 1)}
    accepted = draw(st.sets(st.integers(1, size), min_size=1))
    return Drawn(size, edges, readings, frozenset(accepted), lanes)


def keys(net: Drawn, index: int, name: bytes = b"net") -> dict[int, Prf]:
    peers = graph.neighbours(net.edges).get(index, frozenset())
    return {peer: Prf(edge_key(name, index, peer)) for peer in peers}


def seed(index: int) -> bytes:
    return bytes([index]) * 16


def play(
    net: Drawn, previous_of: dict[int, bytes] | None = None, names: dict[int, bytes] | None = None
) -> list[int]:
    present = frozenset(range(1, net.size + 1))
    ys, rs = [], []
    for index in net.accepted:
        own = keys(net, index, (names or {}).get(index, b"net"))
        previous = (previous_of or {}).get(index, bytes(32))
        ys.append(submission(net.readings[index], seed(index), index, own, present, previous, 9))
        rs.append(opening(seed(index), index, own, present - net.accepted, previous, 9, net.lanes))
    return list(total(ys, rs, net.lanes))


def plain(net: Drawn) -> list[int]:
    return [sum(net.readings[i][lane] for i in net.accepted) & MASK for lane in range(net.lanes)]


@settings(max_examples=60, deadline=None)
@given(nets())
def test_i1_total_is_the_plain_sum_over_the_accepted(net: Drawn) -> None:
    assert play(net) == plain(net)


@settings(max_examples=40, deadline=None)
@given(nets(), st.data())
def test_i8_a_one_sided_manifest_change_destroys_the_total(net: Drawn, data: st.DataObject) -> None:
    victim = data.draw(st.sampled_from(sorted(net.accepted)))
    shared = graph.neighbours(net.edges).get(victim, frozenset()) & net.accepted
    result = play(net, {victim: b"\x01" * 32})
    assert (result == plain(net)) == (not shared)


@settings(max_examples=40, deadline=None)
@given(nets(), st.data())
def test_i15_pads_of_two_nets_never_cancel(net: Drawn, data: st.DataObject) -> None:
    victim = data.draw(st.sampled_from(sorted(net.accepted)))
    shared = graph.neighbours(net.edges).get(victim, frozenset()) & net.accepted
    result = play(net, names={victim: b"another net"})
    assert (result == plain(net)) == (not shared)


@settings(max_examples=40, deadline=None)
@given(nets(), st.data())
def test_i17_canary_is_the_number_of_members_iff_all_pads_cancel(net: Drawn, data: st.DataObject) -> None:
    for reading in net.readings.values():
        reading[-1] = 1
    assert play(net)[-1] == len(net.accepted)
    victim = data.draw(st.sampled_from(sorted(net.accepted)))
    shared = graph.neighbours(net.edges).get(victim, frozenset()) & net.accepted
    assert (play(net, {victim: b"\x01" * 32})[-1] == len(net.accepted)) == (not shared)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32), st.integers(0, 2**32 - 1))
def test_i7_both_ends_derive_one_pad_with_opposite_signs(key: bytes, previous: bytes, slot: int) -> None:
    low = pads(3, {8: Prf(key)}, {3, 8}, previous, slot, LANES)
    high = pads(8, {3: Prf(key)}, {3, 8}, previous, slot, LANES)
    assert [(a + b) & MASK for a, b in zip(low, high, strict=True)] == [0] * LANES
    word = int.from_bytes(prf(key, previous, slot, 0, 8), "little")
    assert low[0] == word  # the smaller index adds


def test_i6_no_input_of_a_pad_repeats_and_every_part_of_it_counts() -> None:
    base = (b"\x11" * 32, 5, 0)
    others = [
        (b"\x11" * 31 + b"\x10", 5, 0),
        (b"\x10" + b"\x11" * 31, 5, 0),
        (base[0], 6, 0),
        (base[0], 5, 1),
    ]
    outputs = {Prf(b"k" * 16).output(*inputs, 48) for inputs in [base, *others]}
    assert len(outputs) == 5
    blocks = Prf(b"k" * 16).output(*base, 48)
    assert len({blocks[:16], blocks[16:32], blocks[32:]}) == 3


def test_i2_submission_and_opening_look_uniform() -> None:
    """Chi-square over the low byte of y and r for one fixed reading: 255 degrees of freedom."""
    own = {2: Prf(b"e" * 16)}
    for make in (
        lambda s: submission([7], s, 1, own, {1, 2}, bytes(32), 1),
        lambda s: opening(s, 1, own, {2}, bytes(32), 1, 1),
    ):
        counts = [0] * 256
        for number in range(256 * 20):
            counts[make(number.to_bytes(16, "big"))[0] & 0xFF] += 1
        statistic = sum((count - 20) ** 2 / 20 for count in counts)
        assert 150 < statistic < 380


@pytest.mark.parametrize("degree", [0, 1, 3, -2])
def test_a_graph_of_an_odd_degree_is_refused(degree: int) -> None:
    with pytest.raises(ValueError, match="even"):
        graph.h_graph(range(9), degree, b"")


@given(st.integers(2, 40), st.sampled_from([2, 4, 8, 16]), st.binary(max_size=32))
def test_h_graph_is_connected_and_within_its_degree(size: int, degree: int, beacon: bytes) -> None:
    members = range(1, size + 1)
    edges = graph.h_graph(members, degree, beacon)
    adjacent = graph.neighbours(edges)
    assert all(a < b for a, b in edges)
    assert graph.component(1, adjacent, frozenset(members)) == frozenset(members)
    assert max(map(len, adjacent.values())) <= max(degree, size - 1 if size <= degree + 1 else 0)


def test_component_follows_only_who_is_among() -> None:
    adjacent = graph.neighbours([(1, 2), (2, 3), (4, 5)])
    assert graph.component(1, adjacent, {1, 3}) == {1}
    assert graph.component(1, adjacent, {1, 2, 3, 4, 5}) == {1, 2, 3}
    assert graph.component(6, adjacent, {1}) == frozenset()


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40, unique=True), st.data())
def test_merkle_paths_prove_their_leaf_and_no_other(digests: list[bytes], data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(digests) - 1))
    root, path, count = merkle.root(digests), merkle.path(digests, position), len(digests)
    assert merkle.contains(root, digests[position], position, count, path)
    assert not merkle.contains(root, b"\xff" * 31 + b"\x00", position, count, path)
    assert not merkle.contains(root, digests[position], position, count, [*path, bytes(32)])
    assert not merkle.contains(root, digests[position], count, count, path)
    if path:
        assert not merkle.contains(root, digests[position], position, count, path[:-1])
    with pytest.raises(IndexError):
        merkle.path(digests, count)
