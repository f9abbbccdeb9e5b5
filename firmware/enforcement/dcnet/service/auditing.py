"""A member's part in a canary audit: answers one signed order for the slot it opened, once in 30 epochs.

What is said and what is refused is decided by `slot.audit`; the statement and the spent budget are durable
before it leaves. Spec: docs/dcnet.md, canary audit.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from firmware.enforcement.dcnet.errors import AuditRefused, DcNetError, MalformedObject
from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.founding.roster import Signatures
from firmware.enforcement.dcnet.machines import MODE, Mode, ModeStep, SlotState
from firmware.enforcement.dcnet.messages.canonical import decode_kept, encode
from firmware.enforcement.dcnet.messages.faults import AuditOrder
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service.client import Clock, NetClient
from firmware.enforcement.dcnet.slot import audit
from firmware.enforcement.dcnet.slot.ledger import Ledger
from firmware.enforcement.dcnet.slot.opened import OpenedSlot
from firmware.enforcement.dcnet.slot.view import View
from firmware.errors import StoreCorrupt
from hsm.errors import CertificateRefused
from wan.errors import WanError

_AUDIT: Final = "audit"


@dataclass(frozen=True, slots=True)
class LastAudit:
    """When this member was audited last, and what it said."""

    epoch: int
    slot: int
    signed: bytes
    """Its `CanaryStatement`."""


class Auditing:
    """Answers the audits of one net.

    Args:
        rules: the policy the administrator signed.
        client: the way to the net's EMP.
        ledger: keeps the statement.
        signatures: checks the order, signs the statement.
        clock: the gateway's.
        tell: takes what the logs are told.
        log: diagnostics.
    """

    def __init__(
        self,
        rules: NetRules,
        *,
        client: NetClient,
        ledger: Ledger,
        signatures: Signatures,
        clock: Clock,
        tell: Callable[[NetEventKind, int | None, int, str], Awaitable[None]],
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self._rules, self._client, self._ledger = rules, client, ledger
        self._signatures, self._clock, self._tell, self._log = signatures, clock, tell, log

    async def go_on(self, view: View, slot: int) -> None:
        """Answer an audit of a slot that came to nothing, if one is ordered before the next slot ends.

        Raises:
            HsmError: the module fails.
            StoreUnavailable, StoreCorrupt: the statement cannot be kept; nothing is said.
        """
        until, reported = self._rules.slot_end(slot + 1), ""
        while self._clock.now_utc() < until:
            entry, opened = self._ledger.entry(slot), await OpenedSlot.kept(self._ledger)
            if entry is None or entry.state is not SlotState.OWED or opened is None or opened.slot != slot:
                return
            try:
                if await self._answer(view, opened, until):
                    return
            except (WanError, CertificateRefused, DcNetError) as error:
                if str(error) != reported:
                    reported = str(error)
                    await self._tell(NetEventKind.REFUSED, None, 0, f"audit of slot {slot}: {reported}")
            await self._client.pause()

    async def last(self) -> LastAudit | None:
        """Return the last audit, None if there was none. Raises `StoreCorrupt`."""
        if (data := await self._ledger.kept(_AUDIT)) is None:
            return None
        try:
            items: Any = decode_kept(data)
            epoch, slot, signed = items
        except (MalformedObject, TypeError, ValueError) as error:
            raise StoreCorrupt("the record of an audit has another form than expected") from error
        return LastAudit(epoch, slot, signed)

    async def mode(self) -> Mode:
        """Return how the net runs as far as this member can tell: F from an audit to the next total."""
        if (last := await self.last()) is None:
            return MODE.start
        mode = MODE.advance(MODE.start, ModeStep.MISCOUNT)
        clean = (SlotState.TOTALLED,)
        if any(entry.slot > last.slot and entry.state in clean for entry in self._ledger.entries()):
            mode = MODE.advance(mode, ModeStep.CLEAN)
        return mode

    async def _answer(self, view: View, opened: OpenedSlot, until: datetime) -> bool:
        """Ask for an order and follow it; whether the EMP has our statement now."""
        slot = opened.slot
        if (signed := await self._client.audit(slot)) is None:
            return False
        order, found = AuditOrder.from_bytes(await self._signatures.by_emp(signed)), opened.link(view)
        meant = (self._rules.net, view.version, slot, found.hash)
        if (order.net, order.version, order.slot, order.manifest_hash) != meant:
            raise AuditRefused("an order for another slot or manifest than ours")
        last = await self.last()
        if last is None or last.slot != slot:
            entry = self._ledger.entry(slot)
            assert entry is not None
            said = audit.statement(
                view,
                opened.head,
                found,
                opened.sent,
                state=entry.state,
                last_audit_epoch=None if last is None else last.epoch,
            )
            last = LastAudit(view.epoch, slot, await self._signatures.sign(said.to_bytes()))
            await self._ledger.keep(_AUDIT, encode([last.epoch, last.slot, last.signed]))
            await self._tell(NetEventKind.AUDITED, slot, 0, "canary words were stated, no reading")
        return await self._client.deliver_to(f"canary/{slot}/{view.index}", last.signed, until)
