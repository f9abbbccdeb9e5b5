"""Canary audits in running members and their supplier: the liar is named, and no reading is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.machines import Mode, SlotState
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.faults import AuditOrder, CanaryStatement
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame
from firmware.enforcement.dcnet.primitives.arithmetic import Purpose, to_lanes
from firmware.enforcement.dcnet.slot.opened import OpenedSlot
from tests.unit.dcnet.running_net import Answer, Home, RunningNet, energies, energy_of, run
from tests.unit.dcnet.support import signed_by
from tools.dcnet.leak import known
from tools.homes.liar import Lie, corrupt

SIZE = 8
LIAR = 4


async def lying(net: RunningNet, lie: Lie, slot: int) -> Mapping[str, Any]:
    """One slot with a liar; the audit's finding."""
    peer = corrupt(net.homes[LIAR - 1].member, lie)
    assert peer == 1
    await net.contribute(slot)
    await net.until(slot, 59)
    assert net.totals()[slot]["verdict"] == "aborted"
    assert net.coordinator.slots.mode is Mode.F
    await net.until(slot, 60.5)
    (found,) = net.of("audit")
    return found


def test_a_member_that_contradicts_itself_is_named_left_out_and_the_net_is_well_again() -> None:
    async def main() -> None:
        async with RunningNet(SIZE) as net:
            slot = net.first
            found = await lying(net, Lie.CONTRADICTION, slot)
            assert (found["members"], found["edges"], found["silent"]) == ([LIAR], [], [])
            for home in net.homes:
                assert home.member is not None
                shown = await home.member.faults()
                assert (shown["mode"], shown["last_audit"]["slot"]) == ("F-mode", slot)
                assert NetEventKind.AUDITED in home.kinds()
                assert len(home.bodies("/canary/")) == 1
            for home in net.homes:  # who is left out says hello in vain
                await home.member.contribute(slot + 1, energy_of(home, slot + 1))  # type: ignore[union-attr]
            await net.until(slot + 1, 59)
            total = net.totals()[slot + 1]
            assert total["lanes"] == [energies(net, slot + 1, (f"gw{LIAR}",)) * 10, 0, SIZE - 1]
            assert [(event["slot"], event["mode"]) for event in net.of("mode")] == [
                (slot, "F-mode"),
                (slot + 1, "A-mode"),
            ]
            assert (await net.homes[0].member.faults())["mode"] == "A-mode"  # type: ignore[union-attr]
            await net.contribute(slot + 2)
            await net.until(slot + 2, 59)
            assert net.totals()[slot + 2]["members"] == [f"gw{n}" for n in range(1, SIZE + 1) if n != LIAR]
            reports = {name: one.reports for name, one in net.administrators.items()}
            assert all(len(given) == 1 and given[0].slot == slot for given in reports.values())

    run(main())


def test_of_a_wrong_edge_both_ends_are_named() -> None:
    async def main() -> None:
        async with RunningNet(SIZE, delta=0.4) as net:
            slot = net.first
            found = await lying(net, Lie.EDGE, slot)
            assert (found["members"], found["edges"], found["silent"]) == ([], [[1, LIAR]], [])
            await net.contribute(slot + 1)
            await net.until(slot + 1, 59)
            total = net.totals()[slot + 1]
            assert total["lanes"] == [energies(net, slot + 1, ("gw1", f"gw{LIAR}")) * 10, 0, SIZE - 2]

    run(main())


def test_who_says_nothing_is_named_and_a_kill_keeps_nobody_silent() -> None:
    async def main() -> None:
        async with RunningNet(SIZE) as net:
            slot = net.first
            corrupt(net.homes[LIAR - 1].member, Lie.CONTRADICTION)
            net.homes[LIAR - 1].cut = lambda resource: "/audit/" in resource
            victim = net.homes[6]
            victim.cut = lambda resource: "/canary/" in resource
            await net.contribute(slot)
            await net.until(slot, 40)  # the statement is kept, and could not be sent
            assert [key for _, key in victim.store.data if key.endswith("/audit")]
            assert not victim.bodies("/canary/")
            await net.kill(victim)
            net.start(victim)
            victim.cut = lambda _resource: False
            other = net.homes[5]
            await net.restart(other)
            await net.until(slot, 60.5)
            (found,) = net.of("audit")
            assert (found["members"], found["edges"], found["silent"]) == ([], [], [LIAR])
            assert len(set(victim.bodies("/canary/"))) == 1
            assert len(set(other.bodies("/canary/"))) == 1  # said again, the same

    run(main())


def test_a_second_audit_is_refused_even_after_a_restart() -> None:
    async def main() -> None:
        async with RunningNet(SIZE) as net:
            slot = net.first
            await lying(net, Lie.CONTRADICTION, slot)
            corrupt(net.homes[6].member, Lie.CONTRADICTION)
            await net.restart(net.homes[0])
            await net.contribute(slot + 1)
            await net.until(slot + 1, 40)
            assert net.totals()[slot + 1]["verdict"] == "aborted"
            assert [event["slot"] for event in net.of("audit impossible")] == [slot + 1]
            showing(net, net.homes, slot + 1, {})
            await net.until(slot + 1, 60.5)
            for home in net.homes:
                assert len(home.bodies("/canary/")) == 1  # of the first audit
                if home is not net.homes[LIAR - 1]:
                    assert [e for e in home.events if "once in 30 epochs" in e.reason], home.name

    run(main())


