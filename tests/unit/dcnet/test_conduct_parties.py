"""Supplier and administrator beside the slots, with real signatures: what they take, and what they refuse."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from firmware.enforcement.dcnet.errors import Refusal
from firmware.enforcement.dcnet.messages.conduct import (
    ReceiptDay,
    RefusalNotice,
    SentFrames,
    SlotDigest,
    Taken,
    seal_note,
    unseal_note,
)
from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.frames import seal
from firmware.enforcement.dcnet.messages.manifest import EpochManifest, Manifest, SlotResult, Verdict
from firmware.enforcement.dcnet.messages.reports import (
    Charge,
    Complaint,
    MemberRate,
    OutageNotice,
    Rates,
    RatesReport,
    Statement,
)
from firmware.enforcement.dcnet.messages.roster import Attestation, Roster, RosterEntry
from hsm.api import CertificateUse, KeySlot
from hsm.x509 import Certificate
from tests.support.soft_module import SoftModule
from tests.unit.dcnet.support import NET, administrator, policy, rules, signed_by
from tools.counterparts.net_conduct import NetConduct, calendar_of
from tools.counterparts.net_keys import CmsKeys
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.net_oversight import NetOversight, Outage, suggestion
from tools.counterparts.net_relay import MAX_RELAYED_BYTES, NetRelay
from tools.counterparts.net_tally import Taken as Outcome
from tools.counterparts.net_tally import Terms
from tools.counterparts.pki import issue_gateway, make_pki
from wan.cms import signed as cms
from wan.errors import OrderRefused, PeerUnavailable
from wan.pki.enrol import make_triple

GATEWAY, OTHER = "esgw0100000001", "esgw0100000002"
SIZE, EPOCH = 5, rules().epoch_of(0)
HASH = b"\x09" * 32
KEY = b"k" * 16


class Member:
    """One gateway's signature."""

    def __init__(self, module: SoftModule, certificate: Certificate) -> None:
        self._module, self.certificate = module, certificate

    async def state(self, content: bytes) -> bytes:
        signed = await cms.sign(
            content, module=self._module, slot=KeySlot.WAN_SIG, certificate=self.certificate
        )
        return Statement(self.certificate.der, signed).to_bytes()


async def member(folder: Path, gateway: str) -> Member:
    module = SoftModule()
    issued = issue_gateway(folder, gateway, await make_triple(module, gateway))
    return Member(module, Certificate.from_pem(issued[CertificateUse.SIG].encode()))


class Parties:
    """A supplier, an administrator that countersigned its roster, and two of the members."""

    def __init__(self, folder: Path, net_policy: Any, one: Member, two: Member) -> None:
        self.policy, self.seen = net_policy, list[Mapping[str, Any]]()
        self.one, self.two = one, two
        self.emp, self.gwa = CmsKeys(folder / "emp"), CmsKeys(folder / "gwa")
        self.kept: dict[str, bytes] = {}

        names = [hashlib.sha256(m.certificate.der).digest() for m in (self.one, self.two)]
        names += [bytes([index]) * 32 for index in range(3, SIZE + 1)]
        chosen = rules(calendar=self.policy.calendar)
        self.roster = Roster(
            NET,
            1,
            bytes(32),
            chosen.policy_hash(),
            chosen.schema_hash(),
            EPOCH,
            HASH,
            (administrator("gwa", HASH),),
            tuple(
                RosterEntry(index, bytes([index]) * 16, name, "gwa", HASH)
                for index, name in enumerate(names, 1)
            ),
        )
        self.kept[f"roster-{NET.hex()}-1"] = self.roster.to_bytes()
        ordered = OrderedNet(self.policy, self.emp.certificate, frozenset({GATEWAY, OTHER}))
        self.oversight = NetOversight(
            self.gwa.certificate,
            {NET.hex(): ordered}.get,
            self.gwa.trust,
            self.gwa.sign,
            self.seen.append,
            kept=self.kept,
        )

    def event(self, name: str) -> Mapping[str, Any]:
        return [one for one in self.seen if one["event"] == name][-1]

    # -- a chain

    def start(self, slot: int = 1, **changes: Any) -> EpochManifest:
        made = EpochManifest(
            NET, 1, document_hash(self.roster), EPOCH, slot, to_bitmap(range(1, SIZE + 1), SIZE)
        )
        return replace(made, **changes)

    def link(self, before: EpochManifest | Manifest, slot: int, *accepted: int, **changes: Any) -> Manifest:
        result = None
        if isinstance(before, Manifest):
            result = SlotResult(NET, before.slot, document_hash(before), Verdict.TOTALLED)
        made = Manifest(
            NET, 1, slot, document_hash(before), to_bitmap(accepted, SIZE), bytes(1), HASH, result
        )
        return replace(made, **changes)

    async def signed(self, *documents: Any) -> tuple[bytes, ...]:
        return tuple([await self.emp.sign(one.to_bytes()) for one in documents])

    async def complain(
        self, *objects: bytes, charge: Charge = Charge.EQUIVOCATION, **changes: Any
    ) -> Mapping[str, Any]:
        """The first member complains; what the administrator tells of it."""
        said = replace(Complaint(NET, 1, charge, objects), **changes)
        await self.oversight.complaint(NET.hex(), GATEWAY, await self.one.state(said.to_bytes()))
        return self.event("complaint")

    async def refused(self, *objects: bytes, charge: Charge = Charge.EQUIVOCATION, **changes: Any) -> str:
        with pytest.raises(OrderRefused) as caught:
            await self.complain(*objects, charge=charge, **changes)
        assert not [one for one in self.kept if one.startswith("complaint")]
        return caught.value.code


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Member, Member]:
    folder = tmp_path_factory.mktemp("conduct") / "pki"
    make_pki(folder)
    return folder, asyncio.run(member(folder, GATEWAY)), asyncio.run(member(folder, OTHER))


