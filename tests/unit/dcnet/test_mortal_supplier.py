"""A supplier that is killed wherever it says or keeps something, and started again: the same net goes on."""

from __future__ import annotations

import random

import pytest

from firmware.enforcement.dcnet.machines import SlotState
from firmware.enforcement.dcnet.messages.faults import RecoveryOrder
from tests.support.instant_loop import run
from tests.unit.dcnet.mortal_net import MortalNet
from tests.unit.dcnet.running_net import Home, energies
from tests.unit.dcnet.support import NET
from tools.counterparts import net_playing
from tools.counterparts.net import NetCoordinator
from tools.counterparts.net_conduct import calendar_of
from tools.counterparts.net_journal import Journal, JournalDamaged, JournalForeign
from tools.counterparts.net_slot_book import SlotBook
from tools.homes.liar import Lie, corrupt

SIZE = 8
SLOT_S = 60


def open_of(resource: str) -> bool:
    return "/open/" in resource


def version(net: MortalNet) -> int:
    """Of the roster in force; 0: none, or it is being restored."""
    now = net.coordinator.rosters.in_force
    return 0 if now is None else now.roster.version


async def dying(net: MortalNet, lost: bool, stride: int, calm: int) -> dict[str, str]:
    """Let it die at every `stride`-th point of a slot, one point a slot; point -> verdict of that slot."""
    found, slot, point = {}, net.first, 1
    while True:
        await net.until(slot - 1, SLOT_S - 0.5)
        net.life.die_in, deaths = point, len(net.deaths)
        if lost:
            net.homes[2].cut = open_of
        await net.contribute(slot)
        await net.until(slot, SLOT_S - 1)
        net.homes[2].cut = lambda _resource: False
        net.life.die_in = None
        if len(net.deaths) == deaths:
            return found
        for later in range(slot + 1, slot + calm + 1):
            await net.contribute(later)
            await net.until(later, SLOT_S - 1)
        verdicts = [await net.judged(one) for one in range(slot, slot + calm + 1)]
        found[f"{point} {net.deaths[-1]}"] = verdicts[0]
        assert verdicts[-1] == "totalled", (point, net.deaths[-1])
        slot, point = slot + calm + 1, point + stride


@pytest.mark.parametrize(
    ("recovery", "lost", "stride"), [("none", False, 4), ("witness", False, 2), ("witness", True, 18)]
)
def test_a_supplier_that_is_back_at_once_loses_no_slot(recovery: str, lost: bool, stride: int) -> None:
    every_slot_is_totalled(recovery, lost, stride)


def every_slot_is_totalled(recovery: str, lost: bool, stride: int) -> list[str]:
    async def main() -> list[str]:
        async with MortalNet(SIZE, recovery=recovery, poll_s=4.0) as net:
            found = await dying(net, lost, stride, 1)
            assert set(found.values()) == {"totalled"}, found
            assert len(net.deaths) >= 8
            assert (version(net), net.coordinator.rosters.open.version) == (1, 2)
            return net.deaths

    return run(main())


