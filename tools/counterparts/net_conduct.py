"""How a supplier behaves beside the slots: calendar, receipts, refusals, rates, digests, outages.

Shares the codecs of the product and none of its checks.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from aiohttp import ClientError
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from firmware.enforcement.dcnet.errors import DcNetError
from firmware.enforcement.dcnet.messages.conduct import (
    Calendar,
    CalendarPublication,
    Receipt,
    ReceiptDay,
    RefusalNotice,
    SlotDigest,
    Taken,
)
from firmware.enforcement.dcnet.messages.frames import HEADER_BYTES, MAC_BYTES
from firmware.enforcement.dcnet.messages.manifest import Verdict
from firmware.enforcement.dcnet.messages.reports import (
    MemberRate,
    OutagePublication,
    Rates,
    RatesReport,
    Statement,
)
from firmware.enforcement.dcnet.messages.roster import Attestation, SignedBundle
from firmware.enforcement.dcnet.policy import NetRules
from tools.counterparts.messages import MessageRefused
from tools.counterparts.net_founding import CoordinatorKeys
from tools.counterparts.net_tally import Taken as Outcome
from tools.counterparts.net_tally import Tally, Terms
from tools.counterparts.server import Emit
from wan.errors import WanError

_KEPT_EPOCHS: Final = 3
KEPT_SLOTS: Final = 256
"""Words about older slots, or about those to come, are not taken."""
_MAX_DIGEST_BYTES: Final = 1 << 20
_DAY_S: Final = 86400
_EPOCH_ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TAKEN: Final = {
    Outcome.NEW: Taken.ACCEPTED,
    Outcome.KNOWN: Taken.DUPLICATE,
    Outcome.CONFLICT: Taken.CONFLICT,
    Outcome.LATE: Taken.LATE,
}


class Overseer(Protocol):
    """One administrator as the supplier tells and asks it; raises `WanError`, `OSError` or `ClientError`."""

    async def rates(self, report: bytes) -> bytes:
        """Take a `RatesReport`."""

    async def outage(self, version: int, slot: int) -> bytes:
        """Return an `Attestation` of an `OutageNotice` for a slot."""


def calendar_of(
    rules: NetRules, first_slot: int, slots: int, blocked: Iterable[tuple[int, int]], jitter_ms: int = 0
) -> Calendar:
    """Return the calendar of a net's own grid."""
    t0_ms = (rules.t0_utc - _EPOCH_ZERO) // timedelta(milliseconds=1)
    return Calendar(rules.net, rules.slot_s, t0_ms, first_slot, slots, tuple(blocked), jitter_ms)


