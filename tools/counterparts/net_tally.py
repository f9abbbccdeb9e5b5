"""One slot of a DC-net on the supplier's side: takes frames, judges them by its own rules, sums. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.machines import SUPPLIER, SupplierStep
from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, MAX_SHARES, Frame, FrameType, digest
from firmware.enforcement.dcnet.messages.manifest import Manifest, SlotResult, Verdict
from firmware.enforcement.dcnet.primitives import arithmetic, merkle


class Taken(Enum):
    """What became of a frame; the value is the HTTP status."""

    NEW = 201
    KNOWN = 200
    REFUSED = 400
    CONFLICT = 409
    LATE = 410


@dataclass(frozen=True, slots=True)
class Terms:
    """What every frame of a net must agree with."""

    net: bytes
    version: int
    size: int
    lanes: int
    mac_keys: Mapping[int, bytes]
    flags: int = 0
    """Of Submit and Open frames: RECONCILE in a reconcile net."""
    shares: int = MAX_SHARES
    """So many a Submit may deal at most."""


class Leaves:
    """The submissions of a slot by their digests."""

    def __init__(self, digests: Mapping[int, bytes]) -> None:
        self.digests = dict(digests)
        self._paths: dict[int, tuple[bytes, ...]] | None = None

    def siblings(self, index: int) -> tuple[bytes, ...]:
        """The Merkle path of a member, empty if it is not accepted."""
        if self._paths is None:  # one tree for all: a large net would build as many as it has members
            accepted = sorted(self.digests)
            leaves = [self.digests[one] for one in accepted]
            self._paths = dict(zip(accepted, merkle.paths(leaves), strict=True)) if leaves else {}
        return self._paths.get(index, ())


class Tally:
    """Collects submissions, closes with a manifest, collects openings, ends with a total."""

    def __init__(self, terms: Terms, slot: int, epoch: int, previous: bytes, present: frozenset[int]) -> None:
        self.terms, self.slot, self.epoch = terms, slot, epoch
        self.previous, self.present = previous, present
        self.state = SUPPLIER.start
        self.manifest: Manifest | None = None
        self.hello: set[int] = set()
        self._excluded: set[int] = set()
        self.miscounted = False
        """Whether everybody opened and the canary lane does not count them: a member or an edge is wrong."""
        self.impossible = False
        """Whether the canary lane counts everybody, and a sum is out of range or was not committed to."""
        self.frames: dict[int, Frame] = {}
        """The submissions taken."""
        self.seeds: dict[int, bytes] = {}
        """Of lost members whose masks were recovered."""
        self._submitted: dict[int, tuple[bytes, arithmetic.Lanes]] = {}
        self._opened: dict[int, arithmetic.Lanes] = {}
        self._leaves: Leaves | None = None

    @property
    def accepted(self) -> list[int]:
        """Indices with a submission, ascending."""
        return sorted(self._submitted)

    @property
    def opened(self) -> list[int]:
        """Indices that have opened, ascending."""
        return sorted(self._opened)

    @property
    def everybody_spoke(self) -> bool:
        """Whether each member of the roster has submitted or said hello: waiting longer brings nothing."""
        return len(self._submitted.keys() | self.hello | self._excluded) == self.terms.size

    @property
    def complete(self) -> bool:
        """Whether every accepted member has opened."""
        return self.manifest is not None and self._opened.keys() == self._submitted.keys()

    def submit(self, index: int, sealed: bytes) -> tuple[Taken, Frame | None]:
        """Take a Submit or Hello frame from the member with this index."""
        if self.manifest is not None:
            return Taken.LATE, None
        frame = self.read(index, sealed, self.previous)
        if frame is None or frame.type not in (FrameType.SUBMIT, FrameType.HELLO) or index in self._excluded:
            return Taken.REFUSED, None
        if frame.type is FrameType.HELLO:
            self.hello.add(index)
            return Taken.NEW, frame
        if index not in self.present or len(frame.lanes) != self.terms.lanes:
            return Taken.REFUSED, frame
        if len(frame.shares) > self.terms.shares:
            return Taken.REFUSED, frame
        name = digest(sealed[:-MAC_BYTES])
        if (known := self._submitted.get(index)) is not None:
            return (Taken.KNOWN if known[0] == name else Taken.CONFLICT), frame
        self._submitted[index], self.frames[index] = (name, frame.lanes), frame
        self._leaves = None
        return Taken.NEW, frame

    def exclude(self, members: Collection[int]) -> None:
        """Take nothing of these, and forget what was taken: an audit has named them."""
        self._excluded |= set(members)
        self._leaves = None
        for index in self._excluded:
            self._submitted.pop(index, None)
            self.frames.pop(index, None)
            self.hello.discard(index)

    def close(self, result: SlotResult | None, *, witnessed: bool = False) -> Manifest:
        """Take no more submissions; the manifest says whose were taken.

        With `witnessed` it is not published before `cosigned` says that all administrators know it.
        """
        self.state = SUPPLIER.advance(self.state, SupplierStep.CLOSE)
        if not witnessed:
            self.state = SUPPLIER.advance(self.state, SupplierStep.PUBLISH)
        digests = [self._submitted[index][0] for index in self.accepted]
        self.manifest = Manifest(
            self.terms.net,
            self.terms.version,
            self.slot,
            self.previous,
            to_bitmap(self._submitted, self.terms.size),
            to_bitmap(self.hello - self._submitted.keys(), self.terms.size),
            merkle.root(digests),
            result,
        )
        return self.manifest

    def cosigned(self) -> None:
        """Every administrator has co-signed the manifest."""
        self.state = SUPPLIER.advance(self.state, SupplierStep.COSIGN)
        self.state = SUPPLIER.advance(self.state, SupplierStep.PUBLISH)

    @property
    def lost(self) -> frozenset[int]:
        """Accepted members that have not opened."""
        return frozenset(self._submitted.keys() - self._opened.keys())

    def ordered(self) -> None:
        """Every administrator has co-signed an order to recover who is lost."""
        self.state = SUPPLIER.advance(self.state, SupplierStep.ORDER)

    def recovered(self, index: int, seed: bytes) -> None:
        """Take a lost member's self-mask, by its seed, for its opening; one sent in time comes first."""
        if index in self._submitted:
            self._opened.setdefault(index, arithmetic.self_mask(seed, self.slot, self.terms.lanes))
            self.seeds[index] = seed

    def words(self, lane: int) -> dict[int, tuple[int, int]]:
        """Return (submitted, opened) of one lane of every member that did both."""
        return {
            index: (self._submitted[index][1][lane], opened[lane]) for index, opened in self._opened.items()
        }

    def siblings(self, index: int) -> tuple[bytes, ...]:
        """The Merkle path of a member, empty if it is not accepted."""
        return self.leaves.siblings(index)

    @property
    def leaves(self) -> Leaves:
        """The submissions by their digests."""
        if self._leaves is None:
            self._leaves = Leaves({index: name for index, (name, _) in self._submitted.items()})
        return self._leaves

    def open(self, index: int, sealed: bytes) -> Taken:
        """Take an Open frame."""
        if self.manifest is None:
            return Taken.REFUSED
        frame = self.read(index, sealed, document_hash(self.manifest))
        if frame is None or frame.type is not FrameType.OPEN or len(frame.lanes) != self.terms.lanes:
            return Taken.REFUSED
        if index not in self._submitted:
            return Taken.REFUSED
        if (known := self._opened.get(index)) is not None:
            return Taken.KNOWN if known == frame.lanes else Taken.CONFLICT
        self._opened[index] = frame.lanes
        return Taken.NEW

    def digest_of(self, index: int) -> bytes:
        """Digest of an accepted member's submission."""
        return self._submitted[index][0]

    def sums(self) -> arithmetic.Lanes:
        """What the lanes of all accepted members add up to, once everybody has opened."""
        submissions = [lanes for _, lanes in self._submitted.values()]
        return arithmetic.total(submissions, self._opened.values(), self.terms.lanes)

    def result(self, limits: Sequence[int], canary: int, *, fits: bool = True) -> SlotResult:
        """Sum what is open, once; aborted unless everybody opened and the sum is possible.

        Args:
            limits: largest value one member may have on each lane.
            canary: which lane is 1 for everybody.
            fits: whether the sums are those that were committed to, where that is asked for.
        """
        result = self._judged(limits, canary, fits)
        done = SupplierStep.SUM if result.verdict is Verdict.TOTALLED else SupplierStep.GIVE_UP
        self.state = SUPPLIER.advance(self.state, done)
        return result

    def _judged(self, limits: Sequence[int], canary: int, fits: bool) -> SlotResult:
        assert self.manifest is not None
        name = document_hash(self.manifest)
        if not self.complete or not self._submitted:
            return SlotResult(self.terms.net, self.slot, name, Verdict.ABORTED)
        sums, members = self.sums(), len(self._submitted)
        possible = fits and all(value <= limit * members for value, limit in zip(sums, limits, strict=True))
        self.miscounted = sums[canary] != members
        self.impossible = not possible and not self.miscounted
        if not possible or self.miscounted:
            return SlotResult(self.terms.net, self.slot, name, Verdict.ABORTED)
        return SlotResult(self.terms.net, self.slot, name, Verdict.TOTALLED, sums)

    def read(self, index: int, sealed: bytes, reference: bytes) -> Frame | None:
        """The frame if its MAC and every field of its header are right.

        Args:
            index: whose it must be.
            sealed: with its MAC.
            reference: hash of the manifest that it must name.
        """
        key = self.terms.mac_keys.get(index)
        if key is None or len(sealed) <= MAC_BYTES:
            return None
        mac = CMAC(AES(key))
        mac.update(sealed[:-MAC_BYTES])
        try:
            mac.verify(sealed[-MAC_BYTES:])
            frame = Frame.from_bytes(sealed[:-MAC_BYTES])
        except (InvalidSignature, MalformedObject):
            return None
        said = (frame.net, frame.version, frame.slot, frame.epoch, frame.index, frame.reference)
        meant = (self.terms.net, self.terms.version, self.slot, self.epoch, index, reference)
        flags = self.terms.flags if frame.lanes else 0
        return frame if said == meant and frame.flags == flags else None
