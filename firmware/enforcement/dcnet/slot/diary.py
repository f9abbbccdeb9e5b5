"""What a member keeps of a day: digests of what it sent, receipts, and when it was left out all the same.

No I/O besides the ledger's store. Spec: docs/dcnet.md, receipts and the day's digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.canonical import decode_kept, encode
from firmware.enforcement.dcnet.messages.conduct import SentFrames, Taken
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES
from firmware.enforcement.dcnet.slot.ledger import Ledger
from firmware.errors import StoreCorrupt

ALARM_EVENTS: Final = 2
ALARM_DAYS: Final = 30
"""Left out so often within so many days in spite of receipts: an alarm."""
_DAY_S: Final = 86400
_KEPT_EVENTS: Final = 8
_HELD: Final = frozenset({Taken.ACCEPTED, Taken.DUPLICATE})


@dataclass(frozen=True, slots=True)
class _Sent:
    frames: SentFrames
    taken: int
    """A `Taken`, 0 without a receipt."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A manifest without us, though the supplier had confirmed our submission."""

    slot: int
    epoch: int
    signed: bytes
    """The manifest."""


class Diary:
    """The current epoch of one membership, durable; begun anew when the epoch turns."""

    def __init__(self, ledger: Ledger, slot_s: int) -> None:
        """Keep it beside the ledger's slots, which have `slot_s` seconds."""
        self._ledger = ledger
        self._window = ALARM_DAYS * max(1, _DAY_S // slot_s)
        self._version = 0
        self.epoch = 0
        self.before = bytes(HASH_BYTES)
        """End of the hash chain of the epochs before."""
        self._sent: dict[int, _Sent] = {}
        self._left_out: tuple[LeftOut, ...] = ()

    async def open(self, version: int) -> None:
        """Go on with the diary of a roster version. Raises `StoreCorrupt`."""
        self._version = version
        self.epoch, self.before, self._sent = 0, bytes(HASH_BYTES), {}
        if (data := await self._ledger.kept(f"diary-{version}")) is not None:
            self.epoch, self.before, rows = _read(data, 3)
            self._sent = {row[0]: _Sent(SentFrames(row[0], row[1], row[2]), row[3]) for row in rows}
        if (data := await self._ledger.kept("left-out")) is not None:
            (rows,) = _read(data, 1)
            self._left_out = tuple(LeftOut(*row) for row in rows)

    def frames(self) -> tuple[SentFrames, ...]:
        """Return what was sent in this epoch, oldest first."""
        return tuple(self._sent[slot].frames for slot in sorted(self._sent))

    async def submitting(self, slot: int, digest: bytes) -> None:
        """A Submit is about to leave; the same again changes nothing."""
        known = self._sent.get(slot)
        if known is None or known.frames.submitted != digest:
            await self._keep(slot, _Sent(SentFrames(slot, digest), 0))

    async def opening(self, slot: int, digest: bytes) -> None:
        """An Open is about to leave; the same again changes nothing."""
        known = self._sent.get(slot)
        if known is not None and known.frames.opened != digest:
            await self._keep(slot, replace(known, frames=replace(known.frames, opened=digest)))

    async def received(self, slot: int, digest: bytes, taken: Taken) -> bool:
        """Keep a receipt whose MAC is good; False if it names a submission that is not ours."""
        known = self._sent.get(slot)
        if known is None or known.frames.submitted != digest:
            return False
        if known.taken not in (taken, *_HELD):  # a promise once made stays
            await self._keep(slot, replace(known, taken=int(taken)))
        return True

    def answered(self, slot: int) -> bool:
        """Tell whether there is a receipt, whatever it says."""
        return slot in self._sent and self._sent[slot].taken != 0

    def promised(self, slot: int) -> bool:
        """Tell whether the supplier confirmed our submission of a slot of this epoch."""
        return slot in self._sent and self._sent[slot].taken in _HELD

    async def missed(self, slot: int, signed: bytes) -> Sequence[LeftOut]:
        """Note a manifest without us; return all such of the last 30 days if they are worth an alarm."""
        if any(one.slot == slot for one in self._left_out):
            return ()
        events = (*self._left_out, LeftOut(slot, self.epoch, signed))[-_KEPT_EVENTS:]
        events = tuple(one for one in events if slot - one.slot < self._window)
        rows = [[one.slot, one.epoch, one.signed] for one in events]
        await self._ledger.keep("left-out", encode([rows]))
        self._left_out = events
        return events if len(events) >= ALARM_EVENTS else ()

    async def turn(self, epoch: int, before: bytes) -> None:
        """Begin another epoch; what was kept of the last one has been put into its digest."""
        await self._write(epoch, before, {})

    async def _keep(self, slot: int, sent: _Sent) -> None:
        await self._write(self.epoch, self.before, self._sent | {slot: sent})

    async def _write(self, epoch: int, before: bytes, sent: dict[int, _Sent]) -> None:
        rows = [[s, one.frames.submitted, one.frames.opened, one.taken] for s, one in sorted(sent.items())]
        await self._ledger.keep(f"diary-{self._version}", encode([epoch, before, rows]))
        self.epoch, self.before, self._sent = epoch, before, sent


def _read(data: bytes, count: int) -> list[Any]:
    try:
        items = decode_kept(data)
    except MalformedObject as error:
        raise StoreCorrupt("a diary is not in its canonical form") from error
    if not isinstance(items, list) or len(items) != count:
        raise StoreCorrupt("a diary has other fields than expected")
    return items
