"""Disputed edges get new keys by the next roster, their ends are on probation; the third time is a visit."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.founding.confirmation import EdgeConfirm, EdgeDispute
from firmware.enforcement.dcnet.machines import SlotState
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.faults import CanaryStatement, DisputedEdge, OtherEnds
from firmware.enforcement.dcnet.messages.roster import Attestation
from firmware.enforcement.dcnet.service.auditing import LastAudit
from hsm.api import KeySlot
from tests.support.instant_loop import run
from tests.support.soft_module import public_of
from tests.unit.dcnet.roster_street import cheap_check
from tests.unit.dcnet.running_net import Home, RunningNet, energies
from tests.unit.dcnet.support import NET, signed_by
from tools.counterparts import net_drafting
from tools.counterparts.net_blame import FaultKeeper
from tools.counterparts.net_ordered import OrderedNet
from tools.counterparts.net_probation import Probation
from tools.counterparts.net_witness import AUTHORISED_EPOCHS
from tools.homes.liar import Lie, corrupt
from wan.errors import OrderRefused

SIZE = 8
ENDS = (1, 4)
NAMES = [f"gw{number}" for number in range(1, SIZE + 1)]
EPOCH_S = 480
SLOTS = EPOCH_S // 60


def net_of(**changes: object) -> RunningNet:
    fields: dict[str, object] = {"epoch_s": EPOCH_S, "roster_pause_s": EPOCH_S, "delta": 0.4}
    return RunningNet(SIZE, **(fields | changes))


async def with_a_lying_edge(net: RunningNet) -> int:
    """One slot in which gw4 uses another pad with gw1, audited; the slot."""
    slot = net.first
    assert corrupt(net.homes[3].member, Lie.EDGE) == 1
    await net.contribute(slot)
    await net.until(slot, 60.5)
    (found,) = net.of("audit")
    assert found["edges"] == [list(ENDS)]
    return slot


def begins(net: RunningNet, slot: int) -> int:
    """The first slot of the second epoch behind a slot's own: a roster in between has had its time."""
    return net.rules.first_slot_of(net.rules.epoch_of(slot) + 2)


def version(net: RunningNet) -> int:
    now = net.coordinator.rosters.in_force
    assert now is not None
    return now.roster.version


def keys_of(home: Home, peer: int) -> bytes:
    assert home.member is not None
    assert home.member.membership is not None
    return home.member.membership.ring.epoch_keys(NET)[peer]


def test_the_same_members_get_new_keys_by_the_next_roster_without_waiting_for_a_change() -> None:
    async def main() -> None:
        async with net_of() as net:
            slot = await with_a_lying_edge(net)
            old = keys_of(net.homes[0], 4)
            assert net.rules.churn_min > 0
            last = begins(net, slot)
            for later in range(slot + 1, last + 1):
                await net.contribute(later)
            await net.until(last, 59)
            (event,) = net.of("rekey")
            assert event["edges"] == [["gw1", "gw4"]]
            assert version(net) == 2
            totals = net.totals()
            missing = {
                later: set(NAMES) - set(totals[later]["members"]) for later in range(slot + 1, last + 1)
            }
            assert missing[slot + 1] == {"gw1", "gw4"}  # neither end uses the edge
            assert missing[last] == set()  # and with new keys both are back
            assert totals[last]["lanes"] == [energies(net, last) * 10, 0, SIZE]
            assert keys_of(net.homes[0], 4) == keys_of(net.homes[3], 1) != old
            now, before = (net.coordinator.rosters.founding(one) for one in (2, 1))
            assert now is not None
            assert before is not None
            assert now.certificates == before.certificates  # nobody changed
            for index, home in enumerate(net.homes, start=1):
                told = [event.reason for event in home.events if event.kind is NetEventKind.DISPUTED]
                assert bool(told) is (index in ENDS), told
                assert not [key for _, key in home.store.data if "resting-1" in key]  # forgotten with it

    run(main())


