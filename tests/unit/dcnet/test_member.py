"""The member's service against a scripted supplier: resends, restarts, lies, silence."""

from __future__ import annotations

import contextlib
import logging
import random
from dataclasses import replace
from datetime import timedelta

import pytest

from firmware.enforcement.dcnet.errors import NetRefused
from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.machines import MemberState, SlotState
from firmware.enforcement.dcnet.messages.documents import to_bitmap
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, Frame
from firmware.errors import ReadingRefused
from tests.unit.dcnet.fake_emp import GWA_NONCE, Answer, World, altered
from tests.unit.dcnet.support import PowerCut, rules


async def states(world: World) -> dict[int, SlotState]:
    member = await world.member()
    return {entry.slot: entry.state for entry in await member.slots()}


async def served(world: World, slots: int = 3) -> dict[int, SlotState]:
    """One member that has a value for each of the slots 1.. in time."""
    member = await world.member()
    for slot in range(1, slots + 1):
        await member.contribute(slot, 1000 * slot)
    await world.run(member, slots + 1)
    return await states(world)


async def one_slot(world: World) -> SlotState:
    member = await world.member()
    await member.contribute(1, 4321, 7)
    await world.run(member, 2)
    return (await states(world))[1]


async def test_slot_after_slot_is_totalled() -> None:
    world = World()
    assert await served(world) == dict.fromkeys((1, 2, 3), SlotState.TOTALLED)
    assert [e.kind for e in world.events] == [NetEventKind.JOINED] + [NetEventKind.TOTALLED] * 3
    assert world.events[1].members == 5
    assert all(event.insecure_small_net for event in world.events)


async def test_results_may_come_with_the_next_manifest_only() -> None:
    world = World()
    world.emp.tell_results = False
    assert await served(world) == {1: SlotState.TOTALLED, 2: SlotState.TOTALLED, 3: SlotState.OPENED}


async def test_i6_a_resend_has_identical_bytes() -> None:
    world = World()
    lost = 0

    def lose(resource: str) -> bool:
        nonlocal lost
        lost += resource.startswith("answer") and ("/submit/" in resource or "/open/" in resource)
        return resource.startswith("answer") and lost in (1, 2, 4)

    world.emp.lost = lose
    assert await one_slot(world) is SlotState.TOTALLED
    assert len(world.emp.deliveries) == 5
    assert len({body for what, body in world.emp.deliveries if what == "submit"}) == 1
    assert len({body for what, body in world.emp.deliveries if what == "open"}) == 1


async def test_i13_a_power_cut_at_any_write_repeats_no_mask_and_opens_once() -> None:
    for cut in range(26):
        world = World()
        member = await world.member()
        await member.contribute(1, 4321)
        world.store.fail_after = cut
        with contextlib.suppress(PowerCut):
            await world.run(member, 2)
        world.store.fail_after = None
        await world.run(await world.member(), 2)
        submits = {body for what, body in world.emp.deliveries if what == "submit" and len(body) > 80}
        opens = {body for what, body in world.emp.deliveries if what == "open"}
        assert len(submits) <= 1, cut
        assert len(opens) <= 1, cut
        member = await world.member()
        entry, *_ = await member.slots()
        assert entry.state in (SlotState.TOTALLED, SlotState.OWED), cut
        assert (entry.state is SlotState.OWED) == bool(await member.owed())
        if entry.state is SlotState.TOTALLED:
            assert opens


async def test_nothing_leaves_before_it_is_in_the_ledger() -> None:
    world = World()
    exchange, kept = world.emp.exchange, []

    async def watching(method: str, resource: str, body: bytes) -> object:
        if method == "PUT" and ("/submit/" in resource or "/open/" in resource):
            kept.append(any(body in record for record in world.store.data.values()))
        return await exchange(method, resource, body)

    world.emp.exchange = watching  # type: ignore[method-assign,assignment]
    assert await one_slot(world) is SlotState.TOTALLED
    assert kept == [True, True]


