"""What proves that a supplier lied, with real signatures, and what an administrator refuses as proof."""

from __future__ import annotations

from dataclasses import replace

import pytest

from firmware.enforcement.dcnet.messages.conduct import ReceiptDay, Taken
from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.manifest import SlotResult, Verdict
from firmware.enforcement.dcnet.messages.reports import Charge, Complaint, Statement
from tests.unit.dcnet.conduct_parties import EPOCH, GATEWAY, HASH, OTHER, SIZE, Parties
from tests.unit.dcnet.support import NET, rules, signed_by
from tools.counterparts.net_conduct import calendar_of
from wan.cms import signed as cms
from wan.errors import OrderRefused


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
