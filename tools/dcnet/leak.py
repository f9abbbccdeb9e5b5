"""The leak check: from everything an adversary saw, which sums of readings does it know? Does no I/O.

The adversary is the supplier with the corrupt members: it sees every message, knows a corrupt member's
masks, and the pads of every edge with a corrupt end.

A reading stands for all its lanes: they leave together under masks of one form. V-mode adds a further
lane, the blindings, under masks of its own (another purpose of the same keys, another ring) that obey the
same rules. A commitment C = x * G + rho * H alone fits any x. A sum of blindings that follows opens the
same sum of commitments, so the same sum of readings follows: a blinding is written as the reading it hides.
No mask is in both, so what follows is what follows of the lanes and what follows of the blindings. A known
seed gives both self-masks. Whether a word is masked at all is tested on the commitments (`commitments`).
Spec: docs/dcnet.md, "smgw dcnet leak".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.commit import CommitOrder, CommitV, OpenV
from firmware.enforcement.dcnet.messages.documents import document_hash, from_bitmap
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, RECONCILE, Frame, FrameType
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, Manifest
from firmware.enforcement.dcnet.primitives.graph import neighbours
from tools.dcnet.commitments import Committed, revealed
from tools.dcnet.oracle import PRIME, Row, Smallest, determined, search, singles
from tools.dcnet.record import FRAMES, BadRecord, PublicNet, Seen, plain_slots

_Said = Frame | CommitV | OpenV
_LANES, _BLINDINGS = "lanes", "blindings"
_OWED: Final = "owed"
"""Register of what reconcile slots carry."""


class Verdict(StrEnum):
    """What came of a check."""

    NOTHING = "nothing"
    """All was looked at; no sum of too few readings follows."""
    LEAK = "leak"
    INCOMPLETE = "incomplete"
    """No leak was found, and not everything was looked at."""


@dataclass(frozen=True, slots=True)
class Known:
    """What follows from a record."""

    messages: int
    readings: int
    """How many readings (of one gateway in one slot) are in it, without those of corrupt members."""
    basis: list[Row]
    """All that is determined; keys are (gateway, register, slot)."""
    singles: list[Hashable]
    smallest: Smallest | None
    too_small: list[frozenset[Hashable]]
    """Determined sets with fewer honest readings than the floors of all nets that hide one of them."""
    complete: bool = True
    """False: the search was not carried to the end; sets that are too small may be there unfound."""
    committed: int = 0
    """How many commitments to readings were looked at; none of V-mode was played if 0."""

    @property
    def verdict(self) -> Verdict:
        """Say what came of it; nothing was found only if everything was looked at."""
        if self.too_small:
            return Verdict.LEAK
        return Verdict.NOTHING if self.complete else Verdict.INCOMPLETE

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "messages": self.messages,
            "readings": self.readings,
            "determined": len(self.basis),
            "smallest": None if self.smallest is None else len(self.smallest.readings),
            "smallest_exact": None if self.smallest is None else self.smallest.exact,
            "singles": [_name(symbol) for symbol in self.singles],
            "sums": [{"readings": len(row), "plain_sum": set(row.values()) == {1}} for row in self.basis],
            "too_small": [sorted(_name(symbol) for symbol in one) for one in self.too_small],
            "committed": self.committed,
            "complete": self.complete,
            "verdict": self.verdict.value,
            "ok": self.verdict is Verdict.NOTHING,
        }


_Key = tuple[bytes, int]
"""Net and roster version; version 0 stands for all."""


@dataclass(slots=True)
class _Net:
    public: PublicNet
    adjacent: dict[int, frozenset[int]]
    expected: dict[bytes, frozenset[int]] = field(default_factory=dict)
    """Hash of a manifest -> P of the slot behind it."""
    accepted: dict[bytes, tuple[frozenset[int], bytes, int]] = field(default_factory=dict)
    """Hash of a manifest -> A, hash of the one before, slot."""
    names: dict[int, str] = field(default_factory=dict)


def known(seen: Iterable[Seen], corrupt: Collection[str]) -> Known:
    """Work out what follows from a record.

    Args:
        seen: every message, in any order.
        corrupt: names of the gateways, or their member numbers, that work with the supplier.

    Raises:
        BadRecord: a message cannot be read, or refers to one that is missing.
    """
    messages = list(seen)
    nets = _nets(messages)
    said = _said(messages, nets)
    bad_of = {name: _corrupt_members(net, corrupt) for name, net in nets.items()}
    _everybody_named(corrupt, messages, nets)
    facts = _Facts(nets, bad_of)
    for one in messages:
        if one.kind == "plain" and one.sender not in corrupt:
            facts.plain(one)
        elif one.kind == "plain":
            _read(one, plain_slots)
    for one, this in said:
        facts.take(one, this)
    facts.settle()
    basis = determined(facts.rows, facts.readings)
    found = search(basis, lambda some: _floor(some, facts.netted))
    return Known(
        len(messages),
        len(facts.readings),
        basis,
        singles(basis),
        found.smallest,
        found.below,
        found.complete,
        facts.committed,
    )


class _Facts:
    """What was seen, as combinations of readings and masks.

    Args:
        nets: what is public.
        bad_of: the corrupt members of each.
    """

    def __init__(self, nets: Mapping[_Key, _Net], bad_of: Mapping[_Key, set[int]]) -> None:
        self._nets, self._bad_of = nets, bad_of
        self._floors = {name: max(2, net.public.n_min - len(bad_of[name])) for name, net in nets.items()}
        self.rows: list[Row] = []
        self.netted: dict[Hashable, int] = {}
        """Reading -> the least floor of the nets that hide it."""
        self.readings: set[Hashable] = set()
        self.committed = 0
        self._shares: dict[tuple[_Key, int, bytes, int], set[int]] = {}
        """(net, slot, manifest before it, owner) -> whose shares of the owner's seed are known."""
        self._lost: list[tuple[Seen, _Key, Frame]] = []
        self._points: list[tuple[Seen, _Key, Hashable | None, CommitV]] = []
        self._openings: dict[tuple[_Key, int, bytes, int], list[OpenV]] = {}

    def plain(self, one: Seen) -> None:
        """Take a plain delivery of somebody honest."""
        symbols = [(one.sender, one.register, slot) for slot in _read(one, plain_slots)]
        self.readings.update(symbols)
        self.rows.append(dict.fromkeys(symbols, 1))

    def take(self, one: Seen, said: _Said) -> None:
        """Take what a member sent about a slot."""
        key = _key(self._nets, said.net, said.version, one)
        net, bad = self._nets[key], self._bad_of[key]
        if isinstance(said, Frame) and said.type is FrameType.SHARE:
            self._lost.append((one, key, said))
        elif isinstance(said, CommitV):
            among = _expected(net, said.reference, one)
            honest = said.index not in bad
            reading = self._reading(one, key, said) if honest else None
            self._points.append((one, key, reading, said))
            if reading is not None:
                masks = _masks(net, said, said.reference, among, bad)
                self.rows.append({**masks, reading: 1})
        elif said.index in bad or (isinstance(said, Frame) and said.type is FrameType.HELLO):
            return
        elif isinstance(said, Frame) and said.type is FrameType.SUBMIT:
            among = _expected(net, said.reference, one)
            self.rows.append(
                {**_masks(net, said, said.reference, among, bad), self._reading(one, key, said): 1}
            )
            held = {holder for holder, _ in said.shares} & bad
            self._shares.setdefault((key, said.slot, said.reference, said.index), set()).update(held)
        else:
            self._opening(one, key, said)

    def _reading(self, one: Seen, key: _Key, said: Frame | CommitV) -> Hashable:
        """Name the reading that a net hides."""
        register = _register(one, said) if isinstance(said, Frame) else one.register
        reading = self._nets[key].names[said.index], register, said.slot
        self.readings.add(reading)
        self.netted[reading] = min(self._floors[key], self.netted.get(reading, self._floors[key]))
        return reading

    def _opening(self, one: Seen, key: _Key, said: Frame | OpenV) -> None:
        net, bad = self._nets[key], self._bad_of[key]
        under = said.reference if isinstance(said, Frame) else said.manifest_hash
        if under not in net.accepted:
            raise BadRecord(f"{one.sender}: an opening under a manifest that is not in the record")
        accepted, previous, _ = net.accepted[under]
        missing = _expected(net, previous, one) - accepted
        self.rows.append(_masks(net, said, previous, missing, bad))
        if isinstance(said, OpenV):
            self._openings.setdefault((key, said.slot, previous, said.index), []).append(said)

    def settle(self) -> None:
        """Take what follows from several messages together: seeds that are known, and bare blindings."""
        for one, key, frame in self._lost:
            if frame.reference not in self._nets[key].accepted:
                raise BadRecord(f"{one.sender}: a share under a manifest that is not in the record")
            previous = self._nets[key].accepted[frame.reference][1]
            place = key, frame.slot, previous, frame.shares[0][0]
            self._shares.setdefault(place, set()).add(frame.index)
        for (key, slot, previous, owner), holders in self._shares.items():
            if 0 < self._nets[key].public.threshold <= len(holders):
                self.rows.extend(
                    {("b", form, key[0], owner, slot, previous): 1} for form in (_LANES, _BLINDINGS)
                )
        if self._points:
            self.committed = len(self._points)
            found = [
                Committed(
                    reading,
                    said,
                    tuple(self._openings.get((key, said.slot, said.reference, said.index), ())),
                )
                for _, key, reading, said in self._points
            ]
            try:
                self.rows.extend(row for row in revealed(found) if row)
            except MalformedObject as error:
                raise BadRecord(f"a commitv that cannot be judged: {error}") from error


