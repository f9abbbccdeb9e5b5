"""Cells and bridges: how they are drawn, who counts as hanging together, what a policy may ask for."""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.enforcement.dcnet.errors import MembershipRefused, NetRefused, OpeningRefused, Refusal
from firmware.enforcement.dcnet.founding import beacon, membership
from firmware.enforcement.dcnet.messages.frames import digest
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.primitives import cells, graph, merkle
from firmware.enforcement.dcnet.slot.round import check_opening
from firmware.enforcement.dcnet.slot.view import Head, Link, View
from firmware.profile.check import _net
from tests.unit.dcnet.adversary import Adversary, lie, rules_of
from tests.unit.dcnet.support import policy, rules, view
from tools.counterparts.net_recovery import SlotWitness
from tools.dcnet.leak import Known

BEACON = bytes(range(32))


def joined(count: int = 3, bridges: int = 6, n_min: int = 18, **changes: object) -> NetRules:
    fields: dict[str, object] = {"cells": count, "bridges": bridges, "n_min": n_min, "recovery": "witness"}
    return rules(**(fields | {"d_min": 5} | changes))


def drawn(net: NetRules, size: int, seed: bytes = BEACON) -> tuple[frozenset[graph.Edge], cells.Joints]:
    between = beacon.joints(net, size, seed)
    assert between is not None
    return beacon.draw(net, size, seed), between


@given(size=st.integers(2, 90), count=st.integers(2, 6), seed=st.binary(min_size=32, max_size=32))
def test_cells_part_the_members_evenly_and_nobody_chooses_them(size: int, count: int, seed: bytes) -> None:
    found = cells.divided(range(1, size + 1), count, seed)
    assert sorted(one for cell in found for one in cell) == list(range(1, size + 1))
    sizes = [len(cell) for cell in found]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1
    assert found == cells.divided(reversed(range(1, size + 1)), count, seed)


def test_another_beacon_draws_other_cells() -> None:
    assert cells.divided(range(1, 65), 4, BEACON) != cells.divided(range(1, 65), 4, bytes(32))


@pytest.mark.parametrize(("count", "size", "joints"), [(2, 16, 1), (3, 26, 3), (5, 44, 5)])
def test_the_key_graph_is_that_of_each_cell_and_the_bridges_of_the_simulation(
    count: int, size: int, joints: int
) -> None:
    net = joined(count, 8, 8 * count)
    edges, between = drawn(net, size)
    parts = cells.divided(range(1, size + 1), count, BEACON)
    own = frozenset().union(*(graph.complete_graph(part) for part in parts))
    assert edges == own | graph.bridges(parts, 8, BEACON)
    assert len(between.bridges) == joints
    for (near, far), found in between.bridges.items():
        assert len(found) == 8
        assert {between.cell_of[one] for edge in found for one in edge} == {near, far}
        assert len({one for edge in found for one in edge}) == 16  # no member is the end of two at one joint


def test_large_cells_are_h_graphs_with_beacons_of_their_own() -> None:
    net = replace(rules(n_min=140, d_min=10), cells=2, bridges=16)
    edges, between = drawn(net, 150)
    for number, part in enumerate(cells.divided(range(1, 151), 2, BEACON)):
        inside = {edge for edge in edges if {between.cell_of[one] for one in edge} == {number}}
        seed = cells.beacon_of_cell(BEACON, number)
        tried = [seed] + [hashlib.sha256(seed + n.to_bytes(4, "big")).digest() for n in range(1, 64)]
        graphs = (graph.h_graph(part, 16, one) for one in tried)
        assert inside == next(one for one in graphs if graph.lowest_degree(part, one) >= 12)


@given(
    away=st.sets(st.integers(1, 26)),
    seed=st.binary(min_size=32, max_size=32),
    count=st.integers(2, 3),
)
def test_who_is_reached_hangs_together_and_never_through_a_loose_joint(
    away: set[int], seed: bytes, count: int
) -> None:
    edges, between = drawn(joined(count, 6, 6 * count), 26, seed)
    adjacent, among = graph.neighbours(edges), frozenset(range(1, 27)) - away
    holding = between.holding(adjacent, among)
    for member in among:
        found = cells.reach(member, adjacent, among, between)
        assert member in found <= graph.component(member, adjacent, among)
        mates = {one for one in among if between.cell_of[one] == between.cell_of[member]}
        assert mates <= found  # a complete cell never falls apart
        reached = {between.cell_of[one] for one in found} - {between.cell_of[member]}
        for cell in reached:  # some chain of holding joints leads there
            assert any(cell in joint for joint in holding)
        if len(holding) == len(between.bridges):
            assert found == among
    for joint, edges_of in between.bridges.items():
        alive = sum(a in among and b in among for a, b in edges_of)
        assert (joint in holding) == (alive * 4 >= len(edges_of) * 3)


