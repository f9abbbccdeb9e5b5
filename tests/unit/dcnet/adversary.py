"""A lying supplier with corrupt members against the product's own rounds; all that is sent goes on record."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from firmware.enforcement.dcnet.errors import (
    Equivocation,
    OpeningRefused,
    ReleaseOfShareRefused,
    UnexpectedStep,
)
from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.faults import RecoveryOrder
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame, digest
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, Manifest
from firmware.enforcement.dcnet.policy import NetRules, Recovery
from firmware.enforcement.dcnet.primitives import graph, merkle
from firmware.enforcement.dcnet.slot.round import Round
from firmware.enforcement.dcnet.slot.view import Head, View
from tests.unit.dcnet.support import NET, rules, view
from tests.unit.dcnet.whole_net import fresh
from tools.counterparts.net_recovery import SlotWitness, order_for
from tools.dcnet.leak import Known, known
from tools.dcnet.record import PublicNet, Seen

_MAC = bytes(MAC_BYTES)


def rules_of(n_min: int, d_min: int, *, delta: float = 0.45, recovery: bool = False) -> NetRules:
    made = rules(n_min=n_min, d_min=d_min, delta=delta)
    if recovery:
        made = replace(made, recovery=Recovery.WITNESS, holders=5, threshold=3)
    return made


@dataclass
class Adversary:
    """Everything that supplier and corrupt members see.

    `forgets` switches the one-opening rule off. Without a `witness`, any manifest and order counts.
    """

    size: int
    edges: frozenset[graph.Edge]
    corrupt: frozenset[int]
    rules: NetRules
    witness: SlotWitness | None = None
    forgets: bool = False
    record: list[Seen] = field(default_factory=list)
    opened: int = 0
    released: int = 0

    def __post_init__(self) -> None:
        everybody = frozenset(range(1, self.size + 1))
        start = EpochManifest(NET, 1, bytes(32), 20_000, 0, to_bitmap(everybody, self.size))
        threshold = self.rules.threshold if self.rules.recovery else 0
        public = PublicNet(NET, self.rules.n_min, self.rules.d_min, threshold, self.size, tuple(self.edges))
        self._see("emp", "net", public.to_bytes())
        self._see("emp", "epoch", start.to_bytes())
        self.heads = dict.fromkeys(self.honest, Head(20_000, -1, document_hash(start), everybody))
        self.views: dict[int, View] = {
            i: view(i, self.size, self.edges, self.rules) for i in range(1, self.size + 1)
        }
        self.rounds: dict[int, Round] = {}
        self.bodies: dict[int, bytes] = {}
        self.leaves: dict[bytes, list[bytes]] = {}

    @property
    def honest(self) -> list[int]:
        return [index for index in range(1, self.size + 1) if index not in self.corrupt]

    def _see(self, sender: str, kind: str, data: bytes) -> None:
        self.record.append(Seen(sender, "emp", kind, data))

    def submit(self) -> None:
        """Every honest member submits behind the manifest it was last shown; corrupt ones do as well."""
        self.rounds, self.bodies = {}, {}
        for index in range(1, self.size + 1):
            head = self.heads.get(index)
            if index in self.corrupt:
                head = next(iter(self.heads.values()))
            if head is None or index not in head.present:
                continue
            current = Round(self.views[index], head)
            coefficients = [fresh("c", index, current.slot, n) for n in range(self.rules.threshold - 1)]
            self.bodies[index] = current.submit(
                (100 + index, 0, 1), fresh("b", index, current.slot), coefficients
            )
            self.rounds[index] = current
            self._see(f"gw-{index}", "submit", self.bodies[index] + _MAC)

    def manifest(self, index: int, accepted: Iterable[int]) -> Manifest:
        """Make a manifest that `index` finds its chain and its leaf in."""
        members = sorted(self.bodies.keys() & ({*accepted, index}))
        leaves = [digest(self.bodies[other]) for other in members]
        head = self.heads[index]
        made = Manifest(
            NET,
            1,
            head.slot + 1,
            head.hash,
            to_bitmap(members, self.size),
            to_bitmap((), self.size),
            merkle.root(leaves),
        )
        self.leaves[document_hash(made)] = leaves
        return made

    def show(self, index: int, shown: Manifest) -> None:
        """Show a manifest to an honest member; an opening is seen. The witness must have signed it."""
        current = self.rounds.get(index)
        if current is None:
            return
        if self.witness is not None and not self.witness.manifest(shown.slot, document_hash(shown)):
            return
        self._see("emp", "manifest", shown.to_bytes())
        if self.forgets and current.found is not None:
            again = Round.resume(
                self.views[index], self.heads[index], fresh("b", index, current.slot), self.bodies[index]
            )
            current = self.rounds[index] = again
        try:
            current.consider(shown, self.path(index, shown))
            self._see(f"gw-{index}", "open", current.open() + _MAC)
            self.opened += 1
        except (OpeningRefused, Equivocation, UnexpectedStep):
            pass

    def path(self, owner: int, shown: Manifest) -> tuple[bytes, ...]:
        leaves, own = self.leaves[document_hash(shown)], digest(self.bodies[owner])
        return merkle.path(leaves, leaves.index(own)) if own in leaves else ()

    def order(self, shown: Manifest, lost: Iterable[int]) -> RecoveryOrder:
        return order_for(NET, 1, shown.slot, document_hash(shown), lost, self.size)

    def ask(self, holder: int, shown: Manifest, order: RecoveryOrder, owner: int) -> None:
        """Ask an honest member for its share of a lost one. The witness must have signed the order."""
        if self.witness is not None and not self.witness.order(order):
            return
        current = self.rounds.get(holder)
        if current is None or owner not in self.bodies:
            return
        try:
            frame = current.release(order, owner, self.bodies[owner], self.path(owner, shown))
            assert Frame.from_bytes(frame).index == holder
            self._see(f"gw-{holder}", "share", frame + _MAC)
            self.released += 1
        except (ReleaseOfShareRefused, Equivocation):
            pass

    def end(self) -> None:
        """Each honest member goes on behind the manifest it saw; who saw none is parked."""
        self.heads = {
            index: self.rounds[index].found.head(20_000)  # type: ignore[union-attr]
            for index in self.heads
            if index in self.rounds and self.rounds[index].found is not None
        }

    def known(self) -> Known:
        return known(self.record, {str(index) for index in self.corrupt})


def lie(net: Adversary, source: random.Random) -> None:
    """One slot of a supplier that makes a few stories up; under a witness it can have one signed."""
    everybody = frozenset(range(1, net.size + 1))
    net.submit()
    stories = [everybody - set(source.sample(sorted(everybody), source.randint(0, 3))) for _ in range(3)]
    if net.witness is not None and source.random() < 0.6:  # shares go out only if few are missing
        stories = [everybody]
    shown: dict[int, Manifest] = {}
    for index in net.honest:
        if index not in net.rounds or source.random() < 0.1:  # a false non-opener is shown nothing
            continue
        for story in source.choices(stories, k=1 if net.witness is not None else source.choice((1, 1, 2, 3))):
            made = net.manifest(index, story)
            if net.witness is not None and shown:
                made = next(iter(shown.values()))
            shown.setdefault(index, made)
            net.show(index, made)
    if net.rules.recovery and shown:
        lost = source.sample(sorted(everybody), source.randint(1, 2))
        for index, made in shown.items():
            if source.random() < 0.2:  # another order, which a witness will not sign
                lost = source.sample(sorted(everybody), source.randint(1, 2))
            order = net.order(made, lost)
            for owner in lost:
                net.ask(index, made, order, owner)
    net.end()