def _said(messages: Iterable[Seen], nets: Mapping[_Key, _Net]) -> list[tuple[Seen, _Said]]:
    """Read all that members said of slots once, as a resend says nothing new; find out who each member is.

    A supplier that relays frames of others sends those of many members: a member's name is that of the sender
    who sends for the fewest.
    """
    found: dict[tuple[str, bytes], tuple[Seen, _Said]] = {}
    senders: dict[_Key, dict[int, dict[str, None]]] = {}
    for one in messages:
        if one.kind == "orderv":  # says about which slots it is, and no more
            order = _read(one, CommitOrder.from_bytes)
            _key(nets, order.net, order.version, one)
        elif one.kind in _DECODERS:
            said: _Said = _read(one, _DECODERS[one.kind])
            key = _key(nets, said.net, said.version, one)
            found.setdefault((one.kind, one.data), (one, said))
            senders.setdefault(key, {}).setdefault(said.index, {})[one.sender] = None
    for key, by_member in senders.items():
        count = Counter(sender for named in by_member.values() for sender in named)
        for index, named in by_member.items():
            nets[key].names[index] = min(named, key=lambda sender: (count[sender], sender))
    return list(found.values())


_DECODERS: Final[Mapping[str, Callable[[bytes], _Said]]] = {
    **dict.fromkeys(FRAMES, lambda data: Frame.from_bytes(data[:-MAC_BYTES])),
    "commitv": CommitV.from_bytes,
    "openv": lambda data: OpenV.from_bytes(data[:-MAC_BYTES]),
}


