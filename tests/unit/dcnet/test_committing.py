"""V-mode in running members and their supplier: totals that are impossible, liars, recovery, orders."""

from __future__ import annotations

from dataclasses import replace

import pytest

from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.machines import Mode, SlotState
from firmware.enforcement.dcnet.messages.commit import CommitOrder, CommitV, OpenV, Reason
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame
from firmware.enforcement.dcnet.service.committing import at_once
from tests.support.instant_loop import run
from tests.unit.dcnet.committing_net import (
    HUGE_WH,
    LARGEST_WH,
    LIAR,
    SIZE,
    WRONG_PROOFS,
    about,
    committed,
    energies,
    energy_of,
    lying_commitment,
    same,
    shrunk,
    slot_of,
)
from tests.unit.dcnet.running_net import Answer, RunningNet
from tests.unit.dcnet.support import signed_by
from tools.dcnet import commitments
from tools.dcnet.leak import Verdict, known


def test_an_impossible_total_orders_v_mode_and_an_honest_net_goes_through_it_with_right_sums() -> None:
    async def main() -> None:
        async with shrunk() as net:
            slot = net.first
            total = await slot_of(net, slot, {f"gw{LIAR}": HUGE_WH})
            assert total["verdict"] == "aborted"
            assert net.coordinator.slots.mode is Mode.F
            assert [(one["slot"], one["last_slot"], one["reason"]) for one in net.of("v-mode")] == [
                (slot + 1, slot + 2, "range")
            ]
            assert not net.of("audit ordered")  # its canary was right
            for number in (1, 2):
                total = await slot_of(net, slot + number)
                assert total["verdict"] == "totalled"
                assert total["lanes"] == [energies(net, slot + number) * 10, 0, SIZE]
            assert [(one["fits"], one["members"], one["without"]) for one in net.of("v-check")] == [
                (True, SIZE, []),
                (True, SIZE, []),
            ]
            assert net.coordinator.slots.mode is Mode.A
            assert (await slot_of(net, slot + 3))["verdict"] == "totalled"
            for home in net.homes:
                assert [len(committed(home, slot + number)) for number in range(4)] == [0, 1, 1, 0]
                assert home.kinds().count(NetEventKind.V_MODE) == 1
                assert home.member is not None
                shown = await home.member.faults()
                assert shown["v_mode"] == {
                    "first_slot": slot + 1,
                    "last_slot": slot + 2,
                    "reason": "a total was impossible",
                }

    run(main())


# -- liars ------------------------------------------------------------------------------------------------


QUICK = ("another value", "truncated")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.nightly) for name in WRONG_PROOFS]
)
def test_who_signs_a_wrong_proof_is_named_and_is_in_no_sum(name: str) -> None:
    async def main() -> None:
        async with shrunk() as net:
            slot = net.first
            net.coordinator.slots.commitments.demand(slot, slots=1)
            lying_commitment(net.homes[LIAR - 1], same, WRONG_PROOFS[name])
            total = await slot_of(net, slot)
            assert [one["gateway"] for one in net.of("v-named")] == [f"gw{LIAR}"]
            assert total["lanes"] == [energies(net, slot, (f"gw{LIAR}",)) * 10, 0, SIZE - 1]
            assert net.of("v-check")[0]["without"] == [LIAR]
            assert (await net.homes[LIAR - 1].states())[slot] is SlotState.OWED
            total = await slot_of(net, slot + 1)  # and V-mode is over
            assert f"gw{LIAR}" not in total["members"]
            assert f"gw{LIAR}" in net.coordinator.rosters._excluded

    run(main())


@pytest.mark.usefixtures("unproven")
def test_who_commits_to_less_than_it_submits_spoils_every_sum_that_is_checked() -> None:
    async def main() -> None:
        async with shrunk() as net:
            slot, liar = net.first, net.homes[LIAR - 1]
            name = {liar.name: HUGE_WH}
            assert (await slot_of(net, slot, name))["verdict"] == "aborted"
            lying_commitment(liar, lambda work: replace(work, reading=(10, 0)), same)
            for number in (1, 2, 3):  # as long as it lies, V-mode is renewed
                assert (await slot_of(net, slot + number, name))["verdict"] == "aborted"
                assert net.of("v-check")[-1]["fits"] is False
                assert net.of("v-mode")[-1]["reason"] == "misfit"
            assert net.coordinator.slots.mode is Mode.F
            assert not net.of("v-named")  # the equation does not say who
            for home in net.homes:
                states = await home.states()
                assert {states[slot + number] for number in range(4)} == {SlotState.OWED}
            assert liar.member is not None
            liar.member._serving.committing._apart = at_once  # it gives up
            assert (await slot_of(net, slot + 4))["verdict"] == "totalled"
            assert net.of("v-check")[-1]["fits"] is True
            assert net.coordinator.slots.mode is Mode.A

    run(main())


