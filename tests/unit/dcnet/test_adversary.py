"""I9, I10: what a lying supplier learns from the product's own rounds, by the shipped leak check.

Each of three rules is switched off once, and the check must then find a single reading.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.enforcement.dcnet.primitives import graph
from tests.unit.dcnet.adversary import Adversary, lie, rules_of
from tools.counterparts.net_recovery import SlotWitness
from tools.dcnet.leak import Known

RUNS, NIGHTLY_RUNS, PARTS = 2000, 20_000, 8


def complete(size: int) -> frozenset[graph.Edge]:
    return graph.complete_graph(range(1, size + 1))


def adversary_run(number: int) -> tuple[Adversary, Known]:
    """One random net, its random corrupt members, and one or two slots of lies."""
    source = random.Random(number)
    size, recovery = source.randint(7, 9), bool(number % 2)
    corrupt = frozenset(source.sample(range(1, size + 1), source.randint(0, 2)))
    n_min = source.randint(size // 2 + 1, size - 2)
    net = Adversary(
        size,
        complete(size),
        corrupt,
        rules_of(n_min, max(n_min - 1, 3), delta=0.49, recovery=recovery),
        SlotWitness() if recovery else None,
    )
    for _ in range(source.choice((1, 1, 2))):
        lie(net, source)
        if not net.heads:
            break
    return net, net.known()


def search(numbers: range) -> None:
    opened = released = sums = 0
    for number in numbers:
        net, found = adversary_run(number)
        assert found.too_small == [], f"run {number}"
        assert found.complete, f"run {number}"
        assert found.singles == [], f"run {number}"
        opened, released, sums = opened + net.opened, released + net.released, sums + len(found.basis)
    # The rules did not simply refuse everything: sums came out, shares were given.
    assert opened > len(numbers)
    assert released > len(numbers) // 4
    assert sums > len(numbers) // 8


@pytest.mark.parametrize("part", range(PARTS))
def test_i9_random_adversaries_learn_nothing_outside_the_limits(part: int) -> None:
    search(range(part * RUNS // PARTS, (part + 1) * RUNS // PARTS))


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_i9_more_random_adversaries(part: int) -> None:
    search(range(RUNS + part * NIGHTLY_RUNS // PARTS, RUNS + (part + 1) * NIGHTLY_RUNS // PARTS))


@settings(max_examples=100)
@given(
    st.binary(max_size=8),
    st.frozensets(st.integers(1, 10), min_size=2, max_size=2),
    st.integers(0, (1 << 32) - 1).map(random.Random),
)
def test_i10_sparse_graphs_with_fewer_than_d_min_corrupt_neighbours(
    beacon: bytes, corrupt: frozenset[int], source: random.Random
) -> None:
    edges = graph.h_graph(range(1, 11), 4, beacon)
    net = Adversary(10, edges, corrupt, rules_of(5, 3, delta=0.4))
    lie(net, source)
    assert net.known().singles == []


def stripped(d_min: int) -> Known:
    """Member 1 is told that its honest neighbours 3 and 4 are missing; member 2 is corrupt."""
    edges = frozenset({(1, 2), (1, 3), (1, 4), *graph.complete_graph(range(2, 9))})
    net = Adversary(8, edges, frozenset({2}), rules_of(5, d_min))
    net.submit()
    net.show(1, net.manifest(1, set(range(1, 9)) - {3, 4}))
    return net.known()


def test_without_d_min_a_single_reading_is_found() -> None:
    assert stripped(1).singles == [("gw-1", "", 0)]
    assert stripped(2).singles == []


def shown_twice(*, forgets: bool) -> Known:
    """Everybody sees a second manifest of one slot, from which one member is missing."""
    net = Adversary(6, complete(6), frozenset(), rules_of(4, 3), forgets=forgets)
    net.submit()
    for accepted in (set(range(1, 7)), set(range(1, 6))):
        for index in sorted(accepted):
            net.show(index, net.manifest(index, accepted))
    return net.known()


def test_without_the_one_opening_rule_a_single_reading_is_found() -> None:
    assert shown_twice(forgets=True).singles == [("gw-6", "", 0)]
    assert shown_twice(forgets=False).singles == []


def two_stories(witness: SlotWitness | None) -> Known:
    """Members 6, 7 and 8 are told of missing members, the others of nobody; then all three are 'recovered'.

    1 and 2 are corrupt and hold two of the three shares of everybody. Member 8 opens with its pads towards
    3, 4 and 5, members 6 and 7 with theirs towards 8; with the self-masks every pad of 8 is known.
    """
    net = Adversary(8, complete(8), frozenset({1, 2}), rules_of(5, 4, recovery=True), witness)
    everybody = set(range(1, 9))
    net.submit()
    full = net.manifest(3, everybody)
    for index in (3, 4, 5):
        net.show(index, full)
    net.show(8, net.manifest(8, everybody - {3, 4, 5}))
    for index in (6, 7):
        net.show(index, net.manifest(index, everybody - {8}))
    for holder, lost in ((3, (6, 8)), (4, (7,))):
        for owner in lost:
            net.ask(holder, full, net.order(full, lost), owner)
    return net.known()


def test_without_the_witness_a_single_reading_is_found() -> None:
    assert ("gw-8", "", 0) in two_stories(None).singles
    assert two_stories(SlotWitness()).singles == []
    assert two_stories(SlotWitness()).too_small == []
