"""Rosters change while their nets serve: nobody is lost or counted twice, and nobody can be made to be."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.machines import MemberState, SlotState
from hsm.api import KeySlot
from tests.support.virtual_time import VirtualClock, run_virtually
from tests.unit.dcnet.roster_street import Net, Street, told
from tools.counterparts.pki import make_pki

HOMES = [f"esgw01000000{number:02d}" for number in range(1, 16)]
STAY, MOVE, THERE = HOMES[:6], HOMES[6:9], HOMES[9:]
"""Net A has nine members, of which a third goes to net B."""


def value(name: str, slot: int) -> int:
    return 100 * (slot % 50) + HOMES.index(name) + 1


def tenths(names: list[str], slot: int) -> int:
    return 10 * sum(value(name, slot) for name in names)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_pki(tmp_path / "pki")
    return tmp_path / "pki"


def test_a_third_of_a_net_changes_its_supplier_at_one_boundary(folder: Path) -> None:
    run_virtually(_a_third_moves(folder))


async def _a_third_moves(folder: Path) -> None:
    a, b = Net(folder, 1, STAY + MOVE, STAY + MOVE), Net(folder, 2, THERE, THERE)
    async with Street(folder) as street, asyncio.timeout(4000):
        for net in (a, b):
            street.open(net)
        for name in HOMES:
            street.join(await street.build(name), b if name in THERE else a)
        homes = street.homes
        await street.until(
            lambda: all(told(homes[name], NetEventKind.JOINED, b if name in THERE else a) for name in HOMES)
        )
        assert all(KeySlot.DCNET_1 not in home.module.keys for home in homes.values())
        # The administrator orders new profiles: from T on the movers are B's.
        first = a.rules.slot_at(VirtualClock().now_utc()) + 2
        boundary = a.rules.first_slot_of(a.rules.epoch_of(first) + 2)
        b.ordered |= set(MOVE)
        b.emp.follow(dict.fromkeys(THERE + MOVE, "gwa"))
        change = a.rules.slot_end(boundary - 1)
        for name in MOVE:
            await street.stop(homes[name], a)
            street.join(homes[name], a, ends_utc=change)
            street.join(homes[name], b, KeySlot.DCNET_2, begins_utc=change)
        last = boundary + 3
        for slot in range(first, last + 1):
            await street.after(a.rules, slot)
            for name in HOMES:
                net = b if name in THERE or (name in MOVE and slot >= boundary) else a
                await homes[name].members[net.net_id].contribute(slot, value(name, slot))
        await street.until(lambda: last in a.totals() and last in b.totals())
        await asyncio.sleep(30)
        for event in a.seen + b.seen:
            if event["event"] != "submit": print({k: v for k, v in event.items()})
        for h in homes.values(): print(h.name, [(e.kind.value, e.slot, e.reason) for e in h.events if e.kind.value not in ("totalled",)])
        for slot in range(first, last + 1):
            moved = MOVE if slot >= boundary else []
            left = MOVE if slot < boundary else []
            assert a.totals()[slot]["members"] == STAY + left
            assert sorted(b.totals()[slot]["members"]) == sorted(THERE + moved)
            assert a.totals()[slot]["lanes"] == [tenths(STAY + left, slot), 0, len(STAY + left)]
            assert b.totals()[slot]["lanes"] == [tenths(THERE + moved, slot), 0, len(THERE + moved)]
        for name in MOVE:
            assert homes[name].members[a.net_id].state is MemberState.OFF
            assert homes[name].members[b.net_id].state is MemberState.ACTIVE
            assert not {key for key in homes[name].module.keys if key.name.startswith("DCNET")}
            assert not [key for _, key in homes[name].store.data if "/keys-" in key and key.startswith(a.net_id)]
            assert told(homes[name], NetEventKind.LEFT, a) == 1
