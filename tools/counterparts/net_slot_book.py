"""What a supplier keeps of its slots: frames that it took, what it signed of them, how they ended.

A slot has a room of the journal. What was taken in it stays until the next slot is over, as an audit may look
back; then only what members that were away may ask for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from firmware.enforcement.dcnet.messages.canonical import decode, encode
from firmware.enforcement.dcnet.messages.commit import CommitOrder, Reason
from firmware.enforcement.dcnet.messages.documents import document_hash, from_bitmap, to_bitmap
from firmware.enforcement.dcnet.messages.faults import RecoveryOrder
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, Manifest, SlotResult
from tools.counterparts.net_journal import Journal, JournalDamaged, Room
from tools.counterparts.net_tally import Leaves, Taken, Tally, Terms

_TAKEN = (
    "submit/",
    "hello/",
    "open/",
    "share/",
    "recovered/",
    "order",
    "order-envelope",
    "commit",
    "commit/",
    "blinding/",
)


@dataclass(frozen=True, slots=True)
class Begun:
    """How a slot began."""

    version: int
    epoch: int
    previous: bytes
    present: bytes
    """Bitmap of P."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a slot ended."""

    told: SlotResult
    signed: bytes
    total: Mapping[str, Any]
    """The event."""


@dataclass(slots=True)
class Restored:
    """What a process before this one has left of the slots."""

    next: int | None = None
    """The slot to go on with; None: none was ever played."""
    told: SlotResult | None = None
    """Of the slot that was over last."""
    total: Mapping[str, Any] | None = None
    """The event of that slot."""
    results: dict[int, bytes] = field(default_factory=dict)
    manifests: dict[int, tuple[Tally | Leaves, bytes, tuple[str, ...]]] = field(default_factory=dict)
    tallies: dict[int, Tally] = field(default_factory=dict)
    """Slots with all that was taken in them: the newest, and the one before it."""


@dataclass(frozen=True, slots=True)
class BegunEpoch:
    """An EpochManifest, and how far it has come."""

    manifest: EpochManifest
    signed: bytes
    """Empty: not yet."""
    envelope: bytes
    """Empty: not yet."""


