"""The chain of manifests as one gateway has followed it, durable, and the proof if the supplier forks it.

No I/O besides the ledger's store. Spec: docs/dcnet.md, one slot; equivocation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from firmware.enforcement.dcnet.errors import Equivocation, MalformedObject
from firmware.enforcement.dcnet.messages.canonical import decode_kept, encode
from firmware.enforcement.dcnet.messages.documents import document_hash, from_bitmap, to_bitmap
from firmware.enforcement.dcnet.messages.manifest import EpochManifest
from firmware.enforcement.dcnet.slot.ledger import Ledger
from firmware.enforcement.dcnet.slot.view import Head, Link
from firmware.errors import StoreCorrupt

_EPOCH: Final = "epoch"
_EPOCH_SIGNED: Final = "epoch-signed"
_HEAD: Final = "head"
_PROOF: Final = "quarantine"


class ManifestChain:
    """Keeps the first EpochManifest of each epoch and the last manifest; a second one is proof of a lie."""

    def __init__(self, ledger: Ledger) -> None:
        """Keep it beside the ledger's slots."""
        self._ledger = ledger
        self._size = 0
        self._epoch: EpochManifest | None = None
        self._head_signed = b""
        self.head: Head | None = None
        self.proof: tuple[bytes, bytes] | None = None
        """Two signed objects that contradict each other; set means QUARANTINE."""

    async def load(self) -> None:
        """Read the proof, if one was kept. The rest is read by `open`. Raises `StoreCorrupt`."""
        if (data := await self._ledger.kept(_PROOF)) is not None:
            first, second = _decode(data, 2)
            self.proof = (first, second)

    async def open(self, version: int, size: int) -> None:
        """Continue the chain of a roster version with `size` members, if one was kept."""
        self._size, self.head, self._epoch, self._head_signed = size, None, None, b""
        if (data := await self._ledger.kept(f"{_EPOCH}-{version}")) is not None:
            self._epoch = EpochManifest.from_bytes(data)
        if (data := await self._ledger.kept(f"{_HEAD}-{version}")) is not None:
            epoch, slot, head_hash, present, self._head_signed = _decode(data, 5)
            self.head = Head(epoch, slot - 1, head_hash, from_bitmap(present, size))

    async def start(self, manifest: EpochManifest, signed: bytes) -> None:
        """Begin the chain of a new epoch; the same again changes nothing.

        Raises:
            Equivocation: another EpochManifest was signed for this epoch.
        """
        if self._epoch is not None and self._epoch.epoch == manifest.epoch:
            if document_hash(self._epoch) != document_hash(manifest):
                known = await self._ledger.kept(f"{_EPOCH_SIGNED}-{manifest.version}")
                raise await self.accuse(manifest.first_slot, known or self._epoch.to_bytes(), signed)
            return
        # The head first: a power cut in between leaves a head that this call, repeated, writes again.
        await self._move(manifest.version, Head.of_epoch(manifest, self._size), signed)
        await self._ledger.keep(f"{_EPOCH_SIGNED}-{manifest.version}", signed)
        await self._ledger.keep(f"{_EPOCH}-{manifest.version}", manifest.to_bytes())
        self._epoch = manifest

    async def follow(self, found: Link, signed: bytes) -> None:
        """Go on to a manifest whose place in the chain was checked."""
        assert self.head is not None
        await self._move(found.manifest.version, found.head(self.head.epoch), signed)

    async def skip(self, version: int) -> None:
        """Go on over the next slot, which has no manifest because a calendar blocks it."""
        assert self.head is not None
        await self._move(version, replace(self.head, slot=self.head.slot + 1), self._head_signed)

    async def fork(self, signed: bytes) -> Equivocation:
        """Accuse: a signed manifest of the next slot names another past than the one signed for us."""
        slot = -1 if self.head is None else self.head.slot
        return await self.accuse(slot, self._head_signed, signed)

    async def accuse(self, slot: int, first: bytes, second: bytes) -> Equivocation:
        """Keep the proof for ever and return the error to raise: this net is in QUARANTINE from now on."""
        if self.proof is None:
            await self._ledger.keep(_PROOF, encode([first, second]))
            self.proof = (first, second)
        return Equivocation(slot, self.proof)

    def in_epoch(self, epoch: int) -> bool:
        """Whether the chain of `epoch` was begun."""
        return self._epoch is not None and self._epoch.epoch == epoch

    async def _move(self, version: int, head: Head, signed: bytes) -> None:
        present = to_bitmap(head.present, self._size)
        record = [head.epoch, head.slot + 1, head.hash, present, signed]
        await self._ledger.keep(f"{_HEAD}-{version}", encode(record))
        self.head, self._head_signed = head, signed


def _decode(data: bytes, count: int) -> list[Any]:
    try:
        items = decode_kept(data)
    except MalformedObject as error:
        raise StoreCorrupt("a record of the manifest chain is not in its canonical form") from error
    if not isinstance(items, list) or len(items) != count:
        raise StoreCorrupt("a record of the manifest chain has other fields than expected")
    return items