def _register(one: Seen, frame: Frame) -> str:
    """Name what a frame is about: a reconcile slot counts periods, its number is no slot of the register."""
    if not frame.flags & RECONCILE or one.register.endswith(_OWED):
        return one.register
    return f"{one.register}/{_OWED}" if one.register else _OWED


def _floor(readings: Iterable[Hashable], netted: Mapping[Hashable, int]) -> int:
    """Return how many readings a determined set must have; 0 if no net hides any of them."""
    return min((netted[one] for one in readings if one in netted), default=0)


def _everybody_named(corrupt: Collection[str], messages: Iterable[Seen], nets: Mapping[_Key, _Net]) -> None:
    """Refuse a corrupt name that is nobody's: what it knows could not be counted as known."""
    known = {one.sender for one in messages}
    for net in nets.values():
        known |= {*map(str, net.adjacent), *net.names.values()}
    if strangers := sorted(set(corrupt) - known):
        raise BadRecord(
            f"corrupt: {strangers[0]!r} sends nothing in this record and is no member number; give the number"
        )


def _nets(messages: list[Seen]) -> dict[_Key, _Net]:
    """Collect the public part first: graphs, then who was expected behind each manifest."""
    nets: dict[_Key, _Net] = {}
    for one in messages:
        if one.kind == "net":
            public = _read(one, PublicNet.from_bytes)
            before = nets.get((public.net, public.version))
            if before is not None and before.public != public:
                raise BadRecord(f"{one.sender}: net {public.net.hex()} is described in two ways")
            nets[public.net, public.version] = _Net(public, neighbours(public.edges))
    for one in messages:
        if one.kind == "epoch":
            start = _read(one, EpochManifest.from_bytes)
            net = _of(nets, start.net, start.version, one)
            net.expected[document_hash(start)] = _read(
                one, lambda _, s=start, n=net: from_bitmap(s.present, n.public.size)
            )
        elif one.kind == "manifest":
            manifest = _read(one, Manifest.from_bytes)
            net = _of(nets, manifest.net, manifest.version, one)
            accepted, hello = _read(
                one,
                lambda _, m=manifest, n=net: (
                    from_bitmap(m.accepted, n.public.size),
                    from_bitmap(m.hello, n.public.size),
                ),
            )
            name = document_hash(manifest)
            net.expected[name] = accepted | hello
            net.accepted[name] = (accepted, manifest.previous, manifest.slot)
    return nets


