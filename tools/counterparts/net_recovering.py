"""The supplier under witnesses: has its documents co-signed, orders who is lost, combines shares.

Shares the codecs of the product and none of its checks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from aiohttp import ClientError

from firmware.enforcement.dcnet.errors import DcNetError
from firmware.enforcement.dcnet.messages.documents import Document, document_hash, from_bitmap
from firmware.enforcement.dcnet.messages.frames import FrameType
from firmware.enforcement.dcnet.messages.roster import Attestation
from firmware.enforcement.dcnet.messages.witnessed import LostMember, OrderReply, Witnessed
from firmware.enforcement.dcnet.policy import NetRules, Recovery
from tools.counterparts.messages import MessageRefused
from tools.counterparts.net_founding import CoordinatorKeys
from tools.counterparts.net_recovery import order_for, recoverable, seed_of
from tools.counterparts.net_slot_book import SlotBook
from tools.counterparts.net_tally import Taken, Tally
from tools.counterparts.server import Emit
from wan.errors import WanError


class CosigningAdministrator(Protocol):
    """One administrator as the supplier asks it; raises `WanError`, `OSError` or `ClientError`."""

    async def cosign(self, signed: bytes) -> bytes:
        """Return an `Attestation` of the content of what the supplier has signed."""


class Recovering:
    """One net's supplier under its witnesses.

    Args:
        rules: of the net.
        keys: the supplier's.
        administrators: by their names, in the order of the roster.
        emit: takes events.
        now_utc: the supplier's clock.
        book: keeps orders and shares.
    """

    def __init__(
        self,
        rules: NetRules,
        keys: CoordinatorKeys,
        administrators: Mapping[str, CosigningAdministrator],
        emit: Emit,
        now_utc: Callable[[], datetime],
        book: SlotBook | None = None,
    ) -> None:
        self._book = book or SlotBook()
        self._rules, self._keys, self._emit, self._now_utc = rules, keys, emit, now_utc
        self.begin(administrators)
        self._told: set[str] = set()
        self._tally: Tally | None = None
        self._order = b""
        self._given: dict[int, dict[int, bytes]] = {}
        self._shared = asyncio.Event()

    def begin(self, administrators: Mapping[str, CosigningAdministrator]) -> None:
        """Another roster is played: these are its administrators, by their names."""
        self._administrators = dict(sorted(administrators.items()))

    @property
    def witnessed(self) -> bool:
        """Whether the net has witnesses."""
        return self._rules.recovery is Recovery.WITNESS

    def signed(self, envelope: bytes) -> bytes:
        """Return what we signed in an envelope of ours."""
        return Witnessed.from_bytes(envelope).signed if self.witnessed else envelope

    async def envelope(
        self, document: Document, until: datetime | None = None, signed: bytes = b""
    ) -> bytes | None:
        """Sign a document and, where there are witnesses, have every one of them co-sign it.

        Args:
            document: a manifest or an order.
            until: when to give up; None: ask for ever, since the chain cannot go on without it.
            signed: what we signed of it before; empty: nothing yet.

        Returns:
            What members get, None if it could not be had in time.
        """
        signed = signed or await self._keys.sign(document.to_bytes())
        if not self.witnessed:
            return signed
        given: list[Attestation] = []
        for name in self._administrators:
            if (one := await self._cosigned(name, document, signed, until)) is None:
                return None
            given.append(one)
        self._told.clear()
        return Witnessed(signed, tuple(given)).to_bytes()

    async def _cosigned(
        self, name: str, document: Document, signed: bytes, until: datetime | None
    ) -> Attestation | None:
        while until is None or self._now_utc() < until:
            try:
                attestation = Attestation.from_bytes(await self._administrators[name].cosign(signed))
                if await self._keys.open_attestation(attestation) == document.to_bytes():
                    return attestation
                reason = "it signed something else"
            except (WanError, OSError, ClientError, DcNetError, MessageRefused) as error:
                reason = str(error)
            if f"{name} {reason}" not in self._told:
                self._told.add(f"{name} {reason}")
                net = self._rules.net.hex()
                self._emit({"event": "refused", "net": net, "what": f"cosign by {name}", "reason": reason})
            await asyncio.sleep(min(1.0, self._rules.poll_ms / 1000))
        return None

    # -- members lost after the manifest ----------------------------------------------------------------

    async def recover(self, tally: Tally, adjacent: Mapping[int, frozenset[int]]) -> None:
        """Order and combine the self-masks of who has not opened, until D4; the tally takes what comes."""
        assert tally.manifest is not None
        terms, rules, lost = tally.terms, self._rules, tally.lost
        until = rules.final_until(tally.slot)
        if (kept := self._book.order(tally.slot)) is None:
            absent = tally.present - frozenset(tally.accepted)
            if not self.witnessed or not recoverable(lost, absent, adjacent, rules.f_max):
                return
            name = document_hash(tally.manifest)
            order = order_for(terms.net, terms.version, tally.slot, name, lost, terms.size)
            signed = await self._keys.sign(order.to_bytes())
            self._book.keep_order(order, signed)
        else:  # before this process began: there is no other one
            order, signed = kept
            lost = from_bitmap(order.lost, terms.size)
        room = self._book.room(tally.slot)
        if (envelope := room.get("order-envelope")) is None:
            if (envelope := await self.envelope(order, until, signed)) is None:
                return
            room.put("order-envelope", envelope)
        tally.ordered()
        self._given = {member: self._book.shares(tally.slot, member) for member in lost}
        self._tally, self._order = tally, envelope
        event = {"net": rules.net.hex(), "slot": tally.slot}
        if kept is None:
            self._emit({"event": "recovery ordered", "lost": sorted(lost)} | event)
        while not self._combined(tally, event) and (left_s := (until - self._now_utc()).total_seconds()) > 0:
            self._shared.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._shared.wait()
            except TimeoutError:
                break
        self._combined(tally, event, final=True)
        self._tally, self._order = None, b""

    def _combined(self, tally: Tally, event: Mapping[str, object], *, final: bool = False) -> bool:
        """Combine what is here; with every holder's share, or at the end with those that came."""
        for member in sorted(tally.lost & self._given.keys()):
            dealt, given = tally.frames[member].shares, self._given[member]
            waiting = {holder for holder, _ in dealt} - self._given.keys() - given.keys()
            if waiting and not final:
                continue
            found = seed_of(dealt, given, self._rules.threshold)
            if found is None:
                continue
            seed, wrong = found
            tally.recovered(member, seed)
            self._book.recovered(tally.slot, member, seed)
            said = {"member": member, "shares": len(given), "wrong": sorted(wrong)}
            self._emit({"event": "recovered"} | said | dict(event))
        return not tally.lost

    def reply(self, slot: int, index: int) -> bytes | None:
        """Return what a holder gets: the order, and the frames of lost members that dealt it a share."""
        tally = self._tally
        if tally is None or tally.slot != slot:
            return None
        lost = tuple(
            LostMember(member, tally.frames[member].to_bytes(), tally.siblings(member))
            for member in sorted(self._given)
            if member != index and index in dict(tally.frames[member].shares)
        )
        return OrderReply(self._order, lost).to_bytes()

    def share(self, slot: int, holder: int, member: int, sealed: bytes) -> Taken:
        """Take a Share frame."""
        tally = self._tally
        if tally is None or tally.slot != slot or tally.manifest is None:
            return Taken.LATE
        frame = tally.read(holder, sealed, document_hash(tally.manifest))
        if frame is None or frame.type is not FrameType.SHARE or member not in self._given:
            return Taken.REFUSED
        ((owner, share),) = frame.shares
        if owner != member or holder not in dict(tally.frames[member].shares):
            return Taken.REFUSED
        if (known := self._given[member].get(holder)) is not None:
            return Taken.KNOWN if known == share else Taken.CONFLICT
        self._given[member][holder] = share
        self._book.keep_share(slot, member, holder, share)
        self._shared.set()
        return Taken.NEW