@pytest.mark.parametrize(
    ("recovery", "lost", "down_s", "stride"),
    [("none", False, 17, 8), ("witness", True, 17, 32), ("witness", True, 200, 46)],
)
def test_a_supplier_that_was_away_for_long_owes_what_it_missed(
    recovery: str, lost: bool, down_s: float, stride: int
) -> None:
    async def main() -> None:
        async with MortalNet(SIZE, down_s, recovery=recovery, poll_s=4.0) as net:
            found = await dying(net, lost, stride, 3 + int(down_s) // SLOT_S)
            assert set(found.values()) == {"totalled", "aborted"}

    run(main())


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_every_point_of_a_slot_without_a_loss() -> None:
    deaths = every_slot_is_totalled("witness", True, 1) + every_slot_is_totalled("none", False, 1)
    for place in ("before a write", "in a write", "after a write", "a total was told", "before cosign"):
        assert place in deaths
    for place in (
        "after cosign",
        "answer to submit",
        "answer to open",
        "answer to manifest",
        "answer to order",
    ):
        assert place in deaths


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("down_s", [1, 8, 17, 35, 70, 200])
@pytest.mark.parametrize("recovery", ["none", "witness"])
def test_every_point_with_every_absence(recovery: str, down_s: float) -> None:
    async def main() -> None:
        async with MortalNet(SIZE, down_s, recovery=recovery, poll_s=4.0) as net:
            await dying(net, True, 1, 3 + int(down_s) // SLOT_S)

    run(main())


@pytest.mark.parametrize("recovery", ["none", "witness"])
def test_a_supplier_dies_at_every_point_of_the_founding(recovery: str) -> None:
    """One roster comes of it, that of the first draft, with the first nonces."""
    for point in range(1, 160, 23):

        async def main(point: int = point) -> None:
            async with MortalNet(SIZE, lives=iter([point, point // 2 + 1]), recovery=recovery) as net:
                assert net.deaths, point
                await net.contribute(net.first)
                await net.until(net.first, SLOT_S - 1)
                assert await net.judged(net.first) == "totalled", net.deaths
                assert version(net) == 1

        run(main())


def test_a_supplier_that_lives_longer_each_time_founds_its_net() -> None:
    async def main() -> None:
        async with MortalNet(SIZE, lives=iter(range(3, 60, 4)), recovery="witness") as net:
            assert len(net.deaths) > 5
            await net.contribute(net.first)
            await net.until(net.first, SLOT_S - 1)
            assert await net.judged(net.first) == "totalled"

    run(main())


def test_an_audit_outlives_its_supplier() -> None:
    """Killed anywhere between the lie and its finding: the liar is named once, to everybody the same."""
    for point in range(1, 400, 48):

        async def main(point: int = point) -> bool:
            async with MortalNet(SIZE, recovery="none", poll_s=2.0) as net:
                slot, liar = net.first, net.homes[3]
                corrupt(liar.member, Lie.CONTRADICTION)
                await net.until(slot - 1, SLOT_S - 0.5)
                net.life.die_in = point
                for one in range(slot, slot + 4):
                    for home in net.homes:
                        if home is not liar or one == slot:
                            await net.until(one, 0)
                            await home.member.contribute(one, 100)  # type: ignore[union-attr]
                    await net.until(one, SLOT_S - 1)
                died, net.life.die_in = bool(net.deaths), None
                totals = {event["slot"]: event for event in net.said.values()}
                assert totals[slot]["verdict"] == "aborted"
                assert liar.name not in totals[slot + 3]["members"]
                assert totals[slot + 3]["lanes"] == [7000, 0, 7], net.deaths
                for administrator in net.administrators.values():
                    assert len({report.to_bytes() for report in administrator.reports}) == 1, net.deaths
                return died

        if not run(main()):
            assert point > 100
            break


def test_statements_that_were_taken_outlive_the_supplier() -> None:
    """Their members do not say it again: who would seem silent was heard."""

    async def main() -> None:
        async with MortalNet(SIZE, recovery="none", poll_s=2.0) as net:
            slot = net.first
            corrupt(net.homes[3].member, Lie.CONTRADICTION)
            await net.until(slot - 1, SLOT_S - 0.5)
            net.life.die_at = ("answer to canary", 5)
            await net.contribute(slot)
            await net.until(slot + 1, SLOT_S)
            assert net.deaths == ["answer to canary"]
            (found,) = net.of("audit")
            assert (found["members"], found["edges"], found["silent"]) == ([4], [], [])

    run(main())


@pytest.mark.parametrize(
    ("place", "count"),
    [("answer to share", 4), ("after cosign", 3), ("before cosign", 4), ("after cosign", 4)],
)
def test_an_order_and_its_shares_outlive_the_supplier(place: str, count: int) -> None:
    """Two are lost; one of them opens after the order, which stays the same for all that."""

    async def main() -> None:
        async with MortalNet(SIZE, recovery="witness", delta=0.3) as net:
            slot, late = net.first, net.homes[4]
            for home in (net.homes[2], late):
                home.cut = open_of
            await net.until(slot - 1, SLOT_S - 0.5)
            net.life.die_at = (place, count)
            await net.contribute(slot)
            await net.until(slot, 30 if place == "answer to share" else 29)
            while not net.deaths:
                await net.clock.sleep(0.1)
            while net.coordinator.slots.now is None or net.life.dead:
                await net.clock.sleep(0.01)
            assert late.member is not None
            (entry,) = [one for one in await late.member.slots() if one.slot == slot]
            resource = f"/dcnet/v1/{net.rules.net.hex()}/open/{slot}/5"
            assert (await net.ask(late.name, "PUT", resource, entry.opened)).status in (200, 201, 410)
            await net.until(slot, SLOT_S - 1)
            for home in net.homes:
                home.cut = lambda _resource: False
            await net.contribute(slot + 1)
            await net.until(slot + 1, SLOT_S - 1)
            assert await net.judged(slot) == "totalled"
            orders = [content for content in net.signed if content[1] == RecoveryOrder.KIND]
            assert len(orders) <= 1

    run(main())


def test_a_draft_that_somebody_countersigned_stays_the_only_one() -> None:
    """Killed before the next one has, and back in another epoch: no second roster of this version."""

    async def main() -> None:
        async with MortalNet(SIZE, 1000, epoch_s=480, roster_pause_s=0, recovery="none", n_start=SIZE) as net:
            assert net.deaths
            assert all(one.refused == 0 for one in net.administrators.values())
            assert version(net) == 1

    founding = MortalNet.supplied
    for place in ("after countersign", "before countersign"):

        def supplied(self: MortalNet, place: str = place) -> dict[str, object]:
            given = founding(self)
            if not self.deaths:
                self.life.die_at = (place, 1 if place == "after countersign" else 2)
            return given

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MortalNet, "supplied", supplied)
            run(main())


def test_a_later_roster_outlives_its_supplier() -> None:
    for seed in range(2):
        chance = random.Random(seed)
        run(succession(chance))


async def succession(chance: random.Random) -> None:
    """Two come while the supplier dies again and again; they are in from an epoch's beginning on."""
    changes = {"epoch_s": 480, "roster_pause_s": 0, "churn_min": 2, "poll_s": 4.0, "delta": 0.4}
    async with MortalNet(SIZE, recovery=chance.choice(["none", "witness"]), **changes) as net:
        slot = net.first
        for number in (9, 10):
            home = Home(f"gw{number}", f"gwa{1 + number % 2}")
            net.homes.append(home)
            net.start(home)
        net.coordinator.follow({home.name: home.administrator for home in net.homes})
        while version(net) < 2:
            await net.until(slot - 1, SLOT_S - 0.5)
            net.life.die_in = chance.randrange(1, 70)
            for home in net.homes[:SIZE]:
                await net.until(slot, 0)
                await home.member.contribute(slot, 100)  # type: ignore[union-attr]
            await net.until(slot, SLOT_S - 1)
            net.life.die_in = None
            assert slot < net.first + 60, net.deaths
            slot += 1
        for _ in range(2):
            await net.contribute(slot)
            await net.until(slot, SLOT_S - 1)
            slot += 1
        assert net.deaths
        total = net.totals()[slot - 1]
        assert total["lanes"] == [energies(net, slot - 1) * 10, 0, SIZE + 2]
        assert version(net) == 2


def test_epochs_that_nobody_served_are_passed_over() -> None:
    async def main() -> None:
        async with MortalNet(
            SIZE, 2000, epoch_s=480, roster_pause_s=0, recovery="witness", poll_s=4.0
        ) as net:
            slot = net.first
            await net.contribute(slot)
            net.life.die_in = 3
            for later in range(slot + 1, slot + 38):
                await net.contribute(later)
            await net.until(slot + 37, SLOT_S - 1)
            assert len(net.deaths) == 1
            assert await net.judged(slot + 37) == "totalled"
            played = sorted(of for net_id, of in net.said if net_id == NET.hex())
            assert len(played) < 20, "whole epochs were not played"
            for one in range(slot, slot + 38):
                await net.judged(one)

    run(main())


# -- the reconcile net, members and witnesses that fall out as well ---------------------------------------


def measured_energy_arrives_once(seed: int) -> int:
    """Everybody is killed at random: totals, reconcile totals and what is owed are what was measured."""
    chance, period = random.Random(seed), 4

    async def main() -> int:
        recovery = chance.choice(["none", "witness"])
        async with MortalNet(SIZE, recovery=recovery, reconcile_slots=period, poll_s=4.0) as net:
            measured, begin = 0, net.first
            last = begin + 2 * period - begin % period - 1
            for slot in range(begin, last + period):
                await net.until(slot, -1)
                net.down_s = chance.choice([0.5, 5, 20, 50, 130])
                if not net.life.dead:
                    net.life.die_in = chance.choice([None, chance.randrange(1, 200)])
                for one in net.administrators.values():
                    one.away = chance.random() < 0.1
                await net.until(slot, 0)
                for home in net.homes:
                    assert home.member is not None
                    measured += 100 + slot
                    await home.member.contribute(slot, 100 + slot)
                for home in chance.sample(net.homes, chance.choice([0, 0, 1, 2])):
                    await net.until(slot, chance.uniform(0, 50))
                    await net.restart(home)
            net.life.die_in = None
            for one in net.administrators.values():
                one.away = False
            await net.until(slot + 2 * period + 2, 55)
            for later in (slot + 2 * period + 3, slot + 2 * period + 4):
                for home in net.homes:  # so that everybody learns every result
                    await net.until(later, 0)
                    await home.member.contribute(later, 0)  # type: ignore[union-attr]
                await net.until(later, 59)
            still = 0
            for home in net.homes:
                assert home.member is not None
                await net.kill(home)
                still += sum(one.import_wh for one in await home.member.owed())
                undecided = (SlotState.MEASURED, SlotState.SUBMITTED, SlotState.OPENED, SlotState.REFUSED)
                entries = await home.member.slots()
                assert not [e for e in entries if e.state in undecided and e.import_wh], (seed, home.name)
            summed = sum(total["lanes"][0] for total in net.said.values() if total["lanes"]) // 10
            assert summed + still == measured, (seed, summed, still, measured, net.deaths)
            assert all(one.refused == 0 for one in net.administrators.values())
            return len(net.deaths)

    return run(main())


def test_measured_energy_arrives_once_whoever_dies() -> None:
    assert sum(measured_energy_arrives_once(seed) for seed in range(3)) > 4


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_measured_energy_arrives_once_in_many_nets() -> None:
    for seed in range(200):
        measured_energy_arrives_once(seed)


# -- what is kept ----------------------------------------------------------------------------------------


def test_the_journal_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_playing, "KEPT_SLOTS", 6)

    async def main() -> None:
        async with MortalNet(SIZE, recovery="witness", poll_s=4.0) as net:
            for slot in range(net.first, net.first + 20):
                await net.contribute(slot)
            await net.until(slot, SLOT_S - 1)
            kept = Journal(net.disk, NET)
            assert SlotBook(kept).slots() == list(range(slot - 5, slot + 2))
            assert kept.room(f"slot/{slot - 2:010d}").items("submit/") == []
            assert len(kept.room(f"slot/{slot:010d}").items("submit/")) == SIZE
            net.life.end("so that it reads what is kept")
            await net.until(slot, SLOT_S + 20)
            assert sorted(net.coordinator.slots.manifests) == list(range(slot - 4, slot + 2))

    run(main())


def test_a_full_disk_stops_the_net_and_breaks_no_promise() -> None:
    async def main() -> None:
        async with MortalNet(SIZE, recovery="witness") as net:
            slot, append = net.first, net.disk.append

            def full(_data: bytes) -> None:
                raise OSError(28, "no space left on device")

            net.disk.append = full  # type: ignore[method-assign]
            await net.contribute(slot)
            await net.until(slot, 25)
            assert (NET.hex(), slot) not in net.said
            assert not [one for home in net.homes for one in home.bodies("/open/")]
            assert net.of("refused")[-1]["what"] == "journal"
            net.disk.append = append  # type: ignore[method-assign]
            for later in (slot + 1, slot + 2):
                await net.contribute(later)
                await net.until(later, SLOT_S - 1)
            assert await net.judged(slot) in ("none", "aborted")
            assert await net.judged(slot + 2) == "totalled"
            assert not net.deaths

    run(main())


async def founded() -> MortalNet:
    async with MortalNet(SIZE, recovery="none", calendar="signed") as net:
        await net.contribute(net.first)
        await net.until(net.first, SLOT_S - 1)
    return net


def again(net: MortalNet, **changes: object) -> NetCoordinator:
    options: dict[str, object] = {
        "identity": lambda _request: "gw1",
        "administrators": net.administrators,
        "now_utc": net.clock.now_utc,
        "journal": Journal(net.disk, NET),
        "policy": net.policy,
        "keys": net.keys,
    }
    chosen = options | changes
    policy, keys = chosen.pop("policy"), chosen.pop("keys")
    return NetCoordinator(policy, ["gw1"], keys, net.events.append, **chosen)  # type: ignore[arg-type]


def test_another_policy_or_calendar_than_was_kept_is_refused_by_name() -> None:
    async def main() -> None:
        net = await founded()
        with pytest.raises(JournalForeign, match=r"another policy; hint: put the policy back"):
            again(net, policy=MortalNet(SIZE, recovery="witness", calendar="signed").policy)
        said = calendar_of(net.rules, 100, 20, [(103, 104)])
        first = again(net, calendars=[said])
        assert await first.slots.conduct.publication() is not None
        await first._journal.sync()
        assert again(net).slots.conduct.blocked(103), "what was said holds, in emp.toml or not"
        again(net, calendars=[said, calendar_of(net.rules, 120, 20, [])])
        with pytest.raises(JournalForeign, match=r"slots 100 \.\. 119 have another calendar"):
            again(net, calendars=[calendar_of(net.rules, 110, 20, [])])

    run(main())


def test_frames_that_do_not_fit_our_keys_are_named_and_nothing_is_begun() -> None:
    async def main() -> None:
        net = await founded()
        await net.keys.prepare()  # another ENC key
        other = again(net)
        with pytest.raises(JournalDamaged, match=r"was enc\.key exchanged"):
            await other.run()
        assert other.slots.now is None

    run(main())