def test_a_roster_of_thirty_epochs_is_drawn_anew_with_the_same_members(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a net whose members never change would end with its authorisations."""
    assert net_drafting.REDRAWN_AFTER < AUTHORISED_EPOCHS
    monkeypatch.setattr(net_drafting, "REDRAWN_AFTER", 2)

    async def main() -> None:
        async with net_of() as net:
            old, first = keys_of(net.homes[0], 4), net.first
            last = net.rules.first_slot_of(net.rules.epoch_of(first) + 3)
            for slot in range(first, last + 1):
                await net.contribute(slot)
            await net.until(last, 59)
            assert version(net) == 2
            assert [event["edges"] for event in net.of("rekey") if event["version"] == 2] == [[]]
            drawn = net.rules.first_slot_of(net.rules.epoch_of(first) + 2)
            assert net.coordinator.rosters.in_force is not None
            assert net.coordinator.rosters.in_force.roster.first_epoch == net.rules.epoch_of(drawn)
            for slot in range(first, last + 1):  # not a slot is lost by it
                assert net.totals()[slot]["lanes"] == [energies(net, slot) * 10, 0, SIZE], slot
            assert keys_of(net.homes[0], 4) == keys_of(net.homes[3], 1) != old

    run(main())


def test_both_ends_rest_a_disputed_edge_themselves_also_after_a_restart() -> None:
    async def main() -> None:
        async with net_of(epoch_s=86400, roster_pause_s=86400) as net:
            slot = await with_a_lying_edge(net)
            await net.contribute(slot + 1)
            await net.until(slot + 1, 59)
            slots: Any = net.coordinator.slots
            slots._suspended = frozenset()  # a supplier that would have them go on
            for home in (net.homes[0], net.homes[3]):
                await net.restart(home)
            for later in range(slot + 2, slot + 5):
                await net.contribute(later)
                await net.until(later, 59)
            assert net.totals()[slot + 3]["verdict"] == "totalled"
            refused = 0
            for index, home in enumerate(net.homes, start=1):
                states = [entry for entry in await home.member.slots() if entry.slot > slot + 1]  # type: ignore[union-attr]
                if index in ENDS:
                    assert {entry.state for entry in states} == {SlotState.OWED}
                    refused += sum("disputed" in entry.reason for entry in states)
                else:
                    assert {entry.state for entry in states} == {SlotState.TOTALLED}
            assert refused >= 2  # each of them, when the other one was expected

    run(main())


def test_a_supplier_can_rest_no_edge_whose_ends_agree() -> None:
    async def main() -> None:
        async with net_of() as net:
            slot, victim = net.first, net.homes[1]
            corrupt(net.homes[3].member, Lie.CONTRADICTION)
            await net.contribute(slot)
            await net.until(slot, 45)
            serving = victim.member._serving  # type: ignore[union-attr]
            membership = victim.member.membership  # type: ignore[union-attr]
            assert membership is not None
            resting, last = serving._resting, await serving.auditing.last()
            assert last is not None
            stated = {index: home.bodies("/canary/")[0] for index, home in enumerate(net.homes, start=1)}
            other = CanaryStatement.from_bytes(stated[3].partition(b"|")[2])
            elsewhere = replace(other, slot=slot + 1, pads=tuple((peer, 0) for peer, _ in other.pads))
            own = CanaryStatement.from_bytes(stated[2].partition(b"|")[2])
            lies = replace(other, pads=tuple((peer, 0) for peer, _ in other.pads))

            async def rested(*items: tuple[str, bytes]) -> frozenset[int]:
                made = OtherEnds(
                    tuple(Attestation(f"certificate of {name}".encode(), signed) for name, signed in items)
                )

                async def told(_slot: int, _index: int) -> bytes:
                    return made.to_bytes()

                resting._client.other_ends = told
                await resting._ledger.forget("other-ends")
                await resting._ledger.forget("resting-1")
                await resting.look(membership, last, slot + 1)
                return await resting.edges(1)

            assert await rested(("gw3", stated[3])) == set()  # the same pad
            assert await rested(("gw3", signed_by("gw3", elsewhere.to_bytes()))) == set()
            assert await rested(("gw5", signed_by("gw5", lies.to_bytes()))) == set()  # gw3's, by another
            assert await rested(("gw2", signed_by("gw2", own.to_bytes()))) == set()
            assert await rested(("gw3", b"junk")) == set()
            assert await rested(("gw3", signed_by("gw3", lies.to_bytes()))) == {3}
            assert await rested(("gw3", stated[3]), ("gw3", signed_by("gw3", lies.to_bytes()))) == {3}
            old = LastAudit(last.epoch, last.slot - 1000, last.signed)
            await resting._ledger.forget("resting-1")
            await resting.look(membership, old, slot + 1)  # long ago: nobody is asked
            assert await resting.edges(1) == set()

    run(main())


def test_tags_that_differ_are_new_keys_as_well() -> None:
    """A module that agrees on another secret with one peer: both ends come in with the second roster."""

    async def main() -> None:
        net = net_of()
        wrong, peer = net.homes[5].module, net.homes[2].module
        agree, first, net.patience_s = wrong.agree, list[bytes](), 60.0

        async def agreed(slot: KeySlot, point: bytes) -> bytes:
            key = peer.keys.get(KeySlot.DCNET_1)
            if not first and key is not None:
                first.append(public_of(key).point)
            return bytes(32) if point in first else await agree(slot, point)

        wrong.agree = agreed  # type: ignore[method-assign]
        async with net:
            slot = net.first
            last = begins(net, slot)
            for later in range(slot, last + 1):
                await net.contribute(later)
            await net.until(last, 59)
            totals = net.totals()
            assert set(NAMES) - set(totals[slot]["members"]) == {"gw3", "gw6"}
            assert [event["edges"] for event in net.of("rekey")] == [[["gw3", "gw6"]]]
            assert totals[last]["lanes"] == [energies(net, last) * 10, 0, SIZE]
            for administrator in net.administrators.values():
                (report,) = administrator.disputes  # the second end's says the same of the same edge
                said = EdgeDispute.from_bytes(report.dispute.partition(b"|")[2])
                assert {said.index, said.peer} == {3, 6}

    run(main())


def test_a_lone_newcomer_does_not_come_in_with_new_keys() -> None:
    async def main() -> None:
        async with net_of() as net:
            slot = await with_a_lying_edge(net)
            newcomer = Home("gw9", "gwa1")
            net.coordinator.follow({name: f"gwa{1 + int(name[2:]) % 2}" for name in [*NAMES, "gw9"]})
            net.start(newcomer)
            last = begins(net, slot)
            for later in range(slot + 1, last + 1):
                await net.contribute(later)
            await net.until(last, 59)
            assert version(net) == 2
            assert net.totals()[last]["members"] == NAMES
            await net.kill(newcomer)

    run(main())


def test_who_goes_alone_has_new_keys_wait() -> None:
    """A roster of the others would show who has gone: the edge rests until enough change."""

    async def main() -> None:
        async with net_of() as net:
            slot = await with_a_lying_edge(net)
            net.coordinator.follow({name: f"gwa{1 + int(name[2:]) % 2}" for name in NAMES[:-1]})
            last = begins(net, slot)
            for later in range(slot + 1, last + 1):
                await net.contribute(later)
            await net.until(last, 59)
            assert version(net) == 1
            assert net.of("rekey") == []
            assert set(NAMES) - set(net.totals()[last]["members"]) == {"gw1", "gw4"}

    run(main())


def test_a_strike_for_each_edge_and_roster_and_out_at_the_third() -> None:
    probation = Probation()
    assert probation.note(1, {("b", "a")}) == set()
    assert probation.note(1, {("a", "b")}) == set()  # known
    assert probation.edges(1) == {("a", "b")}
    assert probation.edges(2) == set()
    assert probation.note(2, {("a", "c")}, {"b"}) == set()
    assert probation.note(3, {("a", "b"), ("c", "d")}) == {"a", "b"}


# -- what administrators make of it -----------------------------------------------------------------------


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> tuple[FaultKeeper, list[Any], dict[str, bytes]]:
    monkeypatch.setattr("tools.counterparts.net_blame.check_signed", cheap_check)
    found: list[tuple[bytes, Any]] = []

    async def main() -> None:
        async with net_of() as net:
            administrator = net.administrators["gwa1"]
            assert administrator.roster is not None
            found.append((administrator.roster.to_bytes(), net.policy))

    run(main())
    ((roster, policy),) = found
    kept = {
        f"roster-{NET.hex()}-1": roster,
        f"names-{NET.hex()}-1": json.dumps({"at": 0.0, "gateways": NAMES}).encode(),
    }
    seen: list[Any] = []
    ordered = OrderedNet(policy, b"certificate of emp", frozenset(NAMES))
    trust: Any = None
    return FaultKeeper(lambda _net: ordered, trust, kept, seen.append), seen, kept


def disputed(roster_hash: bytes, index: int, peer: int, **changes: object) -> DisputedEdge:
    tags = tuple((one, bytes(8)) for one in range(1, SIZE + 1) if one != peer)
    shown = EdgeConfirm(NET, 1, roster_hash, peer, tags)
    made = EdgeDispute(NET, 1, roster_hash, index, peer, document_hash(shown))
    dispute = replace(made, **changes)  # type: ignore[arg-type]
    return DisputedEdge(signed_by(f"gw{index}", dispute.to_bytes()), signed_by(f"gw{peer}", shown.to_bytes()))


async def test_the_third_disputed_edge_is_a_visit_and_excludes_nobody(
    keeper: tuple[FaultKeeper, list[Any], dict[str, bytes]],
) -> None:
    faults, seen, kept = keeper
    name = document_hash_of(kept)
    for peer in (2, 3, 4):
        assert not faults.visits(NET.hex())
        for index, other in ((1, peer), (peer, 1)):  # both ends say so, of one edge
            await faults.take(NET.hex(), disputed(name, index, other).to_bytes())
    assert faults.visits(NET.hex()) == {"gw1"}
    assert not faults.excluded(NET.hex())
    (visit,) = [event for event in seen if event["event"] == "visit"]
    assert (visit["gateway"], visit["disputes"]) == ("gw1", 3)
    assert faults.standing(NET.hex())["gw2"]["disputes"] == 1


def document_hash_of(kept: dict[str, bytes]) -> bytes:
    return hashlib.sha256(kept[f"roster-{NET.hex()}-1"]).digest()


async def test_disputes_that_an_administrator_does_not_believe(
    keeper: tuple[FaultKeeper, list[Any], dict[str, bytes]],
) -> None:
    faults, _, kept = keeper
    name = document_hash_of(kept)
    good = disputed(name, 1, 2)
    lone = EdgeConfirm(NET, 1, name, 2, ((3, bytes(8)),))
    about = EdgeDispute(NET, 1, name, 1, 2, document_hash(lone))
    for bad, code in (
        (replace(good, shown=disputed(name, 1, 3).shown), "signer"),
        (replace(good, dispute=b"gw3" + good.dispute[3:]), "signer"),
        (disputed(bytes(32), 1, 2), "dispute"),
        (disputed(name, 1, 2, shown=bytes(32)), "dispute"),
        (disputed(name, 1, 2, net=bytes(8)), "dispute"),
        (disputed(name, 1, 2, version=2), "roster"),
        (replace(good, dispute=b"gw1|x"), "form"),
        (DisputedEdge(signed_by("gw1", about.to_bytes()), signed_by("gw2", lone.to_bytes())), "dispute"),
    ):
        with pytest.raises(OrderRefused) as refused:
            await faults.take(NET.hex(), bad.to_bytes())
        assert refused.value.code == code, bad
    assert faults.standing(NET.hex()) == {}