def opens(net: NetRules, index: int, accepted: frozenset[int], seed: bytes = BEACON) -> Refusal | None:
    """Whether a member of a joined net of 24 would open over `accepted`; the reason if it would not."""
    edges, between = drawn(net, 24, seed)
    plain = view(index, 24, edges, net)
    joined_view = View(
        plain.rules, plain.version, plain.epoch, 24, index, plain.edges, plain.adjacent, between
    )
    order = sorted(accepted)
    leaves = [digest(b"%d" % one) for one in order]
    manifest = type("M", (), {"root": merkle.root(leaves)})()
    found = Link(manifest, bytes(32), accepted, frozenset())
    head = Head(20_000, 0, bytes(32), frozenset(range(1, 25)))
    at = order.index(index)
    try:
        check_opening(joined_view, head, found, leaves[at], merkle.path(leaves, at))
    except OpeningRefused as refused:
        return refused.refusal
    return None


def test_members_count_over_the_joint_graph_and_refuse_once_their_cell_is_cut_off() -> None:
    net = joined(delta=0.45, n_min=18)
    _, between = drawn(net, 24)
    everybody = frozenset(range(1, 25))
    assert opens(net, 1, everybody) is None  # 24 hang together, a cell alone has 8
    far_ends = {
        one
        for (near, far), edges in between.bridges.items()
        if 0 in (near, far)
        for edge in sorted(edges)[:2]  # four of six are left, five are needed
        for one in edge
        if between.cell_of[one] != 0
    }
    left = everybody - far_ends
    inside = next(one for one in left if between.cell_of[one] == 0)
    outside = next(one for one in left if between.cell_of[one] == 1)
    assert len(left) >= 18
    assert opens(net, inside, left) is Refusal.COMPONENT
    assert opens(net, outside, left) is Refusal.COMPONENT  # the others are fewer than 18 without that cell
    # With a floor that a cell satisfies by itself, each part may open: its sum is as large as promised.
    assert opens(replace(net, n_min=8, bridges=2), inside, everybody - far_ends) is None


def alive(net: NetRules, away: set[int]) -> tuple[dict[int, frozenset[int]], frozenset[int]]:
    return graph.neighbours(drawn(net, 24)[0]), frozenset(range(1, 25)) - away


def test_one_loose_joint_of_a_circle_cuts_nobody_off() -> None:
    net = joined(delta=0.45, n_min=20)
    _, between = drawn(net, 24)
    first, second, *_ = sorted(between.bridges[0, 1])
    away = {one for edge, cell in ((first, 0), (second, 1)) for one in edge if between.cell_of[one] == cell}
    assert between.holding(*alive(net, away)) == {(0, 2), (1, 2)}
    left = frozenset(range(1, 25)) - away
    assert all(opens(net, one, left) is None for one in left)


def test_refused_peers_loosen_a_joint_at_the_founding() -> None:
    net = joined(2, 8, 16)
    edges, between = drawn(net, 16)
    (joint,) = between.bridges.values()
    assert len(membership.check_graph(net, 1, edges, between)) == 16
    assert len(membership.check_graph(net, 1, edges - set(sorted(joint)[:2]), between)) == 16
    with pytest.raises(MembershipRefused) as caught:
        membership.check_graph(net, 1, edges - set(sorted(joint)[:3]), between)
    assert caught.value.code == "component"


@pytest.mark.parametrize(
    ("changes", "said", "place"),
    [
        ({"bridges": 2}, "two cells that they join", "bridges"),
        ({"cells": 2}, "cells without bridges are nets of their own", "cells"),
        ({"cells": 4, "bridges": 40}, "at least cells \\* bridges = 160", "n_min"),
        ({"cells": 2, "bridges": 15, "insecure_small_nets": False}, "at least 16", "bridges"),
        ({"cells": 2, "bridges": 16, "recovery": "none"}, "tell each end of a bridge", "recovery"),
    ],
)
def test_what_joins_nothing_or_too_little_is_refused_by_name(
    changes: dict[str, object], said: str, place: str
) -> None:
    fields: dict[str, object] = {"n_min": 128, "d_min": 12, "max_wh": 1000, "recovery": "witness"}
    with pytest.raises(NetRefused, match=f"bridges = .*{said}"):
        NetRules.from_profile(policy(**(fields | changes)))
    found = list(_net("net", policy(**(fields | changes)), None, small_nets_allowed=True))
    assert [one.place for one in found] == [f"net.{place}"]


