"""The ledger survives a power cut at any write, never begins an old slot, and loses no energy."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.enforcement.dcnet.errors import SlotInPast, UnexpectedStep
from firmware.enforcement.dcnet.machines import SlotState, Step
from firmware.enforcement.dcnet.slot.ledger import Ledger, SlotEntry, mark_restored
from firmware.errors import ReadingRefused, StoreCorrupt
from firmware.store.operations import Append
from tests.unit.dcnet.support import NET, MemoryStore, PowerCut


async def reload(store: MemoryStore) -> Ledger:
    store.fail_after = None
    ledger = Ledger(store, NET)
    await ledger.load()
    return ledger


async def life(ledger: Ledger) -> None:
    await ledger.measure(4, 500, 20)
    await ledger.submitting(4, epoch=9, seed=b"s" * 16, frame=b"frame", previous=b"p" * 32)
    await ledger.opening(4, manifest_hash=b"m" * 32, members=5, frame=b"opening")
    await ledger.totalled(4)


@pytest.mark.parametrize("cut", range(5))
async def test_after_a_power_cut_the_ledger_is_as_after_one_of_its_writes(cut: int) -> None:
    store = MemoryStore()
    ledger = await reload(store)
    store.fail_after = cut
    with contextlib.suppress(PowerCut):
        await life(ledger)
    again = await reload(store)
    entry = again.entry(4)
    if cut == 0:
        assert entry is None
        assert again.last_slot == -1
        return
    assert entry is not None
    assert entry.state is list(SlotState)[min(cut, 2) if cut < 3 else cut + 1]
    assert (entry.submitted, entry.seed) == {
        SlotState.MEASURED: (b"", b""),
        SlotState.SUBMITTED: (b"frame", b"s" * 16),
        SlotState.OPENED: (b"frame", b""),
        SlotState.TOTALLED: (b"", b""),
    }[entry.state]
    with pytest.raises(SlotInPast):
        await again.measure(3, 1, 1)
    with pytest.raises(ReadingRefused):  # the same error, as callers outside the package see it
        await again.measure(4, 501, 20)


async def test_a_slot_cannot_be_submitted_or_opened_twice() -> None:
    ledger = await reload(MemoryStore())
    await ledger.measure(4, 500, 20)
    await ledger.submitting(4, epoch=9, seed=b"s" * 16, frame=b"frame", previous=b"p" * 32)
    with pytest.raises(UnexpectedStep):
        await ledger.submitting(4, epoch=9, seed=b"t" * 16, frame=b"other", previous=b"p" * 32)
    await ledger.opening(4, manifest_hash=b"m" * 32, members=5, frame=b"opening")
    with pytest.raises(UnexpectedStep):
        await ledger.opening(4, manifest_hash=b"n" * 32, members=4, frame=b"other")
    entry = ledger.entry(4)
    assert entry is not None
    assert (entry.submitted, entry.opened) == (b"frame", b"opening")


async def test_i12_energy_is_either_totalled_or_owed() -> None:
    store = MemoryStore()
    ledger = await reload(store)
    for slot, step in ((1, Step.LEAVE_OUT), (2, Step.REFUSE), (3, Step.ABORT)):
        await ledger.measure(slot, slot * 100, slot)
        if step is not Step.LEAVE_OUT:
            await ledger.submitting(slot, epoch=9, seed=b"s" * 16, frame=b"f", previous=b"p" * 32)
        if step is Step.ABORT:
            await ledger.opening(slot, manifest_hash=b"m" * 32, members=5, frame=b"o")
        await ledger.failed(slot, step, step.value)
    await life(ledger)
    await ledger.owe(5, 9, 7000, 3, "interruption")
    await ledger.owe(5, 9, 7000, 3, "interruption")
    owed = (await reload(store)).owed()
    assert [(o.first_slot, o.last_slot, o.import_wh, o.export_wh) for o in owed] == [
        (1, 1, 100, 1),
        (2, 2, 200, 2),
        (3, 3, 300, 3),
        (5, 9, 7000, 3),
    ]
    assert all(b"s" * 16 not in data for data in store.data.values())


async def test_old_totals_are_forgotten_and_debts_are_not() -> None:
    ledger = await reload(MemoryStore())
    for slot in (1, 2, 400):
        await ledger.measure(slot, 5, 0)
        if slot == 1:
            await ledger.failed(slot, Step.LEAVE_OUT, "x")
            continue
        await ledger.submitting(slot, epoch=9, seed=b"s" * 16, frame=b"f", previous=b"p" * 32)
        await ledger.opening(slot, manifest_hash=b"m" * 32, members=5, frame=b"o")
        await ledger.totalled(slot)
    assert [entry.slot for entry in ledger.entries()] == [1, 400]


async def test_two_nets_do_not_see_each_other() -> None:
    store = MemoryStore()
    one, other = Ledger(store, NET), Ledger(store, bytes(8))
    await one.measure(4, 500, 0)
    await one.owe(5, 6, 1, 1, "x")
    await other.load()
    assert other.entries() == []
    assert other.owed() == []


@given(st.binary(max_size=60))
def test_any_record_is_an_entry_or_corrupt(data: bytes) -> None:
    with contextlib.suppress(StoreCorrupt):
        SlotEntry.from_bytes(data)


async def test_a_damaged_record_is_named() -> None:
    store = MemoryStore()
    store.data["dcnet-slot", NET.hex() + "/0000000001"] = b"\x80"
    with pytest.raises(StoreCorrupt):
        await reload(store)
    good = SlotEntry(1, SlotState.MEASURED).to_bytes()
    with pytest.raises(StoreCorrupt):
        SlotEntry.from_bytes(good.replace(b"\x8c\x01\x01", b"\x8c\x01\x17"))


def test_no_reading_or_secret_in_a_repr() -> None:
    shown = repr(SlotEntry(1, SlotState.SUBMITTED, 4711, 815, 9, b"\xaa" * 16, b"\xbb" * 100))
    assert "4711" not in shown
    assert "815" not in shown
    assert "\\xaa" not in shown


async def test_fau_gen_1_a_total_and_its_log_entry_are_one_commit() -> None:
    """FAU_GEN.1/CON: a power cut leaves both or neither."""
    store = MemoryStore()
    ledger = await reload(store)
    await ledger.measure(4, 500, 20)
    await ledger.submitting(4, epoch=9, seed=b"s" * 16, frame=b"frame", previous=b"p" * 32)
    await ledger.opening(4, manifest_hash=b"m" * 32, members=5, frame=b"opening")
    store.commits = []
    entry = Append("log/consumer/anna", b"entry")
    await ledger.totalled(4, (entry,))
    [(first, second)] = store.commits
    assert (first.kind, second) == ("dcnet-slot", entry)
    assert (await reload(store)).entry(4).state is SlotState.TOTALLED


async def test_after_a_restore_nothing_of_before_is_submitted_or_opened_again() -> None:
    """The copy that was in use may have done so already: with other seeds, or under another manifest."""
    store = MemoryStore()
    ledger = await reload(store)
    for slot in (4, 5, 6):
        await ledger.measure(slot, 100 * slot, 0)
        if slot < 6:
            await ledger.submitting(slot, epoch=9, seed=b"s" * 16, frame=b"frame", previous=b"p" * 32)
    await ledger.opening(4, manifest_hash=b"m" * 32, members=5, frame=b"opening")
    await mark_restored(store, datetime(2026, 1, 1, 2, 0, tzinfo=UTC))

    again = Ledger(store, NET, lambda instant: instant.hour + 6)  # slot 8 ran when they were put back
    await again.load()
    states = {entry.slot: (entry.state, entry.seed) for entry in again.entries()}
    assert states == {
        4: (SlotState.OPENED, b""),  # the same bytes may leave again
        5: (SlotState.REFUSED, b""),  # its result says whether a total has it
        6: (SlotState.OWED, b""),
    }
    assert [again.is_past(slot) for slot in (5, 6, 7, 8)] == [False, False, True, False]
    await again.measure(8, 1, 0)
    with pytest.raises(UnexpectedStep):
        await again.opening(5, manifest_hash=b"n" * 32, members=5, frame=b"another")
    later = Ledger(store, NET, lambda instant: instant.hour + 6)
    await later.load()
    assert {entry.slot: entry.state for entry in later.entries()} == {
        4: SlotState.OPENED,
        5: SlotState.REFUSED,
        6: SlotState.OWED,
        8: SlotState.MEASURED,
    }