class SlotBook:
    """The kept slots of one net, or of its reconcile net.

    Args:
        journal: outlives this process.
        prefix: of the names of our rooms in it.
    """

    def __init__(self, journal: Journal | None = None, prefix: str = "") -> None:
        self.journal, self._prefix = journal or Journal(), prefix
        self.standing = self.journal.room(f"{prefix}standing")
        self.audit = self.journal.room(f"{prefix}audit")
        self._epochs = self.journal.room(f"{prefix}epochs")

    def room(self, slot: int) -> Room:
        """Return the room of a slot."""
        return self.journal.room(f"{self._prefix}slot/{slot:010d}")

    def slots(self) -> list[int]:
        """Return the slots of which something is kept, oldest first."""
        return [int(name) for name in self.journal.rooms(f"{self._prefix}slot/")]

    # -- epochs --------------------------------------------------------------------------------------

    def epoch(self, epoch: int) -> BegunEpoch | None:
        """Return what was said of an epoch's beginning."""
        if (data := self._epochs.get(f"{epoch:010d}")) is None:
            return None
        content, signed, envelope = _list(data)
        return BegunEpoch(EpochManifest.from_bytes(content), signed, envelope)

    def begin_epoch(self, manifest: EpochManifest, signed: bytes = b"", envelope: bytes = b"") -> None:
        """Keep an EpochManifest, what we signed of it, and what members get."""
        self._epochs.put(f"{manifest.epoch:010d}", encode([manifest.to_bytes(), signed, envelope]))

    def epochs(self) -> dict[int, bytes]:
        """Return epoch -> envelope of all that were published."""
        found = ((int(name), _list(data)[2]) for name, data in self._epochs.items())
        return {epoch: envelope for epoch, envelope in found if envelope}

    def forget_epoch(self, epoch: int) -> None:
        """Keep nothing of an epoch's beginning any more."""
        self._epochs.drop(f"{epoch:010d}")

    # -- a slot --------------------------------------------------------------------------------------

    def begin(self, tally: Tally) -> None:
        """A slot is played."""
        present = to_bitmap(tally.present, tally.terms.size)
        record = [tally.terms.version, tally.epoch, tally.previous, present]
        self.room(tally.slot).put("begun", encode(record))

    def begun(self, slot: int) -> Begun | None:
        """Return how a slot began; None if it has not."""
        data = self.room(slot).get("begun")
        return None if data is None else Begun(*_list(data))

    def took(self, what: str, slot: int, index: int, sealed: bytes) -> None:
        """Keep a frame that was taken: `submit`, `hello` or `open`."""
        self.room(slot).put(f"{what}/{index}", sealed)

    def close(self, manifest: Manifest, signed: bytes = b"") -> None:
        """Keep a manifest, and what we signed of it; from now on there is no other of its slot."""
        self.room(manifest.slot).put("manifest", encode([manifest.to_bytes(), signed]))

    def closed(self, slot: int) -> tuple[Manifest, bytes] | None:
        """Return a slot's manifest and what we signed of it, which may be nothing yet."""
        if (data := self.room(slot).get("manifest")) is None:
            return None
        content, signed = _list(data)
        return Manifest.from_bytes(content), signed

    def publish(self, slot: int, envelope: bytes) -> None:
        """Keep what members get of a manifest."""
        self.room(slot).put("envelope", envelope)

    def envelope(self, slot: int) -> bytes | None:
        """Return what members get of a manifest."""
        return self.room(slot).get("envelope")

    def finish(self, told: SlotResult, signed: bytes, total: Mapping[str, Any]) -> None:
        """Keep how a slot ended."""
        event = json.dumps(total).encode()
        self.room(told.slot).put("result", encode([told.to_bytes(), signed, event]))

    def finished(self, slot: int) -> Finished | None:
        """Return how a slot ended; None if it has not."""
        if (data := self.room(slot).get("result")) is None:
            return None
        told, signed, event = _list(data)
        return Finished(SlotResult.from_bytes(told), signed, json.loads(event))

    def shelve(self, slot: int, leaves: Leaves) -> None:
        """Keep of a slot only what members may still ask for."""
        room = self.room(slot)
        room.put("leaves", encode([[index, name] for index, name in sorted(leaves.digests.items())]))
        room.clear(*_TAKEN)

    def shelved(self, slot: int) -> Leaves | None:
        """Return the digests of a slot's submissions if nothing else of it is left."""
        data = self.room(slot).get("leaves")
        return None if data is None else Leaves(dict(_list(data)))

    def forget(self, slot: int) -> None:
        """Keep nothing of a slot any more."""
        self.room(slot).clear()

    def exclude(self, slot: int, members: Collection[int]) -> None:
        """Keep of whom nothing is taken in a slot."""
        if members:
            self.room(slot).put("excluded", encode(sorted(members)))

    def restore(
        self,
        terms_of: Callable[[int], Terms | None],
        members_of: Callable[[int], tuple[str, ...]],
        *,
        witnessed: bool,
    ) -> Restored:
        """Return everything that is kept.

        Args:
            terms_of: number of a roster -> what its frames must agree with; None: it is long past.
            members_of: number of a roster -> gateway ids in the order of the indices.
            witnessed: whether manifests are co-signed.

        Raises:
            JournalDamaged: what is kept contradicts itself.
        """
        found = Restored()
        if (data := self.standing.get("next")) is not None:
            found.next = int(data)
        for slot in self.slots():
            if (begun := self.begun(slot)) is None:
                continue
            known: Tally | Leaves | None = self.shelved(slot)
            if known is None and (terms := terms_of(begun.version)) is not None:
                known = found.tallies[slot] = self.restored(slot, terms, witnessed=witnessed)
            if known is not None and (envelope := self.envelope(slot)) is not None:
                found.manifests[slot] = (known, envelope, members_of(begun.version))
            if (done := self.finished(slot)) is not None:
                found.results[slot], found.told, found.total = done.signed, done.told, done.total
            found.next = slot if done is None and slot in found.tallies else slot + 1
        return found

    def restored(self, slot: int, terms: Terms, *, witnessed: bool) -> Tally:
        """Return a slot as it was: every frame is judged again, and the manifest made again.

        Raises:
            JournalDamaged: frames or manifest are not what they were.
        """
        begun, room = self.begun(slot), self.room(slot)
        assert begun is not None, "a slot that was not begun"
        tally = Tally(terms, slot, begun.epoch, begun.previous, from_bitmap(begun.present, terms.size))
        excluded = frozenset(_list(room.get("excluded") or encode([])))
        tally.exclude(excluded)
        closed = self.closed(slot)
        for what in ("hello/", "submit/"):
            for index, sealed in room.items(what):
                if int(index) not in excluded:
                    self._again(slot, tally.submit(int(index), sealed)[0])
        if closed is None:
            return tally
        if document_hash(tally.close(closed[0].result, witnessed=witnessed)) != document_hash(closed[0]):
            raise JournalDamaged(f"slot {slot}: the manifest is not that of the frames", _KEYS)
        if witnessed and room.get("envelope") is not None:
            tally.cosigned()
        for index, sealed in room.items("open/"):
            self._again(slot, tally.open(int(index), sealed))
        for index, seed in room.items("recovered/"):
            tally.recovered(int(index), seed)
        return tally

    @staticmethod
    def _again(slot: int, taken: Taken) -> None:
        if taken is not Taken.NEW:
            raise JournalDamaged(f"slot {slot}: a frame that was taken is not good", _KEYS)

    # -- recovery ------------------------------------------------------------------------------------

    def order(self, slot: int) -> tuple[RecoveryOrder, bytes] | None:
        """Return the one order of a slot, and what we signed of it."""
        if (data := self.room(slot).get("order")) is None:
            return None
        content, signed = _list(data)
        return RecoveryOrder.from_bytes(content), signed

    def keep_order(self, order: RecoveryOrder, signed: bytes) -> None:
        """Keep an order; from now on there is no other of its slot."""
        self.room(order.slot).put("order", encode([order.to_bytes(), signed]))

    def shares(self, slot: int, member: int) -> dict[int, bytes]:
        """Return holder -> share that was taken."""
        return {int(holder): share for holder, share in self.room(slot).items(f"share/{member}/")}

    def keep_share(self, slot: int, member: int, holder: int, share: bytes) -> None:
        """Keep a share."""
        self.room(slot).put(f"share/{member}/{holder}", share)

    def recovered(self, slot: int, member: int, seed: bytes) -> None:
        """Keep a recovered seed."""
        self.room(slot).put(f"recovered/{member}", seed)

    # -- V-mode --------------------------------------------------------------------------------------

    def keep_orders(self, orders: Sequence[tuple[range, Reason]]) -> None:
        """Keep for which slots commitments are demanded, and why."""
        self.standing.put("commit", encode([[one.start, len(one), int(why)] for one, why in orders]))

    def orders(self) -> list[tuple[range, Reason]]:
        """Return for which slots commitments are demanded, and why."""
        kept = _list(self.standing.get("commit") or encode([]))
        return [(range(first, first + count), Reason(why)) for first, count, why in kept]

    def keep_commit_order(self, slot: int, signed: tuple[CommitOrder, bytes] | None) -> None:
        """Keep whether a slot is one with commitments, by the signed order; it is decided once."""
        record = [] if signed is None else [signed[0].to_bytes(), signed[1]]
        self.room(slot).put("commit", encode(record))

    def commit_order(self, slot: int) -> tuple[CommitOrder, bytes] | None:
        """Return the order for a slot that is one with commitments; see `decided`."""
        record = _list(self.room(slot).get("commit") or encode([]))
        return (CommitOrder.from_bytes(record[0]), record[1]) if record else None

    def decided(self, slot: int) -> bool:
        """Tell whether it is kept what a slot is."""
        return self.room(slot).get("commit") is not None

    def commitments(self, slot: int) -> dict[int, bytes]:
        """Return index -> content of a commitment whose signature and proof were right."""
        return {int(index): said for index, said in self.room(slot).items("commit/")}

    def blindings(self, slot: int) -> dict[int, bytes]:
        """Return index -> what opens blindings, without its MAC."""
        return {int(index): said for index, said in self.room(slot).items("blinding/")}


_KEYS = "was enc.key exchanged? frames are sealed for the key that their roster was founded with"


def _list(data: bytes) -> list[Any]:
    items = decode(data)
    assert isinstance(items, list), "our own record"
    return items
