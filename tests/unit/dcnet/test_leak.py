"""What a lying supplier with some corrupt members learns: the product's own rounds, judged by linear algebra.

The supplier tells every member a story of its own: other expected members, other accepted ones, up to three
manifests for one slot. Whatever a member sends is written down as a combination of symbols, and the frame it
really sent is held against that combination, so the symbols cannot drift away from the product.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from firmware.enforcement.dcnet.errors import Equivocation, OpeningRefused, UnexpectedStep
from firmware.enforcement.dcnet.machines import SlotState
from firmware.enforcement.dcnet.messages.documents import to_bitmap
from firmware.enforcement.dcnet.messages.frames import Frame, digest
from firmware.enforcement.dcnet.messages.manifest import Manifest
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.primitives import graph, merkle
from firmware.enforcement.dcnet.slot.round import Round
from firmware.enforcement.dcnet.slot.view import Head
from tests.support import dcnet_model as model
from tests.support.leak_oracle import Row, determined, smallest
from tests.unit.dcnet.support import NET, edge_key, rules, view

RUNS = 150


@dataclass
class Supplier:
    """Everything that supplier and corrupt members see of some slots."""

    size: int
    edges: frozenset[graph.Edge]
    corrupt: frozenset[int]
    rules: NetRules
    opens_again: bool = False
    """The one-opening rule is switched off: a member forgets that it has opened."""
    seen: list[Row] = field(default_factory=list)
    readings: set[tuple[str, int, int]] = field(default_factory=set)
    opened: int = 0

    @property
    def honest(self) -> list[int]:
        return [index for index in range(1, self.size + 1) if index not in self.corrupt]

    def submit(self, index: int, head: Head, reading: int) -> tuple[Round, bytes, bytes]:
        """Let a member submit to the story that `head` tells; what it sends is seen."""
        current = Round(view(index, self.size, self.edges, self.rules), head)
        seed = hashlib.sha256(b"seed %d %d" % (index, head.slot)).digest()[:16]
        body = current.submit((reading, 0, 1), seed)
        symbol = ("x", index, current.slot)
        self.readings.add(symbol)
        row = self._masks(index, head, head.present)
        self._saw({**row, symbol: 1}, body, index, seed, head, head.present, reading)
        return current, seed, body

    def show(
        self, current: Round, seed: bytes, body: bytes, index: int, head: Head, accepted: Iterable[int]
    ) -> Manifest:
        """Show one manifest under which the member's own submission lies; an opening is seen."""
        members = sorted({*accepted, index})
        leaves = [digest(body) if other == index else bytes([other]) * 32 for other in members]
        shown = Manifest(
            NET,
            1,
            current.slot,
            head.hash,
            to_bitmap(members, self.size),
            to_bitmap([], self.size),
            merkle.root(leaves),
        )
        if self.opens_again and current.state is not SlotState.SUBMITTED:
            current = Round.resume(view(index, self.size, self.edges, self.rules), head, seed, body)
        try:
            if current.consider(shown, merkle.path(leaves, members.index(index))) is SlotState.ACCEPTED:
                opening = current.open()
                self.opened += 1
                missing = head.present - frozenset(members)
                row = self._masks(index, head, missing)
                self._saw(row, opening, index, seed, head, missing)
        except (OpeningRefused, Equivocation, UnexpectedStep):
            pass
        return shown

    def _masks(self, index: int, head: Head, among: frozenset[int]) -> Row:
        """The self-mask, and the pads that the observers do not know."""
        slot = head.slot + 1
        row: Row = {("b", index, slot): 1}
        for low, high in self.edges:
            other = low + high - index
            if index in (low, high) and other in among and other not in self.corrupt:
                row["p", low, high, slot, head.hash] = 1 if index < other else -1
        return row

    def _saw(
        self,
        row: Row,
        body: bytes,
        index: int,
        seed: bytes,
        head: Head,
        among: frozenset[int],
        reading: int = 0,
    ) -> None:
        """Note a number with the corrupt members' pads taken off it, after checking it against the frame."""
        slot = head.slot + 1
        expected = reading + model.self_mask(seed, slot, 1)[0]
        for low, high in self.edges:
            if index in (low, high) and low + high - index in among:
                pad = model.prf(edge_key(NET, low, high), head.hash, slot, 0, 8)
                expected += int.from_bytes(pad, "little") * (1 if index == low else -1)
        assert Frame.from_bytes(body).lanes[0] == expected % model.RING
        self.seen.append(row)

    def smallest(self, limit: int) -> frozenset[object] | None:
        """Return fewer than `limit` readings of one slot or of several that are determined."""
        return smallest(determined(self.seen, self.readings), limit)