class NetConduct:
    """Beside the slots of one net.

    Args:
        rules: of the net.
        keys: the supplier's.
        emit: takes events.
        calendars: what is blocked; never changed afterwards.
        overseers: the administrators by their names, in the roster's order.
        report_slots: after so many slots the administrators are told how often each member took part.
        compare: holds a member's digest (also as it signed it) against what else it has signed.
    """

    def __init__(
        self,
        rules: NetRules,
        keys: CoordinatorKeys,
        emit: Emit,
        *,
        calendars: Sequence[Calendar] = (),
        overseers: Mapping[str, Overseer] | None = None,
        report_slots: int | None = None,
        compare: Callable[[SlotDigest, bytes], Awaitable[bool]] | None = None,
    ) -> None:
        self._rules, self._keys, self._emit, self._compare = rules, keys, emit, compare
        self._net = rules.net.hex()
        self._calendars = tuple(calendars) if rules.calendar else ()
        self._overseers = overseers or {}
        self._report_slots = report_slots or max(1, _DAY_S // rules.slot_s)
        self._terms: Terms | None = None
        self._published: bytes | None = None
        self._receipts: dict[int, dict[int, dict[int, tuple[bytes, Taken]]]] = {}
        """Epoch -> index -> slot -> what was done with which submission."""
        self._opened: dict[int, dict[int, dict[int, bytes]]] = {}
        """Epoch -> index -> slot -> digest of the Open."""
        self._refusals: dict[int, dict[int, str]] = {}
        """Slot -> index -> why it does not open."""
        self._digests: dict[tuple[int, int], bytes] = {}
        self._ends: dict[int, bytes] = {}
        self._outages: dict[int, bytes] = {}
        self._chain: list[bytes] = []
        self._counted: dict[str, Counter[int]] = {}
        self._span: list[int] = []
        self.latest = -1
        """The slot that was begun last."""
        self._telling: set[asyncio.Task[None]] = set()
        self.disagreements: dict[tuple[int, int], list[int]] = {}
        """(epoch, index) -> slots in which a member's digest names other frames than we hold."""

    def begin(self, terms: Terms) -> None:
        """A roster is in force."""
        self._terms = terms
        self._fresh()

    def _fresh(self) -> None:
        self._counted = {what: Counter() for what in ("expected", "submitted", "opened", "refused")}
        self._span = []

    # -- calendar ------------------------------------------------------------------------------------

    def blocked(self, slot: int) -> bool:
        """Tell whether a slot has no sum."""
        return any(first <= slot <= last for one in self._calendars for first, last in one.blocked)

    async def publication(self) -> bytes | None:
        """Return what members get at `calendar`."""
        if self._published is None and self._calendars:
            signed = [await self._keys.sign(one.to_bytes()) for one in self._calendars]
            self._published = CalendarPublication(tuple(signed)).to_bytes()
        return self._published

    # -- receipts ------------------------------------------------------------------------------------

    def receipt(self, index: int, slot: int, sealed: bytes, outcome: Outcome) -> bytes:
        """Return the receipt for a Submit, sealed; empty for what is no submission of this roster."""
        if self._terms is None or outcome not in _TAKEN or len(sealed) <= HEADER_BYTES + MAC_BYTES:
            return b""  # as long as a Hello, or shorter
        name, taken = hashlib.sha256(sealed[:-MAC_BYTES]).digest(), _TAKEN[outcome]
        if self._recent(slot):
            day = self._receipts.setdefault(self._rules.epoch_of(slot), {}).setdefault(index, {})
            day.setdefault(slot, (name, taken))
        return self._sealed(index, slot, name, taken)

    def again(self, index: int, slot: int) -> bytes | None:
        """Return the receipt of a slot once more."""
        known = self._receipts.get(self._rules.epoch_of(slot), {}).get(index, {}).get(slot)
        return None if known is None else self._sealed(index, slot, *known)

    def _recent(self, slot: int) -> bool:
        return self.latest - KEPT_SLOTS < slot <= self.latest

    def _sealed(self, index: int, slot: int, name: bytes, taken: Taken) -> bytes:
        assert self._terms is not None
        body = Receipt(self._rules.net, self._terms.version, slot, index, name, taken).to_bytes()
        mac = CMAC(AES(self._terms.mac_keys[index]))
        mac.update(body)
        return body + mac.finalize()

    async def receipts(self, epoch: int, index: int) -> bytes | None:
        """Return the signed list of a member's receipts of an epoch."""
        day = self._receipts.get(epoch, {}).get(index)
        if day is None or self._terms is None:
            return None
        rows = tuple((slot, name, taken) for slot, (name, taken) in sorted(day.items()))
        return await self._keys.sign(
            ReceiptDay(self._rules.net, self._terms.version, epoch, index, rows).to_bytes()
        )

    def opened(self, index: int, slot: int, sealed: bytes) -> None:
        """Note an Open that was taken."""
        day = self._opened.setdefault(self._rules.epoch_of(slot), {}).setdefault(index, {})
        day[slot] = hashlib.sha256(sealed[:-MAC_BYTES]).digest()

    # -- refusals ------------------------------------------------------------------------------------

    def refusal(self, index: int, slot: int, sealed: bytes) -> bool:
        """Take a member's reason why it does not open; False if it is not its word about this slot."""
        if self._terms is None or not MAC_BYTES < len(sealed) <= 1024 or not self._recent(slot):
            return False
        mac = CMAC(AES(self._terms.mac_keys[index]))
        mac.update(sealed[:-MAC_BYTES])
        try:
            mac.verify(sealed[-MAC_BYTES:])
            said = RefusalNotice.from_bytes(sealed[:-MAC_BYTES])
        except (InvalidSignature, DcNetError):
            return False
        meant = (self._rules.net, self._terms.version, slot, index)
        if (said.net, said.version, said.slot, said.index) != meant:
            return False
        known = self._refusals.setdefault(slot, {})
        if index not in known:
            known[index] = said.refusal.value
            self._counted["refused"][index] += 1
            event = {"event": "refusal", "net": self._net, "slot": slot, "index": index}
            self._emit(event | {"code": said.refusal.value, "refusals": len(known)})
        return True

    # -- the day's digest ----------------------------------------------------------------------------

    async def digest(self, index: int, epoch: int, gateway: str, body: bytes) -> bool:
        """Take a member's signed digest of an epoch and compare it; False if it is no such thing."""
        if len(body) > _MAX_DIGEST_BYTES or self._terms is None:
            return False
        try:
            stated = Statement.from_bytes(body)
            signer, content = await self._keys.open_bundle(SignedBundle(stated.certificate, stated.signed))
            said = SlotDigest.from_bytes(content)
        except (DcNetError, MessageRefused):
            return False
        meant = (self._rules.net, self._terms.version, index, epoch)
        today = self._rules.epoch_of(self.latest)
        if (
            signer != gateway
            or not today - _KEPT_EPOCHS < epoch <= today
            or (said.net, said.version, said.index, said.epoch) != meant
        ):
            return False
        name = hashlib.sha256(content).digest()
        if (known := self._digests.get((epoch, index))) is not None:
            return known == name
        self._digests[epoch, index] = name
        mine = self._receipts.get(epoch, {}).get(index, {})
        opened = self._opened.get(epoch, {}).get(index, {})
        other = [
            one.slot
            for one in said.frames
            if (one.slot in mine and mine[one.slot][0] != one.submitted)
            or (one.slot in opened and opened[one.slot] != one.opened)
        ]
        told = {one.slot for one in said.frames}
        other += sorted(slot for slot in mine if slot not in told)
        broken = said.before != self._ends.get(index, bytes(32))
        self._ends[index] = said.chained
        self.disagreements[epoch, index] = other
        event = {"event": "digest", "net": self._net, "epoch": epoch, "gateway": gateway}
        self._emit(event | {"slots": len(said.frames), "differs": other, "chain_broken": broken})
        if self._compare is not None and await self._compare(said, stated.signed):
            self._emit({"event": "two accounts", "net": self._net, "epoch": epoch, "gateway": gateway})
        return True

    # -- rates ---------------------------------------------------------------------------------------

    def epoch(self, signed: bytes) -> None:
        """A chain begins with this signed EpochManifest."""
        self._chain.append(signed)

    async def done(self, tally: Tally, signed: bytes, verdict: Verdict) -> None:
        """A slot is over; now and then the administrators are told how often each member took part."""
        self._chain.append(signed)
        self._span.append(tally.slot)
        self._counted["expected"].update(tally.present)
        self._counted["submitted"].update(tally.accepted)
        self._counted["opened"].update(tally.accepted if verdict is Verdict.TOTALLED else tally.opened)
        old = self._rules.epoch_of(tally.slot) - _KEPT_EPOCHS
        for kept in (self._receipts, self._opened):
            kept.pop(old, None)
        self._refusals.pop(tally.slot - KEPT_SLOTS, None)
        self._outages.pop(tally.slot - KEPT_SLOTS, None)
        if len(self._span) >= self._report_slots:
            report = await self._report()
            task = asyncio.get_running_loop().create_task(self._tell(report))
            self._telling.add(task)  # the next slot does not wait for the administrators
            task.add_done_callback(self._telling.discard)

    async def _report(self) -> bytes:
        assert self._terms is not None
        rows = tuple(
            MemberRate(
                index,
                *(self._counted[what][index] for what in ("expected", "submitted", "opened", "refused")),
            )
            for index in range(1, self._terms.size + 1)
        )
        rates = Rates(self._rules.net, self._terms.version, self._span[0], self._span[-1], rows)
        report = RatesReport(await self._keys.sign(rates.to_bytes()), tuple(self._chain)).to_bytes()
        self._chain = self._chain[-1:]
        self._fresh()
        return report

    async def _tell(self, report: bytes) -> None:
        for name, one in self._overseers.items():
            try:
                await one.rates(report)
            except (WanError, OSError, ClientError) as error:
                self._refused(name, "rates", error)

    # -- outages -------------------------------------------------------------------------------------

    async def ask_outage(self, slot: int) -> None:
        """Ask every administrator for an outage notice, and publish it if all give one."""
        assert self._terms is not None
        found = []
        for name, one in self._overseers.items():
            try:
                found.append(Attestation.from_bytes(await one.outage(self._terms.version, slot)))
            except (WanError, OSError, ClientError, DcNetError) as error:
                self._refused(name, "outage", error)
                return
        if found:
            self._outages[slot] = OutagePublication(tuple(found)).to_bytes()
            self._emit({"event": "outage", "net": self._net, "slot": slot})

    def outage(self, slot: int) -> bytes | None:
        """Return what members get at `outage/{slot}`."""
        return self._outages.get(slot)

    def _refused(self, name: str, what: str, error: Exception) -> None:
        said: dict[str, Any] = {"event": "refused", "net": self._net, "what": what, "administrator": name}
        self._emit(said | {"reason": str(error)})


async def settle(task: asyncio.Task[None] | None) -> None:
    """End a task that may have outlived its use."""
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task])
