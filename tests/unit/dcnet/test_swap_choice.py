"""Who changes places: every pair of rosters obeys the rules between rosters, and nobody chooses."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.primitives import graph
from tests.unit.dcnet.support import rules
from tools.counterparts.net_swap_choice import Exchange, NoSwap, choose, seed_of

CODES = {"same", "policy", "overlap", "idle", "candidates", "size"}
A, B = bytes(7) + b"\1", bytes(7) + b"\2"


def named(net: bytes, count: int, what: str = "member") -> list[bytes]:
    return [hashlib.sha256(net + f"{what}{number}".encode()).digest() for number in range(count)]


def side(
    net: bytes, size: int, gone: int = 0, come: int = 0, offered: int | None = None, **changes: object
) -> Exchange:
    members = named(net, size)
    return Exchange(
        replace(rules(**changes), net=net),
        frozenset(members),
        frozenset(members[:gone]),
        frozenset(named(net, come, "newcomer")),
        frozenset(members if offered is None else members[-offered:] if offered else []),
    )


def outcome(one: Exchange, two: Exchange, seed: bytes) -> str | tuple[frozenset[bytes], frozenset[bytes]]:
    """Who changes places, or why nobody does."""
    try:
        return choose(one, two, seed)
    except NoSwap as none:
        return none.code


FEW = st.one_of(st.integers(0, 2), st.integers(0, 6))
SIDES = st.tuples(st.integers(3, 90), FEW, FEW, st.one_of(st.none(), st.integers(4, 12), st.integers(0, 12)))


@settings(max_examples=400, deadline=None)
@given(
    SIDES,
    SIDES,
    st.integers(3, 9),
    st.integers(1, 9),
    st.one_of(st.integers(3, 16), st.integers(3, 60)),
    st.one_of(st.integers(90, 120), st.integers(3, 120)),
    st.binary(min_size=32, max_size=32),
)
def test_every_choice_obeys_the_rules_between_rosters(
    first: tuple[int, int, int, int | None],
    second: tuple[int, int, int, int | None],
    churn_min: int,
    d_min: int,
    n_min: int,
    n_max: int,
    seed: bytes,
) -> None:
    changes = {"churn_min": churn_min}
    one, two = side(A, *first, **changes), side(B, *second, **changes)
    # Floors that a whole policy may not have together are tried as well.
    bounds = {"d_min": d_min, "n_min": n_min, "n_max": max(n_min, n_max)}
    one, two = (replace(each, rules=replace(each.rules, **bounds)) for each in (one, two))  # type: ignore[arg-type]
    found = outcome(one, two, seed)
    if isinstance(found, str):
        assert found in CODES
        lone = any(0 < each.changes < churn_min for each in (one, two))
        assert lone != (found == "idle")
        return
    out, into = found
    assert len(out) == len(into) > 0
    for each, leaving, coming in ((one, out, into), (two, into, out)):
        after = each.after(leaving, coming)
        changed = len(each.members ^ after)
        assert changed >= churn_min
        assert changed == each.changes + 2 * len(out)
        assert bounds["n_min"] <= len(after) <= bounds["n_max"]
        assert leaving <= each.offered - each.gone
        assert each.come <= after
        assert not each.gone & after
        assert _degrees(each.rules, len(after)) >= d_min + 2
    assert not one.after(out, into) & two.after(into, out)
    assert (
        one.after(out, into) | two.after(into, out)
        == (one.members | two.members | one.come | two.come) - one.gone - two.gone
    )
    # The fewest that help, and the same whoever is named first.
    event("a swap")
    fewer = len(out) - 1
    assert fewer == 0 or any(0 < each.changes + 2 * fewer < churn_min for each in (one, two))
    assert choose(two, one, seed) == (into, out)


def _degrees(net_rules: NetRules, size: int) -> int:
    """The smallest degree of a complete net, or of one of 64 graphs of a larger one."""
    if size <= 64:
        return size - 1
    for number in range(64):
        drawn = graph.drawn(
            range(1, size + 1), net_rules.degree, bytes([number]) * 32, net_rules.required_degree()
        )
        if drawn is not None:
            return net_rules.required_degree()
    return 0


@pytest.mark.parametrize(
    ("one", "two", "code"),
    [
        (side(A, 9, 1), side(A, 9), "same"),
        (side(A, 9, 1), side(B, 9, d_min=2), "policy"),
        (side(A, 9), side(B, 9), "idle"),
        (side(A, 9, 4), side(B, 9), "idle"),  # large enough by itself
        (side(A, 9, 1), side(B, 9, 4, 1), ""),
        (side(A, 9, 1, offered=1), side(B, 9), "candidates"),
        (side(A, 9, 2, offered=8), side(B, 9, offered=1), "candidates"),
        (side(A, 9, 1), side(B, 9, offered=0), "candidates"),
        (side(A, 9, 1, n_min=9, d_min=3), side(B, 9, n_min=9, d_min=3), "size"),
        (side(A, 9, 0, 1, n_max=9), side(B, 9, n_max=9), "size"),
        (side(A, 64, 0, 1, d_min=12, n_min=16), side(B, 64, d_min=12, n_min=16), "size"),  # no graph of 65
        (replace(side(A, 9, 1), members=frozenset(named(B, 9))), side(B, 9), "overlap"),
        (replace(side(A, 9), gone=frozenset(named(B, 1))), side(B, 9), "overlap"),
        (replace(side(A, 9), come=frozenset(named(B, 1))), side(B, 9), "overlap"),
        (side(A, 9, 1), side(B, 9), ""),
        (side(A, 9, 0, 1), side(B, 9), ""),
    ],
)
def test_each_outcome_has_its_name(one: Exchange, two: Exchange, code: str) -> None:
    if not code:
        choose(one, two, bytes(32))
        return
    with pytest.raises(NoSwap) as caught:
        choose(one, two, bytes(32))
    assert caught.value.code == code


def test_nobody_is_chosen_more_often_than_others_and_all_depends_on_both_beacons() -> None:
    one, two = side(A, 12, 1), side(B, 12)
    counts: Counter[bytes] = Counter()
    rounds = 3000
    for number in range(rounds):
        beacon = hashlib.sha256(number.to_bytes(4, "big")).digest()
        out, into = choose(one, two, seed_of({A: beacon, B: bytes(32)}))
        counts.update(out | into)
    candidates = 11 + 12
    assert len(counts) == candidates
    for member, count in counts.items():
        expected = rounds * 2 / (11 if member in one.members else 12)
        assert abs(count - expected) < 5 * expected**0.5
    beacons = {A: b"\1" * 32, B: b"\2" * 32}
    assert seed_of(beacons) == seed_of(dict(reversed(beacons.items())))
    others = [beacons | {A: b"\3" * 32}, beacons | {B: b"\3" * 32}, {A: b"\2" * 32, B: b"\1" * 32}]
    assert len({seed_of(beacons), *map(seed_of, others)}) == 4
