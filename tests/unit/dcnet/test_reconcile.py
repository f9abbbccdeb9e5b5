"""The reconcile slot: all that is owed is carried once, through power cuts, and under pads of its own."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.enforcement.dcnet.errors import NetRefused
from firmware.enforcement.dcnet.machines import SlotState, Step
from firmware.enforcement.dcnet.policy import reconcile_net
from firmware.enforcement.dcnet.primitives import kdf
from firmware.enforcement.dcnet.slot.ledger import RETAINED_SLOTS, Ledger, Owed
from firmware.enforcement.dcnet.slot.reconcile import Carried, Lots, Span, carry, least_slots
from firmware.errors import StoreCorrupt
from tests.unit.dcnet.support import NET, MemoryStore, PowerCut, rules

NONE: frozenset[Span] = frozenset()


def value_of(
    entries: list[Owed], lots: Lots, *, before_slot: int = 100, max_wh: int = 10_000, least: int = 1
) -> tuple[Carried, Lots]:
    """The value of the next reconcile slot, and the lots after it."""
    lots = lots.joined_by(entries, before_slot=before_slot, max_wh=max_wh, least=least, waiting=NONE)
    return carry(entries, Lots.from_bytes(lots.to_bytes()), max_wh, NONE), lots


async def test_what_is_owed_is_carried_and_settled_once_even_through_a_power_cut() -> None:
    store = MemoryStore()
    ledger = Ledger(store, NET)
    for slot, energy in ((3, 10), (4, 20), (7, 40)):
        await ledger.measure(slot, energy, 1)
        await ledger.failed(slot, Step.LEAVE_OUT, "test")
    await ledger.owe(5, 6, 100, 2, "interruption")
    carried, _ = value_of(ledger.owed(), Lots(), before_slot=7)
    assert carried.reading() == (1300, 40, 1)
    assert carried.spans == ((3, 3), (4, 4), (5, 6))
    assert Carried.from_bytes(carried.to_bytes()) == carried
    store.fail_after = 1
    with pytest.raises(PowerCut):
        await ledger.settled(carried.spans)
    store.fail_after = None
    ledger = Ledger(store, NET)
    await ledger.load()
    await ledger.settled(carried.spans)
    await ledger.settled(carried.spans)
    assert [one.first_slot for one in ledger.owed()] == [7]
    assert {e.slot: e.state for e in ledger.entries()} == {
        3: SlotState.SETTLED,
        4: SlotState.SETTLED,
        7: SlotState.OWED,
    }
    assert not value_of([], Lots())[0].spans


async def test_two_entries_of_one_span_are_carried_together() -> None:
    ledger = Ledger(MemoryStore(), NET)
    await ledger.measure(3, 10, 1)
    await ledger.failed(3, Step.LEAVE_OUT, "test")
    await ledger.owe(3, 3, 100, 2, "interruption")
    carried, _ = value_of(ledger.owed(), Lots())
    assert (carried.reading(), carried.spans) == ((1100, 30, 1), ((3, 3),))
    await ledger.settled(carried.spans)
    assert ledger.owed() == []


async def test_a_span_that_was_settled_is_not_owed_again_and_forgotten_some_day() -> None:
    store = MemoryStore()
    ledger = Ledger(store, NET)
    await ledger.owe(3, 5, 100, 2, "interruption")
    await ledger.settled([(3, 5)])
    ledger = Ledger(store, NET)
    await ledger.load()
    await ledger.owe(3, 5, 100, 2, "interruption")
    assert ledger.owed() == []
    kept = [data for (kind, _), data in store.data.items() if kind == "dcnet-owed"]
    assert len(kept) == 1
    assert b"\x18\x64" not in kept[0], "not even how much it was"
    await ledger.measure(5 + RETAINED_SLOTS + 1, 10, 0)
    await ledger.settled([])
    assert not [key for key in store.data if key[0] == "dcnet-owed"]


owed = st.builds(
    lambda first, length, a, b: Owed(first, first + length, a, b, "test"),
    st.integers(0, 50),
    st.integers(0, 5),
    st.integers(0, 1000),
    st.integers(0, 1000),
)


@given(st.lists(owed, max_size=12, unique_by=lambda o: (o.first_slot, o.last_slot)), st.integers(1000, 3000))
def test_nothing_is_lost_and_nothing_carried_twice(entries: list[Owed], most: int) -> None:
    rest, imported, lots = list(entries), 0, Lots()
    while rest:
        carried, lots = value_of(rest, lots, max_wh=most)
        assert carried.import_wh <= most >= carried.export_wh
        assert carried.spans
        imported += carried.import_wh
        rest = [one for one in rest if (one.first_slot, one.last_slot) not in carried.spans]
    assert imported == sum(one.import_wh for one in entries)


def slots_of(spans: Iterable[Span]) -> int:
    return sum(last - first + 1 for first, last in spans)


def owing(*slots: int) -> list[Owed]:
    return [Owed(slot, slot, 10 + slot, 0, "test") for slot in slots]


def test_less_than_a_day_of_a_month_stays_owed() -> None:
    """Else the lone one that a supplier left out of a single manifest would show that slot's reading."""
    least = least_slots(2976)
    assert least == 96
    assert [least_slots(period) for period in (1, 4, 30, 61, 62)] == [1, 1, 1, 1, 2]
    entries = owing(*range(least - 1))
    carried, lots = value_of(entries, Lots(), least=least)
    assert (carried.reading(), carried.spans, lots) == ((0, 0, 1), (), Lots())
    carried, lots = value_of([*entries, *owing(least)], lots, least=least)
    assert slots_of(carried.spans) == least


