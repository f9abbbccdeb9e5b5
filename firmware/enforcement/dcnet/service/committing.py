"""A member's part in V-mode: asks for the order, commits with a submission, opens the blindings with it.

What is committed and when an order counts is decided by `slot.commitment`; every message is durable before
it leaves, so a resend is the same bytes and there is one opening. Spec: docs/dcnet.md, V-mode.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any, Final

from firmware.enforcement.dcnet.errors import CommitmentRefused, DcNetError, MalformedObject, NetRefused
from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.founding.membership import Membership
from firmware.enforcement.dcnet.founding.roster import Signatures
from firmware.enforcement.dcnet.messages.canonical import decode_kept, encode
from firmware.enforcement.dcnet.messages.commit import CommitOrder, CommitV, OpenV, Reason
from firmware.enforcement.dcnet.messages.conduct import seal_note
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, digest
from firmware.enforcement.dcnet.policy import TENTHS, NetRules
from firmware.enforcement.dcnet.service.client import Clock, NetClient
from firmware.enforcement.dcnet.slot.commitment import DATA_LANES, SECRET_BYTES, Work, check_order
from firmware.enforcement.dcnet.slot.ledger import Ledger, SlotEntry
from firmware.enforcement.dcnet.slot.round import Round
from firmware.enforcement.dcnet.slot.view import Head, View
from firmware.errors import StoreCorrupt
from hsm.api import SecurityModule
from hsm.errors import CertificateRefused
from wan.errors import WanError

_ORDER: Final = "v-order"
_SLOT: Final = "v-slot"
_REFUSED: Final = (WanError, CertificateRefused, DcNetError)
_WHY: Final = {
    Reason.RANGE: "a total was impossible",
    Reason.MISFIT: "commitments did not fit a total",
    Reason.DEMAND: "on demand",
}

Apart = Callable[[Callable[[], CommitV]], Awaitable[CommitV]]
"""Does a long computation where it holds nobody up; `asyncio.to_thread` is one."""


async def at_once(work: Callable[[], CommitV]) -> CommitV:
    """Do it here and now."""
    return work()


@dataclass(frozen=True, slots=True)
class _Kept:
    """The messages of the newest slot with commitments, as they may leave."""

    slot: int
    submission: bytes
    signed: bytes = field(repr=False)
    """`CommitV`, signed."""
    manifest_hash: bytes = b""
    opened: bytes = field(default=b"", repr=False)
    """`OpenV` with its MAC."""


class Committing:
    """V-mode of one net's member.

    Args:
        rules: the policy the administrator signed.
        client: the way to the net's EMP.
        ledger: keeps what is about to leave.
        signatures: checks the order, signs the commitments.
        module: draws the blindings.
        clock: the gateway's.
        apart: where the proof is computed.
        tell: takes what the logs are told.
        log: diagnostics.

    Raises:
        NetRefused: the policy knows V-mode and this installation has no libsodium for it.
    """

    def __init__(
        self,
        rules: NetRules,
        *,
        client: NetClient,
        ledger: Ledger,
        signatures: Signatures,
        module: SecurityModule,
        clock: Clock,
        apart: Apart,
        tell: Callable[[NetEventKind, int | None, int, str], Awaitable[None]],
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        if rules.v_slots and find_spec("nacl") is None:
            raise NetRefused("v_slots needs PyNaCl, which is not installed (extra vmode); or set v_slots = 0")
        self._rules, self._client, self._ledger, self._signatures = rules, client, ledger, signatures
        self._module, self._clock, self._apart, self._tell, self._log = module, clock, apart, tell, log

    async def wanted(self, membership: Membership, slot: int) -> bool:
        """Tell whether commitments are ordered for a slot that is about to be submitted.

        A known order is not asked for again. A new one is durable, and in the logs, before it is followed.
        """
        if not self._rules.v_slots:
            return False
        version = membership.roster.version
        known = await self._ordered()
        if known is not None and known.version == version and known.covers(slot):
            return True
        if not (signed := await self._asked(slot)):
            return False
        try:
            order = CommitOrder.from_bytes(await self._signatures.by_emp(signed))
            check_order(self._rules, version, slot, order)
        except _REFUSED as error:
            await self._tell(NetEventKind.REFUSED, None, 0, f"V-mode in slot {slot}: {error}")
            return False
        await self._ledger.keep(_ORDER, encode([order.to_bytes(), signed]))
        last = order.first_slot + order.slots - 1
        reason = f"ordered for slots {order.first_slot} to {last}: {_WHY[order.reason]}"
        await self._tell(NetEventKind.V_MODE, slot, 0, reason)
        return True

    async def _asked(self, slot: int) -> bytes:
        """Return the order for a slot; nothing if there is none, or if nobody says so while there is time."""
        while (signed := await self._client.commit_order(slot)) is None:
            await self._client.pause()
            if self._clock.now_utc() >= self._rules.measure_until(slot):
                return b""
        return signed

    async def commit(
        self,
        membership: Membership,
        view: View,
        head: Head,
        slot: int,
        *,
        reading: Sequence[int],
        seed: bytes,
        frame: bytes,
    ) -> None:
        """Commit to a submission that has not left yet; durable on return.

        Args:
            membership: of this net.
            view: what this member knows.
            head: the chain before the slot.
            slot: of the net's grid.
            reading: one number per lane, the canary included.
            seed: of the slot's self-mask.
            frame: the Submit frame with its MAC.

        Raises:
            CommitmentRefused: a value lies outside the range that would have to be proven.
        """
        if any(not 0 <= value <= self._rules.max_wh * TENTHS for value in reading[:DATA_LANES]):
            raise CommitmentRefused("range", "the value lies outside the policy's range")
        name, secret = digest(frame[:-MAC_BYTES]), await self._module.random(SECRET_BYTES)
        work = Work(view, head, membership.roster_hash, slot, reading[:DATA_LANES], seed, name, secret)
        said = await self._apart(work.commit)
        await self._keep(_Kept(slot, name, await self._signatures.sign(said.to_bytes())))

    async def send(self, view: View, entry: SlotEntry) -> None:
        """Send the commitments of a submission, if it has any, until they are taken or D1 is over."""
        if (kept := await self._of(entry)) is not None:
            until = self._rules.submit_until(entry.slot)
            await self._client.deliver("commitv", entry.slot, view.index, kept.signed, until)

    async def prepare_opening(self, membership: Membership, current: Round, entry: SlotEntry) -> None:
        """Keep what opens the blindings; to be called between acceptance and opening."""
        if (kept := await self._of(entry)) is None:
            return
        assert current.found is not None
        place = (self._rules.net, membership.roster.version, entry.slot, membership.index)
        said = OpenV(*place, current.found.hash, current.blindings(DATA_LANES))
        sealed = seal_note(said.to_bytes(), membership.mac_key)
        await self._keep(replace(kept, manifest_hash=said.manifest_hash, opened=sealed))

    async def send_opening(self, view: View, entry: SlotEntry) -> None:
        """Send what opens the blindings of a slot whose opening is in the ledger, until D3."""
        kept = await self._of(entry)
        if kept is not None and kept.opened and kept.manifest_hash == entry.manifest_hash:
            until = self._rules.open_until(entry.slot)
            await self._client.deliver("openv", entry.slot, view.index, kept.opened, until)

    async def describe(self) -> dict[str, Any] | None:
        """Return the newest order, for people who look; None if there was none."""
        if (order := await self._ordered()) is None:
            return None
        last = order.first_slot + order.slots - 1
        return {"first_slot": order.first_slot, "last_slot": last, "reason": _WHY[order.reason]}

    async def _ordered(self) -> CommitOrder | None:
        if (data := await self._ledger.kept(_ORDER)) is None:
            return None
        try:
            order, _signed = _array(data, 2)
            return CommitOrder.from_bytes(order)
        except MalformedObject as error:
            raise StoreCorrupt("the order of V-mode has another form than expected") from error

    async def _of(self, entry: SlotEntry) -> _Kept | None:
        """Return what is kept for this very submission; what was made for another one never leaves."""
        if not self._rules.v_slots or (data := await self._ledger.kept(_SLOT)) is None:
            return None
        try:
            kept = _Kept(*_array(data, 5))
        except MalformedObject as error:
            raise StoreCorrupt("the commitments of a slot have another form than expected") from error
        mine = (entry.slot, digest(entry.submitted[:-MAC_BYTES]))
        return kept if (kept.slot, kept.submission) == mine else None

    async def _keep(self, kept: _Kept) -> None:
        fields = [kept.slot, kept.submission, kept.signed, kept.manifest_hash, kept.opened]
        await self._ledger.keep(_SLOT, encode(fields))


def _array(data: bytes, count: int) -> list[Any]:
    items = decode_kept(data)
    if not isinstance(items, list) or len(items) != count:
        raise MalformedObject(f"an array of {count} fields was expected")
    return items