@pytest.mark.usefixtures("unproven")
def test_who_lies_within_its_range_is_not_found_by_the_range_but_by_the_sum() -> None:
    async def main() -> None:
        async with shrunk() as net:
            slot = net.first
            net.coordinator.slots.commitments.demand(slot)
            lying_commitment(net.homes[0], lambda work: replace(work, reading=(work.reading[0] + 1, 0)), same)
            assert (await slot_of(net, slot))["verdict"] == "aborted"
            assert net.of("v-check")[0]["fits"] is False
            assert net.of("v-check")[0]["lanes"] == [0]  # in which lane, and not who

    run(main())


@pytest.mark.usefixtures("unproven")
def test_who_gives_no_commitments_is_in_no_sum_and_the_others_go_on() -> None:
    async def main() -> None:
        async with shrunk() as net:
            slot, silent = net.first, net.homes[LIAR - 1]
            net.coordinator.slots.commitments.demand(slot, slots=1)
            silent.cut = lambda resource: "/orderv/" in resource
            total = await slot_of(net, slot)
            assert total["lanes"] == [energies(net, slot, (silent.name,)) * 10, 0, SIZE - 1]
            assert not net.of("v-named")  # nothing proves that it lies
            assert silent.bodies(f"/submit/{slot}/")  # turned away again and again
            assert (await silent.states())[slot] is SlotState.OWED
            silent.cut = lambda _resource: False
            await slot_of(net, slot + 1)  # it says hello
            assert (await slot_of(net, slot + 2))["members"] == [home.name for home in net.homes]

    run(main())


# -- drop-outs, recovery, power cuts -----------------------------------------------------------------------


@pytest.mark.usefixtures("unproven")
@pytest.mark.parametrize("cut", ["/open/", "/openv/"])
def test_a_lost_member_s_blinding_is_recovered_with_its_mask(cut: str) -> None:
    async def main() -> None:
        async with shrunk(recovery="witness") as net:
            slot = net.first
            net.coordinator.slots.commitments.demand(slot)
            net.homes[6].cut = lambda resource: cut in resource
            total = await slot_of(net, slot)
            assert total["verdict"] == "totalled"
            assert total["lanes"] == [energies(net, slot) * 10, 0, SIZE]
            assert net.of("recovered")
            assert net.of("v-check")[0]["fits"] is True

    run(main())


@pytest.mark.usefixtures("unproven")
def test_who_is_gone_before_the_manifest_is_missed_in_blindings_too() -> None:
    async def main() -> None:
        async with shrunk() as net:
            slot = net.first
            net.coordinator.slots.commitments.demand(slot)
            await net.kill(net.homes[2])
            total = await slot_of(net, slot)
            assert total["lanes"] == [energies(net, slot, ("gw3",)) * 10, 0, SIZE - 1]
            assert net.of("v-check")[0] == net.of("v-check")[0] | {"fits": True, "without": [3]}

    run(main())