def test_what_comes_after_an_aborted_reconcile_slot_waits_for_a_lot_of_its_own() -> None:
    """Else a supplier that knows the sum it calls aborted sees one slot as the difference to the next one."""
    first, lots = value_of(owing(1, 2, 3), Lots(), least=3)
    second, lots = value_of(owing(1, 2, 3, 4), lots, least=3)
    assert first == second
    third, lots = value_of(owing(1, 2, 3, 4, 5, 6), lots, least=3)
    assert third.import_wh - second.import_wh == sum(one.import_wh for one in owing(4, 5, 6))


def test_a_lot_with_an_entry_that_waits_is_left_out_whole() -> None:
    entries = owing(1, 2, 3)
    _, lots = value_of(entries, Lots(), least=2)
    waiting = frozenset({(2, 2)})
    assert carry(entries, lots, 10_000, waiting).spans == ()
    assert carry(entries, lots, 10_000, NONE).spans == ((1, 1), (2, 2), (3, 3))
    fresh = Lots().joined_by(entries, before_slot=9, max_wh=10_000, least=2, waiting=waiting)
    assert fresh == Lots((((1, 1), (3, 3)),))


steps = st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=12)


@given(steps, st.integers(1, 5), st.integers(100, 2000))
def test_no_two_values_differ_by_less_than_a_lot(
    steps: list[tuple[int, bool]], least: int, most: int
) -> None:
    """Whatever the supplier calls aborted: what it can tell apart are sets of at least `least` slots."""
    rest: list[Owed] = []
    lots, told, slot = Lots(), list[frozenset[Span]](), 0
    for more, totalled in steps:
        rest += owing(*range(slot, slot + more))
        slot += more
        carried, lots = value_of(rest, lots, max_wh=most, least=least)
        told.append(frozenset(carried.spans))
        if totalled:
            rest = [one for one in rest if (one.first_slot, one.last_slot) not in carried.spans]
    atoms: dict[tuple[bool, ...], set[Span]] = {}
    for span in frozenset[Span]().union(*told):
        atoms.setdefault(tuple(span in one for one in told), set()).add(span)
    assert all(slots_of(atom) >= least for atom in atoms.values())


def test_the_reconcile_net_has_other_pads_and_room_for_a_month() -> None:
    monthly = rules(reconcile_slots=2976).reconciled()
    assert monthly.net == reconcile_net(NET) != NET
    assert monthly.max_wh == rules().max_wh * 2976
    assert monthly.slot_end(0) == rules().slot_end(2975)
    assert monthly.epoch_of(0) == rules().epoch_of(2975)  # the day it ends in, not the one it begins in
    with pytest.raises(NetRefused):
        rules().reconciled()
    with pytest.raises(NetRefused):
        monthly.reconciled()
    assert kdf.epoch_key(b"k" * 16, monthly.net, 1) != kdf.epoch_key(b"k" * 16, NET, 1)
    with pytest.raises(NetRefused, match="wrap"):
        rules(max_wh=10**14, n_max=4, reconcile_slots=2976)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x83\x01\x02\x03", b"\x83\x01\x02\x81\x81\x01"])
def test_a_damaged_record_is_named(data: bytes) -> None:
    with pytest.raises(StoreCorrupt):
        Carried.from_bytes(data)


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x81\x01", b"\x81\x80", b"\x81\x81\x81\x01"])
def test_a_damaged_record_of_lots_is_named(data: bytes) -> None:
    with pytest.raises(StoreCorrupt):
        Lots.from_bytes(data)