@pytest.fixture
def parties(keys: tuple[Path, Member, Member]) -> Parties:
    folder, one, two = keys
    return Parties(folder, policy(calendar="signed"), one, two)


# -- complaints ----------------------------------------------------------------------------------------


async def test_two_manifests_of_one_slot_are_proof(parties: Parties) -> None:
    one = parties.link(parties.start(), 1, 1, 2, 3)
    two = replace(one, accepted=to_bitmap([1, 2], SIZE))
    told = await parties.complain(*await parties.signed(one, two))
    assert (told["charge"], told["proven"], told["gateway"]) == ("equivocation", True, GATEWAY)
    count = len(parties.seen)
    objects = next(
        Complaint.from_bytes(cms.parse(Statement.from_bytes(data).signed).content).objects
        for name, data in parties.kept.items()
        if name.startswith("complaint")
    )
    await parties.complain(*objects)
    assert len(parties.seen) == count, "the same again is not told again"


async def test_a_fork_two_beginnings_and_a_leap_without_calendar_are_proof(parties: Parties) -> None:
    start = parties.start()
    one = parties.link(start, 1, 1, 2, 3)
    forked = parties.link(parties.start(present=bytes(1)), 2, 1, 2)
    for pair in (
        (one, forked),
        (start, replace(start, first_slot=2)),
        (start, parties.link(one, 1, 1)),
    ):
        assert (await parties.complain(*await parties.signed(*pair)))["proven"]


async def test_a_slot_behind_blocked_ones_is_judged_with_the_calendar(parties: Parties) -> None:
    one = parties.link(parties.start(), 1, 1, 2, 3)
    good, bad = parties.link(one, 4, 1, 2), parties.link(parties.start(), 4, 1, 2)
    calendar = calendar_of(rules(), 0, 100, [(2, 3)])
    assert await parties.refused(*await parties.signed(one, good, calendar)) == "proof"
    assert await parties.refused(*await parties.signed(one, bad)) == "proof"
    assert (await parties.complain(*await parties.signed(one, bad, calendar)))["proven"]


async def test_what_an_honest_supplier_signs_is_no_proof(parties: Parties) -> None:
    start = parties.start()
    one = parties.link(start, 1, 1, 2, 3)
    two = parties.link(one, 2, 1, 2, 3)
    last = rules().slot_at(rules().t0_utc) + 43_199  # of the first epoch
    tomorrow = parties.start(epoch=EPOCH + 1, first_slot=last + 1)
    end, morning = parties.link(one, last, 1), parties.link(tomorrow, last + 1, 1)
    for pair in (
        (one, two),
        (start, one),
        (start, tomorrow),
        (end, morning),
        (end, tomorrow),
        (one, one),
        (one, parties.link(two, 3, 1)),
        (one, replace(two, version=2, previous=HASH)),
    ):
        assert await parties.refused(*await parties.signed(*pair)) == "proof", pair
    assert await parties.refused(*await parties.signed(one)) == "proof"


