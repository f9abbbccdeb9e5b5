"""Supplier and administrator beside the slots, with real signatures: rates, outages, receipts, digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
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
from firmware.enforcement.dcnet.messages.reports import MemberRate, OutageNotice, Rates, RatesReport
from firmware.enforcement.dcnet.messages.roster import Attestation
from tests.unit.dcnet.conduct_parties import EPOCH, GATEWAY, HASH, KEY, OTHER, SIZE, Parties
from tests.unit.dcnet.support import NET, rules
from tools.counterparts.net_conduct import NetConduct
from tools.counterparts.net_oversight import Outage, suggestion
from tools.counterparts.net_tally import Taken as Outcome
from tools.counterparts.net_tally import Terms
from wan.cms import signed as cms
from wan.errors import OrderRefused, PeerUnavailable


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
