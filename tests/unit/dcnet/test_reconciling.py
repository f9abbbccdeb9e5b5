"""The reconcile net in running members and their supplier: all that is owed arrives, once."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.machines import MemberState, SlotState
from firmware.enforcement.dcnet.messages.frames import MAC_BYTES, RECONCILE, Frame
from firmware.enforcement.dcnet.policy import reconcile_net
from firmware.enforcement.dcnet.slot import reconcile
from firmware.errors import ReadingRefused
from tests.support.instant_loop import run
from tests.unit.dcnet.running_net import Home, RunningNet, energies, energy_of

SIZE = 8
UNDECIDED = (SlotState.MEASURED, SlotState.SUBMITTED, SlotState.OPENED, SlotState.REFUSED)
PERIOD = 4


def net_of(**changes: object) -> RunningNet:
    return RunningNet(SIZE, reconcile_slots=PERIOD, **changes)


def end_of_period(slot: int) -> int:
    """The last regular slot of the period that a slot lies in."""
    return slot - slot % PERIOD + PERIOD - 1


def test_what_was_not_totalled_is_in_the_sum_of_the_period() -> None:
    async def main() -> None:
        async with net_of() as net:
            slot = net.first
            last = end_of_period(slot + 1)
            net.homes[2].cut = lambda resource: "/open/" in resource and "reconcile" not in resource
            await net.contribute(slot)  # nobody recovers: all is owed
            await net.until(slot, 50)
            net.homes[2].cut = lambda _resource: False
            assert net.homes[4].member is not None
            await net.homes[4].member.owe(0, 0, 700, 30)  # an interruption
            for later in range(slot + 1, last + 1):
                await net.contribute(later)
            await net.until(last, 50)
            (total,) = net.totals(reconcile=True).values()
            assert total["reconciles"] == net.rules.net.hex()
            assert total["net"] == reconcile_net(net.rules.net).hex()
            assert total["lanes"] == [(energies(net, slot) + 700) * 10, 300, SIZE]
            assert net.totals()[last]["lanes"] == [energies(net, last) * 10, 0, SIZE]
            for home in net.homes:
                assert await home.owed() == {}
                assert (await home.states())[slot] is SlotState.SETTLED
                (told,) = [event for event in home.events if event.kind is NetEventKind.RECONCILED]
                assert (told.net, told.members) == (net.rules.net.hex(), SIZE)
                submits = home.bodies("/reconcile/submit/")
                frames = [Frame.from_bytes(body[:-MAC_BYTES]) for body in submits]
                assert {frame.flags for frame in frames} == {RECONCILE}
                assert not [key for _, key in home.store.data if "/carried-" in key]
                assert all(
                    Frame.from_bytes(b[:-MAC_BYTES]).flags == 0 for b in home.bodies("net-0001/submit/")
                )

    run(main())


def test_a_reconcile_slot_with_too_few_members_opens_nothing_and_loses_nothing() -> None:
    async def main() -> None:
        async with net_of() as net:
            slot = net.first
            last = end_of_period(slot + 1)
            net.homes[2].cut = lambda resource: "/open/" in resource and "reconcile" not in resource
            await net.contribute(slot)
            await net.until(slot, 50)
            for home in net.homes[1:]:
                home.cut = lambda resource: "/reconcile/submit/" in resource
            for later in range(slot + 1, last + 1):
                await net.contribute(later)
            await net.until(last, 50)
            (total,) = net.totals(reconcile=True).values()
            assert (total["verdict"], total["members"]) == ("aborted", ["gw1"])
            for home in net.homes:
                assert not home.bodies("/reconcile/open/")
                assert await home.owed() == {slot: energy_of(home, slot)}
                home.cut = lambda _resource: False
            await net.until(last + 2 * PERIOD, 50)  # hello, and then the period after
            await net.until(last + 3 * PERIOD, 50)
            assert sum(
                total["lanes"][0] for total in net.totals(reconcile=True).values() if total["lanes"]
            ) == (energies(net, slot) * 10)
            assert [await home.owed() for home in net.homes] == [{}] * SIZE

    run(main())


def test_who_alone_owes_less_than_a_lot_tells_nothing_and_owes_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_DAYS_OF_A_MONTH", PERIOD // 2)

    async def main() -> None:
        async with net_of() as net:
            lone = net.homes[4]
            assert lone.member is not None
            end = end_of_period(net.first)
            await lone.member.owe(0, 0, 700, 30)
            for slot in range(net.first, end + PERIOD + 1):
                await net.contribute(slot)
                if slot == end + 1:
                    await lone.member.owe(1, 1, 50, 0)
            await net.until(end + PERIOD, 50)
            first, second = net.totals(reconcile=True).values()
            assert first["lanes"] == [0, 0, SIZE]
            assert second["lanes"] == [7500, 300, SIZE]
            assert await lone.owed() == {}

    run(main())


def test_what_is_above_the_range_is_submitted_nowhere_and_in_the_reconcile_total_once() -> None:
    """Said again by a restart of the pipeline, before and after it was settled, it changes nothing."""

    async def main() -> None:
        async with net_of() as net:
            home, slot, most = net.homes[4], net.first, net.rules.max_wh
            end = end_of_period(slot)
            assert home.member is not None
            for _ in range(2):
                with pytest.raises(ReadingRefused, match="range"):
                    await home.member.contribute(slot, most + 1, 3)
            for later in range(slot, end + PERIOD + 1):
                await net.contribute(
                    later, {one.name: 10 for one in net.homes if (one, later) != (home, slot)}
                )
                if later == end + 2:
                    with pytest.raises(ReadingRefused, match="not after"):
                        await home.member.contribute(slot, most + 1, 3)
                    await net.restart(home)
            await net.until(end + PERIOD, 50)
            first, second = net.totals(reconcile=True).values()
            # Absent in that slot, it is greeted in the next one and in the sums from the one after it on.
            assert first["lanes"] == [(most + 1 + 10) * 10, 30, SIZE]
            assert second["lanes"][1:] == [0, SIZE]
            assert home.name not in net.totals()[slot]["members"]
            assert await home.owed() == {}

    run(main())


def test_a_kill_between_total_and_settlement_settles_once() -> None:
    async def main() -> None:
        async with net_of() as net:
            slot, victim = net.first, net.homes[0]
            last = end_of_period(slot + 1)
            net.homes[2].cut = lambda resource: "/open/" in resource and "reconcile" not in resource
            await net.contribute(slot)
            await net.until(slot, 50)
            net.homes[2].cut = lambda _resource: False
            for later in range(slot + 1, last + 1):
                await net.contribute(later)
            delete = victim.store.delete

            async def cut(kind: str, key: str) -> None:
                if not key.endswith("/told"):
                    raise OSError("the power goes here")
                await delete(kind, key)

            victim.store.delete = cut  # type: ignore[method-assign]
            await net.until(last, 50)
            assert victim.task is not None
            assert victim.task.done()
            assert isinstance(victim.task.exception(), OSError)
            victim.store.delete = delete  # type: ignore[method-assign]
            net.start(victim)
            await net.until(last + 1, 0)
            assert slot not in await victim.owed()
            assert not [key for _, key in victim.store.data if "/carried-" in key]
            (total,) = net.totals(reconcile=True).values()
            assert total["lanes"] == [energies(net, slot) * 10, 0, SIZE]

    run(main())


def test_a_lie_in_the_reconcile_net_is_one_in_the_net() -> None:
    async def main() -> None:
        async with net_of() as net:
            victim = net.homes[0]
            assert victim.member is not None
            last = end_of_period(net.first + 1)
            await net.until(last, 50)
            reconciling = victim.member._reconciling
            assert reconciling is not None
            assert reconciling.chain.head is not None
            await reconciling.chain.accuse(0, b"one", b"another")
            await net.restart(victim)
            await net.until(last, 55)
            assert victim.member.state is MemberState.QUARANTINE

    run(main())


def reconciled(total_of: RunningNet) -> int:
    lanes = [
        total["lanes"] for totals in (False, True) for total in total_of.totals(reconcile=totals).values()
    ]
    return sum(one[0] for one in lanes if one) // 10


@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.integers(0, 2**32))
def test_i12_totals_reconcile_and_what_is_owed_are_what_was_measured(seed: int) -> None:
    """Drop-outs and kills at any instant: nothing is lost and nothing counted twice."""
    measured_energy_arrives_once(seed)


@pytest.mark.nightly
def test_i12_over_many_nets() -> None:
    for seed in range(150):
        measured_energy_arrives_once(seed)


def measured_energy_arrives_once(seed: int) -> None:
    chance = random.Random(seed)

    async def main() -> None:
        async with net_of(recovery=chance.choice(["none", "witness"]), poll_s=4.0) as net:
            measured = 0
            begin = net.first
            for slot in range(begin, end_of_period(begin + 1) + PERIOD + 1):
                await net.until(slot, 0)
                for home in net.homes:
                    home.cut = lambda _resource: False
                troubled = chance.sample(net.homes, chance.choice([0, 0, 1, 1, 2]))
                for home in net.homes:
                    assert home.member is not None
                    measured += energy_of(home, slot)
                    await home.member.contribute(slot, energy_of(home, slot))
                for home in troubled:
                    cut_off(home, chance.choice(["/submit/", "/open/", "/result/", "/manifest/"]))
                    if chance.random() < 0.5:
                        await net.clock.sleep_until(
                            net.rules.slot_end(slot) + timedelta(seconds=chance.uniform(0, 50))
                        )
                        await net.restart(home)
            for home in net.homes:
                home.cut = lambda _resource: False
            await net.until(slot + PERIOD, 55)
            for home in net.homes:
                assert home.member is not None
                await home.member.contribute(slot + PERIOD + 1, 0)  # so that everybody learns every result
            await net.until(slot + PERIOD + 1, 59)
            still = 0
            for home in net.homes:
                assert home.member is not None
                await net.kill(home)
                still += sum(one.import_wh for one in await home.member.owed())
                still += sum(
                    entry.import_wh for entry in await home.member.slots() if entry.state in UNDECIDED
                )
            assert reconciled(net) + still == measured, seed

    run(main())


def cut_off(home: Home, what: str) -> None:
    home.cut = lambda resource: what in resource