async def test_a_forged_complaint_is_refused(parties: Parties) -> None:
    one = parties.link(parties.start(), 1, 1, 2, 3)
    two = replace(one, accepted=bytes(1))
    first, second = await parties.signed(one, two)
    by_gwa = await parties.gwa.sign(two.to_bytes())
    assert await parties.refused(first, by_gwa) == "signer"
    assert await parties.refused(first, signed_by("emp", two.to_bytes())) == "form"
    assert await parties.refused(first, second, net=bytes(8)) == "net"
    elsewhere = await parties.signed(replace(one, net=bytes(8)), replace(two, net=bytes(8)))
    assert await parties.refused(*elsewhere) == "proof"
    said = Complaint(NET, 1, Charge.EQUIVOCATION, (first, second)).to_bytes()
    for net, gateway, body in (
        (NET.hex(), OTHER, await parties.one.state(said)),
        (NET.hex(), "esgw0100000009", await parties.one.state(said)),
        ("00" * 8, GATEWAY, await parties.one.state(said)),
        (NET.hex(), GATEWAY, b"junk"),
        (NET.hex(), GATEWAY, bytes(1 << 20)),
        (NET.hex(), GATEWAY, Statement(parties.two.certificate.der, first).to_bytes()),
    ):
        with pytest.raises(OrderRefused):
            await parties.oversight.complaint(net, gateway, body)
    assert not [name for name in parties.kept if name.startswith("complaint")]


async def test_a_result_that_the_next_manifest_denies_is_proof(parties: Parties) -> None:
    one = parties.link(parties.start(), 1, 1, 2, 3)
    said = SlotResult(NET, 1, document_hash(one), Verdict.ABORTED)
    for other, proof in (
        (said, False),
        (replace(said, slot=2, verdict=Verdict.TOTALLED), False),
        (replace(said, manifest_hash=bytes(32), verdict=Verdict.TOTALLED), False),
        (replace(said, net=bytes(8), verdict=Verdict.TOTALLED), False),
        (None, False),
        (replace(said, verdict=Verdict.TOTALLED), True),
    ):
        objects = await parties.signed(said, replace(parties.link(one, 2, 1, 2, 3), result=other))
        if proof:
            assert (await parties.complain(*objects))["proven"]
        else:
            assert await parties.refused(*objects) in ("proof", "form")
    away = replace(said, net=bytes(8))
    objects = await parties.signed(away, replace(away, verdict=Verdict.TOTALLED))
    with pytest.raises(OrderRefused):
        await parties.complain(*objects)


async def test_receipts_prove_that_a_member_was_left_out(parties: Parties) -> None:
    start = parties.start()
    out = [parties.link(start, slot, 2, 3) for slot in (1, 2)]
    day = ReceiptDay(NET, 1, EPOCH, 1, ((1, HASH, Taken.ACCEPTED), (2, HASH, Taken.ACCEPTED)))
    charge = Charge.LEFT_OUT
    assert not (await parties.complain(*await parties.signed(*out), charge=charge))["proven"]
    assert (await parties.complain(*await parties.signed(*out, day), charge=charge))["proven"]
    late = replace(day, receipts=((1, HASH, Taken.ACCEPTED), (2, HASH, Taken.LATE)))
    assert not (await parties.complain(*await parties.signed(*out, late), charge=charge))["proven"]


async def test_a_gateway_cannot_fill_the_administrators_disk(parties: Parties) -> None:
    for slot in range(1, 17):
        manifest = await parties.signed(parties.link(parties.start(), slot, 2, 3))
        await parties.complain(*manifest, charge=Charge.LEFT_OUT)
    manifest = await parties.signed(parties.link(parties.start(), 17, 2, 3))
    with pytest.raises(OrderRefused, match="many"):
        await parties.complain(*manifest, charge=Charge.LEFT_OUT)