def order(net: RunningNet, slot: int, changes: Mapping[str, object]) -> bytes:
    tally, _, _ = net.coordinator.slots.manifests[slot]
    manifest = tally.manifest
    assert manifest is not None
    made = AuditOrder(net.rules.net, 1, slot, document_hash(manifest))
    return signed_by("emp", replace(made, **changes).to_bytes())  # type: ignore[arg-type]


def showing(net: RunningNet, homes: list[Home], slot: int, changes: Mapping[str, object]) -> None:
    """From now on these see an audit order that the supplier has signed."""
    give, victims = net.ask, {home.name for home in homes}

    async def ask(gateway: str, method: str, resource: str, body: bytes) -> Answer:
        answer = await give(gateway, method, resource, body)
        if f"/audit/{slot}" in resource and gateway in victims:
            return replace(answer, status=200, body=order(net, slot, changes))
        return answer

    net.ask = ask  # type: ignore[method-assign]


@pytest.mark.parametrize("changes", [{}, {"manifest_hash": bytes(32)}, {"slot": 7_000}, {"net": bytes(8)}])
def test_a_totalled_slot_or_another_one_is_never_audited(changes: dict[str, object]) -> None:
    async def main() -> None:
        async with RunningNet(SIZE) as net:
            slot, victim = net.first, net.homes[0]
            if changes:
                net.homes[2].cut = lambda resource: "/open/" in resource  # aborted, and not for its canary
            await net.contribute(slot)
            await net.until(slot, 20)
            showing(net, [victim], slot, changes)
            await net.until(slot + 1, 5)
            assert not victim.bodies("/canary/")
            state = (await victim.states())[slot]
            assert state is (SlotState.OWED if changes else SlotState.TOTALLED)
            assert bool([e for e in victim.events if "another slot" in e.reason]) == bool(changes)

    run(main())


def test_statements_are_taken_from_their_members_only() -> None:
    async def main() -> None:
        async with RunningNet(SIZE) as net:
            slot = net.first
            corrupt(net.homes[LIAR - 1].member, Lie.CONTRADICTION)
            for home in net.homes:
                home.cut = lambda resource: "/canary/" in resource
            await net.contribute(slot)
            await net.until(slot, 45)
            base = f"/dcnet/v1/{net.rules.net.hex()}/canary/{slot}"
            said = await net.homes[1].member._serving.auditing.last()  # type: ignore[union-attr]
            assert said is not None
            good = CanaryStatement.from_bytes(said.signed.partition(b"|")[2])
            for wrong in (
                b"",
                signed_by("gw1", good.to_bytes()),
                signed_by("gw2", replace(good, index=1).to_bytes()),
                signed_by("gw2", replace(good, slot=slot + 1).to_bytes()),
                signed_by("gw2", replace(good, manifest_hash=bytes(32)).to_bytes()),
            ):
                assert (await net.ask("gw2", "PUT", f"{base}/2", wrong)).status == 400
            assert (await net.ask("gw1", "PUT", f"{base}/2", said.signed)).status == 403
            assert (await net.ask("gw2", "PUT", f"{base}/2", said.signed)).status == 201
            assert (await net.ask("gw2", "PUT", f"{base}/2", said.signed)).status == 200
            other = signed_by("gw2", replace(good, mask=good.mask ^ 1).to_bytes())
            assert (await net.ask("gw2", "PUT", f"{base}/2", other)).status == 409

    run(main())


def test_nothing_that_an_audit_or_a_recovery_shows_opens_a_reading() -> None:
    async def main() -> None:
        async with RunningNet(SIZE, recovery="witness") as net:
            slot = net.first
            net.homes[6].cut = lambda resource: "/open/" in resource  # lost, recovered, and then miscounted
            await lying(net, Lie.CONTRADICTION, slot)
            net.homes[6].cut = lambda _resource: False
            await net.contribute(slot + 1)
            await net.until(slot + 1, 59)
            assert net.totals()[slot + 1]["verdict"] == "totalled"
            record = net.record()
            assert {one.kind for one in record} == {"net", "epoch", "manifest", "submit", "open", "share"}
            for corrupt_members in ((), ("5",)):
                found = known(record, corrupt_members)
                assert not found.too_small
                assert not found.singles
            # The checker knows pads as a whole. So: every word of a statement is one of the canary lane.
            for index, home in enumerate(net.homes, start=1):
                assert home.member is not None
                assert home.member.membership is not None
                opened = await OpenedSlot.kept(home.member._ledger)
                assert opened is not None
                view = home.member.membership.view(opened.head.epoch)
                for body in set(home.bodies("/canary/")):
                    said = CanaryStatement.from_bytes(body.partition(b"|")[2])
                    frame = Frame.from_bytes(home.bodies(f"/submit/{slot}/")[0][:-MAC_BYTES])
                    others = set()
                    for peer, word in said.pads:
                        pad = to_lanes(view.edges[peer].output(frame.reference, slot, Purpose.PAD, 24))
                        assert word == pad[2]
                        others |= set(pad[:2])
                    assert not others & {said.mask, *(word for _, word in said.pads)}
                    assert said.index == index

    run(main())
