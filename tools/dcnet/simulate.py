"""Whole slots of many nets: the product's pads and graphs, sums in numpy columns, checked to be exact.

What is simulated is the arithmetic, the key graphs, who is present, the members' rules and recovery by
shares. Frames, MACs and signatures are not made here, and only lost members' shares are (a sum does not
depend on the others). Spec: docs/dcnet.md, "smgw dcnet simulate".
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from bisect import bisect_left
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from firmware.enforcement.dcnet.errors import SharesRefused
from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.frames import Frame, FrameType, digest, seal
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, Manifest
from firmware.enforcement.dcnet.primitives import graph, merkle, shares
from firmware.enforcement.dcnet.primitives.arithmetic import (
    NO_CONTEXT,
    Lanes,
    Prf,
    Purpose,
    blocks,
    self_mask,
)
from firmware.enforcement.dcnet.primitives.graph import Edge
from tools.dcnet.record import PublicNet, Recorder

Words = NDArray[np.uint64]
Flags = NDArray[np.bool_]

LANES: Final = 3
NET_SIZE: Final = 256
_N_START: Final = 192
_KEY: Final = 16
_EPOCH: Final = 20_000
_EMP: Final = "emp"
_ALL: Final = "all"
_REDRAWS: Final = 200
_LARGEST_WH: Final = 2500


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be simulated."""

    gateways: int
    nets: int
    slots: int
    dropout: float
    """Probability that an expected gateway fails in a slot."""
    witness: bool
    bridges: int = 0
    """Edges between each net and the next; 0 leaves the nets apart."""
    degree: int = 16
    delta: float = 0.05
    holders: int = 8
    threshold: int = 5
    f_max: int = 2
    seed: int = 1
    late: float = 0.5
    """Which part of the drop-outs comes after the manifest."""

    def __post_init__(self) -> None:
        if not (self.gateways >= 3 and 1 <= self.nets <= self.gateways // 3 and self.slots >= 1):
            raise ValueError("at least 3 gateways a net, 1 net and 1 slot are required")
        if (
            not 0 <= self.dropout <= 1
            or not 0 <= self.late <= 1
            or self.bridges < 0
            or self.degree < 2
            or self.degree % 2
        ):
            raise ValueError("0 <= dropout <= 1, bridges >= 0 and an even degree are required")

    def sizes(self) -> list[int]:
        """Return the number of members of each net."""
        small, more = divmod(self.gateways, self.nets)
        return [small + (net < more) for net in range(self.nets)]


def floors(size: int, degree: int) -> tuple[int, int]:
    """Return (N_min, d_min) for a net of a size: the recommended ones, scaled down for small nets."""
    if size <= graph.COMPLETE_UP_TO:
        return max(2, size // 2), max(1, min(12, (size - 1) * 3 // 4))
    # Cycles share edges: below n_start = 192 no beacon gives everybody d_min + 2 = 14 of 16 neighbours.
    return min(128, size // 2), max(1, degree * 3 // 4 if size >= _N_START else degree * 5 // 8)


@dataclass(slots=True)
class Tally:
    """What happened; adds up over groups."""

    totalled: int = 0
    aborted: int = 0
    left_out: int = 0
    lost: int = 0
    refused: int = 0
    recovered: int = 0
    sums: int = 0
    """Sums that the supplier learned: connected components of the accepted members of totalled slots."""
    edges: int = 0
    pads: int = 0
    exact: bool = True
    reported: list[int] = field(default_factory=lambda: [0] * LANES)
    """Sum of all totals, modulo 2**64."""

    def add(self, other: Tally) -> None:
        """Add another one."""
        for name in (
            "totalled",
            "aborted",
            "left_out",
            "lost",
            "refused",
            "recovered",
            "sums",
            "edges",
            "pads",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.exact &= other.exact
        self.reported = [(a + b) % (1 << 64) for a, b in zip(self.reported, other.reported, strict=True)]


class Group:
    """Nets that share one chain of manifests: one net, or all of them when bridges join them.

    Args:
        plan: what is simulated.
        sizes: members of each net in this group; indices run on from net to net.
        number: which group this is; names its random numbers.
        record: takes every message, as frames and documents.
    """

    def __init__(self, plan: Plan, sizes: list[int], number: int, record: Recorder | None = None) -> None:
        self.plan, self.number = plan, number
        self.random = np.random.default_rng([plan.seed, number])
        self.size = sum(sizes)
        beacon = hashlib.sha256(b"beacon %d %d" % (plan.seed, number)).digest()
        starts = np.cumsum([1, *sizes]).tolist()
        nets = [range(a, b) for a, b in pairwise(starts)]
        self.floors = [floors(size, plan.degree) for size in sizes]
        self.n_min = min(n_min for n_min, _ in self.floors)
        d_min = np.repeat([d for _, d in self.floors], sizes)
        edges: set[Edge] = set()
        for net, (_, least) in zip(nets, self.floors, strict=True):
            edges |= _drawn(net, plan.degree, beacon, least)
        edges |= graph.bridges(nets, plan.bridges, beacon)
        self.edges = sorted(edges)
        self.low, self.high = (np.array(side) - 1 for side in zip(*self.edges, strict=True))
        keys = self.random.bytes(_KEY * len(self.edges))
        self.prfs = [Prf(keys[at : at + _KEY]) for at in range(0, len(keys), _KEY)]
        self.adjacent = graph.neighbours(self.edges)
        self.d_min: NDArray[np.int64] = d_min
        self.present: Flags = np.ones(self.size, dtype=bool)
        self.expected = self.present
        self.record = record
        self.net = hashlib.sha256(b"net %d %d" % (plan.seed, number)).digest()[:8]
        start = EpochManifest(
            self.net, 1, bytes(32), _EPOCH, 0, to_bitmap(range(1, self.size + 1), self.size)
        )
        self.head = document_hash(start)
        if record is not None:
            threshold = plan.threshold if plan.witness else 0
            public = PublicNet(
                self.net, self.n_min, int(d_min.min()), threshold, self.size, tuple(self.edges)
            )
            record.write(0, _EMP, _ALL, "net", public.to_bytes())
            record.write(0, _EMP, _ALL, "epoch", start.to_bytes())

    def slot(self, slot: int, tally: Tally) -> None:
        """Run one slot and count what became of it."""
        plan, random, size = self.plan, self.random, self.size
        readings = np.empty((size, LANES), dtype=np.uint64)
        readings[:, 0] = random.integers(0, _LARGEST_WH * 10, size, dtype=np.uint64)
        readings[:, 1] = random.integers(0, _LARGEST_WH * 10, size, dtype=np.uint64)
        readings[:, 2] = 1
        fails = random.random(size) < plan.dropout
        early = fails & (random.random(size) >= plan.late)
        seeds = random.bytes(_KEY * size)
        masks = self._masks(seeds, slot)
        present = self.present
        accepted = present & ~early
        used = np.flatnonzero(present[self.low] & present[self.high])
        low, high = self.low[used], self.high[used]
        pads = self._pads(used, slot)
        submitted = readings + masks
        np.add.at(submitted, low, pads)
        np.subtract.at(submitted, high, pads)
        following = accepted | (~present & ~fails)
        previous, manifest = (
            self.head,
            self._manifest(slot, accepted, following & ~accepted, submitted, seeds),
        )
        self.head = document_hash(manifest)
        opened = masks.copy()
        gone = present & ~accepted
        half = gone[low] != gone[high]
        for end, other, apply in ((low, high, np.add), (high, low, np.subtract)):
            towards = half & gone[other]
            apply.at(opened, end[towards], pads[towards])
        refuses, components = self._refusals(accepted)
        lost = accepted & ((fails & ~early) | refuses)
        self.expected = present
        tally.left_out += int(gone.sum())
        tally.lost += int((lost & ~refuses).sum())
        tally.refused += int(refuses.sum())
        tally.pads += len(used)
        # Back again: says hello in the slot after the one it missed, so the one after that expects it.
        self.present = following
        if self.record is not None:
            for index in np.flatnonzero(accepted & ~lost) + 1:
                self._send(slot, "open", FrameType.OPEN, int(index), self.head, _lanes(opened[index - 1]))
        if not accepted.any() or (
            lost.any() and not self._recover(lost, gone, seeds, opened, previous, slot)
        ):
            tally.aborted += 1
            return
        if plan.witness:
            tally.recovered += int(lost.sum())
        total = submitted[accepted].sum(axis=0) - opened[accepted].sum(axis=0)
        tally.exact &= bool((total == readings[accepted].sum(axis=0)).all())
        tally.exact &= int(total[2]) == int(accepted.sum())
        tally.totalled += 1
        tally.sums += components
        tally.reported = [(a + int(b)) % (1 << 64) for a, b in zip(tally.reported, total, strict=True)]

    def _manifest(self, slot: int, accepted: Flags, hello: Flags, submitted: Words, seeds: bytes) -> Manifest:
        """The slot's manifest; with a record, over the frames that everybody sends before it."""
        leaves, members = [], [int(index) for index in np.flatnonzero(accepted) + 1]
        for index in members if self.record is not None else ():
            dealt = self._deal(index, seeds, slot) if self.plan.witness else ()
            lanes = _lanes(submitted[index - 1])
            leaves.append(self._send(slot, "submit", FrameType.SUBMIT, index, self.head, lanes, dealt))
        manifest = Manifest(
            self.net,
            1,
            slot,
            self.head,
            to_bitmap(members, self.size),
            to_bitmap((int(index) for index in np.flatnonzero(hello) + 1), self.size),
            merkle.root(leaves),
        )
        if self.record is not None:
            self.record.write(slot, _EMP, _ALL, "manifest", manifest.to_bytes())
        return manifest

    def _deal(self, index: int, seeds: bytes, slot: int) -> tuple[tuple[int, bytes], ...]:
        """The sealed shares of a member."""
        plan, present = self.plan, self.present
        holders = [peer for peer in sorted(self.adjacent[index]) if present[peer - 1]][: plan.holders]
        if len(holders) < plan.threshold:
            return ()
        coefficients = [self.random.bytes(_KEY) for _ in range(plan.threshold - 1)]
        parts = shares.split(seeds[_KEY * (index - 1) : _KEY * index], coefficients, len(holders))
        return tuple(
            (peer, shares.seal(part, self._edge(index, peer), self.head, slot, index, peer))
            for peer, part in zip(holders, parts, strict=True)
        )

    def _send(
        self,
        slot: int,
        kind: str,
        frame_type: FrameType,
        index: int,
        reference: bytes,
        lanes: Lanes = (),
        held: tuple[tuple[int, bytes], ...] = (),
    ) -> bytes:
        """Record a frame; return its digest. Its MAC is under a key of zeros: nobody checks it here."""
        assert self.record is not None
        body = Frame(frame_type, slot, self.net, index, 1, _EPOCH, reference, lanes, held).to_bytes()
        name = f"gw-{self.number}-{index}"
        self.record.write(slot, name, _EMP, kind, seal(body, bytes(_KEY)))
        return digest(body)

    def _masks(self, seeds: bytes, slot: int) -> Words:
        """Every member's self-mask."""
        made = [Prf(seeds[at : at + _KEY]) for at in range(0, len(seeds), _KEY)]
        return _words(blocks(made, NO_CONTEXT, slot, Purpose.PAD, 2))

    def _pads(self, used: NDArray[np.int64], slot: int) -> Words:
        return _words(blocks([self.prfs[edge] for edge in used], self.head, slot, Purpose.PAD, 2))

    def _refusals(self, accepted: Flags) -> tuple[Flags, int]:
        """Who refuses to open, by the members' own rules, and how many components are left."""
        both = accepted[self.low] & accepted[self.high]
        degree = np.bincount(self.low[both], minlength=self.size) + np.bincount(
            self.high[both], minlength=self.size
        )
        refuses = accepted & (degree < self.d_min)
        if accepted.sum() < (1 - self.plan.delta) * self.present.sum():
            return accepted.copy(), 0
        members, components = {int(i) + 1 for i in np.flatnonzero(accepted)}, 0
        while members:
            reached = graph.component(next(iter(members)), self.adjacent, members)
            members -= reached
            components += 1
            if len(reached) < self.n_min:
                refuses[np.array(sorted(reached)) - 1] = True
        return refuses, components

    def _recover(
        self, lost: Flags, gone: Flags, seeds: bytes, opened: Words, previous: bytes, slot: int
    ) -> bool:
        """Put recovered self-masks in the places of lost openings; False if members would not follow."""
        plan = self.plan
        missing = {int(i) + 1 for i in np.flatnonzero(lost)}
        absent = {int(i) + 1 for i in np.flatnonzero(gone)}
        if not plan.witness or any(len(peers & missing) > plan.f_max for peers in self.adjacent.values()):
            return False
        for member in missing:
            peers = self.adjacent[member]
            if peers & absent:
                return False
            holders = [peer for peer in sorted(peers) if self.expected[peer - 1]][: plan.holders]
            seed = seeds[_KEY * (member - 1) : _KEY * member]
            coefficients = [self.random.bytes(_KEY) for _ in range(plan.threshold - 1)]
            given: dict[int, bytes] = {}
            if len(holders) >= plan.threshold:
                parts = shares.split(seed, coefficients, len(holders))
                for x, (holder, part) in enumerate(zip(holders, parts, strict=True), start=1):
                    edge = self._edge(member, holder)
                    sealed = shares.seal(part, edge, previous, slot, member, holder)
                    if holder not in missing:
                        if self.record is not None:
                            share = ((member, part),)
                            self._send(slot, "share", FrameType.SHARE, holder, self.head, (), share)
                        given[x] = shares.seal(sealed, edge, previous, slot, member, holder)
            try:
                found, _ = shares.recover(given, plan.threshold)
            except SharesRefused:
                return False
            opened[member - 1] = self_mask(found, slot, LANES)
        return True

    def _edge(self, a: int, b: int) -> Prf:
        return self.prfs[bisect_left(self.edges, (min(a, b), max(a, b)))]


def groups(plan: Plan) -> list[tuple[int, list[int]]]:
    """Return (number, sizes) of every group of a plan."""
    sizes = plan.sizes()
    return [(0, sizes)] if plan.bridges else [(number, [size]) for number, size in enumerate(sizes)]


def run(
    plan: Plan,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    record: Recorder | None = None,
) -> Tally:
    """Simulate a plan.

    Args:
        plan: what.
        workers: processes; None: one for each processor, 1: none besides this one.
        progress: takes (groups done, groups) now and then.
        record: takes every message; then all is done in this process.
    """
    todo = groups(plan)
    if record is not None:
        return _batch(plan, todo, record)
    batch = max(1, min(16, len(todo) // 8))
    batches = [todo[at : at + batch] for at in range(0, len(todo), batch)]
    tally, done = Tally(), 0
    for number, found in enumerate(_worked(plan, batches, workers)):
        tally.add(found)
        done += len(batches[number])
        if progress is not None:
            progress(done, len(todo))
    return tally


def _worked(plan: Plan, batches: list[list[tuple[int, list[int]]]], workers: int | None) -> Iterator[Tally]:
    count = min(len(batches), workers if workers is not None else len(os.sched_getaffinity(0)))
    if count <= 1:
        yield from (_batch(plan, one) for one in batches)
        return
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_batch, [plan] * len(batches), batches)


def _batch(plan: Plan, todo: list[tuple[int, list[int]]], record: Recorder | None = None) -> Tally:
    tally = Tally()
    for number, sizes in todo:
        group = Group(plan, sizes, number, record)
        tally.edges += len(group.edges)
        for slot in range(plan.slots):
            group.slot(slot, tally)
    return tally


def _drawn(net: range, degree: int, beacon: bytes, d_min: int) -> frozenset[Edge]:
    """Draw beacons until every degree is d_min + 2, as a roster would; small nets take what is best."""
    for again in range(_REDRAWS):
        wanted = d_min + 2 if len(net) > graph.COMPLETE_UP_TO else 0
        edges = graph.drawn(net, degree, beacon + b"%d" % again, wanted)
        if edges is not None:
            return edges
    raise ValueError(
        f"no key graph of degree {degree} for {len(net)} members has every degree >= {d_min + 2}"
    )


def _lanes(words: Words) -> Lanes:
    return tuple(int(word) for word in words)


def _words(made: list[bytes]) -> Words:
    """Join outputs of two blocks into an array of lanes."""
    return np.frombuffer(b"".join(made), dtype="<u8").reshape(-1, 4)[:, :LANES].astype(np.uint64)