async def test_a_complaint_of_being_left_out_is_about_the_member_itself(parties: Parties) -> None:
    start, charge = parties.start(), Charge.LEFT_OUT
    inside, out = parties.link(start, 1, 1, 2), parties.link(start, 1, 2, 3)
    others = ReceiptDay(NET, 1, EPOCH, 2, ((1, HASH, Taken.ACCEPTED),))
    assert await parties.refused(*await parties.signed(inside), charge=charge) == "proof"
    assert await parties.refused(*await parties.signed(out, others), charge=charge) == "proof"
    assert await parties.refused(*await parties.signed(replace(others, index=1)), charge=charge) == "proof"
    elsewhere = await parties.signed(replace(out, net=bytes(8)))
    assert await parties.refused(*elsewhere, charge=charge) == "proof"
    assert await parties.refused(*await parties.signed(out), charge=charge, version=2) == "roster"


# -- rates ---------------------------------------------------------------------------------------------


class Reported:
    """A report on four slots in which member 3 stays away after the second."""

    def __init__(self, parties: Parties) -> None:
        start = parties.start()
        chain: list[Any] = [start]
        for slot, accepted in (
            (1, (1, 2, 3, 4, 5)),
            (2, (1, 2, 3, 4, 5)),
            (3, (1, 2, 4, 5)),
            (4, (1, 2, 4, 5)),
        ):
            chain.append(parties.link(chain[-1], slot, *accepted))
        self.parties, self.chain = parties, chain
        self.rows = [MemberRate(index, 4, 4, 4, 0) for index in range(1, SIZE + 1)]
        self.rows[2] = MemberRate(3, 3, 2, 2, 0)

    async def post(self, net: str = NET.hex(), **changes: Any) -> Mapping[str, Any]:
        rates = replace(Rates(NET, 1, 1, 4, tuple(self.rows)), **changes)
        (signed,) = await self.parties.signed(rates)
        report = RatesReport(signed, await self.parties.signed(*self.chain))
        await self.parties.oversight.rates(net, report.to_bytes())
        return self.parties.event("rates")

    async def refused(self, **changes: Any) -> str:
        with pytest.raises(OrderRefused) as caught:
            await self.post(**changes)
        return caught.value.code


async def test_rates_are_counted_again_and_told(parties: Parties) -> None:
    told = await Reported(parties).post()
    assert (told["slots"], told["suggest_removal"]) == (4, {})
    assert [row["submitted"] for row in told["members"]] == [4, 4, 2, 4, 4]
    assert parties.kept[f"rates-{NET.hex()}"]
    assert await Reported(parties).refused() == "old", "the same again is a replay"


async def test_a_supplier_cannot_talk_a_member_down(parties: Parties) -> None:
    for wrong in (
        MemberRate(2, 4, 3, 3, 0),
        MemberRate(2, 5, 4, 4, 0),
        MemberRate(2, 4, 4, 2, 0),  # three totals prove that it opened
        MemberRate(2, 4, 4, 5, 0),
    ):
        report = Reported(parties)
        report.rows[1] = wrong
        assert await report.refused() == "count"
    report = Reported(parties)
    report.rows[1] = MemberRate(2, 4, 4, 3, 0)  # of the last slot there is no result yet
    await report.post()


async def test_rates_with_a_broken_chain_are_refused(parties: Parties) -> None:
    for change, code in (
        (lambda chain: [*chain[:2], *chain[3:]], "chain"),
        (lambda chain: [*chain, chain[-1]], "chain"),
        (lambda chain: chain[:1], "slots"),
        (lambda chain: chain[:-1], "slots"),
        (lambda chain: [replace(chain[0], net=bytes(8)), *chain[1:]], "net"),
        (lambda chain: [replace(chain[0], roster_hash=HASH), *chain[1:]], "net"),
    ):
        report = Reported(parties)
        report.chain = change(report.chain)
        assert await report.refused() == code
    assert await Reported(parties).refused(net="00" * 8) == "policy"
    assert await Reported(parties).refused(version=2) == "roster"
    assert await Reported(parties).refused(first_slot=2) == "slots"
    for body in (b"junk", bytes(1 << 20)):
        with pytest.raises(OrderRefused):
            await parties.oversight.rates(NET.hex(), body)


