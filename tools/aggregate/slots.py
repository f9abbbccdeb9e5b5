"""Opens the sums of slots from what a supplier has: a record of frames, or nets with y and r. Does no I/O.

A slot of a net has a total if every accepted member has opened or was recovered; else it is aborted. The
canary lane must count the members.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.documents import document_hash, from_bitmap
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame, FrameType
from firmware.enforcement.dcnet.messages.manifest import Manifest
from tools.aggregate.columns import Columns
from tools.counterparts.net_recovery import opening_of
from tools.dcnet.record import BadRecord, PublicNet, Seen

_CANARY: Final = 2
_RING: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class Slot:
    """The sum of one net in one slot."""

    net: str
    slot: int
    members: int
    """How many were accepted."""
    recovered: int
    totals: tuple[int, ...] | None
    """One number for each lane; None: aborted."""
    reason: str = ""
    reconciles: str = ""
    """Of a reconcile slot the net whose owed energy it holds."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "net": self.net,
            "slot": self.slot,
            "members": self.members,
            "recovered": self.recovered,
            "totals": None if self.totals is None else list(self.totals),
            "reason": self.reason,
            "reconciles": self.reconciles,
        }


@dataclass(frozen=True, slots=True)
class Together:
    """The sums of several nets in the slot of one number, added."""

    slot: int
    nets: int
    """How many of them have a total."""
    members: int
    totals: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "slot": self.slot,
            "nets": self.nets,
            "members": self.members,
            "totals": list(self.totals),
        }


def together(slots: Iterable[Slot]) -> list[Together]:
    """Add up what nets with the same lanes have in each slot; aborted ones and reconcile slots add nothing.

    Slots of one number are of one time where nets share their grid, as those of one supplier do.
    """
    found: dict[tuple[int, int], list[Slot]] = {}
    for one in slots:
        if one.totals is not None and not one.reconciles:
            found.setdefault((one.slot, len(one.totals)), []).append(one)
    return [
        Together(
            slot,
            len(nets),
            sum(one.members for one in nets),
            tuple(sum(lane) % _RING for lane in zip(*(one.totals or () for one in nets), strict=True)),
        )
        for (slot, _), nets in sorted(found.items())
    ]


def from_record(seen: Iterable[Seen]) -> list[Slot]:
    """Open every slot whose manifest is in a record. MACs are not checked here: a record has no keys.

    Raises:
        BadRecord: a message cannot be read, or a net is not described.
    """
    publics: dict[tuple[bytes, int], PublicNet] = {}
    manifests: dict[bytes, Manifest] = {}
    frames: dict[tuple[FrameType, bytes], dict[int, Frame]] = {}
    shares: dict[bytes, dict[int, dict[int, bytes]]] = {}
    for one in seen:
        try:
            if one.kind == "net":
                public = PublicNet.from_bytes(one.data)
                publics[public.net, public.version] = public
            elif one.kind == "manifest":
                manifest = Manifest.from_bytes(one.data)
                manifests[document_hash(manifest)] = manifest
            elif one.kind in ("submit", "open", "share"):
                frame = Frame.from_bytes(one.data[:-MAC_BYTES])
                if frame.type is FrameType.SHARE:
                    ((owner, share),) = frame.shares
                    shares.setdefault(frame.reference, {}).setdefault(owner, {})[frame.index] = share
                else:
                    # Of two frames of a member the first one counts, as for a supplier.
                    frames.setdefault((frame.type, frame.reference), {}).setdefault(frame.index, frame)
        except MalformedObject as error:
            raise BadRecord(f"{one.sender}: a {one.kind} that cannot be read: {error}") from error
    found = []
    for name, manifest in manifests.items():
        described = publics.get((manifest.net, manifest.version), publics.get((manifest.net, 0)))
        if described is None:
            raise BadRecord(f"a manifest of net {manifest.net.hex()}, which is not described in the record")
        try:
            accepted = sorted(from_bitmap(manifest.accepted, described.size))
        except MalformedObject as error:
            raise BadRecord(f"a manifest of net {manifest.net.hex()}: {error}") from error
        submitted = frames.get((FrameType.SUBMIT, manifest.previous), {})
        opened = {index: frame.lanes for index, frame in frames.get((FrameType.OPEN, name), {}).items()}
        recovered = 0
        for owner, given in shares.get(name, {}).items():
            if owner not in opened and owner in submitted:
                own = submitted[owner]
                lanes = opening_of(own.shares, given, described.threshold, manifest.slot, len(own.lanes))
                if lanes is not None:
                    opened[owner], recovered = lanes, recovered + 1
        values = {index: frame.lanes for index, frame in submitted.items()}
        found.append(_slot(manifest.net.hex(), manifest.slot, accepted, values, opened, recovered))
    return sorted(found, key=lambda slot: (slot.slot, slot.net))


def from_nets(nets: Iterable[Mapping[str, Any]]) -> list[Slot]:
    """Open nets in the form of `smgw dcnet compute`, with y and r.

    Raises:
        BadRecord: y or r are missing or no hex of lanes.
    """
    found = []
    for number, net in enumerate(nets):
        try:
            values = {int(i): _lanes(y) for i, y in net["y"].items()}
            opened = {int(i): _lanes(r) for i, r in net["r"].items()}
            name, slot = str(net.get("net", number)), int(net["slot"])
            if len(values) != len(net["y"]) or len(opened) != len(net["r"]):
                raise ValueError("a member stands twice")
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise BadRecord(f"net {number}: y, r and slot were expected ({error})") from error
        found.append(_slot(name, slot, sorted(values), values, opened, 0))
    return found


def _slot(
    net: str,
    slot: int,
    accepted: list[int],
    submitted: Mapping[int, tuple[int, ...]],
    opened: Mapping[int, tuple[int, ...]],
    recovered: int,
) -> Slot:
    missing = [index for index in accepted if index not in submitted or index not in opened]
    if not accepted or missing:
        reason = f"{len(missing)} accepted members did not open" if accepted else "nobody was accepted"
        return Slot(net, slot, len(accepted), recovered, None, reason)
    widths = {len(values[index]) for values in (submitted, opened) for index in accepted}
    if len(widths) > 1:
        return Slot(net, slot, len(accepted), recovered, None, "members have different numbers of lanes")
    columns = Columns(
        np.array([submitted[index] for index in accepted], dtype=np.uint64).T.copy(),
        np.array([opened[index] for index in accepted], dtype=np.uint64).T.copy(),
        np.zeros(1, dtype=np.intp),
    )
    totals = tuple(int(word) for word in columns.total())
    return Slot(net, slot, len(accepted), recovered, totals)


def canary_fault(slot: Slot) -> bool:
    """Tell whether the canary lane does not count the members: somebody's pads or canary are wrong."""
    return slot.totals is not None and len(slot.totals) > _CANARY and slot.totals[_CANARY] != slot.members


def _lanes(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in np.frombuffer(bytes.fromhex(text), dtype="<u8"))
