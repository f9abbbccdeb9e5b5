"""Calendars, receipts, refusals, digests, outages, complaints: codecs and rules, each check broken once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from firmware.enforcement.dcnet.errors import (
    CalendarRefused,
    MalformedObject,
    NetRefused,
    OpeningRefused,
    OutageRefused,
    Refusal,
)
from firmware.enforcement.dcnet.machines import SlotState
from firmware.enforcement.dcnet.messages.canonical import decode, encode
from firmware.enforcement.dcnet.messages.conduct import (
    REFUSAL_CODES,
    Calendar,
    CalendarPublication,
    Receipt,
    ReceiptDay,
    RefusalNotice,
    SentFrames,
    SlotDigest,
    Taken,
    seal_note,
    unseal_note,
)
from firmware.enforcement.dcnet.messages.documents import to_bitmap
from firmware.enforcement.dcnet.messages.reports import (
    Charge,
    Complaint,
    MemberRate,
    OutageNotice,
    OutagePublication,
    Rates,
    RatesReport,
    Statement,
)
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.primitives import graph
from firmware.enforcement.dcnet.slot.calendar import KEPT, Calendars, check_calendar, longest_run
from firmware.enforcement.dcnet.slot.diary import Diary
from firmware.enforcement.dcnet.slot.ledger import Ledger
from firmware.enforcement.dcnet.slot.outage import Lifted, enough_of, lifted
from tests.unit.dcnet.support import NET, MemoryStore, attested_by, policy, rules
from tests.unit.dcnet.whole_net import Net

T0_MS = (rules().t0_utc - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
DAY = 86400 // 2
ROSTER_HASH, HASH = b"\x05" * 32, b"\x06" * 32


def calendar(**changes: Any) -> Calendar:
    made = Calendar(NET, 2, T0_MS, 10, 100, ((12, 13), (20, 20)), 0)
    return replace(made, **changes)


def notice(**changes: Any) -> OutageNotice:
    made = OutageNotice(NET, 1, ROSTER_HASH, 5, 7, to_bitmap([2, 3], 8), 0)
    return replace(made, **changes)


DOCUMENTS: list[Any] = [
    calendar(),
    CalendarPublication((b"a", b"b")),
    Receipt(NET, 1, 5, 2, HASH, Taken.LATE),
    ReceiptDay(NET, 1, 20_000, 2, ((5, HASH, Taken.ACCEPTED), (6, HASH, Taken.CONFLICT))),
    RefusalNotice(NET, 1, 5, 2, Refusal.DEGREE, HASH),
    SlotDigest(NET, 1, 2, 20_000, bytes(32), (SentFrames(5, HASH), SentFrames(6, HASH, ROSTER_HASH))),
    Rates(NET, 1, 5, 9, (MemberRate(1, 5, 5, 5, 0), MemberRate(2, 5, 4, 3, 1))),
    RatesReport(b"signed", (b"a", b"b")),
    notice(),
    OutagePublication((attested_by("gwa", b"x"),)),
    Statement(b"certificate", b"signed"),
    Complaint(NET, 1, Charge.EQUIVOCATION, (b"a", b"b")),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: type(one).__name__)
def test_each_document_has_one_encoding(document: Any) -> None:
    data = document.to_bytes()
    assert type(document).from_bytes(data) == document
    for broken in (data[:-1], data + b"\x00", b"", b"\x80", b"junk", encode([*_items(data), 0])):
        if broken == encode([]) and type(document) in (CalendarPublication, OutagePublication):
            continue
        with pytest.raises(MalformedObject):
            type(document).from_bytes(broken)


def _items(data: bytes) -> list[Any]:
    items = decode(data)
    assert isinstance(items, list)
    return items


@pytest.mark.parametrize(
    ("document", "field", "value"),
    [
        (DOCUMENTS[0], 6, [[13, 12]]),
        (DOCUMENTS[0], 6, [[12, 13], [13, 14]]),
        (DOCUMENTS[0], 6, [[1, 1]] * 2000),
        (DOCUMENTS[0], 1, b"short"),
        (DOCUMENTS[2], 6, 9),
        (DOCUMENTS[3], 5, [[6, HASH, 1], [5, HASH, 1]]),
        (DOCUMENTS[4], 5, 77),
        (DOCUMENTS[5], 7, bytes(32)),
        (DOCUMENTS[5], 6, [[5, HASH, b"odd"]]),
        (DOCUMENTS[6], 5, [[2, 1, 1, 1, 1]]),
        (DOCUMENTS[8], 7, 1_000_000),
        (DOCUMENTS[11], 4, []),
        (DOCUMENTS[11], 4, [b"x"] * 5),
    ],
)
def test_a_field_out_of_range_is_malformed(document: Any, field: int, value: object) -> None:
    items = _items(document.to_bytes())
    items[field] = value
    with pytest.raises(MalformedObject):
        type(document).from_bytes(encode(items))


def test_every_refusal_has_a_code() -> None:
    assert REFUSAL_CODES.keys() == set(Refusal)
    assert len(set(REFUSAL_CODES.values())) == len(Refusal)


def test_a_note_is_bound_to_its_key() -> None:
    body, key = DOCUMENTS[2].to_bytes(), b"k" * 16
    sealed = seal_note(body, key)
    assert unseal_note(sealed, key) == body
    for bad in (sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed[:16], b"", bytes(2000)):
        with pytest.raises(MalformedObject):
            unseal_note(bad, key)
    with pytest.raises(MalformedObject):
        unseal_note(sealed, b"K" * 16)


# -- calendars -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"net": bytes(8)}, "net"),
        ({"slot_s": 4}, "grid"),
        ({"t0_ms": T0_MS + 1}, "grid"),
        ({"slots": 0, "blocked": ()}, "range"),
        ({"slots": 401 * DAY}, "range"),
        ({"first_slot": 2**32 - 1, "blocked": ()}, "range"),
        ({"first_slot": 41 * DAY, "blocked": ()}, "ahead"),
        ({"blocked": ((9, 12),)}, "range"),
        ({"blocked": ((109, 110),)}, "range"),
        ({"blocked": ((10, 60),)}, "share"),
        ({"slots": 4 * DAY, "blocked": ((20, 20 + DAY),)}, "run"),
        ({"slots": 4 * DAY, "blocked": ((20, 19 + DAY), (20 + DAY, 20 + DAY))}, "run"),
        ({"jitter_ms": 501}, "jitter"),
    ],
)
def test_a_calendar_that_asks_for_too_much_is_refused_by_name(change: dict[str, Any], code: str) -> None:
    with pytest.raises(CalendarRefused) as caught:
        check_calendar(rules(), calendar(**change), 0)
    assert caught.value.code == code


def test_a_calendar_at_its_limits_is_taken() -> None:
    check_calendar(rules(), calendar(blocked=((10, 59),), jitter_ms=500), 0)
    check_calendar(rules(), calendar(slots=4 * DAY, blocked=((20, 19 + DAY),)), 0)
    assert longest_run(calendar()) == 2


async def test_what_a_calendar_said_stays_said() -> None:
    store = MemoryStore()
    kept = Calendars(rules(), Ledger(store, NET))
    await kept.load()
    assert kept.before(0) == -1
    assert await kept.take(calendar(), b"signed", 0)
    assert not await kept.take(calendar(), b"signed again", 0)
    for change in ({"blocked": ()}, {"first_slot": 109, "blocked": ()}, {"slots": 90}):
        with pytest.raises(CalendarRefused, match="overlap"):
            await kept.take(calendar(**change), b"other", 0)
    again = Calendars(rules(), Ledger(store, NET))
    await again.load()
    assert [slot for slot in range(130) if again.blocked(slot)] == [12, 13, 20]
    assert (again.before(14), again.before(12), again.before(21)) == (11, 11, 19)
    assert again.signed_between(0, 10) == (b"signed",)
    assert again.signed_between(110, 200) == ()
    for number in range(1, KEPT):
        await again.take(calendar(first_slot=10 + 100 * number, blocked=()), b"next", 0)
    with pytest.raises(CalendarRefused, match="many"):
        await again.take(calendar(first_slot=10 + 100 * KEPT, blocked=()), b"next", 0)
    assert await again.take(calendar(first_slot=10 + 100 * KEPT, blocked=()), b"next", 400)
    assert not again.blocked(12)


# -- receipts and digests ------------------------------------------------------------------------------


async def test_a_diary_survives_a_restart_and_keeps_a_promise() -> None:
    store = MemoryStore()
    diary = Diary(Ledger(store, NET), 2)
    await diary.open(1)
    await diary.turn(20_000, bytes(32))
    await diary.submitting(5, HASH)
    assert not await diary.received(5, ROSTER_HASH, Taken.ACCEPTED)
    assert not await diary.received(6, HASH, Taken.ACCEPTED)
    assert not diary.promised(5)
    assert await diary.received(5, HASH, Taken.ACCEPTED)
    assert await diary.received(5, HASH, Taken.LATE)
    await diary.opening(5, ROSTER_HASH)
    await diary.opening(6, ROSTER_HASH)
    again = Diary(Ledger(store, NET), 2)
    await again.open(1)
    assert (again.epoch, again.promised(5), again.answered(6)) == (20_000, True, False)
    assert again.frames() == (SentFrames(5, HASH, ROSTER_HASH),)


async def test_twice_left_out_in_thirty_days_is_an_alarm() -> None:
    store = MemoryStore()
    diary = Diary(Ledger(store, NET), 2)
    await diary.open(1)
    assert not await diary.missed(5, b"m5")
    assert not await diary.missed(5, b"m5 again")
    assert not await diary.missed(5 + 30 * DAY, b"much later")
    events = await diary.missed(6 + 30 * DAY, b"and again")
    assert [one.signed for one in events] == [b"much later", b"and again"]


def test_a_digest_is_chained_to_the_day_before() -> None:
    one = SlotDigest(NET, 1, 2, 20_000, bytes(32), (SentFrames(5, HASH),))
    two = replace(one, before=one.chained)
    assert len({one.chained, two.chained, replace(one, frames=(SentFrames(5, HASH, HASH),)).chained}) == 3


# -- outages -------------------------------------------------------------------------------------------


def forgiven(*notices: OutageNotice, slot: int = 6) -> Lifted:
    return lifted(rules(), 1, ROSTER_HASH, 8, slot, notices)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"net": bytes(8)}, "roster"),
        ({"version": 2}, "roster"),
        ({"roster_hash": HASH}, "roster"),
        ({"first_slot": 7}, "slot"),
        ({"last_slot": 5}, "slot"),
        ({"last_slot": 5 + DAY}, "length"),
    ],
)
def test_an_outage_notice_for_something_else_lifts_nothing(change: dict[str, Any], code: str) -> None:
    with pytest.raises(OutageRefused) as caught:
        forgiven(notice(), notice(**change))
    assert caught.value.code == code


def test_of_several_notices_the_strictest_counts() -> None:
    with pytest.raises(OutageRefused, match="none"):
        forgiven()
    with pytest.raises(MalformedObject):
        forgiven(notice(lost=b"\x00\x00"))
    assert forgiven(notice(share_ppm=500_000)) == Lifted(frozenset({2, 3}), 500_000)
    other = notice(lost=to_bitmap([3, 4], 8), share_ppm=300_000)
    assert forgiven(notice(share_ppm=500_000), other) == Lifted(frozenset({3}), 300_000)


def test_a_notice_lifts_delta_and_nothing_else() -> None:
    everybody = frozenset(range(1, 9))
    some = everybody - {2, 3, 4}
    assert not enough_of(rules(), some, everybody, None)
    assert enough_of(rules(), some, everybody, Lifted(frozenset({2, 3, 4}), 0))
    assert not enough_of(rules(), frozenset({1, 5}), everybody, Lifted(frozenset({2, 3, 4}), 0))
    assert enough_of(rules(), some, everybody, Lifted(frozenset(), 400_000))
    assert not enough_of(rules(), some, everybody, Lifted(frozenset(), 300_000))


def street(n_min: int) -> Net:
    """Eight members; after the slot was submitted, the four of one street are gone."""
    chosen = rules(n_min=n_min)
    net = Net(chosen, 8, graph.complete_graph(range(1, 9)))
    net.submit({index: (index, 0, 1) for index in range(1, 5)})
    net.close()
    return net


def test_fault_4_a_whole_street_is_gone_without_a_notice_nobody_opens() -> None:
    net = street(n_min=4)
    with pytest.raises(OpeningRefused) as caught:
        net.open()
    assert caught.value.refusal is Refusal.EXCLUDED


def test_fault_4_with_a_notice_the_rest_is_summed_and_floors_still_hold() -> None:
    net, allowed = street(n_min=4), Lifted(frozenset({5, 6, 7, 8}), 0)
    assert net.manifest is not None
    for index in net.accepted:
        assert net.rounds[index].excludes(net.manifest)
        state = net.rounds[index].consider(net.manifest, net.path(index), allowed=allowed)
        assert state is SlotState.ACCEPTED
        net.openings[index] = net.rounds[index].open()
    assert net.total() == (1 + 2 + 3 + 4, 0, 4)
    net = street(n_min=5)
    assert net.manifest is not None
    with pytest.raises(OpeningRefused) as caught:
        net.rounds[1].consider(net.manifest, net.path(1), allowed=allowed)
    assert caught.value.refusal is Refusal.COMPONENT


# -- policy --------------------------------------------------------------------------------------------


def test_bridges_that_join_nothing_are_refused_by_name_with_a_hint() -> None:
    with pytest.raises(NetRefused, match=r"bridges = 2.*at least two cells that they join"):
        NetRules.from_profile(policy(bridges=2))


@pytest.mark.parametrize("change", [{"calendar": "signed"}])
def test_what_members_must_agree_on_is_in_the_policy_hash(change: dict[str, Any]) -> None:
    assert rules(**change).policy_hash() != rules().policy_hash()
    assert replace(rules(), bridges=1).policy_hash() != rules().policy_hash()