def test_a_policy_with_cells_is_admitted_and_has_a_hash_of_its_own() -> None:
    fields: dict[str, object] = {"n_min": 128, "d_min": 12, "recovery": "witness"}
    plain = policy(**fields, insecure_small_nets=False)
    net = NetRules.from_profile(policy(**fields, insecure_small_nets=False, cells=2, bridges=16))
    assert net.starts_with() == 128  # two complete cells of 64, where one net of 128 seldom has a graph
    one = NetRules.from_profile(plain)
    assert replace(one, cells=1).policy_hash() == one.policy_hash()
    others = {replace(net, cells=c, bridges=b).policy_hash() for c, b in ((2, 16), (2, 18), (3, 16), (4, 16))}
    assert len(others | {one.policy_hash()}) == 5


def tail(count: int, least: int, chance: float) -> float:
    """That at least so many of `count` things happen."""
    return sum(math.comb(count, n) * chance**n * (1 - chance) ** (count - n) for n in range(least, count + 1))


@pytest.mark.parametrize(
    ("bridges", "needed", "corrupt", "missing"),
    [
        (16, 12, (9e-10, 2e-6, 2e-3), (1e-5, 3e-4, 2e-2)),
        (24, 18, (5e-14, 4e-9, 1e-4), (3e-7, 3e-5, 6e-3)),
        (32, 24, (3e-18, 1e-11, 8e-6), (9e-9, 3e-6, 3e-3)),
    ],
)
def test_how_safe_a_joint_is_as_the_documentation_says(
    bridges: int, needed: int, corrupt: tuple[float, ...], missing: tuple[float, ...]
) -> None:
    assert cells.needed_bridges(bridges) == needed
    for said, part in zip(corrupt, (0.05, 0.1, 0.2), strict=True):
        assert tail(bridges, needed, 1 - (1 - part) ** 2) == pytest.approx(said, rel=0.3)
    for said, part in zip(missing, (0.01, 0.02, 0.05), strict=True):
        assert tail(bridges, bridges - needed + 1, 1 - (1 - part) ** 2) == pytest.approx(said, rel=0.3)


# -- against a lying supplier --------------------------------------------------------------------------


def adversary(net: NetRules, size: int, corrupt: frozenset[int], witness: SlotWitness | None) -> Adversary:
    edges, between = drawn(net, size)
    found = Adversary(size, edges, corrupt, net, witness)
    found.views = {index: replace(one, joints=between) for index, one in found.views.items()}
    return found


def told_apart(witness: SlotWitness | None) -> Known:
    """Each end of a bridge of cell 0 is told that it is its own far ends who are missing, and nobody else."""
    base = rules_of(18, 5, delta=0.45, recovery=True)
    net = adversary(replace(base, cells=3, bridges=6), 24, frozenset(), witness)
    between = net.views[1].joints
    assert between is not None
    net.submit()
    for index in (one for one, cell in between.cell_of.items() if cell == 0):
        view_ = net.views[index]
        far = {peer for peer in view_.adjacent[index] if between.cell_of[peer] != 0}
        net.show(index, net.manifest(index, set(range(1, 25)) - far))
    return net.known()


def test_without_a_witness_each_end_of_a_bridge_could_be_told_another_story() -> None:
    """So a policy with bridges and without witness is refused: the sum of a cell would be known."""
    found = told_apart(None)
    assert [len(row) for row in found.basis] == [8]
    assert found.too_small
    witnessed = told_apart(SlotWitness())
    assert witnessed.basis == []


def test_random_liars_with_a_witness_learn_no_sum_that_is_too_small_of_joined_nets() -> None:
    opened = sums = 0
    for number in range(80):
        source = random.Random(number)
        base = rules_of(source.choice((12, 13)), 5, delta=0.4, recovery=True)
        corrupt = frozenset(source.sample(range(1, 17), source.randint(0, 2)))
        net = adversary(replace(base, cells=2, bridges=6), 16, corrupt, SlotWitness())
        lie(net, source)
        found = net.known()
        assert found.too_small == [], f"run {number}"
        assert found.complete, f"run {number}"
        assert found.singles == [], f"run {number}"
        opened, sums = opened + net.opened, sums + len(found.basis)
    assert opened > 160
    assert sums > 10
