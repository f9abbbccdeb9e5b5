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
from firmware.enforcement.dcnet.messages.canonical import decode, encode
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
from tools.counterparts.net_journal import Journal, JournalForeign, Room
from tools.counterparts.net_tally import Taken as Outcome
from tools.counterparts.net_tally import Tally, Terms
from tools.counterparts.server import Emit
from wan.errors import WanError

_KEPT_EPOCHS: Final = 3
KEPT_SLOTS: Final = 256
"""Words about older slots, or about those to come, are not taken."""
_MAX_DIGEST_BYTES: Final = 1 << 20
_DAY_S: Final = 86400
_COUNTED: Final = ("expected", "submitted", "opened", "refused")
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
        journal: outlives this process.
        prefix: of the names of our rooms in it.

    Raises:
        JournalForeign: a calendar says of a slot something else than one that was published.
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
        journal: Journal | None = None,
        prefix: str = "",
        compare: Callable[[SlotDigest, bytes], Awaitable[bool]] | None = None,
    ) -> None:
        self._journal, self._prefix = journal or Journal(), prefix
        self._kept = self._journal.room(f"{prefix}conduct")
        self._rules, self._keys, self._emit, self._compare = rules, keys, emit, compare
        self._net = rules.net.hex()
        self._calendars = self._all_calendars(calendars) if rules.calendar else ()
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
        self._links = self._reports = 0
        self._fresh(keep=True)
        self._restore()

    def begin(self, terms: Terms) -> None:
        """A roster is in force."""
        self._terms, self._chain = terms, []
        self._kept.clear("chain/")
        self._fresh()

    def resume(self, terms: Terms, latest: int) -> None:
        """Go on in a roster that was in force before this process began; who was not told is told now."""
        self._terms, self.latest = terms, latest
        for number, report in self._kept.items("report/"):
            self._send(number, report)

    def _fresh(self, *, keep: bool = False) -> None:
        self._counted = {what: Counter() for what in _COUNTED}
        self._span = []
        if not keep:
            self._kept.clear("counted", "refused/")

    def _restore(self) -> None:
        if (data := self._kept.get("counted")) is not None:
            counters, self._span = _rows(data)
            for what, rows in zip(_COUNTED, counters, strict=True):
                self._counted[what].update(dict(rows))
        for member, count in self._kept.items("refused/"):
            self._counted["refused"][int(member)] = int(count)
        for number, signed in self._kept.items("chain/"):
            self._chain.append(signed)
            self._links = int(number) + 1
        self._reports = max((int(number) + 1 for number, _ in self._kept.items("report/")), default=0)
        for key, why in self._kept.items("refusal/"):
            slot, index = map(int, key.split("/"))
            self._refusals.setdefault(slot, {})[index] = why.decode()
        self._outages = {int(slot): data for slot, data in self._kept.items("outage/")}
        self._ends = {int(index): data for index, data in self._kept.items("end/")}
        for epoch in map(int, self._journal.rooms(f"{self._prefix}day/")):
            self._restore_day(epoch)

    def _restore_day(self, epoch: int) -> None:
        day = self._day(epoch)
        for key, data in day.items("taken/"):
            index, slot = map(int, key.split("/"))
            name, taken = _rows(data)
            self._receipts.setdefault(epoch, {}).setdefault(index, {})[slot] = (name, Taken(taken))
        for key, name in day.items("opened/"):
            index, slot = map(int, key.split("/"))
            self._opened.setdefault(epoch, {}).setdefault(index, {})[slot] = name
        for index_text, data in day.items("digest/"):
            name, other = _rows(data)
            self._digests[epoch, int(index_text)] = name
            self.disagreements[epoch, int(index_text)] = other

    def _day(self, epoch: int) -> Room:
        return self._journal.room(f"{self._prefix}day/{epoch}")

    # -- calendar ------------------------------------------------------------------------------------

    def blocked(self, slot: int) -> bool:
        """Tell whether a slot has no sum."""
        return any(first <= slot <= last for one in self._calendars for first, last in one.blocked)

    async def publication(self) -> bytes | None:
        """Return what members get at `calendar`."""
        if self._published is None and self._calendars:
            signed = [await self._calendar(one) for one in self._calendars]
            self._published = CalendarPublication(tuple(signed)).to_bytes()
        return self._published

    async def _calendar(self, calendar: Calendar) -> bytes:
        name, content = f"calendar/{calendar.first_slot}", calendar.to_bytes()
        if (data := self._kept.get(name)) is None:
            self._kept.put(name, data := encode([content, await self._keys.sign(content)]))
        signed: bytes = _rows(data)[1]
        return signed

    def _all_calendars(self, configured: Sequence[Calendar]) -> tuple[Calendar, ...]:
        """Return what was published before and what is new; what was said of a slot stays said."""
        said = [Calendar.from_bytes(_rows(data)[0]) for _, data in self._kept.items("calendar/")]
        for one in configured:
            for known in said:
                if one != known and one.first_slot <= known.last_slot and known.first_slot <= one.last_slot:
                    what = f"slots {known.first_slot} .. {known.last_slot} have another calendar already"
                    raise JournalForeign(what, "put it back into emp.toml, and say later slots in a new one")
        return tuple(sorted({*said, *configured}, key=lambda one: one.first_slot))

    # -- receipts ------------------------------------------------------------------------------------

    def receipt(self, index: int, slot: int, sealed: bytes, outcome: Outcome) -> bytes:
        """Return the receipt for a Submit, sealed; empty for what is no submission of this roster."""
        if self._terms is None or outcome not in _TAKEN or len(sealed) <= HEADER_BYTES + MAC_BYTES:
            return b""  # as long as a Hello, or shorter
        name, taken = hashlib.sha256(sealed[:-MAC_BYTES]).digest(), _TAKEN[outcome]
        if self._recent(slot):
            epoch = self._rules.epoch_of(slot)
            day = self._receipts.setdefault(epoch, {}).setdefault(index, {})
            if slot not in day:
                day[slot] = (name, taken)
                self._day(epoch).put(f"taken/{index}/{slot}", encode([name, int(taken)]))
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
        epoch = self._rules.epoch_of(slot)
        day = self._opened.setdefault(epoch, {}).setdefault(index, {})
        day[slot] = hashlib.sha256(sealed[:-MAC_BYTES]).digest()
        self._day(epoch).put(f"opened/{index}/{slot}", day[slot])

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
            self._kept.put(f"refused/{index}", str(self._counted["refused"][index]).encode())
            self._kept.put(f"refusal/{slot}/{index}", said.refusal.value.encode())
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
        self._kept.put(f"end/{index}", said.chained)
        self._day(epoch).put(f"digest/{index}", encode([name, other]))
        event = {"event": "digest", "net": self._net, "epoch": epoch, "gateway": gateway}
        self._emit(event | {"slots": len(said.frames), "differs": other, "chain_broken": broken})
        if self._compare is not None and await self._compare(said, stated.signed):
            self._emit({"event": "two accounts", "net": self._net, "epoch": epoch, "gateway": gateway})
        return True

    # -- rates ---------------------------------------------------------------------------------------

    def epoch(self, signed: bytes) -> None:
        """A chain begins with this signed EpochManifest."""
        self._link(signed)

    def _link(self, signed: bytes) -> None:
        self._chain.append(signed)
        self._kept.put(f"chain/{self._links:010d}", signed)
        self._links += 1

    async def done(self, tally: Tally, signed: bytes, verdict: Verdict) -> None:
        """A slot is over; now and then the administrators are told how often each member took part."""
        self.note(tally, signed, verdict)
        await self.report()

    def note(self, tally: Tally, signed: bytes, verdict: Verdict) -> None:
        """Count a slot that is over, and forget old ones."""
        self._link(signed)
        self._span.append(tally.slot)
        self._counted["expected"].update(tally.present)
        self._counted["submitted"].update(tally.accepted)
        self._counted["opened"].update(tally.accepted if verdict is Verdict.TOTALLED else tally.opened)
        counters = [[[*row] for row in sorted(self._counted[what].items())] for what in _COUNTED[:3]]
        self._kept.put("counted", encode([[*counters, []], self._span]))
        self._forget(tally.slot)

    def _forget(self, slot: int) -> None:
        old = self._rules.epoch_of(slot) - _KEPT_EPOCHS
        for epoch in {*self._receipts, *self._opened, *(epoch for epoch, _ in self._digests)}:
            if epoch <= old:
                self._receipts.pop(epoch, None)
                self._opened.pop(epoch, None)
                self._day(epoch).clear()
        self._digests = {key: name for key, name in self._digests.items() if key[0] > old}
        self.disagreements = {key: found for key, found in self.disagreements.items() if key[0] > old}
        for one in [one for one in self._refusals if one <= slot - KEPT_SLOTS]:
            del self._refusals[one]
            self._kept.clear(f"refusal/{one}/")
        for one in [one for one in self._outages if one <= slot - KEPT_SLOTS]:
            del self._outages[one]
            self._kept.drop(f"outage/{one}")

    async def report(self) -> None:
        """Tell the administrators how often each member took part, if it is time to."""
        if len(self._span) >= self._report_slots:
            report, number = await self._report(), f"{self._reports:010d}"
            self._reports += 1
            self._kept.put(f"report/{number}", report)
            self._send(number, report)

    def _send(self, number: str, report: bytes) -> None:
        task = asyncio.get_running_loop().create_task(self._tell(number, report))
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
        for number in range(self._links - len(self._chain), self._links - 1):
            self._kept.drop(f"chain/{number:010d}")
        self._chain = self._chain[-1:]
        self._fresh()
        return report

    async def _tell(self, number: str, report: bytes) -> None:
        for name, one in self._overseers.items():
            try:
                await one.rates(report)
            except (WanError, OSError, ClientError) as error:
                self._refused(name, "rates", error)
        self._kept.drop(f"report/{number}")

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
            self._kept.put(f"outage/{slot}", self._outages[slot])
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


def _rows(data: bytes) -> list[Any]:
    items = decode(data)
    assert isinstance(items, list), "our own record"
    return items