async def test_rates_signed_by_somebody_else_are_refused(parties: Parties) -> None:
    report = Reported(parties)
    signed = await parties.gwa.sign(Rates(NET, 1, 1, 4, tuple(report.rows)).to_bytes())
    body = RatesReport(signed, await parties.signed(*report.chain)).to_bytes()
    with pytest.raises(OrderRefused, match="signer"):
        await parties.oversight.rates(NET.hex(), body)


@pytest.mark.parametrize(
    ("rate", "why"),
    [
        (MemberRate(1, 96, 96, 96, 0), ""),
        (MemberRate(1, 96, 96, 93, 3), ""),
        (MemberRate(1, 96, 96, 72, 0), "does not open"),
        (MemberRate(1, 96, 95, 95, 0), ""),
        (MemberRate(1, 96, 48, 48, 0), "does not submit"),
        (MemberRate(1, 40, 40, 40, 0), "seldom"),
    ],
)
def test_when_a_member_should_not_be_in_the_next_roster(rate: MemberRate, why: str) -> None:
    assert why in suggestion(rate, 96)
    assert bool(suggestion(rate, 96)) == bool(why)


# -- outages -------------------------------------------------------------------------------------------


async def test_an_outage_is_signed_for_its_slots_only(parties: Parties) -> None:
    for version, slot, code in ((1, 5, "outage"), (2, 5, "roster")):
        with pytest.raises(OrderRefused) as caught:
            await parties.oversight.outage(NET.hex(), version, slot)
        assert caught.value.code == code
    parties.oversight.announce(NET.hex(), Outage(5, 6, (2, 3, 99), 200_000))
    given = Attestation.from_bytes(await parties.oversight.outage(NET.hex(), 1, 5))
    said = OutageNotice.from_bytes(await parties.emp.open_attestation(given))
    assert (said.first_slot, said.last_slot, said.share_ppm) == (5, 6, 200_000)
    assert said.lost == to_bitmap([2, 3], SIZE)
    assert said.roster_hash == document_hash(parties.roster)
    with pytest.raises(OrderRefused):
        await parties.oversight.outage(NET.hex(), 1, 7)


# -- the supplier --------------------------------------------------------------------------------------


class Supplier:
    """A supplier's conduct with one roster in force."""

    def __init__(self, parties: Parties, **options: Any) -> None:
        self.conduct = NetConduct(rules(calendar="signed"), parties.emp, parties.seen.append, **options)
        self.conduct.latest = 300
        self.conduct.begin(Terms(NET, 1, SIZE, 3, dict.fromkeys(range(1, SIZE + 1), KEY)))


async def test_refusals_are_counted_once_and_only_from_their_member(parties: Parties) -> None:
    supplier = Supplier(parties).conduct
    said = RefusalNotice(NET, 1, 205, 2, Refusal.DEGREE, HASH)
    sealed = seal_note(said.to_bytes(), KEY)
    assert supplier.refusal(2, 205, sealed)
    assert supplier.refusal(2, 205, sealed)
    assert [one["refusals"] for one in parties.seen if one["event"] == "refusal"] == [1]
    for index, slot, body in (
        (3, 205, sealed),
        (2, 206, sealed),
        (2, 205, seal_note(said.to_bytes(), b"x" * 16)),
        (2, 205, seal_note(replace(said, net=bytes(8)).to_bytes(), KEY)),
        (2, 205, seal_note(replace(said, version=2).to_bytes(), KEY)),
        (2, 205, b""),
        (2, 205, seal_note(bytes(5000), KEY)),
    ):
        assert not supplier.refusal(index, slot, body)


async def test_words_about_other_times_fill_no_memory(parties: Parties) -> None:
    supplier = Supplier(parties).conduct
    for slot in (0, 44, 301, 2**32 - 1):
        said = RefusalNotice(NET, 1, slot, 2, Refusal.LATE, bytes(32))
        assert not supplier.refusal(2, slot, seal_note(said.to_bytes(), KEY))
        assert supplier.receipt(2, slot, seal(bytes(88), KEY), Outcome.LATE)
        assert supplier.again(2, slot) is None
    for epoch in (EPOCH - 3, EPOCH + 1):
        digest = SlotDigest(NET, 1, 1, epoch, bytes(32), (SentFrames(205, HASH),))
        assert not await supplier.digest(1, epoch, GATEWAY, await parties.one.state(digest.to_bytes()))


