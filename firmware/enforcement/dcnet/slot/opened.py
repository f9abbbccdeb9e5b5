"""What a member must still know of the slot it opened last: to give shares, to be audited, over a restart.

Kept beside the ledger before the Open frame leaves. Holds no reading and no key. Private to this package.
Spec: docs/dcnet.md, slot ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.canonical import decode_kept, encode
from firmware.enforcement.dcnet.messages.documents import from_bitmap, to_bitmap
from firmware.enforcement.dcnet.messages.frames import Frame, digest
from firmware.enforcement.dcnet.messages.manifest import Manifest
from firmware.enforcement.dcnet.policy import CANARY_LANE
from firmware.enforcement.dcnet.slot.ledger import Ledger
from firmware.enforcement.dcnet.slot.view import Head, Link, View, link
from firmware.errors import StoreCorrupt

_NAME: Final = "opened-account"
"""Not `opened`: earlier software kept another record there, which is worth nothing after a slot."""


@dataclass(frozen=True, slots=True)
class Account:
    """What was sent in a slot: canary words, and digests of the frames."""

    submitted: int
    opened: int
    submit_digest: bytes
    open_digest: bytes

    @classmethod
    def of(cls, submit: bytes, opening: bytes) -> Self:
        """Take it from the two frames, without their MACs."""
        submitted, opened = [Frame.from_bytes(body).lanes[CANARY_LANE] for body in (submit, opening)]
        return cls(submitted, opened, digest(submit), digest(opening))


@dataclass(frozen=True, slots=True)
class OpenedSlot:
    """The chain before the slot, its manifest, and what we have sent."""

    head: Head
    manifest: Manifest
    sent: Account

    @property
    def slot(self) -> int:
        """Which slot it is."""
        return self.manifest.slot

    def link(self, view: View) -> Link:
        """Return the manifest in its place in the chain."""
        return link(view, self.head, self.manifest)

    async def keep(self, ledger: Ledger, size: int) -> None:
        """Make it durable, in the place of the slot before. `size`: of the roster."""
        head = self.head
        fields = [head.epoch, head.slot + 1, head.hash, to_bitmap(head.present, size), size]
        sent = self.sent
        account = [sent.submitted, sent.opened, sent.submit_digest, sent.open_digest]
        await ledger.keep(_NAME, encode([*fields, self.manifest.to_bytes(), account]))

    @classmethod
    async def kept(cls, ledger: Ledger) -> Self | None:
        """Return the last one, None if there was none. Raises `StoreCorrupt`."""
        if (data := await ledger.kept(_NAME)) is None:
            return None
        try:
            items: Any = decode_kept(data)
            epoch, slot, before, present, size, manifest, account = items
            submitted, opened, *digests = account
            head = Head(epoch, slot - 1, before, from_bitmap(present, size))
            return cls(head, Manifest.from_bytes(manifest), Account(submitted, opened, *digests))
        except (MalformedObject, TypeError, ValueError) as error:
            raise StoreCorrupt("what is kept of an opened slot has another form than expected") from error
