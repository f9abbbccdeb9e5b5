"""The leak check: from everything an adversary saw, which sums of readings does it know? Does no I/O.

The adversary is the supplier with the corrupt members: it sees every message, knows a corrupt member's
masks, and the pads of every edge with a corrupt end. Spec: docs/dcnet.md, "smgw dcnet leak".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.documents import document_hash, from_bitmap
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, RECONCILE, Frame, FrameType
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, Manifest
from firmware.enforcement.dcnet.primitives.graph import neighbours
from tools.dcnet.oracle import PRIME, Row, Smallest, determined, singles, smallest
from tools.dcnet.record import BadRecord, PublicNet, Seen, plain_slots

_FRAMES: Final = ("submit", "open", "share")
_OWED: Final = "owed"
"""Register of what reconcile slots carry."""


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
            "ok": not self.too_small,
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
    frames = _frames(messages, nets)
    bad_of = {name: _corrupt_members(net, corrupt) for name, net in nets.items()}
    _everybody_named(corrupt, messages, nets)
    floors = {name: max(2, net.public.n_min - len(bad_of[name])) for name, net in nets.items()}
    rows: list[Row] = []
    netted: dict[Hashable, int] = {}
    readings: set[Hashable] = set()
    shares: dict[tuple[_Key, int, bytes, int], set[int]] = {}
    lost_shares: list[tuple[_Key, int, bytes, int, int]] = []
    for one in messages:
        if one.kind == "plain":
            symbols = [(one.sender, one.register, slot) for slot in _read(one, plain_slots)]
            if one.sender not in corrupt:
                readings.update(symbols)
                rows.append(dict.fromkeys(symbols, 1))
    for one, frame in frames:
        key = _key(nets, frame.net, frame.version, one)
        net, bad = nets[key], bad_of[key]
        if frame.type is FrameType.SHARE:
            lost_shares.append((key, frame.slot, frame.reference, frame.shares[0][0], frame.index))
            continue
        if frame.index in bad or frame.type is FrameType.HELLO:
            continue
        if frame.type is FrameType.SUBMIT:
            previous = frame.reference
            among = _expected(net, previous, one)
            row = _masks(net, frame, previous, among, bad)
            symbol = (net.names[frame.index], _register(one, frame), frame.slot)
            readings.add(symbol)
            netted[symbol] = min(floors[key], netted.get(symbol, floors[key]))
            row[symbol] = 1
            held = {holder for holder, _ in frame.shares} & bad
            shares.setdefault((key, frame.slot, previous, frame.index), set()).update(held)
        else:
            if frame.reference not in net.accepted:
                raise BadRecord(f"{one.sender}: an opening under a manifest that is not in the record")
            accepted, previous, _ = net.accepted[frame.reference]
            row = _masks(net, frame, previous, _expected(net, previous, one) - accepted, bad)
        rows.append(row)
    for key, slot, reference, owner, holder in lost_shares:
        net = nets[key]
        if reference not in net.accepted:
            raise BadRecord(f"member {holder}: a share under a manifest that is not in the record")
        shares.setdefault((key, slot, net.accepted[reference][1], owner), set()).add(holder)
    for (key, slot, previous, owner), holders in shares.items():
        if 0 < nets[key].public.threshold <= len(holders):
            rows.append({("b", key[0], owner, slot, previous): 1})
    basis = determined(rows, readings)
    least = smallest(basis)
    found = [frozenset(row) for row in basis] + ([] if least is None else [least.readings])
    too_small = [one for one in dict.fromkeys(found) if len(one) < _floor(one, netted)]
    return Known(len(messages), len(readings), basis, singles(basis), least, too_small)


def _frames(messages: Iterable[Seen], nets: Mapping[_Key, _Net]) -> list[tuple[Seen, Frame]]:
    """Read every frame once, as a resend says nothing new, and find out whose each member number is.

    A supplier that relays frames of others sends those of many members: a member's name is that of the sender
    who sends for the fewest.
    """
    found: dict[bytes, tuple[Seen, Frame]] = {}
    senders: dict[_Key, dict[int, dict[str, None]]] = {}
    for one in messages:
        if one.kind in _FRAMES:
            frame = _read(one, lambda data: Frame.from_bytes(data[:-MAC_BYTES]))
            key = _key(nets, frame.net, frame.version, one)
            found.setdefault(one.data, (one, frame))
            senders.setdefault(key, {}).setdefault(frame.index, {})[one.sender] = None
    for key, by_member in senders.items():
        count = Counter(sender for named in by_member.values() for sender in named)
        for index, named in by_member.items():
            nets[key].names[index] = min(named, key=lambda sender: (count[sender], sender))
    return list(found.values())


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


def _masks(net: _Net, frame: Frame, previous: bytes, among: frozenset[int], bad: Collection[int]) -> Row:
    """The self-mask, and the pads towards some members that the adversary lacks."""
    row: Row = {("b", frame.net, frame.index, frame.slot, previous): 1}
    for peer in net.adjacent.get(frame.index, ()):
        if peer in among and peer not in bad:
            low, high = min(peer, frame.index), max(peer, frame.index)
            row["p", frame.net, low, high, frame.slot, previous] = 1 if frame.index == low else PRIME - 1
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