async def test_a_receipt_says_what_was_done_and_the_first_one_counts(parties: Parties) -> None:
    supplier = Supplier(parties).conduct
    frame, other = seal(bytes(88), KEY), seal(bytes(96), KEY)
    for outcome, body in ((Outcome.NEW, frame), (Outcome.KNOWN, frame), (Outcome.CONFLICT, other)):
        assert unseal_note(supplier.receipt(2, 205, body, outcome), KEY)
    assert supplier.receipt(2, 205, frame, Outcome.REFUSED) == b""
    assert supplier.receipt(2, 205, seal(bytes(64), KEY), Outcome.LATE) == b"", "a Hello gets none"
    assert supplier.again(2, 206) is None
    signed = await supplier.receipts(EPOCH, 2)
    assert signed is not None
    day = ReceiptDay.from_bytes(cms.parse(signed).content)
    assert day.receipts == ((205, hashlib.sha256(bytes(88)).digest(), Taken.ACCEPTED),)
    assert await supplier.receipts(EPOCH, 3) is None


async def test_a_digest_is_compared_with_what_the_supplier_holds(parties: Parties) -> None:
    supplier = Supplier(parties).conduct
    submitted, opened = seal(bytes(88), KEY), seal(bytes(90), KEY)
    names = [hashlib.sha256(bytes(size)).digest() for size in (88, 90)]
    for slot in (205, 206):
        supplier.receipt(1, slot, submitted, Outcome.NEW)
    supplier.opened(1, 205, opened)
    good = SlotDigest(NET, 1, 1, EPOCH, bytes(32), (SentFrames(205, *names), SentFrames(206, names[0])))
    for index, epoch, gateway, body in (
        (1, EPOCH, OTHER, await parties.one.state(good.to_bytes())),
        (2, EPOCH, GATEWAY, await parties.one.state(good.to_bytes())),
        (1, EPOCH + 1, GATEWAY, await parties.one.state(good.to_bytes())),
        (1, EPOCH, GATEWAY, await parties.one.state(replace(good, net=bytes(8)).to_bytes())),
        (1, EPOCH, GATEWAY, b"junk"),
        (1, EPOCH, GATEWAY, bytes((1 << 20) + 1)),
    ):
        assert not await supplier.digest(index, epoch, gateway, body)
    assert await supplier.digest(1, EPOCH, GATEWAY, await parties.one.state(good.to_bytes()))
    assert (parties.event("digest")["differs"], parties.event("digest")["chain_broken"]) == ([], False)
    assert await supplier.digest(1, EPOCH, GATEWAY, await parties.one.state(good.to_bytes()))
    second = replace(good, frames=good.frames[:1])
    assert not await supplier.digest(1, EPOCH, GATEWAY, await parties.one.state(second.to_bytes()))


@pytest.mark.parametrize(
    ("frames", "differs"),
    [
        ((SentFrames(205, HASH), SentFrames(206, hashlib.sha256(bytes(88)).digest())), [205]),
        ((SentFrames(205, hashlib.sha256(bytes(88)).digest(), HASH),), [205, 206]),
    ],
)
async def test_a_digest_that_denies_what_was_sent_is_noticed(
    parties: Parties, frames: tuple[SentFrames, ...], differs: list[int]
) -> None:
    supplier = Supplier(parties).conduct
    for slot in (205, 206):
        supplier.receipt(1, slot, seal(bytes(88), KEY), Outcome.NEW)
    supplier.opened(1, 205, seal(bytes(90), KEY))
    said = SlotDigest(NET, 1, 1, EPOCH, HASH, frames)
    assert await supplier.digest(1, EPOCH, GATEWAY, await parties.one.state(said.to_bytes()))
    assert (parties.event("digest")["differs"], parties.event("digest")["chain_broken"]) == (differs, True)


