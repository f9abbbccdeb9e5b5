"""How a member keeps its supplier to its word: calendars, receipts, refusals, the day's digest, complaints.

Part of the driver: asks, keeps and tells; what a calendar may say and when an alarm is due is decided in
`slot`. What must be told waits in a durable queue until it was taken, so a restart loses nothing.
Spec: docs/dcnet.md, calendars, receipts, refusals, the day's digest, complaints.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from firmware.enforcement.dcnet.errors import DcNetError, MalformedObject, Refusal
from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.founding.membership import Membership
from firmware.enforcement.dcnet.founding.roster import Signatures
from firmware.enforcement.dcnet.messages.canonical import decode_kept, encode
from firmware.enforcement.dcnet.messages.conduct import (
    Calendar,
    CalendarPublication,
    Receipt,
    ReceiptDay,
    RefusalNotice,
    SlotDigest,
    seal_note,
    unseal_note,
)
from firmware.enforcement.dcnet.messages.documents import HASH_BYTES, U32
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, digest
from firmware.enforcement.dcnet.messages.reports import MAX_PROOFS, Charge, Complaint, Statement
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service.client import TRY_AGAIN, NetClient
from firmware.enforcement.dcnet.slot.calendar import Calendars
from firmware.enforcement.dcnet.slot.diary import ALARM_DAYS, Diary, LeftOut
from firmware.enforcement.dcnet.slot.ledger import Ledger
from firmware.enforcement.dcnet.slot.view import Link
from firmware.errors import StoreCorrupt
from hsm.errors import CertificateRefused
from wan.errors import WanError

MAX_WAITING: Final = 64
"""So many messages wait at most; of more the oldest go."""
MAX_WAITING_BYTES: Final = 1 << 20
"""And so much; the newest waits in any case."""
_WAITING: Final = "conduct-waiting"
_ACCUSED: Final = "conduct-accused"
_REFUSED: Final = (WanError, CertificateRefused, DcNetError)
_EMP, _ADMINISTRATOR = 0, 1


class Conduct:
    """Beside the slots of one membership.

    Args:
        rules: the policy the administrator signed.
        client: the way to EMP and administrator.
        ledger: keeps everything.
        signatures: signs digests and complaints, checks calendars.
        tell: takes what the logs are told: kind, slot, size of the set, reason.
        log: diagnostics.
    """

    def __init__(
        self,
        rules: NetRules,
        *,
        client: NetClient,
        ledger: Ledger,
        signatures: Signatures,
        tell: Callable[[NetEventKind, int | None, int, str], Awaitable[None]],
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self._rules, self._version, self._client, self._ledger = rules, 0, client, ledger
        self._signatures, self._tell, self._log = signatures, tell, log
        self.calendars = Calendars(rules, ledger)
        self._diary = Diary(ledger, rules.slot_s)
        self._waiting: list[tuple[int, str, str, bytes]] = []
        self._refused_calendar = ""

    async def load(self) -> None:
        """Read what was kept. Raises `StoreCorrupt`."""
        await self.calendars.load()
        if (data := await self._ledger.kept(_WAITING)) is not None:
            self._waiting = [(one[0], one[1], one[2], one[3]) for one in _rows(data)]

    async def begin(self, version: int) -> None:
        """Another roster is in force: its days are noted apart."""
        self._version = version
        await self._diary.open(version)

    # -- calendars -----------------------------------------------------------------------------------

    async def look_up(self, slot: int, now_slot: int) -> None:
        """Ask for calendars if none is known that rules `slot`; what breaks a rule is refused by name."""
        if not self._rules.calendar or self.calendars.ruling(slot) is not None:
            return
        if (body := await self._client.calendar()) is None:
            return
        try:
            for signed in CalendarPublication.from_bytes(body).signed:
                calendar = Calendar.from_bytes(await self._signatures.by_emp(signed))
                if await self.calendars.take(calendar, signed, now_slot):
                    self._log.info("calendar of slots %d .. %d", calendar.first_slot, calendar.last_slot)
        except _REFUSED as error:
            reason = f"calendar: {error}"
            if reason != self._refused_calendar:
                self._refused_calendar = reason
                await self._tell(NetEventKind.REFUSED, None, 0, reason)

    # -- receipts ------------------------------------------------------------------------------------

    async def submitting(self, membership: Membership, epoch: int, slot: int, frame: bytes) -> None:
        """A Submit (with its MAC) is about to leave."""
        if self._diary.epoch != epoch:
            await self._close_day(membership, epoch)
        await self._diary.submitting(slot, digest(frame[:-MAC_BYTES]))

    async def opening(self, slot: int, frame: bytes) -> None:
        """An Open (with its MAC) is about to leave."""
        await self._diary.opening(slot, digest(frame[:-MAC_BYTES]))

    async def receipt(self, membership: Membership, slot: int, body: bytes) -> None:
        """Take what came back for a Submit; anything but a good receipt is only noted."""
        try:
            receipt = Receipt.from_bytes(unseal_note(body, membership.mac_key))
        except MalformedObject as error:
            self._log.info("slot %d: a receipt is ignored: %s", slot, error)
            return
        said = (receipt.net, receipt.version, receipt.slot, receipt.index)
        if said != (self._rules.net, membership.roster.version, slot, membership.index):
            self._log.info("slot %d: a receipt of another net, member or slot is ignored", slot)
        elif not await self._diary.received(slot, receipt.digest, receipt.taken):
            self._log.warning("slot %d: a receipt for something that was never sent", slot)
        else:
            self._log.info("slot %d: %s", slot, receipt.taken.name.lower())

    async def ask_receipt(self, membership: Membership, slot: int) -> None:
        """Ask for the receipt of a slot whose answer was lost."""
        if not self._diary.answered(slot):
            body = await self._client.receipt(slot, membership.index)
            if body is not None:
                await self.receipt(membership, slot, body)

    async def seen(self, membership: Membership, found: Link, signed: bytes) -> None:
        """Look whether a manifest, with its right place in the chain, keeps what receipts promised."""
        slot = found.manifest.slot
        if membership.index in found.accepted or not self._diary.promised(slot):
            return
        events = await self._diary.missed(slot, signed)
        if events:
            reason = f"left out {len(events)} times in {ALARM_DAYS} days in spite of receipts"
            await self._tell(NetEventKind.LEFT_OUT, slot, 0, reason)
            await self._complain(Charge.LEFT_OUT, await self._evidence(membership, events[-2:]))

    async def _evidence(self, membership: Membership, events: Sequence[LeftOut]) -> tuple[bytes, ...]:
        """Return the manifests, and the supplier's signed lists of receipts as far as it gives them."""
        lists = []
        for epoch in sorted({one.epoch for one in events}):
            try:
                if (signed := await self._client.receipts(epoch, membership.index)) is not None:
                    ReceiptDay.from_bytes(await self._signatures.by_emp(signed))
                    lists.append(signed)
            except _REFUSED as error:
                self._log.info("a list of receipts is ignored: %s", error)
        return (*(one.signed for one in events), *lists)

    # -- refusals ------------------------------------------------------------------------------------

    async def refused(self, membership: Membership, slot: int, why: Refusal, found: Link | None) -> None:
        """Tell the supplier, with our MAC, why we do not open a slot."""
        name = bytes(HASH_BYTES) if found is None else found.hash
        version = membership.roster.version
        notice = RefusalNotice(self._rules.net, version, slot, membership.index, why, name)
        body = seal_note(notice.to_bytes(), membership.mac_key)
        await self._put(_EMP, "PUT", f"refusal/{slot}/{membership.index}", body)

    # -- the day's digest ----------------------------------------------------------------------------

    async def _close_day(self, membership: Membership, epoch: int) -> None:
        """Sign what was sent in the epoch that is over, and begin another."""
        before, frames = self._diary.before, self._diary.frames()
        if frames:
            index, version = membership.index, membership.roster.version
            said = SlotDigest(self._rules.net, version, index, self._diary.epoch, before, frames)
            body = (await self._sign(said.to_bytes())).to_bytes()
            await self._put(_EMP, "PUT", f"digest/{said.epoch}/{index}", body)
            before = said.chained
        await self._diary.turn(epoch, before)

    # -- complaints ----------------------------------------------------------------------------------

    async def accuse(self, proof: tuple[bytes, bytes], slot: int) -> None:
        """Hand the proof of a lie to our administrator, once; `slot`: the last one followed, else -1."""
        if await self._ledger.kept(_ACCUSED) is None:
            first, last = (0, U32) if slot < 0 else (slot, slot + 1)
            calendars = self.calendars.signed_between(first, last)
            await self._complain(Charge.EQUIVOCATION, (*proof, *calendars[: MAX_PROOFS - 2]))
            await self._ledger.keep(_ACCUSED, b"\x01")

    async def _complain(self, charge: Charge, objects: tuple[bytes, ...]) -> None:
        if self._rules.reconciles:
            return  # the conduct of the regular net tells what matters of its reconcile net
        said = Complaint(self._rules.net, self._version, charge, objects)
        body = (await self._sign(said.to_bytes())).to_bytes()
        await self._put(_ADMINISTRATOR, "POST", "complaint", body)

    # -- what waits ----------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Try once to bring away what waits; what nobody answers to waits on."""
        silent: set[int] = set()
        left = []
        for one in self._waiting:
            target, method, resource, body = one
            if target in silent:
                left.append(one)
                continue
            status = await self._client.tell(method, resource, body, administrator=target == _ADMINISTRATOR)
            if status is None:
                silent.add(target)
            if status is None or status in TRY_AGAIN:
                left.append(one)
            elif status >= 400:
                self._log.warning("%s was answered with %d", resource.split("/")[0], status)
        if left != self._waiting:
            await self._keep(left)

    async def _put(self, target: int, method: str, resource: str, body: bytes) -> None:
        """Let a message wait; a newer one for the same resource of the EMP replaces it."""
        same = (target, method, resource)
        kept = [one for one in self._waiting if target == _ADMINISTRATOR or one[:3] != same]
        waiting = [*kept, (target, method, resource, body)][-MAX_WAITING:]
        while len(waiting) > 1 and sum(len(one[3]) for one in waiting) > MAX_WAITING_BYTES:
            del waiting[0]
        await self._keep(waiting)

    async def _keep(self, waiting: list[tuple[int, str, str, bytes]]) -> None:
        await self._ledger.keep(_WAITING, encode([list(one) for one in waiting]))
        self._waiting = waiting

    async def _sign(self, content: bytes) -> Statement:
        return Statement(self._signatures.certificate, await self._signatures.sign(content))


def _rows(data: bytes) -> list[Any]:
    try:
        items = decode_kept(data)
    except MalformedObject as error:
        raise StoreCorrupt("what waits to be told is not in its canonical form") from error
    if not isinstance(items, list):
        raise StoreCorrupt("what waits to be told has another form than expected")
    return items
