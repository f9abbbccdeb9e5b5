"""A whole net of product rounds in memory, with a supplier, a witness and any drop-outs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from firmware.enforcement.dcnet.messages.documents import to_bitmap
from firmware.enforcement.dcnet.messages.faults import RecoveryOrder
from firmware.enforcement.dcnet.messages.frames import Frame, digest
from firmware.enforcement.dcnet.messages.manifest import Manifest
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.primitives import arithmetic, graph, merkle
from firmware.enforcement.dcnet.primitives.arithmetic import Lanes
from firmware.enforcement.dcnet.slot.round import Round
from firmware.enforcement.dcnet.slot.view import Head, View
from tests.unit.dcnet.support import view
from tools.counterparts.net_recovery import SlotWitness, opening_of, order_for, recoverable


def fresh(*parts: object, size: int = 16) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()[:size]


@dataclass
class Net:
    """Everybody of one net; each step of a slot is one call."""

    rules: NetRules
    size: int
    edges: frozenset[graph.Edge]
    head: Head = field(init=False)
    rounds: dict[int, Round] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    openings: dict[int, bytes] = field(default_factory=dict)
    witness: SlotWitness = field(default_factory=SlotWitness)
    manifest: Manifest | None = None

    def __post_init__(self) -> None:
        self.head = Head(20_000, -1, bytes([7]) * 32, frozenset(range(1, self.size + 1)))
        self.views: dict[int, View] = {
            i: view(i, self.size, self.edges, self.rules) for i in range(1, self.size + 1)
        }

    def submit(self, readings: Mapping[int, Lanes]) -> None:
        """Everybody who has a reading and is expected submits it."""
        self.rounds, self.bodies, self.openings, self.manifest = {}, {}, {}, None
        slot = self.head.slot + 1
        for index in sorted(readings.keys() & self.head.present):
            current = self.rounds[index] = Round(self.views[index], self.head)
            coefficients = [
                fresh("c", index, slot, n)
                for n in range(self.rules.threshold - 1 if self.rules.recovery else 0)
            ]
            self.bodies[index] = current.submit(readings[index], fresh("b", index, slot), coefficients)

    def close(self, accepted: Iterable[int] | None = None, hello: Iterable[int] = ()) -> Manifest:
        """Make the manifest over what came from `accepted` (everybody who submitted)."""
        chosen = sorted(self.bodies if accepted is None else self.bodies.keys() & set(accepted))
        leaves = [digest(self.bodies[index]) for index in chosen]
        self.manifest = Manifest(
            self.rules.net,
            1,
            self.head.slot + 1,
            self.head.hash,
            to_bitmap(chosen, self.size),
            to_bitmap(hello, self.size),
            merkle.root(leaves),
        )
        return self.manifest

    @property
    def accepted(self) -> list[int]:
        assert self.manifest is not None
        return [i for i in range(1, self.size + 1) if self.manifest.accepted[(i - 1) // 8] >> (i - 1) % 8 & 1]

    def path(self, index: int) -> tuple[bytes, ...]:
        accepted = self.accepted
        return merkle.path([digest(self.bodies[i]) for i in accepted], accepted.index(index))

    def open(self, lost: Collection[int] = ()) -> None:
        """Everybody accepted who is not lost considers the manifest and opens."""
        assert self.manifest is not None
        for index in self.accepted:
            if index not in lost:
                self.rounds[index].consider(self.manifest, self.path(index))
                self.openings[index] = self.rounds[index].open()

    def order(self, lost: Collection[int]) -> RecoveryOrder:
        found = next(r.found for r in self.rounds.values() if r.found is not None)
        return order_for(self.rules.net, 1, self.head.slot + 1, found.hash, lost, self.size)

    def recover(self, lost: Collection[int]) -> dict[int, Lanes] | None:
        """Recover the openings of lost members under one witnessed order, None if that is not possible."""
        absent = self.head.present - frozenset(self.accepted)
        if not recoverable(lost, absent, self.views[1].adjacent, self.rules.f_max):
            return None
        order, found = self.order(lost), {}
        assert self.witness.manifest(order.slot, order.manifest_hash)
        assert self.witness.order(order)
        for owner in lost:
            dealt = Frame.from_bytes(self.bodies[owner]).shares
            given = {
                holder: dict(
                    Frame.from_bytes(
                        self.rounds[holder].release(order, owner, self.bodies[owner], self.path(owner))
                    ).shares
                )[owner]
                for holder, _ in dealt
                if holder in self.openings
            }
            width = len(Frame.from_bytes(self.bodies[owner]).lanes)
            opening = opening_of(dealt, given, self.rules.threshold, order.slot, width)
            if opening is None:
                return None
            found[owner] = opening
        return found

    def total(self, recovered: Mapping[int, Lanes] | None = None) -> Lanes:
        """Sum as the supplier does."""
        openings = {i: Frame.from_bytes(body).lanes for i, body in self.openings.items()} | dict(
            recovered or {}
        )
        assert openings.keys() == set(self.accepted)
        return arithmetic.total(
            [Frame.from_bytes(self.bodies[i]).lanes for i in self.accepted], openings.values(), 3
        )

    def next(self) -> None:
        """Go to the next slot behind the manifest that members saw."""
        found = next(r.found for r in self.rounds.values() if r.found is not None)
        self.head = found.head(self.head.epoch)