async def test_without_every_administrators_notice_nothing_is_published(parties: Parties) -> None:
    class Silent:
        async def rates(self, report: bytes) -> bytes:
            raise PeerUnavailable("away")

        async def outage(self, version: int, slot: int) -> bytes:
            raise PeerUnavailable("away")

    class Asked(Silent):
        async def outage(self, version: int, slot: int) -> bytes:
            return await parties.oversight.outage(NET.hex(), version, slot)

    parties.oversight.announce(NET.hex(), Outage(205, 206, (2,)))
    alone, both = (
        Supplier(parties, overseers=overseers).conduct
        for overseers in ({"gwa": Asked()}, {"gwa": Asked(), "other": Silent()})
    )
    for supplier in (alone, both):
        await supplier.ask_outage(205)
    assert alone.outage(205) is not None
    assert both.outage(205) is None


# -- relay ---------------------------------------------------------------------------------------------


class Relayed:
    """A relay whose supplier answers as `answers` says."""

    def __init__(self) -> None:
        self.answers: Callable[[str, str], tuple[int, bytes]] = lambda method, resource: (200, b"answer")
        self.asked: list[tuple[str, str, bytes]] = []
        self.kept: dict[str, bytes] = {}
        self.relay = NetRelay(
            lambda net, gateway: (net, gateway) in {(NET.hex(), GATEWAY), (NET.hex(), OTHER)},
            self._forward,
            lambda event: None,
            kept=self.kept,
        )

    async def _forward(
        self, net: str, gateway: str, method: str, resource: str, body: bytes
    ) -> tuple[int, bytes]:
        answer = self.answers(method, resource)
        self.asked.append((method, resource, body))
        return answer

    async def ask(self, method: str, resource: str, body: bytes = b"") -> tuple[int, bytes]:
        return await self.relay.relay(NET.hex(), GATEWAY, method, resource, body)

    def away(self, method: str, resource: str) -> tuple[int, bytes]:
        raise PeerUnavailable("away")


async def test_a_relay_keeps_what_the_supplier_does_not_take_and_serves_what_it_gave() -> None:
    world = Relayed()
    assert await world.ask("GET", "roster/1") == (200, b"answer")
    world.answers = world.away
    assert await world.ask("GET", "roster/1") == (200, b"answer")
    assert (await world.ask("GET", "graph/1"))[0] == 504
    assert (await world.ask("PUT", f"bundle/1/{GATEWAY}", b"bundle"))[0] == 202
    world.asked.clear()
    world.answers = lambda method, resource: (403, b"")
    assert (await world.ask("PUT", f"bundle/1/{GATEWAY}", b"bundle"))[0] == 403
    world.answers = lambda method, resource: (201, b"")
    await world.ask("GET", "graph/1")
    assert ("PUT", f"bundle/1/{GATEWAY}", b"bundle") in world.asked[1:]
    assert not [name for name in world.kept if "bundle" in name]


@pytest.mark.parametrize(
    ("method", "resource", "body"),
    [
        ("PUT", f"submit/5/{GATEWAY}", b""),
        ("PUT", f"bundle/1/{OTHER}", b""),
        ("GET", "manifest/5/1", b""),
        ("GET", f"bundle/1/{GATEWAY}", b""),
        ("PUT", "roster/1", b""),
        ("POST", "roster/1", b""),
        ("GET", "roster/1/../../x", b""),
        ("GET", "roster/1?x", b""),
        ("PUT", f"bundle/1/{GATEWAY}", bytes(MAX_RELAYED_BYTES + 1)),
    ],
)
async def test_nothing_else_is_relayed(method: str, resource: str, body: bytes) -> None:
    world = Relayed()
    with pytest.raises(OrderRefused):
        await world.ask(method, resource, body)
    with pytest.raises(OrderRefused):
        await world.relay.relay("00" * 8, GATEWAY, "GET", "roster/1", b"")
    assert not world.asked


async def test_a_gateway_cannot_fill_the_relay() -> None:
    world = Relayed()
    world.answers = world.away
    for version in range(1, 9):
        assert (await world.ask("PUT", f"bundle/{version}/{GATEWAY}", b"bundle"))[0] == 202
    with pytest.raises(OrderRefused, match="many"):
        await world.ask("PUT", f"bundle/9/{GATEWAY}", b"bundle")
    assert (await world.ask("PUT", f"bundle/8/{GATEWAY}", b"bundle"))[0] == 202
