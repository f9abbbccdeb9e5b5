"""A member and its supplier's word: calendars, receipts, refusals, digests, outages, complaints."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from firmware.enforcement.dcnet.errors import Refusal
from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.machines import SlotState
from firmware.enforcement.dcnet.messages.conduct import SentFrames, Taken
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, digest
from firmware.enforcement.dcnet.messages.reports import Charge
from firmware.enforcement.dcnet.messages.roster import Attestation
from firmware.errors import ReadingRefused
from tests.unit.dcnet.attentive_emp import Watched
from tests.unit.dcnet.fake_emp import altered
from tests.unit.dcnet.support import T0, PowerCut, rules, signed_by

TOTALLED, OWED, OPENED = SlotState.TOTALLED, SlotState.OWED, SlotState.OPENED


async def served(world: Watched, slots: int = 3, until: int | None = None) -> dict[int, SlotState]:
    """One member with a value for each of the slots 1.. in time."""
    member = await world.member()
    for slot in range(1, slots + 1):
        await member.contribute(slot, 1000 * slot)
    await world.run(member, slots + 1 if until is None else until)
    return {entry.slot: entry.state for entry in await (await world.member()).slots()}


def reasons(world: Watched, kind: NetEventKind) -> list[str]:
    return [event.reason for event in world.events if event.kind is kind]


# -- calendars -----------------------------------------------------------------------------------------


async def test_a_blocked_slot_is_passed_over_and_owed() -> None:
    world = Watched()
    world.block(2, 3)
    assert await served(world, 4) == {1: TOTALLED, 2: OWED, 3: OWED, 4: TOTALLED}
    assert reasons(world, NetEventKind.OWED) == ["blocked by the calendar"] * 2
    assert world.emp.submitted.keys() == {1, 4}
    assert not world.emp.hello
    owed = await (await world.member()).owed()
    assert [(one.first_slot, one.import_wh) for one in owed] == [(2, 2000), (3, 3000)]
    assert world.emp.asked.count("calendar") == 1


async def test_a_result_that_comes_behind_blocked_slots_is_taken() -> None:
    world = Watched()
    world.block(2, 3)
    world.emp.tell_results = False
    assert await served(world, 4) == {1: TOTALLED, 2: OWED, 3: OWED, 4: OPENED}


@pytest.mark.parametrize("cut", range(0, 60, 3))
async def test_a_power_cut_among_blocked_slots_loses_nothing(cut: int) -> None:
    world = Watched()
    world.block(2)
    member = await world.member()
    for slot in (1, 2):
        await member.contribute(slot, 1000 * slot)
    world.store.fail_after = cut
    with contextlib.suppress(PowerCut):
        await world.run(member, 3)
    world.store.fail_after = None
    member = await world.member()
    for slot in (3, 4):
        with contextlib.suppress(ReadingRefused):
            await member.contribute(slot, 1000 * slot)
    await world.run(member, 6)
    found = {entry.slot: entry.state for entry in await (await world.member()).slots()}
    assert found[2] is OWED
    assert set(found.values()) <= {TOTALLED, OWED}
    assert 2 not in world.emp.submitted
    assert NetEventKind.QUARANTINE not in {event.kind for event in world.events}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"signer": "gwa"}, "signature"),
        ({"net": bytes(8)}, "net"),
        ({"slot_s": 3}, "grid"),
        ({"t0_ms": 5}, "grid"),
        ({"slots": 3}, "share"),
        ({"jitter_ms": 900}, "jitter"),
        ({"slots": 2**31}, "range"),
    ],
)
async def test_a_bad_calendar_is_refused_by_name_and_blocks_nothing(
    changes: dict[str, Any], code: str
) -> None:
    world = Watched()
    world.block(1, 2, **changes)
    world.emp.blocked = frozenset()
    assert await served(world) == dict.fromkeys((1, 2, 3), TOTALLED)
    (reason,) = reasons(world, NetEventKind.REFUSED)
    assert reason.startswith("calendar:")
    assert code in reason


async def test_a_later_calendar_cannot_unsay_an_earlier_one() -> None:
    world = Watched()
    world.block(2, slots=4)
    first = world.emp.calendars
    await served(world, 1)
    other = world.calendar((), slots=4)
    later = world.calendar((), first_slot=4, slots=4)
    world.emp.calendars = (*first, signed_by("emp", later.to_bytes()), signed_by("emp", other.to_bytes()))
    member = await world.member()
    for slot in (2, 3, 4):
        await member.contribute(slot, 1000)
    await world.run(member, 6)
    assert 2 not in world.emp.submitted
    assert any("overlap" in reason for reason in reasons(world, NetEventKind.REFUSED))


async def test_a_calendar_is_asked_for_only_if_the_policy_says_so() -> None:
    world = Watched(rules())
    world.block(2)
    world.emp.blocked = frozenset()
    assert await served(world) == dict.fromkeys((1, 2, 3), TOTALLED)
    assert "calendar" not in world.emp.asked


async def test_submissions_leave_somewhere_in_the_window() -> None:
    late = []
    for _ in range(6):
        world = Watched()
        world.block(jitter_ms=400)
        assert await served(world, 1) == {1: TOTALLED}
        late.append((world.emp.submitted_at[1] - world.rules.slot_end(1)) / timedelta(milliseconds=1))
    assert all(0 <= one < 450 for one in late)
    assert len(set(late)) > 1


# -- receipts ------------------------------------------------------------------------------------------


async def left_out(world: Watched, *slots: int) -> None:
    """The supplier confirms submissions and leaves them out."""
    for slot in slots:
        world.emp.left_out[slot] = {1}
    await served(world, 8, until=10)


async def test_twice_left_out_in_spite_of_receipts_is_an_alarm_with_proof() -> None:
    world = Watched()
    await left_out(world, 1, 5)
    assert [event.slot for event in world.events if event.kind is NetEventKind.LEFT_OUT] == [5]
    (complaint,) = world.gwa.complaints
    assert complaint.charge is Charge.LEFT_OUT
    said = [signed_by("emp", world.emp.manifests[slot].to_bytes()) for slot in (1, 5)]
    assert complaint.objects[:2] == tuple(said)
    assert complaint.objects[2].startswith(b"emp|")


async def test_once_left_out_is_no_alarm() -> None:
    world = Watched()
    await left_out(world, 1)
    assert not [event for event in world.events if event.kind is NetEventKind.LEFT_OUT]
    assert not world.gwa.complaints


@pytest.mark.parametrize(
    "changes",
    [
        {"net": bytes(8)},
        {"version": 2},
        {"slot": 77},
        {"index": 2},
        {"digest": bytes(32)},
        {"taken": Taken.LATE},
        {"taken": Taken.CONFLICT},
    ],
)
async def test_a_receipt_about_something_else_promises_nothing(changes: dict[str, Any]) -> None:
    world = Watched()
    world.emp.receipt = lambda receipt: replace(receipt, **changes)
    await left_out(world, 1, 5)
    assert not world.gwa.complaints


@pytest.mark.parametrize("bad", [b"", b"junk", bytes(5000), None])
async def test_a_forged_receipt_promises_nothing_and_stops_nothing(bad: bytes | None) -> None:
    world = Watched()
    world.emp.sealed = lambda body: body[:-1] + bytes([body[-1] ^ 1]) if bad is None else bad
    await left_out(world, 1, 5)
    assert not world.gwa.complaints
    assert world.emp.opened


async def test_a_receipt_whose_answer_was_lost_is_asked_for() -> None:
    world = Watched()
    world.emp.lost = lambda resource: resource.startswith("answer") and "/submit/" in resource
    await left_out(world, 1, 5)
    assert len(world.gwa.complaints) == 1


# -- refusals ------------------------------------------------------------------------------------------


async def test_why_a_slot_is_not_opened_is_told_to_the_supplier() -> None:
    world = Watched()
    world.emp.left_out[1] = {2, 3, 4}
    await served(world)
    (told,) = [one for one in world.emp.refusals if one.slot == 1]
    assert (told.refusal, told.index) == (Refusal.EXCLUDED, 1)
    assert told.manifest_hash != bytes(32)


async def test_a_refusal_waits_for_the_supplier_through_a_restart() -> None:
    world = Watched()
    world.emp.lost = lambda resource: "/refusal/" in resource or "/manifest/1/" in resource
    await served(world, 1, until=2)
    assert not world.emp.refusals
    world.emp.lost = lambda resource: False
    await world.run(await world.member(), 4)
    assert [(one.slot, one.refusal, one.manifest_hash) for one in world.emp.refusals] == [
        (1, Refusal.LATE, bytes(32))
    ]


# -- the day's digest ----------------------------------------------------------------------------------


async def test_what_was_sent_in_a_day_is_signed_once() -> None:
    world = Watched(rules(t0_utc=T0 + timedelta(days=1, seconds=-6)))
    assert await served(world, 4) == dict.fromkeys((1, 2, 3, 4), TOTALLED)
    (said,) = world.emp.digests
    assert said.epoch == world.rules.epoch_of(2) == world.rules.epoch_of(3) - 1
    assert said.frames == tuple(
        SentFrames(
            slot, digest(world.emp.submitted[slot][:-MAC_BYTES]), digest(world.emp.opened[slot][:-MAC_BYTES])
        )
        for slot in (1, 2)
    )
    assert said.before == bytes(32)


@pytest.mark.parametrize("cut", range(0, 90, 5))
async def test_a_power_cut_around_midnight_changes_no_digest(cut: int) -> None:
    world = Watched(rules(t0_utc=T0 + timedelta(days=1, seconds=-6)))
    member = await world.member()
    for slot in range(1, 5):
        await member.contribute(slot, 1000 * slot)
    world.store.fail_after = cut
    with contextlib.suppress(PowerCut):
        await world.run(member, 5)
    world.store.fail_after = None
    member = await world.member()
    for slot in range(5, 8):
        await member.contribute(slot, 1000 * slot)
    await world.run(member, 9)
    assert len({one.to_bytes() for one in world.emp.digests}) <= 1
    for said in world.emp.digests:
        for one in said.frames:
            assert one.submitted == digest(world.emp.submitted[one.slot][:-MAC_BYTES])


# -- outages -------------------------------------------------------------------------------------------


async def test_with_a_notice_of_the_administrator_a_street_may_be_missing() -> None:
    world = Watched()
    world.emp.left_out[1] = {2, 3}
    world.outage(2, 3)
    found = await served(world, 1)
    assert found == {1: TOTALLED}


@pytest.mark.parametrize(
    "changes",
    [
        {"signer": "emp"},
        {"signer": "another"},
        {"slots": (2, 9)},
        {"net": bytes(8)},
        {"version": 9},
        {"roster_hash": bytes(32)},
        {"lost": b"\x00\x00"},
        {"slots": (0, 2**31)},
    ],
)
async def test_a_notice_that_is_not_for_this_slot_and_roster_changes_nothing(changes: dict[str, Any]) -> None:
    world = Watched()
    world.emp.left_out[1] = {2, 3}
    world.outage(2, 3, **changes)
    assert await served(world, 1) == {1: OWED}
    assert not world.emp.opened
    assert Refusal.EXCLUDED.value in reasons(world, NetEventKind.OWED)[0]


def _forged(one: Attestation) -> tuple[Attestation, ...]:
    return (replace(one, signed=signed_by("emp", one.signed.partition(b"|")[2])),)


@pytest.mark.parametrize("altered_to", [_forged, lambda one: (one, one), lambda one: ()])
async def test_a_notice_that_only_shows_the_administrators_certificate_is_none(altered_to: Any) -> None:
    world = Watched()
    world.emp.left_out[1] = {2, 3}
    world.outage(2, 3)
    good = world.emp.notices
    world.emp.notices = lambda slot: altered_to(*good(slot))
    assert await served(world, 1) == {1: OWED}


async def test_a_notice_cannot_lift_the_floors() -> None:
    world = Watched()
    world.emp.left_out[1] = {2, 3, 4}
    world.outage(2, 3, 4, share_ppm=900_000)
    assert await served(world, 1) == {1: OWED}
    assert Refusal.COMPONENT.value in reasons(world, NetEventKind.OWED)[0]


# -- complaints ----------------------------------------------------------------------------------------


async def test_a_proof_of_lies_goes_to_the_administrator_once() -> None:
    world = Watched()
    world.gwa.away = True
    await served(world, 2)
    world.emp.tamper = altered(previous=bytes(32))
    member = await world.member()
    for slot in (3, 4, 5):
        await member.contribute(slot, 1000)
    await world.run(member, 7)
    assert reasons(world, NetEventKind.QUARANTINE)
    assert not world.gwa.complaints
    world.gwa.away = False
    for until in (9, 11):
        await world.run(await world.member(), until)
    (complaint,) = world.gwa.complaints
    assert complaint.charge is Charge.EQUIVOCATION
    assert all(one.startswith(b"emp|") for one in complaint.objects)
    assert len(complaint.objects) == 2


# -- relay ---------------------------------------------------------------------------------------------


async def test_a_supplier_that_refuses_ones_bundle_is_reached_through_the_administrator() -> None:
    world = Watched()
    world.emp.lost = lambda resource: "/bundle/" in resource
    world.gwa.emp = world.emp
    member = await world.member()
    await world.run(member, 3)
    assert NetEventKind.JOINED in {event.kind for event in world.events}
    assert world.gwa.relayed == ["PUT relay/bundle/1/gw1"]


async def test_nothing_of_a_slot_goes_through_the_administrator() -> None:
    world = Watched()
    world.emp.lost = lambda resource: "/submit/" in resource or "/manifest/" in resource
    world.gwa.emp = world.emp
    await served(world, 2, until=6)
    assert not world.gwa.relayed
