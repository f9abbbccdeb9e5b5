"""The chain of manifests that a member keeps: one beginning an epoch, through restarts and power cuts."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest

from firmware.enforcement.dcnet.errors import Equivocation
from firmware.enforcement.dcnet.messages.canonical import decode
from firmware.enforcement.dcnet.messages.documents import document_hash, to_bitmap
from firmware.enforcement.dcnet.messages.manifest import EpochManifest
from firmware.enforcement.dcnet.slot.chain import ManifestChain
from firmware.enforcement.dcnet.slot.ledger import Ledger
from tests.unit.dcnet.support import NET, MemoryStore, PowerCut

FIRST = EpochManifest(NET, 1, bytes(32), 20_000, 7, to_bitmap(range(1, 6), 5))
OTHER = replace(FIRST, present=to_bitmap(range(1, 5), 5))
NEXT = replace(OTHER, epoch=20_001, first_slot=103)


async def chain(store: MemoryStore) -> ManifestChain:
    store.fail_after = None
    kept = ManifestChain(Ledger(store, NET))
    await kept.load()
    await kept.open(1, 5)
    return kept


@pytest.mark.parametrize("restart", [False, True])
async def test_a_second_beginning_of_an_epoch_is_proof_of_a_lie_and_kept_for_ever(restart: bool) -> None:
    store = MemoryStore()
    begun = await chain(store)
    await begun.start(FIRST, b"first")
    await begun.start(FIRST, b"first")  # said again, it changes nothing
    if restart:
        begun = await chain(store)
    with pytest.raises(Equivocation) as lie:
        await begun.start(OTHER, b"other")
    assert lie.value.slot == 7
    assert begun.head is not None
    assert begun.head.hash == document_hash(FIRST)
    assert (await chain(store)).proof == (b"first", b"other")
    assert [decode(data) for (_, key), data in store.data.items() if key.endswith("quarantine")] == [
        [b"first", b"other"]
    ]


async def test_another_epoch_begins_otherwise() -> None:
    store = MemoryStore()
    begun = await chain(store)
    await begun.start(FIRST, b"first")
    await begun.start(NEXT, b"next")
    assert begun.proof is None
    assert begun.in_epoch(20_001)
    assert not begun.in_epoch(20_000)


@pytest.mark.parametrize("cut", range(4))
async def test_a_power_cut_while_an_epoch_begins_leaves_nothing_that_looks_like_a_lie(cut: int) -> None:
    store = MemoryStore()
    begun = await chain(store)
    store.fail_after = cut
    with contextlib.suppress(PowerCut):
        await begun.start(FIRST, b"first")
    again = await chain(store)
    await again.start(FIRST, b"first")
    assert again.proof is None
    assert again.head is not None
    assert (again.head.slot, again.head.present) == (6, frozenset(range(1, 6)))
