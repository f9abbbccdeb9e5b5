"""Nets joined by bridges, whole and running: one sum of all, through drop-outs, audits and new rosters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.machines import SlotState
from firmware.enforcement.dcnet.primitives.cells import Joints
from firmware.enforcement.dcnet.service.standing import describe
from firmware.profile import net_cells
from tests.support.instant_loop import run
from tests.support.virtual_time import VirtualClock as RosterClock
from tests.support.virtual_time import run_virtually
from tests.unit.dcnet.roster_street import Net, Street, believe_names, told
from tests.unit.dcnet.running_net import Home, RunningNet, energies, energy_of
from tools.cli.dcnet import app
from tools.counterparts.pki import make_pki
from tools.dcnet.drawing import draw
from tools.dcnet.leak import Known, known
from tools.dcnet.record import PublicNet, Seen
from tools.dcnet.terminal import view
from tools.homes.liar import Lie, corrupt

SIZE, CELLS = 24, 3


def joined(**changes: object) -> RunningNet:
    """Three complete cells of eight, each smaller than n_min."""
    fields: dict[str, object] = {"n_min": 18, "d_min": 5, "cells": CELLS, "bridges": 6, "delta": 0.45}
    fields["recovery"] = "witness"
    return RunningNet(SIZE, **(fields | changes))


def joints_of(net: RunningNet) -> Joints:
    member = net.homes[0].member
    assert member is not None
    assert member.membership is not None
    assert member.membership.joints is not None
    return member.membership.joints


def silence(net: RunningNet, what: str, members: Collection[int]) -> None:
    for index in members:
        net.homes[index - 1].cut = lambda resource: f"/{what}/" in resource


def heal(net: RunningNet) -> None:
    for home in net.homes:
        home.cut = lambda _resource: False


async def whole(net: RunningNet, slot: int, without: Collection[int] = ()) -> None:
    """A slot with the right total over everybody but some."""
    await net.contribute(slot)
    await net.until(slot, 59)
    total = net.totals()[slot]
    assert total["verdict"] == "totalled", net.events[-5:]
    away = tuple(f"gw{index}" for index in without)
    assert total["lanes"] == [energies(net, slot, away) * 10, 0, SIZE - len(without)]


def ends_at(joints: Joints, cell: int) -> set[int]:
    """Ends outside a cell of two bridges at each joint: without them it no longer counts as joined."""
    return {
        one
        for joint, edges in joints.bridges.items()
        if cell in joint
        for edge in sorted(edges)[:2]
        for one in edge
        if joints.cell_of[one] != cell
    }


def without_bridges(record: list[Seen], joints: Joints) -> list[Seen]:
    """The same record, had there been no bridges: the cells as nets of their own."""
    bridges = frozenset().union(*joints.bridges.values())
    found = []
    for one in record:
        if one.kind == "net":
            public = PublicNet.from_bytes(one.data)
            edges = tuple(edge for edge in public.edges if edge not in bridges)
            one = replace(one, data=replace(public, edges=edges).to_bytes())
        found.append(one)
    return found


def leak(folder: Path, record: list[Seen], *arguments: str) -> tuple[int, dict[str, Any]]:
    """`smgw dcnet leak` on a record: exit code and what it says."""
    folder.mkdir()
    (folder / "messages.jsonl").write_text("".join(one.to_line() + "\n" for one in record))
    done = CliRunner().invoke(app, ["leak", str(folder), "--json", *arguments])
    return done.exit_code, json.loads(done.stdout)


def sums(found: Known) -> list[int]:
    """How many readings each determined sum has."""
    assert all(set(row.values()) == {1} for row in found.basis)
    return sorted(len(row) for row in found.basis)


def test_joined_nets_have_one_sum_through_drop_outs_and_nobody_learns_that_of_a_cell(tmp_path: Path) -> None:
    async def main() -> None:
        async with joined() as net:
            slot, joints = net.first, joints_of(net)
            assert sorted(len(edges) for edges in joints.bridges.values()) == [6, 6, 6]
            await whole(net, slot)
            # One member away before the manifest, the end of a bridge; one of another cell lost after it.
            adjacent = net.coordinator.slots.adjacent
            gone = next(iter(sorted(joints.bridges[0, 1])))[0]
            lost = next(
                one
                for one in range(1, SIZE + 1)
                if one not in adjacent[gone]
                and one != gone
                and any(joints.cell_of[peer] != joints.cell_of[one] for peer in adjacent[one])
            )
            silence(net, "submit", [gone])
            silence(net, "open", [lost])
            await whole(net, slot + 1, [gone])
            assert [event["lost"] for event in net.of("recovery ordered")] == [[lost]]
            heal(net)
            await net.contribute(slot + 2)
            await net.until(slot + 2, 59)
            await net.restart(net.homes[gone - 1])
            await whole(net, slot + 3)
            assert joints_of(net) == joints
            record = net.record()
            code, found = leak(tmp_path / "joined", record)
            assert (code, found["singles"]) == (0, [])
            assert all(one["plain_sum"] for one in found["sums"])
            # One sum a slot, of all cells together.
            assert sorted(one["readings"] for one in found["sums"]) == [SIZE - 1, SIZE - 1, SIZE, SIZE]
            code, found = leak(tmp_path / "apart", without_bridges(record, joints))
            assert code == 1  # without bridges each cell's sum is there, and a cell is smaller than n_min
            assert len(found["sums"]) == 4 * CELLS
            assert max(one["readings"] for one in found["sums"]) == SIZE // CELLS
            # A corrupt member of each cell is subtracted and separates nothing.
            corrupt_ = [str(min(m for m, c in joints.cell_of.items() if c == cell)) for cell in range(CELLS)]
            gone_too = CELLS - 1 if str(gone) in corrupt_ else CELLS
            code, found = leak(tmp_path / "corrupt", record, "--corrupt", ",".join(corrupt_))
            sizes = sorted(one["readings"] for one in found["sums"])
            assert sizes == sorted([SIZE - 1 - gone_too] * 2 + [SIZE - CELLS] * 2)

    run(main())


def test_without_bridges_the_sum_of_each_cell_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No policy may ask for that; here it runs."""
    monkeypatch.setattr(net_cells, "problems", lambda *_facts, **_more: ())

    async def main() -> None:
        async with joined(bridges=0, n_min=8) as net:
            await whole(net, net.first)
            code, found = leak(tmp_path / "apart", net.record())
            assert code == 0  # each cell has n_min members
            assert [one["readings"] for one in found["sums"]] == [SIZE // CELLS] * CELLS

    run(main())


def test_if_one_cell_is_cut_off_all_abort_and_owe_and_the_next_slot_is_whole() -> None:
    async def main() -> None:
        async with joined() as net:
            slot, joints = net.first, joints_of(net)
            await whole(net, slot)
            cut = ends_at(joints, 0)
            silence(net, "submit", cut)
            await net.contribute(slot + 1)
            await net.until(slot + 1, 59)
            assert net.totals()[slot + 1]["verdict"] == "aborted"
            for index, home in enumerate(net.homes, 1):
                assert (await home.states())[slot + 1] in (SlotState.OWED,), index
                assert slot + 1 in await home.owed()
                if index not in cut:
                    reasons = [event.reason for event in home.events]
                    assert any("component of" in reason for reason in reasons), home.name
                    assert len(home.bodies(f"/open/{slot + 1}/")) == 0
            heal(net)
            await net.contribute(slot + 2)
            await net.until(slot + 2, 59)
            await whole(net, slot + 3)
            found = known(net.record(), [])
            assert not found.too_small
            assert SIZE in sums(found)

    run(main())


def test_a_part_that_is_large_enough_may_open_and_its_sum_is_all_that_is_learned() -> None:
    """Without the ends of its bridges a cell is cut off; the two others are more than n_min."""

    async def main() -> None:
        async with joined(n_min=9, bridges=2) as net:
            slot, joints = net.first, joints_of(net)
            cell = [
                one for joint, edges in joints.bridges.items() if 1 in joint for edge in edges for one in edge
            ]
            silence(net, "submit", {one for one in cell if joints.cell_of[one] == 1})
            await net.contribute(slot)
            await net.until(slot, 59)
            assert net.totals()[slot]["verdict"] == "aborted"  # one part does not open: all abort
            for index, home in enumerate(net.homes, 1):
                opened = len(home.bodies(f"/open/{slot}/"))
                assert opened == (joints.cell_of[index] != 1), home.name
                assert slot in await home.owed()
            found = known(net.record(), [])
            assert sums(found) == [16]
            assert not found.too_small

    run(main())


def test_what_an_aborted_slot_owes_is_in_the_sum_of_the_period_of_all_cells() -> None:
    async def main() -> None:
        async with joined(reconcile_slots=4) as net:
            slot, joints = net.first, joints_of(net)
            last = slot + 3 - (slot + 3) % 4 + 3  # an abort is carried once the next manifest has said so
            silence(net, "submit", ends_at(joints, 2))
            await net.contribute(slot)
            await net.until(slot, 50)
            heal(net)
            for later in range(slot + 1, last + 1):
                await net.contribute(later)
                await net.until(later, 50)
            await net.until(last, 55)
            totals = list(net.totals(reconcile=True).values())
            assert {total["verdict"] for total in totals} == {"totalled"}
            # Who was away is expected again one slot later: until then the joints do not hold.
            assert [net.totals()[one]["verdict"] for one in range(slot, slot + 3)] == [
                "aborted",
                "aborted",
                "totalled",
            ]
            owed = energies(net, slot) + energies(net, slot + 1)
            assert sum(total["lanes"][0] for total in totals) == 10 * owed
            assert {total["lanes"][2] for total in totals} == {SIZE}
            for home in net.homes:
                assert home.member is not None
                assert home.member.membership is not None
                assert home.member.membership.reconcile is not None
                assert home.member.membership.reconcile.joints == joints

    run(main())


@pytest.mark.parametrize("across", [True, False])
def test_an_audit_finds_a_wrong_pad_on_a_bridge_as_on_any_edge(across: bool) -> None:
    async def main() -> None:
        async with joined() as net:
            slot, joints = net.first, joints_of(net)
            liar, peer = sorted(joints.bridges[0, 1])[0]
            if not across:  # a mate that leaves the cell's other joint its bridges
                cell = joints.cell_of[liar]
                other = next(joint for joint in joints.bridges if cell in joint and joint != (0, 1))
                ends = {one for edge in joints.bridges[other] for one in edge}
                peer = next(p for p, c in joints.cell_of.items() if c == cell and p not in {liar, *ends})
            corrupt(net.homes[liar - 1].member, Lie.EDGE, peer=peer)
            await net.contribute(slot)
            await net.until(slot, 60.5)
            assert net.totals()[slot]["verdict"] == "aborted"  # of every cell: the canary counts all together
            (found,) = net.of("audit")
            assert (found["members"], found["edges"], found["silent"]) == ([], [sorted((liar, peer))], [])
            for home in net.homes:
                await home.member.contribute(slot + 1, energy_of(home, slot + 1))  # type: ignore[union-attr]
            await net.until(slot + 1, 59)
            total = net.totals()[slot + 1]
            away = (f"gw{liar}", f"gw{peer}")
            assert total["lanes"] == [energies(net, slot + 1, away) * 10, 0, SIZE - 2]

    run(main())


def test_a_second_roster_draws_other_cells_and_the_keys_of_bridges_are_confirmed() -> None:
    changes: dict[str, object] = {"churn_min": 4, "epoch_s": 6 * 60, "roster_pause_s": 0}

    async def main() -> None:
        async with joined(poll_s=3.0, **changes) as net:
            slot, before = net.first, joints_of(net)
            come = [Home(f"gw{number}", f"gwa{1 + number % 2}") for number in range(SIZE + 1, SIZE + 5)]
            net.coordinator.follow({home.name: home.administrator for home in [*net.homes, *come]})
            for home in come:
                net.start(home)
            while not net.of("in-force"):
                await net.contribute(slot)
                await net.until(slot, 58)
                assert net.totals()[slot]["verdict"] == "totalled"
                slot += 1
            net.homes += come
            await net.contribute(slot)
            await net.until(slot, 58)
            assert net.totals()[slot]["lanes"] == [energies(net, slot) * 10, 0, SIZE + 4]
            after = joints_of(net)
            assert after.cell_of != before.cell_of
            for home in net.homes:
                assert home.member is not None
                assert home.member.membership is not None
                assert not home.member.membership.ring.unconfirmed
                assert home.member.membership.joints == after

    run(main())


def test_what_is_shown_of_a_joined_net() -> None:
    async def main() -> None:
        async with joined() as net:
            slot, joints = net.first, joints_of(net)
            cut = ends_at(joints, 0)
            silence(net, "submit", cut)
            await net.contribute(slot)
            await net.until(slot, 59)
            home = net.homes[min(set(range(1, SIZE + 1)) - cut) - 1]
            member = home.member
            assert member is not None
            said = describe(
                member.rules, member.state, member.membership, member.chain.head, await member.slots(), None
            ) | {"profile": "sums", "supplier": "emp"}
            roster = said["roster"]
            assert roster["cells"] == CELLS
            assert [one["cells"] for one in roster["joints"]] == [[1, 2], [1, 3], [2, 3]]
            assert {(one["bridges"], one["needed"]) for one in roster["joints"]} == {(6, 5)}
            assert sorted({one["cell"] for one in roster["members"]}) == [1, 2, 3]
            hidden = {one["anonymity_set"] for one in roster["members"] if not one["absent"]}
            assert max(hidden) < 18
            text = view(said).plain
            assert "cells  3 in a circle" in text
            assert "cells 1 and 2 do not count as joined" in text
            assert "3 cells with bridges" in draw([said])

    run(main())


def test_without_the_rule_for_joints_a_corrupt_bridge_would_split_the_net(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The supplier leaves out the ends of all honest bridges of a cell; one end of the last works with it."""

    async def main(ruled: bool) -> tuple[str, Known]:
        async with joined(cells=2, bridges=6, n_min=13, d_min=5) as net:
            slot, joints = net.first, joints_of(net)
            (edges,) = joints.bridges.values()
            honest = sorted(edges)[1:]
            corrupt_end = next(one for one in sorted(edges)[0] if joints.cell_of[one] == 1)
            silence(net, "submit", {one for edge in honest for one in edge if joints.cell_of[one] == 1})
            await net.contribute(slot)
            await net.until(slot, 59)
            return net.totals()[slot]["verdict"], known(net.record(), [str(corrupt_end)])

    verdict, found = run(main(True))
    assert verdict == "aborted"
    assert found.basis == []
    monkeypatch.setattr(Joints, "without_loose", lambda _self, adjacent, _among: adjacent)
    verdict, found = run(main(False))
    assert verdict == "totalled"
    assert sums(found) == [6, 12]  # a cell alone, and what is left of the other


@pytest.mark.nightly
def test_a_net_of_128_that_no_beacon_gives_a_graph_runs_as_two_cells_with_default_floors() -> None:
    async def main() -> None:
        floors: dict[str, object] = {"n_min": 128, "d_min": 12, "delta": 0.05, "insecure_small_nets": False}
        floors |= {"cells": 2, "bridges": 16, "recovery": "witness"}
        async with RunningNet(128, poll_s=4.0, **floors) as net:
            for slot in range(net.first, net.first + 2):
                await net.contribute(slot)
                await net.until(slot, 59)
                assert net.totals()[slot]["lanes"] == [energies(net, slot) * 10, 0, 128]
            found = known(net.record(), [])
            assert sums(found) == [128, 128]

    run(main())


@pytest.mark.nightly
def test_joined_nets_under_real_signatures_and_administrators(tmp_path: Path) -> None:
    make_pki(tmp_path / "pki")
    run_virtually(_ordered(tmp_path / "pki"))


def test_joined_nets_with_the_administrator_that_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    believe_names(monkeypatch)
    run_virtually(_ordered(None))


async def _ordered(folder: Path | None) -> None:
    names = [f"esgw01000000{number:02d}" for number in range(1, 17)]
    floors: dict[str, object] = {"n_min": 14, "d_min": 5, "cells": 2, "bridges": 7}
    net = Net(folder, 1, names, names, **floors, recovery="witness", recover_s=44, poll_s=1)  # type: ignore[arg-type]
    async with Street(folder) as street, asyncio.timeout(4000):
        street.open(net)
        for name in names:
            street.join(await street.build(name), net)
        await street.until(
            lambda: all(told(home, NetEventKind.JOINED, net) == 1 for home in street.homes.values())
        )
        slot = net.rules.slot_at(RosterClock().now_utc()) + 1
        await street.after(net.rules, slot)
        for number, name in enumerate(names, 1):
            await street.homes[name].members[net.net_id].contribute(slot, number)
        await street.until(lambda: slot in net.totals())
        assert net.totals()[slot]["lanes"] == [1360, 0, 16]
        member = street.homes[names[0]].members[net.net_id]
        assert member.membership is not None
        assert member.membership.joints is not None
        assert sorted(member.membership.joints.cell_of) == list(range(1, 17))