async def test_the_plain_value_never_leaves() -> None:
    world = World()
    sent = []
    exchange = world.emp.exchange

    async def watching(method: str, resource: str, body: bytes) -> object:
        sent.append(body)
        return await exchange(method, resource, body)

    world.emp.exchange = watching  # type: ignore[method-assign,assignment]
    assert await one_slot(world) is SlotState.TOTALLED
    for value in (4321, 43210):
        assert not any(value.to_bytes(8, "little") in body or str(value).encode() in body for body in sent)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"root": bytes(32)}, "leaf"),
        ({"accepted": to_bitmap([1, 2, 3], 5)}, "leaf"),
        ({"hello": b"\xff"}, "bitmap"),
        ({"version": 2}, "previous-manifest|form"),
    ],
)
async def test_a_manifest_that_fails_a_check_is_not_opened(change: dict[str, object], reason: str) -> None:
    world = World()
    world.emp.tamper = altered(**change)
    assert await one_slot(world) is SlotState.OWED
    assert not world.emp.opened
    owed = await (await world.member()).owed()
    assert [(o.import_wh, o.export_wh) for o in owed] == [(4321, 7)]
    assert any(part in owed[0].reason for part in reason.split("|"))


async def test_a_wrong_signature_is_no_manifest() -> None:
    world = World()
    world.emp.sign_as = "somebody"
    assert await one_slot(world) is SlotState.OWED
    assert not world.emp.opened


async def test_too_many_left_out_is_owed() -> None:
    world = World()
    world.emp.left_out[1] = {4, 5}
    assert await one_slot(world) is SlotState.OWED
    assert not world.emp.opened


async def test_left_out_then_hello_then_back() -> None:
    world = World()
    world.emp.left_out[1] = {1}
    result = await served(world, 3)
    assert result == {1: SlotState.OWED, 2: SlotState.OWED, 3: SlotState.TOTALLED}
    assert world.emp.hello == {2}
    assert list(world.emp.opened) == [3]
    assert [(o.first_slot, o.import_wh) for o in await (await world.member()).owed()] == [
        (1, 1000),
        (2, 2000),
    ]


async def test_a_slot_without_a_value_says_hello() -> None:
    world = World()
    member = await world.member()
    await member.contribute(1, None)
    await world.run(member, 2)
    await member.contribute(2, 5)
    await world.run(member, 3)
    assert world.emp.hello == {1}
    assert await states(world) == {2: SlotState.TOTALLED}


async def test_a_fork_of_the_chain_ends_in_quarantine() -> None:
    world = World()

    def fork(manifest: object) -> object:
        return replace(manifest, previous=b"\x09" * 32) if manifest.slot == 2 else manifest  # type: ignore[attr-defined,type-var]

    world.emp.tamper = fork  # type: ignore[assignment]
    member = await world.member()
    for slot in (1, 2, 3):
        await member.contribute(slot, 10)
    await world.run(member, 4)
    assert member.state is MemberState.QUARANTINE
    assert [e.kind for e in world.events].count(NetEventKind.QUARANTINE) == 1
    assert list(world.emp.opened) == [1]
    assert (await states(world))[3] is SlotState.OWED
    again = await world.member()  # a restart does not forget
    sent = len(world.emp.deliveries)
    await again.contribute(4, 10)
    await world.run(again, 6)
    assert again.state is MemberState.QUARANTINE
    assert len(world.emp.deliveries) == sent


async def test_a_new_epoch_continues_without_a_gap() -> None:
    world = World(rules(slot_s=43_200, submit_s=60.0, manifest_s=120.0, open_s=180.0, poll_s=5.0))
    # Slots 0 and 1 lie in the first day, 2 and 3 in the second.
    emp = world.emp
    epochs = []
    make = emp._epoch_manifest

    def manifest_of_epoch() -> object:
        return make()

    emp._epoch_manifest = manifest_of_epoch  # type: ignore[method-assign,assignment]
    answer = emp._answer

    async def by_epoch(method: str, parts: list[str], body: bytes) -> object:
        if parts[:2] == ["manifest", "epoch"]:
            epochs.append(int(parts[2]) - world.rules.epoch_of(0))
            emp.first_slot = 1 if epochs[-1] == 0 else 2
            if epochs[-1] == 1:
                emp.archived = dict(emp.manifests)
                emp.manifests.clear()
        return await answer(method, parts, body)

    emp._answer = by_epoch  # type: ignore[method-assign,assignment]
    emp.tell_results = True
    assert await served(world, 3) == dict.fromkeys((1, 2, 3), SlotState.TOTALLED)
    assert epochs == [0, 1]
    assert [
        Frame.from_bytes(emp.submitted[s][:-MAC_BYTES]).epoch - world.rules.epoch_of(0) for s in (1, 2, 3)
    ] == [
        0,
        1,
        1,
    ]


