"""The scripted supplier that also keeps calendars, gives receipts and takes refusals, digests and notices."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from firmware.enforcement.dcnet.messages.conduct import (
    Calendar,
    CalendarPublication,
    Receipt,
    ReceiptDay,
    RefusalNotice,
    SlotDigest,
    Taken,
    seal_note,
    unseal_note,
)
from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, digest
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, Manifest, ManifestReply, SlotResult
from firmware.enforcement.dcnet.messages.reports import (
    Complaint,
    OutageNotice,
    OutagePublication,
    Statement,
)
from firmware.enforcement.dcnet.messages.roster import Attestation, KeyBundle
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.primitives import kdf, merkle
from hsm.api import KeySlot
from tests.unit.dcnet.fake_emp import Answer, FakeEmp, World
from tests.unit.dcnet.support import attested_by, rules, signed_by
from wan.errors import PeerUnavailable


class AttentiveEmp(FakeEmp):
    """Everything that it answers can be changed by a test."""

    calendars: tuple[bytes, ...] = ()
    blocked: frozenset[int] = frozenset()

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.receipt: Callable[[Receipt], Receipt] = lambda receipt: receipt
        self.sealed: Callable[[bytes], bytes] = lambda body: body
        self.notices: Callable[[int], tuple[Attestation, ...]] = lambda slot: ()
        self.asked: list[str] = []
        self.submitted_at: dict[int, datetime] = {}
        self.refusals: list[RefusalNotice] = []
        self.digests: list[SlotDigest] = []

    async def mac_key(self) -> bytes:
        assert self.publication is not None
        bundle = KeyBundle.from_bytes(self.publication.bundles[0].signed.partition(b"|")[2])
        secret = await self.module.agree(KeySlot.WAN_ENC, bundle.point)
        return kdf.mac_key(secret, document_hash(self.roster), self.rules.net, 1)

    async def _answer(self, method: str, parts: list[str], body: bytes) -> Answer:
        self.asked.append("/".join(parts))
        match [method, *parts]:
            case ["GET", "calendar"] if self.calendars:
                return Answer(200, CalendarPublication(self.calendars).to_bytes())
            case ["GET", "outage", slot] if given := self.notices(int(slot)):
                return Answer(200, OutagePublication(given).to_bytes())
            case ["PUT", "refusal", _, "1"]:
                self.refusals.append(RefusalNotice.from_bytes(unseal_note(body, await self.mac_key())))
                return Answer(201)
            case ["PUT", "digest", _, "1"]:
                signed = Statement.from_bytes(body).signed
                assert signed.startswith(b"gw1|")
                self.digests.append(SlotDigest.from_bytes(signed.partition(b"|")[2]))
                return Answer(201)
            case ["GET", "receipt", "day", epoch, "1"]:
                rows = [(slot, digest(body[:-MAC_BYTES]), Taken.ACCEPTED) for slot, body in self._of(epoch)]
                day = ReceiptDay(self.rules.net, 1, int(epoch), 1, tuple(rows))
                return Answer(200, signed_by("emp", day.to_bytes()))
            case ["GET", "receipt", slot, "1"] if int(slot) in self.submitted:
                return Answer(200, await self._receipt(int(slot), self.submitted[int(slot)]))
            case ["GET", "manifest", "epoch", epoch]:
                return Answer(200, signed_by("emp", self.start_of(int(epoch)).to_bytes()))
            case ["PUT", "submit", slot, "1"]:
                answer = await super()._answer(method, parts, body)
                self.submitted_at.setdefault(int(slot), self.clock.now)
                if len(body) <= 80:
                    return answer
                return Answer(answer.status, await self._receipt(int(slot), body))
        return await super()._answer(method, parts, body)

    def _of(self, epoch: str) -> list[tuple[int, bytes]]:
        return [
            (s, body) for s, body in sorted(self.submitted.items()) if self.rules.epoch_of(s) == int(epoch)
        ]

    async def _receipt(self, slot: int, body: bytes) -> bytes:
        made = Receipt(self.rules.net, 1, slot, 1, digest(body[:-MAC_BYTES]), Taken.ACCEPTED)
        return self.sealed(seal_note(self.receipt(made).to_bytes(), await self.mac_key()))

    # -- a chain that leaps over blocked slots and begins anew with each epoch

    def start_of(self, epoch: int) -> EpochManifest:
        slot = self.first_slot
        while self.rules.epoch_of(slot) < epoch or slot in self.blocked:
            slot += 1
        everybody = to_bitmap(range(1, self.size + 1), self.size)
        return EpochManifest(self.rules.net, 1, document_hash(self.roster), epoch, slot, everybody)

    def _before(self, slot: int) -> int:
        slot -= 1
        while slot in self.blocked:
            slot -= 1
        return slot

    async def _manifest(self, slot: int) -> Answer:
        if slot in self.blocked:
            return Answer(404)
        if slot not in self.manifests:
            if self.clock.now < self.rules.submit_until(slot) or slot < self.first_slot:
                return Answer(404)
            if self._before(slot) >= self.first_slot and self._before(slot) not in self.manifests:
                await self._manifest(self._before(slot))
            self.manifests[slot] = self.tamper(self._make(slot))
        digests = self._digests(slot)
        path = merkle.path([digests[i] for i in sorted(digests)], 0) if 1 in digests else ()
        return Answer(200, ManifestReply(signed_by("emp", self.manifests[slot].to_bytes()), path).to_bytes())

    def _make(self, slot: int) -> Manifest:
        start = self.start_of(self.rules.epoch_of(slot))
        before = None if start.first_slot == slot else self.manifests[self._before(slot)]
        digests = self._digests(slot)
        result: SlotResult | None = self._result(self._before(slot))
        return Manifest(
            self.rules.net,
            1,
            slot,
            document_hash(start if before is None else before),
            to_bitmap(digests, self.size),
            to_bitmap([1] if slot in self.hello else [], self.size),
            merkle.root([digests[i] for i in sorted(digests)]),
            result,
        )


class Administrator:
    """Takes complaints, relays if it is told where to."""

    def __init__(self) -> None:
        self.away = False
        self.emp: FakeEmp | None = None
        self.complaints: list[Complaint] = []
        self.relayed: list[str] = []

    async def exchange(self, method: str, resource: str, body: bytes) -> Answer:
        if self.away:
            raise PeerUnavailable("away")
        below = resource.split("/", 4)[4]
        if below == "complaint":
            signed = Statement.from_bytes(body).signed
            assert signed.startswith(b"gw1|")
            self.complaints.append(Complaint.from_bytes(signed.partition(b"|")[2]))
            return Answer(200)
        assert below.startswith("relay/")
        self.relayed.append(f"{method} {below}")
        if self.emp is None:
            return Answer(504)
        return await self.emp._answer(method, below.split("/")[1:], body)


class Watched(World):
    """A world with an attentive supplier and an administrator."""

    emp: AttentiveEmp

    def __init__(self, net_rules: NetRules | None = None) -> None:
        super().__init__(net_rules if net_rules is not None else rules(calendar="signed"))
        self.emp = AttentiveEmp(self.rules, self.clock)
        self.gwa = Administrator()
        self.administrator = self.gwa.exchange

    def calendar(self, blocked: tuple[tuple[int, int], ...], **changes: Any) -> Calendar:
        t0_ms = (self.rules.t0_utc - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        fields: dict[str, Any] = {
            "net": self.rules.net,
            "slot_s": self.rules.slot_s,
            "t0_ms": t0_ms,
            "first_slot": 0,
            "slots": 1000,
            "blocked": blocked,
            "jitter_ms": 0,
        }
        return Calendar(**(fields | changes))

    def block(self, *slots: int, signer: str = "emp", **changes: Any) -> None:
        """The supplier blocks slots, and says so."""
        self.emp.blocked = frozenset(slots)
        made = self.calendar(tuple((slot, slot) for slot in slots), **changes)
        self.emp.calendars = (signed_by(signer, made.to_bytes()),)

    def outage(
        self, *lost: int, slots: tuple[int, int] = (1, 3), signer: str = "gwa", **changes: Any
    ) -> None:
        """The administrator knows of an outage."""

        def notices(_slot: int) -> tuple[Attestation, ...]:
            fields: dict[str, Any] = {
                "net": self.rules.net,
                "version": 1,
                "roster_hash": document_hash(self.emp.roster),
                "first_slot": slots[0],
                "last_slot": slots[1],
                "lost": to_bitmap(lost, self.emp.size),
                "share_ppm": 0,
            }
            return (attested_by(signer, OutageNotice(**(fields | changes)).to_bytes()),)

        self.emp.notices = notices
