"""The reconcile slot: all that is owed is carried once, through power cuts, and under pads of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.enforcement.dcnet.errors import NetRefused
from firmware.enforcement.dcnet.machines import SlotState, Step
from firmware.enforcement.dcnet.policy import reconcile_net
from firmware.enforcement.dcnet.primitives import kdf
from firmware.enforcement.dcnet.slot.ledger import Ledger, Owed
from firmware.enforcement.dcnet.slot.reconcile import Carried, carry
from firmware.errors import StoreCorrupt
from tests.unit.dcnet.support import NET, MemoryStore, PowerCut, rules


async def test_what_is_owed_is_carried_and_settled_once_even_through_a_power_cut() -> None:
    store = MemoryStore()
    ledger = Ledger(store, NET)
    for slot, energy in ((3, 10), (4, 20), (7, 40)):
        await ledger.measure(slot, energy, 1)
        await ledger.failed(slot, Step.LEAVE_OUT, "test")
    await ledger.owe(5, 6, 100, 2, "interruption")
    carried = carry(ledger.owed(), before_slot=7, max_wh=10_000)
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
    assert not carry([], 99, 1).spans


owed = st.builds(
    lambda first, length, a, b: Owed(first, first + length, a, b, "test"),
    st.integers(0, 50),
    st.integers(0, 5),
    st.integers(0, 1000),
    st.integers(0, 1000),
)


@given(st.lists(owed, max_size=12, unique_by=lambda o: (o.first_slot, o.last_slot)), st.integers(1000, 3000))
def test_nothing_is_lost_and_nothing_carried_twice(entries: list[Owed], most: int) -> None:
    rest, imported = list(entries), 0
    while rest:
        carried = carry(rest, before_slot=100, max_wh=most)
        assert carried.import_wh <= most >= carried.export_wh
        assert carried.spans
        imported += carried.import_wh
        rest = [one for one in rest if (one.first_slot, one.last_slot) not in carried.spans]
    assert imported == sum(one.import_wh for one in entries)


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