def test_every_slot_number_of_a_frame_has_an_epoch() -> None:
    """A supplier may sign a number whose time no calendar has: it is refused, and nothing ends."""
    quarter_hours = rules(slot_s=900, submit_s=60.0, manifest_s=120.0, open_s=180.0, reconcile_slots=2976)
    last, today = (1 << 32) - 1, quarter_hours.epoch_of(0)
    assert [quarter_hours.epoch_of(slot) - today for slot in (95, 96, last)] == [0, 1, last // 96]
    months = quarter_hours.reconciled()
    assert [months.epoch_of(slot) - today for slot in (0, 1, last)] == [30, 61, 31 * (last + 1) - 1]


async def test_values_out_of_range_are_refused_and_what_is_above_it_is_owed() -> None:
    world = World()
    member = await world.member()
    for import_wh, export_wh, slot in ((-1, 0, 1), (0, -1, 1), (0, 0, -1), (0, 0, 1 << 32)):
        with pytest.raises(ReadingRefused):
            await member.contribute(slot, import_wh, export_wh)
    assert await member.slots() == []
    for _ in range(2):
        with pytest.raises(ReadingRefused):
            await member.contribute(0, 20_001, 5)
    with pytest.raises(ReadingRefused):
        await member.contribute(0, 20_000)
    await member.contribute(1, 20_000)
    await member.contribute(1, 20_000)
    with pytest.raises(ReadingRefused):
        await member.contribute(1, 19_999)
    with pytest.raises(ReadingRefused):
        await member.owe(3, 2, 1)
    await member.owe(2, 9, 50_000)
    owed = [(one.first_slot, one.import_wh, one.export_wh, one.reason) for one in await member.owed()]
    assert owed == [(0, 20_001, 5, "outside the range"), (2, 50_000, 0, "interruption")]


async def test_a_roster_that_is_refused_keeps_energy_owed() -> None:
    world = World()
    world.emp.roster_signer = "nobody"  # type: ignore[attr-defined]
    publish = world.emp._publish

    async def forged(own: object) -> object:
        publication = await publish(own)  # type: ignore[arg-type]
        return replace(publication, countersigned=())

    world.emp._publish = forged  # type: ignore[method-assign,assignment]
    assert await one_slot(world) is SlotState.OWED
    assert [e.kind for e in world.events][:1] == [NetEventKind.REFUSED]
    assert "countersignature" in world.events[0].reason
    assert not world.emp.deliveries


async def test_a_nonce_leaves_only_once_the_roster_is_kept_and_is_the_same_after_a_power_cut() -> None:
    world = World()
    revealed: list[tuple[bytes, bool]] = []
    exchange = world.emp.exchange

    async def watching(method: str, resource: str, body: bytes) -> object:
        if method == "PUT" and "/reveal/" in resource:
            revealed.append((body, any("roster-1" in key for _, key in world.store.data)))
            return Answer(503)
        return await exchange(method, resource, body)

    world.emp.exchange = watching  # type: ignore[method-assign,assignment]
    await one_slot(world)
    await one_slot(world)
    assert len(revealed) > 2
    assert {body for body, _ in revealed} == {revealed[0][0]}
    assert all(kept for _, kept in revealed)
    assert not world.emp.deliveries  # without everybody's nonce there is no graph, so nothing is submitted


async def test_another_roster_of_the_same_version_changes_nothing() -> None:
    world = World()
    world.emp.lost = lambda resource: "/reveal/" in resource
    await one_slot(world)
    first = world.emp.publication
    assert first is not None
    world.emp.publication = replace(first, signed=b"emp|another")
    world.emp.lost = lambda _: False
    await world.run(await world.member(), 5)
    assert world.events[-1].kind is NetEventKind.JOINED


async def test_a_peer_that_our_administrator_refuses_gets_no_pad() -> None:
    world = World()
    world.emp.authorise = lambda given: replace(given, peers=given.peers[:4])
    assert await served(world) == dict.fromkeys((1, 2, 3), SlotState.TOTALLED)
    world = World()
    world.emp.authorise = lambda given: replace(
        given, peers=given.peers[:3]
    )  # two neighbours: below the floor
    assert await one_slot(world) is SlotState.OWED
    assert "degree" in world.events[0].reason
    assert not world.emp.deliveries


async def test_a_false_nonce_is_refused_until_the_right_one_is_published() -> None:
    world = World()
    world.emp.gwa_nonce = bytes(32)
    assert await one_slot(world) is SlotState.OWED
    assert world.events[0].kind is NetEventKind.REFUSED
    assert "reveal" in world.events[0].reason
    world.emp.gwa_nonce = GWA_NONCE
    member = await world.member()
    for slot in (4, 5, 6):  # it was away, so it says hello before it is expected again
        await member.contribute(slot, 100)
    await world.run(member, 7)
    assert (await states(world))[6] is SlotState.TOTALLED


@pytest.mark.parametrize(("in_policy", "in_gateway"), [(False, False), (True, False), (False, True)])
async def test_a_small_net_needs_both_flags(in_policy: bool, in_gateway: bool) -> None:
    small = rules(insecure_small_nets=in_policy)
    with pytest.raises(NetRefused, match="below 16"):
        small.admit(insecure_small_nets_allowed=in_gateway)
    assert (
        rules(n_min=16, insecure_small_nets=in_policy).admit(insecure_small_nets_allowed=in_gateway) is False
    )
    assert rules(insecure_small_nets=True).admit(insecure_small_nets_allowed=True) is True


async def test_every_log_line_of_a_small_net_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="smgw.dcnet")
    await served(World())
    assert len(caplog.records) > 3
    assert all("INSECURE small net" in record.getMessage() for record in caplog.records)
    assert not any("1000" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    "changes",
    [
        {"submit_s": 1.8},
        {"open_s": 2.5},
        {"d_min": 3},
        {"n_min": 5, "n_max": 4},
        {"lanes": ("import",)},
    ],
)
def test_rules_that_contradict_themselves_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(NetRefused):
        rules(**changes)
    with pytest.raises(NetRefused, match="wrap"):
        replace(rules(), max_wh=2**60).check()
    with pytest.raises(NetRefused, match="positive"):
        replace(rules(), poll_ms=0).check()
    with pytest.raises(NetRefused, match="delta"):
        replace(rules(), delta_ppm=500_000).check()


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_the_clock_does_a_slot_has_one_submission_and_one_opening(seed: int) -> None:
    """The wall clock jumps in both directions while frames are under way, and the gateway restarts."""
    source, world = random.Random(seed), World()

    def jump(resource: str) -> bool:
        if source.randrange(6) == 0:
            world.clock.now += timedelta(seconds=source.uniform(-3.0, 3.0))
        return source.randrange(8) == 0

    world.emp.lost = jump
    for life in range(3):
        member = await world.member()
        for slot in range(1, 12):
            with contextlib.suppress(ReadingRefused):
                await member.contribute(slot, 100 * slot + life)
        await world.run(member, 4 * (life + 1))
    sent: dict[tuple[str, int], set[bytes]] = {}
    for what, body in world.emp.deliveries:
        frame = Frame.from_bytes(body[:-MAC_BYTES])
        if frame.lanes:
            sent.setdefault((what, frame.slot), set()).add(body)
    assert any(what == "submit" for what, _ in sent)
    assert all(len(bodies) == 1 for bodies in sent.values())