def lie(supplier: Supplier, source: random.Random, slots: int = 2) -> None:
    """Some slots of a supplier that makes a few stories up and tells each member any of them."""
    everybody = frozenset(range(1, supplier.size + 1))
    heads = {i: Head(20_000, -1, bytes([7]) * 32, everybody) for i in supplier.honest}
    for _ in range(slots):
        stories = [everybody - set(source.sample(sorted(everybody), source.randint(0, 3))) for _ in range(3)]
        submitted = {
            i: supplier.submit(i, heads[i], source.randrange(1000))
            for i in supplier.honest
            if i in heads[i].present
        }
        following = dict(heads)
        for index, (current, seed, body) in submitted.items():
            told = source.choices(stories, k=source.choice((1, 1, 2, 3)))
            first = supplier.show(current, seed, body, index, heads[index], told[0] & heads[index].present)
            for again in told[1:]:
                supplier.show(current, seed, body, index, heads[index], again & heads[index].present)
            if current.found is not None and current.found.manifest == first:
                following[index] = current.found.head(heads[index].epoch)
        slot = next(iter(heads.values())).slot + 1
        heads = {
            i: h if h.slot == slot else Head(h.epoch, slot, bytes([i]) * 32, h.present)
            for i, h in following.items()
        }


@pytest.mark.parametrize("size", [6, 8, 10])
def test_no_set_below_the_floor_is_determined_on_a_complete_graph(size: int) -> None:
    opened = 0
    for run in range(RUNS // 3):
        source = random.Random(f"{size} {run}")
        corrupt = frozenset(source.sample(range(1, size + 1), source.randint(0, 2)))
        n_min = source.randint(size // 2 + 1, size - 1)
        net = Supplier(
            size,
            graph.complete_graph(range(1, size + 1)),
            corrupt,
            rules(n_min=n_min, d_min=n_min - 1, delta=0.49),
        )
        lie(net, source)
        opened += net.opened
        assert net.smallest(n_min - len(corrupt)) is None, f"run {run}"
    assert opened > RUNS  # the rules did not simply refuse everything


def test_the_sum_over_the_whole_group_is_what_is_determined() -> None:
    """The oracle sees what is meant to be seen: without it, finding nothing would mean nothing."""
    net = Supplier(5, graph.complete_graph(range(1, 6)), frozenset({5}), rules(n_min=4, d_min=2))
    everybody = frozenset(range(1, 6))
    head = Head(20_000, -1, bytes(32), everybody)
    for index in net.honest:
        net.show(*net.submit(index, head, 10 * index), index, head, everybody)
    basis = determined(net.seen, net.readings)
    assert len(basis) == 1
    assert set(basis[0]) == {("x", index, 0) for index in net.honest}
    assert len(set(basis[0].values())) == 1
    assert net.smallest(4) is None
    assert net.smallest(5) == set(basis[0])


def test_with_fewer_corrupt_neighbours_than_d_min_no_reading_is_determined() -> None:
    """I10, on sparse graphs too."""
    for run in range(RUNS // 3):
        source = random.Random(run)
        edges = graph.h_graph(range(1, 11), 4, b"%d" % run)
        net = Supplier(
            10, edges, frozenset(source.sample(range(1, 11), 2)), rules(n_min=5, d_min=3, delta=0.4)
        )
        lie(net, source)
        assert net.smallest(2) is None, f"run {run}"


def _stripped(d_min: int) -> frozenset[object] | None:
    """Member 1 is told that its honest neighbours 3 and 4 are missing; member 2 is corrupt."""
    edges = frozenset({(1, 2), (1, 3), (1, 4), *graph.complete_graph(range(2, 9))})
    net = Supplier(8, edges, frozenset({2}), rules(n_min=5, d_min=d_min, delta=0.3))
    everybody = frozenset(range(1, 9))
    head = Head(20_000, -1, bytes(32), everybody)
    net.show(*net.submit(1, head, 4711), 1, head, everybody - {3, 4})
    return net.smallest(2)


def test_without_d_min_the_oracle_finds_the_stripped_member() -> None:
    assert _stripped(1) == {("x", 1, 0)}
    assert _stripped(2) is None


def _shown_twice(*, opens_again: bool) -> frozenset[object] | None:
    """Everybody sees a second manifest of the same slot, from which one member is missing."""
    net = Supplier(
        6, graph.complete_graph(range(1, 7)), frozenset(), rules(n_min=4, d_min=3), opens_again=opens_again
    )
    everybody = frozenset(range(1, 7))
    head = Head(20_000, -1, bytes(32), everybody)
    sent = {index: net.submit(index, head, index) for index in everybody}
    for accepted in (everybody, everybody - {6}):
        for index in sorted(accepted):
            net.show(*sent[index], index, head, accepted)
    return net.smallest(2)


def test_without_the_one_opening_rule_the_oracle_finds_the_difference() -> None:
    assert _shown_twice(opens_again=True) == {("x", 6, 0)}
    assert _shown_twice(opens_again=False) is None


def test_random_lies_find_a_reading_once_members_open_again() -> None:
    """The random supplier is strong enough to break a net whose members open twice."""
    found = 0
    for run in range(20):
        source = random.Random(run)
        net = Supplier(
            6,
            graph.complete_graph(range(1, 7)),
            frozenset({6}),
            rules(n_min=4, d_min=3, delta=0.49),
            opens_again=True,
        )
        everybody = frozenset(range(1, 7))
        head = Head(20_000, -1, bytes(32), everybody)
        sent = {i: net.submit(i, head, source.randrange(1000)) for i in net.honest}
        for _ in range(3):
            accepted = everybody - set(source.sample(sorted(everybody), source.randint(0, 1)))
            for index in sorted(accepted - net.corrupt):
                net.show(*sent[index], index, head, accepted)
        found += net.smallest(2) is not None
    assert found > 5
