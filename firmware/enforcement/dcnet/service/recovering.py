"""A member's part in recovering others: follows one co-signed order a slot and sends the shares it holds.

The order is durable before a share is computed, so that a restart knows a second one for a lie.
What may be given is decided by `slot.recovery`. Spec: docs/dcnet.md, members lost after the manifest.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from firmware.enforcement.dcnet.errors import Equivocation, MalformedObject, ReleaseOfShareRefused
from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.founding.membership import Membership
from firmware.enforcement.dcnet.founding.roster import Signatures
from firmware.enforcement.dcnet.messages.canonical import decode_kept, encode
from firmware.enforcement.dcnet.messages.faults import RecoveryOrder
from firmware.enforcement.dcnet.messages.frames import seal
from firmware.enforcement.dcnet.messages.witnessed import OrderReply
from firmware.enforcement.dcnet.policy import NetRules, Recovery
from firmware.enforcement.dcnet.service.client import Clock, NetClient
from firmware.enforcement.dcnet.service.witnessing import content_of
from firmware.enforcement.dcnet.slot.chain import ManifestChain
from firmware.enforcement.dcnet.slot.ledger import Ledger
from firmware.enforcement.dcnet.slot.opened import OpenedSlot
from firmware.enforcement.dcnet.slot.round import Round
from firmware.enforcement.dcnet.slot.view import View
from firmware.errors import StoreCorrupt

_ORDER: Final = "order"
_RECOVERED: Final = "recovered"
_REMEMBERED: Final = 96
"""So many of the newest slots in which shares were given are remembered."""


class Recovering:
    """Gives shares for lost members of one net.

    Args:
        rules: the policy the administrator signed.
        client: the way to the net's EMP.
        ledger: keeps the order.
        chain: takes the proof, if there is a second one.
        signatures: checks the control plane.
        clock: the gateway's.
        tell: takes what the logs are told: (kind, slot, number of shares, reason).
        log: diagnostics.
    """

    def __init__(
        self,
        rules: NetRules,
        *,
        client: NetClient,
        ledger: Ledger,
        chain: ManifestChain,
        signatures: Signatures,
        clock: Clock,
        tell: Callable[[NetEventKind, int | None, int, str], Awaitable[None]],
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self._rules, self._client, self._ledger, self._chain = rules, client, ledger, chain
        self._signatures, self._clock, self._tell, self._log = signatures, clock, tell, log
        self._followed: tuple[int, bytes] | None = None
        self._refused = -1

    async def follow(self, membership: Membership, view: View, slot: int) -> None:
        """Ask for an order, once; give the shares it asks for. Call it again until the slot has a result.

        Raises:
            Equivocation: another order was followed for this slot before, also before a restart.
            WanError, CertificateRefused, DcNetError: the order is refused; the next one may be good.
        """
        if self._rules.recovery is not Recovery.WITNESS or self._late(slot):
            return
        opened = await OpenedSlot.kept(self._ledger)
        if opened is None or opened.slot != slot:
            return
        if (reply := await self._client.order(slot, view.index)) is None:
            return
        content = await content_of(self._rules, membership.roster, self._signatures, reply.order)
        order = RecoveryOrder.from_bytes(content)
        if self._followed == (slot, content):
            return  # every share of this order was taken
        before, envelope = await self._kept(slot)
        current = Round.opened(view, opened.head, opened.link(view), before)
        try:
            current.follow(order)
        except Equivocation as lie:
            raise await self._chain.accuse(slot, envelope, reply.order) from lie
        except ReleaseOfShareRefused as refused:
            if self._refused != slot:
                self._refused = slot
                await self._tell(NetEventKind.REFUSED, None, 0, f"recovery of slot {slot}: {refused}")
            return
        if before is None:
            await self._ledger.keep(_ORDER, encode([slot, content, reply.order]))
        await self._give(membership, view, current, order, reply)
        self._followed = (slot, content)

    async def recovered(self) -> list[tuple[int, int]]:
        """Return (slot, number of shares) of the newest slots in which this member helped."""
        if (data := await self._ledger.kept(_RECOVERED)) is None:
            return []
        return [(slot, count) for slot, count in _decode(data)]

    async def _give(
        self, membership: Membership, view: View, current: Round, order: RecoveryOrder, reply: OrderReply
    ) -> None:
        slot, given = current.slot, 0
        for one in reply.lost:
            if self._late(slot):
                return
            try:
                body = current.release(order, one.index, one.submitted, one.siblings)
            except ReleaseOfShareRefused as refused:
                self._log.info("slot %d: no share of member %d: %s", slot, one.index, refused)
                continue
            frame, until = seal(body, membership.mac_key), self._rules.final_until(slot)
            resource = f"{slot}/{view.index}/{one.index}"
            given += await self._client.deliver_to(f"share/{resource}", frame, until)
        if given:
            known = [entry for entry in await self.recovered() if entry[0] != slot]
            await self._ledger.keep(
                _RECOVERED, encode([[*e] for e in [*known, (slot, given)][-_REMEMBERED:]])
            )
            await self._tell(NetEventKind.RECOVERED, slot, given, "shares for lost members were given")

    def _late(self, slot: int) -> bool:
        return self._clock.now_utc() >= self._rules.final_until(slot)

    async def _kept(self, slot: int) -> tuple[RecoveryOrder | None, bytes]:
        """Return the order followed for a slot, and its signed form. Raises `StoreCorrupt`."""
        if (data := await self._ledger.kept(_ORDER)) is None:
            return None, b""
        kept, content, envelope = _decode(data)
        return (RecoveryOrder.from_bytes(content), envelope) if kept == slot else (None, b"")


def _decode(data: bytes) -> Any:
    try:
        return decode_kept(data)
    except MalformedObject as error:
        raise StoreCorrupt("a record of recovery is not in its canonical form") from error
