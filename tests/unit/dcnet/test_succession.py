"""What may follow a roster: each check of member and administrator has a test that breaks it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from firmware.enforcement.dcnet.errors import MembershipRefused, NetRefused
from firmware.enforcement.dcnet.founding.authorisation import PeerAuthorisation
from firmware.enforcement.dcnet.founding.succession import (
    NO_ROSTER,
    PeerWithdrawal,
    VersionNotice,
    changes,
    check_first,
    check_successor,
)
from firmware.enforcement.dcnet.machines import MemberState
from firmware.enforcement.dcnet.messages.documents import document_hash
from firmware.enforcement.dcnet.messages.roster import Roster, RosterEntry
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service.joining import Joining
from firmware.enforcement.dcnet.slot.ledger import Ledger
from firmware.errors import ReadingRefused
from tests.unit.dcnet.fake_emp import GWA_NONCE, Answer, World
from tests.unit.dcnet.support import NET, MemoryStore, NamedSignatures, administrator, rules, signed_by
from tools.counterparts.net_succession import (
    check_next,
    keep_names,
    revoked_peers,
    withdraw_orders,
    withdrawal,
)
from wan.errors import OrderRefused

TODAY = 20_000
OPEN = {"epoch_s": 86400, "roster_pause_s": 0}


def roster(names: str, version: int = 1, previous: Roster | None = None, **more: object) -> Roster:
    """A roster of gateways with names of one letter."""
    entries = tuple(
        RosterEntry(
            index,
            hashlib.sha256(f"{name}{version}".encode()).digest()[:16],
            hashlib.sha256(name.encode()).digest(),
            "gwa",
            hashlib.sha256(f"bundle {name}{version}".encode()).digest(),
        )
        for index, name in enumerate(names, 1)
    )
    before = NO_ROSTER if previous is None else document_hash(previous)
    made = Roster(
        NET,
        version,
        before,
        rules(**OPEN).policy_hash(),
        rules(**OPEN).schema_hash(),
        TODAY + version,
        bytes(32),
        (administrator("gwa", GWA_NONCE),),
        entries,
    )
    return replace(made, **more)  # type: ignore[arg-type]  # mixed


FIRST = roster("abcdefgh")


def test_changes_count_whoever_is_in_one_of_two() -> None:
    assert changes(FIRST, roster("abcdefgh", 2)) == 0
    assert changes(FIRST, roster("abcdefg", 2)) == 1
    assert changes(FIRST, roster("abcdefgx", 2)) == 2
    assert changes(FIRST, roster("cdefghxy", 2)) == 4


@pytest.mark.parametrize(
    ("after", "code"),
    [
        (roster("abcdefgh", 2, FIRST), ""),  # nobody changes
        (roster("efgh", 2, FIRST), ""),  # four leave
        (roster("cdefghxy", 3, FIRST), ""),  # a version may be passed over
        (roster("abcdefgx", 2, FIRST), "churn"),  # one exchanged: the difference of two sums tells of two
        (roster("abcdefg", 2, FIRST), "churn"),
        (roster("abcdefghxyz", 2, FIRST), "churn"),
        (roster("efgh", 2), "previous"),
        (roster("efgh", 2, roster("abcd")), "previous"),
        (roster("efgh", 1, FIRST), "version"),
        (roster("efgh", 2, FIRST, first_epoch=TODAY), "epoch"),  # it has begun
        (roster("efgh", 2, FIRST, first_epoch=TODAY + 1), "epoch"),  # not after the one before
    ],
)
def test_what_may_follow(after: Roster, code: str) -> None:
    kept: dict[str, bytes] = {}
    now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=TODAY, hours=1)
    net_rules = rules(**OPEN, t0_utc=now - timedelta(days=1))
    take(kept, FIRST, now)
    kept[f"given-{NET.hex()}-1"] = b"\1"
    if not code:
        check_successor(net_rules, FIRST, after, TODAY)
        check_next(kept, NET.hex(), net_rules, after, now)
        return
    with pytest.raises(MembershipRefused) as caught:
        check_successor(net_rules, FIRST, after, TODAY)
    assert caught.value.code == code
    with pytest.raises(OrderRefused) as refused:
        check_next(kept, NET.hex(), net_rules, after, now)
    assert refused.value.code == code


def take(kept: dict[str, bytes], given: Roster, now: datetime) -> None:
    peers = tuple((entry.index, entry.certificate_hash) for entry in given.entries)
    authorised = PeerAuthorisation(NET, given.version, document_hash(given), TODAY + 400, peers)
    kept[f"roster-{NET.hex()}-{given.version}"] = given.to_bytes()
    kept[f"peers-{NET.hex()}-{given.version}"] = authorised.to_bytes()
    names = [f"esgw{entry.index}" for entry in given.entries]
    keep_names(kept, NET.hex(), given, names, now)


def test_a_first_roster_needs_n_start_members_and_no_past() -> None:
    wanted = rules(n_start=6)
    check_first(wanted, FIRST)
    now = datetime.now(UTC)
    for bad, code in ((roster("abcde"), "start"), (roster("abcdefgh", 2, FIRST), "previous")):
        with pytest.raises(MembershipRefused) as caught:
            check_first(wanted, bad)
        assert caught.value.code == code
        with pytest.raises(OrderRefused) as refused:
            check_next({}, NET.hex(), wanted, bad, now)
        assert refused.value.code == code
    check_next({}, NET.hex(), wanted, FIRST, now)


def test_an_administrator_keeps_a_pause_and_follows_the_roster_it_authorised_last() -> None:
    kept: dict[str, bytes] = {}
    now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=TODAY, hours=1)
    net_rules = rules(epoch_s=86400, roster_pause_s=3600, t0_utc=now - timedelta(days=1))
    take(kept, FIRST, now)
    silent = roster("abcdefgh", 2, first_epoch=TODAY + 1)
    with pytest.raises(OrderRefused) as refused:
        check_next(kept, NET.hex(), net_rules, silent, now + timedelta(seconds=3599))
    assert refused.value.code == "pause"
    # Version 1 was never in force, so version 2 follows what was before it: nothing.
    check_next(kept, NET.hex(), net_rules, silent, now + timedelta(seconds=3600))
    kept[f"given-{NET.hex()}-1"] = b"\1"
    with pytest.raises(OrderRefused) as refused:
        check_next(kept, NET.hex(), net_rules, silent, now + timedelta(seconds=3600))
    assert refused.value.code == "previous"


def test_an_administrator_lists_whom_it_lets_go() -> None:
    kept: dict[str, bytes] = {}
    take(kept, FIRST, datetime.now(UTC))
    own, net = {f"esgw{index}" for index in range(1, 9)}, NET.hex()
    assert withdrawal(kept, net, "gwa", own, ()) == PeerWithdrawal(NET, 1, ())
    hashes = {f"esgw{entry.index}": entry.certificate_hash for entry in FIRST.entries}
    gone = withdrawal(kept, net, "gwa", own - {"esgw3"}, {"esgw5"})
    assert gone == PeerWithdrawal(NET, 2, tuple(sorted((hashes["esgw3"], hashes["esgw5"]))))
    assert withdrawal(kept, net, "gwa", own - {"esgw3"}, {"esgw5"}) == gone
    assert withdrawal(kept, net, "other", own - {"esgw3"}, ()).certificates == ()  # not its own gateway
    orders = withdraw_orders(kept, net, sorted(own), ["esgw5"])
    assert orders.keys() == own
    assert orders["esgw1"][1] == {"net": net, "serial": 1, "certificates": [hashes["esgw5"].hex()]}
    assert withdraw_orders(kept, net, ["esgw1"], [])["esgw1"][1]["serial"] == 2
    assert revoked_peers(kept, net) == frozenset()
    with pytest.raises(OrderRefused) as refused:
        withdraw_orders(kept, net, ["esgw1"], ["nobody"])
    assert refused.value.code == "unknown"
    assert json.loads(kept[f"names-{net}-1"])["gateways"][0] == "esgw1"


@pytest.mark.parametrize(
    "changes_",
    [
        {"epoch_s": 3600},
        {"roster_pause_s": 0},
        {"churn_min": 3},
        {"n_start": 5000},
        {"epoch_s": 1, "insecure_small_nets": True},
    ],
)
def test_hurried_rules_need_the_insecure_flag(changes_: dict[str, object]) -> None:
    safe = {"n_min": 16, "insecure_small_nets": False}
    rules(**safe)
    with pytest.raises(NetRefused):
        rules(**(safe | changes_))


def test_rules_of_rosters_are_in_the_policys_hash() -> None:
    assert len({rules(**one).policy_hash() for one in ({}, *POLICIES)}) == 1 + len(POLICIES)
    chosen: NetRules = rules(epoch_s=7, roster_pause_s=0)
    for epoch in range(chosen.epoch_of(0), chosen.epoch_of(0) + 30):
        first = chosen.first_slot_of(epoch)
        assert chosen.epoch_of(first) >= epoch
        assert first == 0 or chosen.epoch_of(first - 1) < epoch


POLICIES = ({"n_start": 4}, {"churn_min": 5}, {"epoch_s": 3600}, {"roster_pause_s": 1})


async def test_a_roster_that_was_never_in_force_hides_no_lone_change() -> None:
    """The supplier has a large change authorised, lets it die, and comes back with one exchanged."""
    dead = roster("efghijkl", 2, FIRST)
    lone = roster("abcdefgx", 3, dead, first_epoch=TODAY + 3)
    world, store = World(), MemoryStore()
    world.clock.now = world.rules.t0_utc
    today = world.rules.epoch_of(0)
    dead = replace(dead, first_epoch=today + 1)
    lone = replace(lone, previous=document_hash(dead), first_epoch=today + 2)
    with pytest.raises(MembershipRefused) as caught:
        await joining(store, FIRST, {2: dead}, world)._succeeds(lone)
    assert caught.value.code == "churn"
    await joining(store, FIRST, {2: dead}, world)._succeeds(
        roster("abcdwxyz", 3, dead, first_epoch=today + 2)
    )
    kept: dict[str, bytes] = {}
    now = world.rules.t0_utc
    for one in (FIRST, dead):
        take(kept, one, now)
        kept[f"given-{NET.hex()}-{one.version}"] = b"\1"
    with pytest.raises(OrderRefused) as refused:
        check_next(kept, NET.hex(), rules(**OPEN), lone, now)
    assert refused.value.code == "churn"


# -- one member ------------------------------------------------------------------------------------------


def joining(store: MemoryStore, before: Roster | None, shown: dict[int, Roster], world: World) -> Joining:
    """A way into a roster of which only the check of what it follows is looked at."""

    class Client:
        async def roster(self, version: int) -> bytes | None:
            if version not in shown:
                return None
            from firmware.enforcement.dcnet.messages.roster import RosterPublication

            return RosterPublication(signed_by("emp", shown[version].to_bytes()), (), ()).to_bytes()

    return Joining(
        rules(**OPEN),
        "gw1",
        9,
        None,  # type: ignore[arg-type]  # not looked at
        None,  # type: ignore[arg-type]  # as above
        before,
        signatures=NamedSignatures("gw1"),
        module=world.module,
        emp_key=None,  # type: ignore[arg-type]  # as above
        client=Client(),  # type: ignore[arg-type]  # as much of it as is used
        ledger=Ledger(store, NET),
        clock=world.clock,
    )


async def test_who_has_missed_rosters_follows_their_hashes() -> None:
    second = roster("efghijkl", 2, FIRST)
    fourth = roster("ijklmnop", 4, second)
    newest = roster("mnopqrst", 6, fourth)
    shown = {2: second, 4: fourth, 5: roster("zzzz", 5)}
    world, store = World(), MemoryStore()
    assert await joining(store, FIRST, shown, world)._predecessor(newest) == fourth
    assert await joining(store, None, shown, world)._predecessor(newest) == fourth
    assert await joining(store, fourth, shown, world)._predecessor(newest) == fourth
    assert await joining(store, None, shown, world)._predecessor(FIRST) is None
    for before, has in ((FIRST, {4: fourth}), (FIRST, {}), (roster("other"), shown)):
        with pytest.raises(MembershipRefused) as caught:
            await joining(store, before, has, world)._predecessor(newest)
        assert caught.value.code == "previous"
    with pytest.raises(MembershipRefused) as caught:  # a newcomer whom nobody shows the roster before
        await joining(store, None, {}, world)._succeeds(newest)
    assert caught.value.code == "previous"


@pytest.mark.parametrize("pause", [0, 3600])
async def test_a_member_takes_one_roster_in_a_pause(pause: int) -> None:
    world = World(rules(roster_pause_s=pause, epoch_s=86400))
    member = await world.member()
    await world.run(member, 0)
    kept = await Ledger(world.store, NET).kept("roster-taken")
    assert kept is not None
    way = joining(world.store, None, {}, world)
    way._rules = world.rules
    if pause:
        with pytest.raises(MembershipRefused) as caught:
            await way._succeeds(FIRST)
        assert caught.value.code == "pause"
        world.clock.now += timedelta(seconds=pause)
    await way._succeeds(FIRST)


async def test_a_notice_of_another_net_or_signer_or_far_ahead_moves_nobody() -> None:
    for notice, signer in (
        (VersionNotice(bytes(8), 0, 7, 0, wanted=True), "emp"),
        (VersionNotice(NET, 0, 7, 0, wanted=True), "somebody"),
        (VersionNotice(NET, 0, 1 << 20, 0, wanted=True), "emp"),
    ):
        world = World()
        answer, asked = world.emp.exchange, []

        async def exchange(method: str, resource: str, body: bytes) -> Answer:
            if resource.endswith("/versions"):
                return Answer(200, signed_by(signer, notice.to_bytes()))  # noqa: B023 - called in this turn
            asked.append(resource)  # noqa: B023 - as above
            return await answer(method, resource, body)  # noqa: B023 - as above

        world.emp.exchange = exchange  # type: ignore[method-assign,assignment]
        member = await world.member()
        await world.run(member, 1)
        assert member.state in (MemberState.JOINING, MemberState.PROVISIONED)
        assert not any("/bundle/" in resource for resource in asked)


async def test_a_registers_slot_before_or_after_its_time_enters_no_net() -> None:
    world = World()
    for slot, allowed in ((4, False), (5, True), (7, True), (8, False)):
        member = await world.member()
        member._begins_utc = world.rules.slot_end(4)
        member._ends_utc = world.rules.slot_end(7)
        if allowed:
            await member.contribute(slot, 10)
        else:
            with pytest.raises(ReadingRefused, match="another recipient"):
                await member.contribute(slot, 10)
