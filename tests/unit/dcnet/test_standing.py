"""What a gateway tells of its nets: whom, what, and how it is drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import timedelta
from io import StringIO
from types import SimpleNamespace

import msgspec
import pytest
from msgspec.structs import replace
from rich.console import Console

from firmware.clock.clock import SystemClock
from firmware.enforcement.dcnet.founding.keyring import KeyRing
from firmware.enforcement.dcnet.founding.membership import Membership
from firmware.enforcement.dcnet.machines import MemberState, Mode, Step
from firmware.enforcement.dcnet.messages.roster import Administrator, Roster, RosterEntry
from firmware.enforcement.dcnet.primitives import graph
from firmware.enforcement.dcnet.service.auditing import LastAudit
from firmware.enforcement.dcnet.service.standing import (
    anonymity_sets,
    describe,
    describe_faults,
    describe_terms,
)
from firmware.enforcement.dcnet.slot.ledger import Ledger
from firmware.enforcement.dcnet.slot.view import Head
from firmware.enforcement.roles import Role
from firmware.errors import AccessRefused
from firmware.life.control import Request
from firmware.log.entry import Event
from firmware.log.journal import Logs
from firmware.profile.model import ProfileSet
from firmware.store.stores import Stores
from firmware.wide_area.net_status import NetStatus
from tests.support.soft_module import SoftModule
from tests.unit.dcnet.support import MemoryStore, rules
from tests.unit.dcnet.whole_net import Net
from tests.unit.firmware.profile_set import group_total, series
from tools.dcnet.drawing import draw
from tools.dcnet.terminal import view

SVG = "{http://www.w3.org/2000/svg}"
SECRET_WH = 987_654


def told(size: int, absent: set[int], degree: int = 16) -> dict:
    """As the gateway tells it, of a net of any size."""
    edges = graph.key_graph(range(1, size + 1), degree, b"shown")
    adjacent = graph.neighbours(edges)
    accepted = frozenset(adjacent) - absent
    hidden = anonymity_sets(adjacent, accepted)
    return {
        "net": f"{size:016x}",
        "profile": "sums",
        "supplier": "emp <&>",
        "state": "active",
        "n_min": 2,
        "d_min": 1,
        "insecure_small_net": size < 16,
        "roster": {
            "version": 1,
            "own": 2,
            "members": [
                {
                    "index": i,
                    "neighbours": len(adjacent[i]),
                    "absent": i in absent,
                    "expected": True,
                    "anonymity_set": hidden[i],
                }
                for i in sorted(adjacent)
            ],
            "edges": sorted(map(list, edges)),
        },
        "last": {"epoch": 1, "slot": 9, "accepted_known": True},
        "slots": [{"slot": n, "state": "totalled", "members": 3, "reason": ""} for n in range(1, 10)],
    }


def membership(size: int) -> Membership:
    net = rules()
    entries = tuple(
        RosterEntry(i, bytes([i]) * 16, bytes([i]) * 32, "gwa", bytes(32)) for i in range(1, size + 1)
    )
    party = Administrator("gwa", bytes(32), bytes(32))
    roster = Roster(
        net.net, 1, bytes(32), net.policy_hash(), net.schema_hash(), 20_000, bytes(32), (party,), entries
    )
    adjacent = graph.neighbours(graph.complete_graph(range(1, size + 1)))
    return Membership(net, roster, 2, adjacent, 30_000, KeyRing(20_000, bytes(16), {}))


def test_a_cut_graph_hides_nobody_among_all() -> None:
    path = graph.neighbours({(1, 2), (2, 3), (3, 4), (4, 5)})
    assert anonymity_sets(path, {1, 2, 3, 4, 5}) == dict.fromkeys(range(1, 6), 5)
    assert anonymity_sets(path, {1, 2, 4, 5}) == {1: 2, 2: 2, 3: 0, 4: 2, 5: 2}
    assert anonymity_sets(path, ()) == dict.fromkeys(range(1, 6), 0)


def test_a_chain_tells_who_was_in_its_last_slot() -> None:
    net = Net(rules(n_min=3, d_min=1), 5, graph.complete_graph(range(1, 6)))
    assert net.head.accepted is None
    net.submit({i: (i, 0, 1) for i in (1, 2, 3, 4)})
    net.close(hello=(5,))
    net.open()
    net.next()
    assert (net.head.present, net.head.accepted) == (frozenset(range(1, 6)), frozenset(range(1, 5)))


@pytest.mark.parametrize(("size", "absent"), [(4, {3}), (24, {5, 11}), (200, {7, 90, 133}), (3, {1, 2, 3})])
def test_every_member_key_and_absence_is_drawn(size: int, absent: set[int]) -> None:
    net = told(size, absent)
    root = ET.fromstring(draw([net, net]))
    titles = [one.text or "" for one in root.iter(SVG + "title")]
    members = [one for one in titles if one.startswith("member")]
    assert len(members) == 2 * size
    assert sum("absent" in one for one in members) == 2 * len(absent)
    chords = sum((one.get("d") or "").count("L") for one in root.iter(SVG + "path"))
    assert chords == 2 * len(net["roster"]["edges"])
    console = Console(width=200, record=True, file=StringIO())
    console.print(view(net), soft_wrap=True)
    text = console.export_text()
    assert f"{size - len(absent)} of {size} members" in text
    assert text.count("○") - 1 == len(absent)


def test_a_net_that_fell_apart_says_so() -> None:
    net = told(4, set())
    net["roster"]["members"][0]["anonymity_set"] = 1
    assert "anonymity sets" in view(net).plain
    assert "anonymity sets" in draw([net])
    net["roster"] = None
    assert "no roster" in view(net).plain
    assert "no roster" in draw([net])
    assert "no net" in draw([])


class World:
    """A gateway in one net, of a consumer who is owed something."""

    def __init__(self, stores: Stores, consumer: str) -> None:
        self.logs = Logs(stores, SystemClock())
        processing = series(consumer=consumer)
        profile = group_total(processing=processing.id)
        profiles = ProfileSet(processing=(processing,), communication=(profile,))
        self.net, self.served = profile.net.net_id, True
        self.ledger = Ledger(MemoryStore(), bytes(8))
        self.profiles, self.registry = profiles, SimpleNamespace(active=profiles)
        self.status = NetStatus(self._member, self.registry, self.logs.system)

    def _member(self, _net):
        if not self.served:
            return None
        head = Head(20_000, 5, bytes(32), frozenset({1, 2, 3, 4, 5}), frozenset({1, 2, 3, 4}))

        async def slots():
            return self.ledger.entries()

        async def owed():
            return self.ledger.owed()

        async def faults():
            return describe_faults(rules(), Mode.F, LastAudit(20_000, 7, b""), [(8, 3)])

        return SimpleNamespace(
            rules=rules(), state=MemberState.ACTIVE, membership=membership(5),
            chain=SimpleNamespace(head=head), slots=slots, owed=owed, faults=faults,
        )  # fmt: skip

    async def ask(self, role: Role, name: str = "") -> str:
        return msgspec.json.encode(await self.status.tell(Request(op="dcnet", role=role, name=name))).decode()


@pytest.fixture
async def world(tmp_path):
    async with await Stores.open(tmp_path / "state", SoftModule()) as stores:
        made = World(stores, "home-1")
        await made.ledger.measure(4, SECRET_WH, 0)
        await made.ledger.failed(4, Step.LEAVE_OUT, "the line was down")
        yield made


async def test_what_is_owed_is_for_its_consumer_alone(world: World) -> None:
    for role in (Role.GWA, Role.SERVICE_TECH):
        text = await world.ask(role, "home-1")
        assert '"state":"active"' in text
        assert "the line was down" in text
        assert str(SECRET_WH) not in text
        assert 'owed":[' not in text
    assert str(SECRET_WH) in await world.ask(Role.CONSUMER, "home-1")
    assert await world.ask(Role.CONSUMER, "home-2") == '{"nets":[]}'
    assert await world.ask(Role.CONSUMER) == '{"nets":[]}'


async def test_who_moves_in_sees_nothing_of_before(world: World) -> None:
    """The same net and the same ledger; the profile of who lives here now begins with slot 5."""
    old = world.profiles.processing[0]
    since = rules().t0_utc + 5 * timedelta(seconds=rules().slot_s)
    later = replace(old, consumer="home-3", valid_from=since)
    await world.ledger.measure(6, 77_001, 0)
    await world.ledger.failed(6, Step.LEAVE_OUT, "her own fault")
    world.registry.active = replace(world.profiles, processing=(later,))
    text = await world.ask(Role.CONSUMER, "home-3")
    assert str(SECRET_WH) not in text
    assert "the line was down" not in text
    assert "77001" in text
    assert await world.ask(Role.CONSUMER, "home-1") == '{"nets":[]}'
    assert "the line was down" in await world.ask(Role.SERVICE_TECH)


async def test_others_see_nothing_and_that_is_logged(world: World) -> None:
    for role in (Role.EMP, Role.CLS_DEVICE):
        with pytest.raises(AccessRefused):
            await world.ask(role)
    assert [one.event for one in await world.logs.system.entries()] == [Event.ACCESS_DENIED] * 2


async def test_absence_in_the_last_slot_and_a_net_that_is_not_served(world: World) -> None:
    told = (await world.status.tell(Request(op="dcnet")))["nets"][0]
    members = told["roster"]["members"]
    assert [one["absent"] for one in members] == [False] * 4 + [True]
    assert [one["anonymity_set"] for one in members] == [4] * 4 + [0]
    assert members[4]["expected"]
    assert len(told["roster"]["edges"]) == 10
    world.served = False
    told = (await world.status.tell(Request(op="dcnet")))["nets"][0]
    assert told["state"] == "not served"
    view(told)
    draw([told])


def test_before_the_first_manifest_everybody_is_expected() -> None:
    said = describe(rules(), MemberState.KEYED, membership(5), None, (), None)
    assert said["last"] is None
    assert not any(one["absent"] for one in said["roster"]["members"])


def test_only_a_net_below_the_floor_is_called_insecure() -> None:
    """The flag of the policy permits a small net; it makes none of a large one."""
    for n_min, insecure in ((3, True), (15, True), (16, False)):
        said = describe(rules(n_min=n_min), MemberState.KEYED, membership(5), None, (), None)
        assert said["insecure_small_net"] is insecure


def test_what_was_ordered_of_a_net_is_shown() -> None:
    member = membership(5)
    gone = member.roster.entries[2].certificate_hash
    begins, ends = rules().t0_utc, rules().slot_end(9)
    said = describe(rules(), MemberState.ACTIVE, member, None, (), None)
    said |= describe_terms(member, (3, frozenset({gone, bytes(32)})), begins, ends)
    assert (said["withdrawn_list"], said["withdrawn"]) == (3, [3])
    text = view(said | {"profile": "p", "supplier": "s"}).plain
    assert "withdrawn by the administrator  3 (list 3)" in text
    assert f"this net's  from {begins.isoformat()} until {ends.isoformat()}" in text
    said |= describe_terms(None, (0, frozenset()), None, None)
    text = view(said | {"profile": "p", "supplier": "s"}).plain
    assert "withdrawn" not in text
    assert "this net's" not in text
