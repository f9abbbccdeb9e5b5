"""The slot ledger: what was measured, sent and opened, durable before anything leaves.

It is what makes a resend identical, an opening single and a failed slot's energy owed instead of lost.
No rule about peers is in here. Private to this package. Spec: docs/dcnet.md, slot ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from firmware.enforcement.dcnet.errors import MalformedObject, SlotInPast
from firmware.enforcement.dcnet.machines import SLOT, SlotState, Step
from firmware.enforcement.dcnet.messages.canonical import decode_kept, encode
from firmware.errors import StoreCorrupt
from firmware.store.operations import Operation, Put

_SLOTS: Final = "dcnet-slot"
_SPANS: Final = "dcnet-owed"
_STATE: Final = "dcnet-state"
_RESTORED: Final = "dcnet-restored"
_LAST: Final = "last"
_ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DELIVERED: Final = frozenset({SlotState.TOTALLED, SlotState.SETTLED})
RETAINED_SLOTS: Final = 192
"""Totalled slots older than this are forgotten; owed ones never are."""
_SETTLED: Final = "settled"
"""Reason of a span that a reconcile total holds: kept a while, without its energy, lest it be owed again."""


class LedgerStore(Protocol):
    """Sealed durable storage; `firmware.store.partition.Partition` is one."""

    async def put(self, kind: str, key: str, plaintext: bytes) -> None:
        """Insert or replace a record; durable on return."""

    async def get(self, kind: str, key: str) -> bytes | None:
        """Return a record, None if there is none."""

    async def items(self, kind: str) -> list[tuple[str, bytes]]:
        """Return (key, plaintext) of all records of a kind."""

    async def delete(self, kind: str, key: str) -> None:
        """Remove a record; no error if there is none."""

    async def commit(self, operations: Sequence[Operation]) -> list[int]:
        """Carry out all operations or none; durable on return."""


@dataclass(frozen=True, slots=True)
class SlotEntry:
    """One slot. Readings, seed and frames never show in a repr."""

    slot: int
    state: SlotState
    import_wh: int = field(default=0, repr=False)
    export_wh: int = field(default=0, repr=False)
    epoch: int = 0
    seed: bytes = field(default=b"", repr=False)
    """Of the self-mask; erased when the slot is done."""
    submitted: bytes = field(default=b"", repr=False)
    """The Submit frame with its MAC, exactly as it may leave."""
    previous: bytes = field(default=b"", repr=False)
    """Hash of the manifest it was computed with."""
    manifest_hash: bytes = b""
    opened: bytes = field(default=b"", repr=False)
    """The Open frame with its MAC."""
    members: int = 0
    """Accepted members that hang together with us, the anonymity set of a totalled slot."""
    reason: str = ""
    """Why it is owed."""

    def to_bytes(self) -> bytes:
        """Encode."""
        return encode(
            [
                self.slot,
                self.state.value,
                self.import_wh,
                self.export_wh,
                self.epoch,
                self.seed,
                self.submitted,
                self.previous,
                self.manifest_hash,
                self.opened,
                self.members,
                self.reason,
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> SlotEntry:
        """Decode; `StoreCorrupt` if it is not an entry."""
        items = _array(data, (int, int, int, int, int, bytes, bytes, bytes, bytes, bytes, int, str))
        try:
            return cls(items[0], SlotState(items[1]), *items[2:])
        except ValueError as error:
            raise StoreCorrupt("a slot entry is in no known state") from error


@dataclass(frozen=True, slots=True)
class Owed:
    """Energy that no total contains; the reconcile slot will."""

    first_slot: int
    last_slot: int
    import_wh: int = field(repr=False)
    export_wh: int = field(repr=False)
    reason: str


class Ledger:
    """All slots of one net. Every change is durable when the call returns; memory follows the store."""

    def __init__(
        self, store: LedgerStore, net: bytes, slot_at: Callable[[datetime], int] | None = None
    ) -> None:
        """Use `store` for the net with this identifier, whose grid says which slot an instant lies in."""
        self._store, self._prefix, self._slot_at = store, net.hex() + "/", slot_at
        self._entries: dict[int, SlotEntry] = {}
        self._spans: dict[str, Owed] = {}
        self._restored_in = 0
        """The slot that ran when the stores were put back."""

    async def load(self) -> None:
        """Read what was kept, and close what may have gone on without us. Raises `StoreCorrupt`."""
        self._entries, self._spans = {}, {}
        for key, data in await self._store.items(_SLOTS):
            if key.startswith(self._prefix):
                entry = SlotEntry.from_bytes(data)
                self._entries[entry.slot] = entry
        for key, data in await self._store.items(_SPANS):
            if key.startswith(self._prefix):
                self._spans[key] = Owed(*_array(data, (int, int, int, int, str)))
        restored = await self._store.get(_RESTORED, _LAST)
        if restored is not None and self._slot_at is not None:
            (since_ms,) = _array(restored, (int,))
            self._restored_in = self._slot_at(_ZERO + timedelta(milliseconds=since_ms))
            await self._close_older()

    async def _close_older(self) -> None:
        """Nothing begun before the stores were put back is gone on with: the copy that was in use may have.

        Its seeds would open a second time what was opened then, perhaps under another manifest.
        """
        for entry in self.entries():
            if entry.slot < self._restored_in and entry.state is SlotState.SUBMITTED:
                await self.undecided(entry.slot, "restored from a backup")
            elif entry.slot < self._restored_in and entry.state is SlotState.MEASURED:
                await self.failed(entry.slot, Step.LEAVE_OUT, "restored from a backup")

    def is_past(self, slot: int) -> bool:
        """Tell whether a slot without an entry is never begun any more: its energy can only be owed."""
        return slot not in self._entries and slot < max(self.last_slot, self._restored_in)

    @property
    def last_slot(self) -> int:
        """The newest slot dealt with, -1 if there is none. Nothing older is ever begun."""
        return max(self._entries, default=-1)

    def entry(self, slot: int) -> SlotEntry | None:
        """Return the entry of a slot."""
        return self._entries.get(slot)

    def entries(self) -> list[SlotEntry]:
        """Return all entries, oldest first."""
        return [self._entries[slot] for slot in sorted(self._entries)]

    def owed(self) -> list[Owed]:
        """Return all energy that waits for the reconcile slot, oldest first."""
        slots = [
            Owed(entry.slot, entry.slot, entry.import_wh, entry.export_wh, entry.reason)
            for entry in self._entries.values()
            if entry.state is SlotState.OWED
        ]
        spans = [one for one in self._spans.values() if one.reason != _SETTLED]
        return sorted([*slots, *spans], key=lambda owed: (owed.first_slot, owed.last_slot))

    async def measure(self, slot: int, import_wh: int, export_wh: int, *, unfit: str = "") -> None:
        """Enter the energy of a slot, once. The same values again change nothing.

        Args:
            slot: of the net's grid.
            import_wh: at least 0.
            export_wh: at least 0.
            unfit: why it can be in no submission, and is owed at once.

        Raises:
            SlotInPast: this or a newer slot was dealt with before (the clock went back).
        """
        known = self._entries.get(slot)
        if known is not None and (known.import_wh, known.export_wh) == (import_wh, export_wh):
            return
        if slot <= self.last_slot:
            raise SlotInPast(f"slot {slot} is not after {self.last_slot}")
        state = SLOT.advance(SlotState.IDLE, Step.MEASURE)
        if unfit:
            state = SLOT.advance(SLOT.advance(state, Step.LEAVE_OUT), Step.OWE)
        await self._write(SlotEntry(slot, state, import_wh, export_wh, reason=unfit))

    async def owe(self, first_slot: int, last_slot: int, import_wh: int, export_wh: int, reason: str) -> None:
        """Enter energy of several slots at once (an interruption): never submitted, only owed.

        The same span again replaces the first entry; one that was settled is delivered, and changes nothing.
        """
        known = self._spans.get(self._span_key(first_slot, last_slot))
        if known is None or known.reason != _SETTLED:
            await self._keep_span(Owed(first_slot, last_slot, import_wh, export_wh, reason))

    async def submitting(self, slot: int, *, epoch: int, seed: bytes, frame: bytes, previous: bytes) -> None:
        """Enter the frame that is about to leave. Must return before it does."""
        await self._step(slot, Step.SUBMIT, epoch=epoch, seed=seed, submitted=frame, previous=previous)

    async def opening(self, slot: int, *, manifest_hash: bytes, members: int, frame: bytes) -> None:
        """Enter the opening that is about to leave, and forget the seed. Must return before it does."""
        entry = self._known(slot)
        state = SLOT.advance(SLOT.advance(entry.state, Step.ACCEPT), Step.OPEN)
        await self._write(
            replace(entry, state=state, seed=b"", manifest_hash=manifest_hash, members=members, opened=frame)
        )

    async def totalled(self, slot: int, also: Sequence[Operation] = ()) -> None:
        """The supplier confirmed the sum: the energy is delivered and forgotten, `also` done with it."""
        await self._step(slot, Step.TOTAL, also, import_wh=0, export_wh=0, submitted=b"", opened=b"")
        for old in [s for s, e in self._entries.items() if e.state in _DELIVERED]:
            if old < slot - RETAINED_SLOTS:
                await self._store.delete(_SLOTS, self._key(old))
                del self._entries[old]

    async def undecided(self, slot: int, reason: str) -> None:
        """A submitted slot stays closed here, but others may recover it: its result says what it is."""
        entry = self._known(slot)
        state = SLOT.advance(entry.state, Step.REFUSE)
        await self._write(replace(entry, state=state, seed=b"", submitted=b"", opened=b"", reason=reason))

    async def accepted(self, slot: int, *, manifest_hash: bytes, members: int) -> None:
        """An undecided slot is in this manifest: a total of it contains its energy."""
        await self._write(replace(self._known(slot), manifest_hash=manifest_hash, members=members))

    async def failed(self, slot: int, step: Step, reason: str) -> None:
        """A slot ended without a total (LEAVE_OUT, REFUSE or ABORT): its energy is owed.

        Of an undecided slot any of these steps says that no total contains it.
        """
        entry = self._known(slot)
        ended = entry.state if entry.state is SlotState.REFUSED else SLOT.advance(entry.state, step)
        state = SLOT.advance(ended, Step.OWE)
        await self._write(replace(entry, state=state, seed=b"", submitted=b"", opened=b"", reason=reason))

    async def settled(self, spans: Iterable[tuple[int, int]]) -> None:
        """A reconcile slot with these entries was totalled: their energy is delivered and forgotten.

        Entries that are settled already are passed over, so this can be said again after a power cut.
        """
        for first, last in spans:
            known = self._spans.get(self._span_key(first, last))
            if known is not None and known.reason != _SETTLED:
                await self._keep_span(Owed(first, last, 0, 0, _SETTLED))
            entry = self._entries.get(first)
            if first == last and entry is not None and entry.state is SlotState.OWED:
                await self._step(first, Step.SETTLE, import_wh=0, export_wh=0)
        for key, one in [*self._spans.items()]:
            if one.reason == _SETTLED and one.last_slot < self.last_slot - RETAINED_SLOTS:
                await self._store.delete(_SPANS, key)
                del self._spans[key]

    def _span_key(self, first_slot: int, last_slot: int) -> str:
        return f"{self._prefix}{first_slot:010d}-{last_slot:010d}"

    async def _keep_span(self, one: Owed) -> None:
        key = self._span_key(one.first_slot, one.last_slot)
        fields = [one.first_slot, one.last_slot, one.import_wh, one.export_wh, one.reason]
        await self._store.put(_SPANS, key, encode(fields))
        self._spans[key] = one

    async def keep(self, name: str, data: bytes) -> None:
        """Keep a record of the net's state beside the slots."""
        await self._store.put(_STATE, self._prefix + name, data)

    async def kept(self, name: str) -> bytes | None:
        """Return a record of the net's state."""
        return await self._store.get(_STATE, self._prefix + name)

    async def forget(self, name: str) -> None:
        """Erase a record of the net's state; no error if there is none."""
        await self._store.delete(_STATE, self._prefix + name)

    async def _step(self, slot: int, step: Step, also: Sequence[Operation] = (), **changes: Any) -> None:
        entry = self._known(slot)
        await self._write(replace(entry, state=SLOT.advance(entry.state, step), **changes), also)

    def _known(self, slot: int) -> SlotEntry:
        return self._entries.get(slot, SlotEntry(slot, SlotState.IDLE))

    async def _write(self, entry: SlotEntry, also: Sequence[Operation] = ()) -> None:
        if also:
            await self._store.commit((Put(_SLOTS, self._key(entry.slot), entry.to_bytes()), *also))
        else:
            await self._store.put(_SLOTS, self._key(entry.slot), entry.to_bytes())
        self._entries[entry.slot] = entry

    def _key(self, slot: int) -> str:
        return f"{self._prefix}{slot:010d}"


async def mark_restored(store: LedgerStore, now_utc: datetime) -> None:
    """Say that the stores are an older copy put back now: no slot of before is submitted or opened again."""
    await store.put(_RESTORED, _LAST, encode([(now_utc - _ZERO) // timedelta(milliseconds=1)]))


def _array(data: bytes, kinds: tuple[type, ...]) -> list[Any]:
    try:
        items = decode_kept(data)
    except MalformedObject as error:
        raise StoreCorrupt("a ledger record is not in its canonical form") from error
    if not isinstance(items, list) or [type(item) for item in items] != list(kinds):
        raise StoreCorrupt("a ledger record has other fields than expected")
    return items