def _masks(net: _Net, said: _Said, previous: bytes, among: frozenset[int], bad: Collection[int]) -> Row:
    """The self-mask, and the pads towards some members that the adversary lacks."""
    form = _LANES if isinstance(said, Frame) else _BLINDINGS
    row: Row = {("b", form, said.net, said.index, said.slot, previous): 1}
    for peer in net.adjacent.get(said.index, ()):
        if peer in among and peer not in bad:
            low, high = min(peer, said.index), max(peer, said.index)
            row["p", form, said.net, low, high, said.slot, previous] = 1 if said.index == low else PRIME - 1
    return row


def _expected(net: _Net, previous: bytes, one: Seen) -> frozenset[int]:
    if previous not in net.expected:
        raise BadRecord(f"{one.sender}: a frame behind a manifest that is not in the record")
    return net.expected[previous]


def _corrupt_members(net: _Net, corrupt: Collection[str]) -> set[int]:
    """Member numbers that are corrupt: named so, or by the gateway's name."""
    return {index for index in net.adjacent if str(index) in corrupt or net.names.get(index, "") in corrupt}


def _of(nets: Mapping[_Key, _Net], net: bytes, version: int, one: Seen) -> _Net:
    return nets[_key(nets, net, version, one)]


def _key(nets: Mapping[_Key, _Net], net: bytes, version: int, one: Seen) -> _Key:
    """Find the key graph of a roster version, or that of every version."""
    for known_as in ((net, version), (net, 0)):
        if known_as in nets:
            return known_as
    raise BadRecord(f"{one.sender}: a {one.kind} of net {net.hex()}, whose key graph is not in the record")


def _read(one: Seen, decode: Any) -> Any:
    try:
        return decode(one.data)
    except MalformedObject as error:
        raise BadRecord(f"{one.sender}: a {one.kind} that cannot be read: {error}") from error


def _name(symbol: Hashable) -> str:
    assert isinstance(symbol, tuple)
    gateway, register, slot = symbol
    return f"{gateway}{'/' + register if register else ''} slot {slot}"
