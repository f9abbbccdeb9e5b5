"""The result that a member was told of its last slot, until the chain of manifests says the same.

What `result/` answers is said to one member alone; a manifest is said to all, or the next sum is destroyed.
If one member alone believed that a slot was aborted, its value alone would be in the next reconcile total.
No I/O besides the ledger's store. Private to this package. Spec: docs/dcnet.md, one slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.canonical import decode_kept, encode
from firmware.enforcement.dcnet.messages.manifest import Manifest, SlotResult, Verdict
from firmware.enforcement.dcnet.slot.ledger import Ledger
from firmware.errors import StoreCorrupt

_NAME: Final = "told"


@dataclass(frozen=True, slots=True)
class ToldResult:
    """A result with its signed form: evidence, if the chain says otherwise."""

    result: SlotResult
    signed: bytes

    @property
    def slot(self) -> int:
        """Which slot it is about."""
        return self.result.slot

    @property
    def aborted(self) -> bool:
        """Whether it says that no total contains the slot."""
        return self.result.verdict is Verdict.ABORTED

    def silent(self, manifest: Manifest) -> bool:
        """Whether a manifest says nothing about what was told."""
        said = manifest.result
        return said is None or (said.net, said.slot, said.manifest_hash) != (
            self.result.net,
            self.result.slot,
            self.result.manifest_hash,
        )

    def denied(self, manifest: Manifest) -> bool:
        """Whether a manifest says the opposite: both are signed, and an honest supplier signs one of them."""
        said = manifest.result
        return said is not None and not self.silent(manifest) and said.verdict is not self.result.verdict

    async def keep(self, ledger: Ledger) -> None:
        """Make it durable, in the place of the one before."""
        await ledger.keep(_NAME, encode([self.result.to_bytes(), self.signed]))

    @staticmethod
    async def forget(ledger: Ledger) -> None:
        """The chain has gone on behind the slot."""
        await ledger.forget(_NAME)

    @classmethod
    async def kept(cls, ledger: Ledger) -> Self | None:
        """Return the last one that the chain has not confirmed yet. Raises `StoreCorrupt`."""
        if (data := await ledger.kept(_NAME)) is None:
            return None
        try:
            items: Any = decode_kept(data)
            result, signed = items
            return cls(SlotResult.from_bytes(result), bytes(signed))
        except (MalformedObject, TypeError, ValueError) as error:
            raise StoreCorrupt("what is kept of a told result has another form than expected") from error