@pytest.mark.usefixtures("unproven")
def test_blindings_leave_as_the_lanes_do_so_what_is_known_of_lanes_is_known_of_blindings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The leak check reads both; of a blinding the same masks are said, to the same members, as often."""
    monkeypatch.setattr(commitments, "LARGEST", 1 << 12)  # these values are small

    async def main() -> None:
        async with shrunk(recovery="witness") as net:
            slot = net.first
            net.coordinator.slots.commitments.demand(slot)
            net.homes[6].cut = lambda resource: "/open/" in resource  # lost, and recovered
            assert (await slot_of(net, slot))["verdict"] == "totalled"
            net.homes[6].cut = lambda _resource: False
            await net.kill(net.homes[2])  # gone before the manifest
            assert (await slot_of(net, slot + 1))["verdict"] == "totalled"
            record = net.record()
            for corrupt in ((), ("5",)):
                found = known(record, corrupt)
                assert found.verdict is Verdict.NOTHING
                assert not found.singles
                assert found.committed == 2 * SIZE - 1
            blindings = [one for one in record if one.kind not in ("submit", "open", "share")]
            assert sorted(map(len, known(blindings, ()).basis)) == [SIZE - 1, SIZE]
            sent = {"submit": "commitv", "open": "openv"}
            for home in net.homes:
                for frames, beside in sent.items():
                    lanes = {
                        (one.slot, one.index, one.version, one.reference)
                        for one in (
                            Frame.from_bytes(body[:-MAC_BYTES]) for body in home.bodies(f"/{frames}/")
                        )
                    }
                    assert lanes == {about(body, beside) for body in home.bodies(f"/{beside}/")} or (
                        home is net.homes[6] and frames == "open"  # its Open was cut, its OpenV was not
                    )

    run(main())


# -- what is refused --------------------------------------------------------------------------------------


ORDERS: dict[str, dict[str, object]] = {
    "another net": {"net": bytes(8)},
    "another roster": {"version": 2},
    "too many slots": {"slots": 3},
    "no slot": {"slots": 0},
    "a slot before": {"first_slot": -1},
    "a slot to come": {"first_slot": 1},
}


@pytest.mark.usefixtures("unproven")
@pytest.mark.parametrize("name", ORDERS)
def test_an_order_beyond_the_policy_is_refused_and_the_log_says_so(name: str) -> None:
    async def main() -> None:
        async with shrunk() as net:
            slot, changes = net.first, dict(ORDERS[name])
            if "first_slot" in changes:
                changes |= {"first_slot": slot + changes["first_slot"], "slots": 1}  # type: ignore[operator]
            order = replace(CommitOrder(net.rules.net, 1, slot, 2, Reason.DEMAND), **changes)  # type: ignore[arg-type]
            showing(net, slot, signed_by("emp", order.to_bytes()))
            assert (await slot_of(net, slot))["verdict"] == "totalled"
            for home in net.homes:
                assert not committed(home, slot)
                assert [event for event in home.events if "V-mode in slot" in event.reason]

    run(main())


@pytest.mark.usefixtures("unproven")
@pytest.mark.parametrize("signer", ["gwa1", "gw2"])
def test_an_order_that_the_supplier_has_not_signed_is_refused(signer: str) -> None:
    async def main() -> None:
        async with shrunk() as net:
            slot = net.first
            showing(
                net, slot, signed_by(signer, CommitOrder(net.rules.net, 1, slot, 2, Reason.DEMAND).to_bytes())
            )
            assert (await slot_of(net, slot))["verdict"] == "totalled"
            assert not any(committed(home, slot) for home in net.homes)

    run(main())


def showing(net: RunningNet, slot: int, signed: bytes) -> None:
    give = net.ask

    async def ask(gateway: str, method: str, resource: str, body: bytes) -> Answer:
        if f"/orderv/{slot}" in resource:
            return Answer(200, signed)
        return await give(gateway, method, resource, body)

    net.ask = ask  # type: ignore[method-assign]


def test_without_v_slots_nobody_asks_and_nothing_can_be_ordered() -> None:
    async def main() -> None:
        async with RunningNet(SIZE, max_wh=LARGEST_WH) as net:
            slot = net.first
            assert (await slot_of(net, slot, {f"gw{LIAR}": HUGE_WH}))["verdict"] == "aborted"
            assert not net.of("v-mode")
            with pytest.raises(ValueError):
                net.coordinator.slots.commitments.demand(slot + 1)
            assert (await slot_of(net, slot + 1))["verdict"] == "totalled"
            assert not any("orderv" in one for home in net.homes for one, _ in home.sent)

    run(main())


@pytest.mark.usefixtures("unproven")
def test_commitments_and_openings_are_taken_from_their_members_once() -> None:
    async def main() -> None:
        async with shrunk() as net:
            slot = net.first
            net.coordinator.slots.commitments.demand(slot)
            net.homes[1].cut = lambda resource: "/commitv/" in resource or "/openv/" in resource
            await net.until(slot, 0)
            for home in net.homes:
                await home.member.contribute(slot, energy_of(home, slot))  # type: ignore[union-attr]
            await net.until(slot, 3)
            base = f"/dcnet/v1/{net.rules.net.hex()}"
            said = await net.homes[1].member._serving.committing._of(  # type: ignore[union-attr]
                net.homes[1].member._ledger.entry(slot)  # type: ignore[union-attr,arg-type]
            )
            assert said is not None
            good = CommitV.from_bytes(said.signed.partition(b"|")[2])
            for changes in (
                {"slot": slot + 1},
                {"index": 3},
                {"version": 2},
                {"epoch": 1},
                {"net": bytes(8)},
                {"reference": bytes(32)},
            ):
                wrong = signed_by("gw2", replace(good, **changes).to_bytes())  # type: ignore[arg-type]
                assert (await net.ask("gw2", "PUT", f"{base}/commitv/{slot}/2", wrong)).status == 400
            for wrong in (b"", signed_by("gw1", good.to_bytes())):
                assert (await net.ask("gw2", "PUT", f"{base}/commitv/{slot}/2", wrong)).status == 400
            assert not net.of("v-named")  # nobody has signed a wrong proof
            assert (await net.ask("gw1", "PUT", f"{base}/commitv/{slot}/2", said.signed)).status == 403
            assert (await net.ask("gw2", "PUT", f"{base}/commitv/{slot + 1}/2", said.signed)).status == 404
            assert (await net.ask("gw2", "PUT", f"{base}/commitv/{slot}/2", said.signed)).status == 201
            assert (await net.ask("gw2", "PUT", f"{base}/commitv/{slot}/2", said.signed)).status == 200
            other = signed_by("gw2", replace(good, submission=bytes(32)).to_bytes())
            assert (await net.ask("gw2", "PUT", f"{base}/commitv/{slot}/2", other)).status == 409
            net.homes[1].cut = lambda resource: "/openv/" in resource
            await net.until(slot, 15)
            opened = await net.homes[1].member._serving.committing._of(  # type: ignore[union-attr]
                net.homes[1].member._ledger.entry(slot)  # type: ignore[union-attr,arg-type]
            )
            assert opened is not None
            words = OpenV.from_bytes(opened.opened[:-MAC_BYTES])
            forged = replace(words, words=(1, 2)).to_bytes() + opened.opened[-MAC_BYTES:]
            assert (await net.ask("gw2", "PUT", f"{base}/openv/{slot}/2", forged)).status == 400
            entry = net.homes[1].member._ledger.entry(slot)  # type: ignore[union-attr]
            assert entry is not None
            early = await net.ask("gw2", "PUT", f"{base}/open/{slot}/2", entry.opened)
            assert early.status == 425  # the blindings first
            assert (await net.ask("gw2", "PUT", f"{base}/openv/{slot}/2", opened.opened)).status == 201
            assert (await net.ask("gw2", "PUT", f"{base}/openv/{slot}/2", opened.opened)).status == 200
            net.homes[1].cut = lambda _resource: False
            await net.until(slot, 59)
            assert net.of("v-check")[0]["fits"] is True

    run(main())


@pytest.mark.usefixtures("unproven")
def test_an_order_in_the_middle_of_a_slot_begins_with_the_next() -> None:
    async def main() -> None:
        async with shrunk() as net:
            slot = net.first
            await net.until(slot, 0)
            for home in net.homes:
                await home.member.contribute(slot, energy_of(home, slot))  # type: ignore[union-attr]
            net.homes[3].cut = lambda resource: "/submit/" in resource
            await net.until(slot, 1)
            net.coordinator.verify([slot, 2])
            net.coordinator.verify([slot, 2])  # the same wish again
            net.homes[3].cut = lambda _resource: False
            await net.until(slot, 59)
            assert net.totals()[slot]["lanes"] == [energies(net, slot) * 10, 0, SIZE]
            assert (await slot_of(net, slot + 1))["verdict"] == "totalled"
            assert [len(committed(home, slot + 1)) for home in net.homes] == [1] * SIZE
            assert not any(committed(home, slot) for home in net.homes)
            assert len(net.of("v-mode")) == 1
            net.coordinator.verify([slot + 5, 3])
            assert net.of("refused")[-1]["what"] == "verify"
            assert len(net.of("v-mode")) == 1

    run(main())


@pytest.mark.usefixtures("unproven")
def test_a_value_beyond_the_policy_is_not_committed_to_and_owed() -> None:
    async def main() -> None:
        async with shrunk() as net:
            slot, liar = net.first, net.homes[LIAR - 1]
            net.coordinator.slots.commitments.demand(slot)
            total = await slot_of(net, slot, {liar.name: HUGE_WH})
            assert total["lanes"] == [energies(net, slot, (liar.name,)) * 10, 0, SIZE - 1]
            assert not liar.bodies(f"/submit/{slot}/")
            assert (await liar.states())[slot] is SlotState.OWED

    run(main())
