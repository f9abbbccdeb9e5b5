"""Which sizes of a net have a key graph: the rule, the graphs themselves, and what somebody is told."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from firmware.enforcement.dcnet.errors import MembershipRefused, NetRefused
from firmware.enforcement.dcnet.events import NetEventKind
from firmware.enforcement.dcnet.founding import beacon
from firmware.enforcement.dcnet.primitives import graph
from firmware.profile import net_sizes
from firmware.profile.check import _net
from tests.support.instant_loop import run
from tests.unit.dcnet.hostile_net import WholeNet
from tests.unit.dcnet.support import policy, rules
from tools.counterparts.net_filling import MOST_CARRIED, Filling


def test_the_profile_and_the_core_mean_the_same_graph() -> None:
    assert net_sizes.COMPLETE_UP_TO == graph.COMPLETE_UP_TO
    assert rules().degree == net_sizes.DEGREE


@pytest.mark.parametrize(("d_min", "size"), [(12, 192), (12, 256), (11, 80), (10, 65), (4, 65)])
def test_where_the_rule_says_there_is_a_graph_most_beacons_find_one(d_min: int, size: int) -> None:
    """4 of 5 at least; the real chance is above 97 %."""
    assert (net_sizes.smallest_random_net(d_min) or 0) <= size
    asked = replace(rules(n_min=d_min + 1), d_min=d_min)
    found = 0
    for number in range(15):
        with contextlib.suppress(MembershipRefused):
            found += len(beacon.draw(asked, size, b"%d" % number)) > 0
    assert found >= 12


@pytest.mark.parametrize(("d_min", "size"), [(12, 65), (12, 80), (13, 256)])
def test_where_the_rule_says_there_is_none_beacons_find_none_and_say_what_would_help(
    d_min: int, size: int
) -> None:
    asked = replace(rules(n_min=d_min + 1), d_min=d_min)
    for number in range(3):
        with pytest.raises(MembershipRefused, match=f"{d_min + 3} to 64 members.* d_min of at most 10"):
            beacon.draw(asked, size, b"%d" % number)


@pytest.mark.parametrize(
    ("n_min", "n_max", "d_min", "served"),
    [
        (128, 4096, 12, True),
        (65, 191, 12, False),
        (65, 192, 12, True),
        (16, 100, 12, True),
        (16, 64, 13, True),
        (14, 14, 12, False),
        (15, 15, 12, True),
        (65, 4096, 13, False),
        (65, 79, 11, False),
        (65, 79, 10, True),
        (3, 3, 1, False),
        (4, 4, 1, True),
    ],
)
def test_a_policy_that_no_net_can_serve_is_refused(n_min: int, n_max: int, d_min: int, served: bool) -> None:
    help_ = net_sizes.unservable(n_min, n_max, d_min)
    assert (help_ == "") is served
    if served:
        replace(rules(n_min=n_min, d_min=d_min), n_max=n_max).check()
    else:
        assert "members" in help_
        with pytest.raises(NetRefused, match="key graph; needed: "):
            replace(rules(n_min=n_min, d_min=d_min), n_max=n_max).check()


A_DAY = {
    "slot_s": 86400,
    "submit_s": 9 * 3600.0,
    "manifest_s": 16 * 3600.0,
    "open_s": 16 * 3600.0,
    "poll_s": 6 * 3600.0,
}
"""Slots in which so many members ask seldom."""


def test_the_ways_out_are_named() -> None:
    assert (
        net_sizes.ways_out(12) == "15 to 64 members, or at least 192 members, or d_min of at most 10, or k "
        "of at least 20"
    )
    assert net_sizes.ways_out(13) == "16 to 64 members, or d_min of at most 10, or k of at least 22"
    assert net_sizes.ways_out(24, 32) == "27 to 64 members, or at least 175 members"
    assert net_sizes.ways_out(1) == "4 to 64 members, or at least 65 members"
    assert net_sizes.ways_out(70) == "d_min of at most 10"


@pytest.mark.parametrize(("d_min", "degree", "size"), [(12, 20, 65), (24, 32, 175), (14, 20, 98)])
def test_where_another_k_is_estimated_to_serve_a_draw_finds_a_graph(
    d_min: int, degree: int, size: int
) -> None:
    assert net_sizes.smallest_random_net(d_min, degree) == size
    asked = replace(rules(n_min=d_min + 1), d_min=d_min, degree=degree)
    for number in range(4):
        found = graph.neighbours(beacon.draw(asked, size, b"%d" % number))
        assert all(d_min + 2 <= len(found[member]) <= degree for member in range(1, size + 1))


def test_a_net_begins_with_a_size_that_has_a_graph_or_says_which_one_has() -> None:
    usual = rules(n_min=128, d_min=12)
    assert usual.starts_with() == 192
    assert rules(n_min=128, d_min=12, k=20).starts_with() == 128
    assert rules(n_min=16, d_min=12).starts_with() == 16
    assert rules(n_min=128, d_min=12, n_start=256).starts_with() == 256
    with pytest.raises(NetRefused, match="n_start: 150 members seldom find a key graph; n_start = 192 does"):
        rules(n_min=128, d_min=12, n_start=150)
    with pytest.raises(NetRefused, match="k of at least 20"):
        rules(n_min=65, d_min=12, n_max=150)
    assert rules(n_min=65, d_min=12, n_max=150, k=20).degree == 20
    assert rules().policy_hash() == rules(k=16).policy_hash() != rules(k=18).policy_hash()


def test_a_profile_whose_net_cannot_begin_is_refused_where_it_stands() -> None:
    def problems(**changes: object) -> list[tuple[str, str]]:
        fields: dict[str, object] = {"n_min": 128, "d_min": 12, "max_wh": 1000}
        found = _net("net", policy(**(fields | changes)), None, small_nets_allowed=True)
        return [(one.place, one.expected) for one in found]

    assert problems() == []
    ((place, needed),) = problems(n_start=150)
    assert place == "net.n_start"
    assert "n_start = 192 does" in needed
    ((place, needed),) = problems(n_min=65, n_max=150)
    assert place == "net.d_min"
    assert "k of at least 20" in needed
    assert problems(n_min=65, n_max=150, k=20) == problems(n_start=150, k=20) == []


@pytest.mark.parametrize(
    ("size", "taken"), [(13, 0), (14, 0), (15, 15), (64, 64), (66, 64), (191, 64), (192, 192), (300, 256)]
)
def test_a_supplier_drafts_a_first_roster_of_a_size_with_a_graph_alone(size: int, taken: int) -> None:
    filling = Filling(rules(n_min=14, d_min=12, n_max=256))
    assert filling.first([str(n) for n in range(size)]) == [str(n) for n in range(taken)]
    large = Filling(rules(n_min=128, d_min=12))
    assert len(large.first([str(n) for n in range(size)])) == (size if size >= 192 else 0)
    assert len(large.first([str(n) for n in range(5000)])) == MOST_CARRIED


@pytest.mark.parametrize(
    ("stay", "come", "taken"),
    [
        (64, 4, 0),  # 68 have no graph: they wait
        (60, 10, 4),
        (64, 127, 0),
        (64, 128, 128),
        (200, 20, 20),
        (170, 5, 5),  # nobody is put out, and more find a graph sooner
        (250, 20, 6),  # n_max
        (256, 3, 0),
        (257, 3, 0),
    ],
)
def test_newcomers_fit_or_wait_and_nobody_is_put_out(stay: int, come: int, taken: int) -> None:
    filling = Filling(rules(n_min=14, d_min=12, n_max=256), batch=4)
    staying, coming = {f"s{n}" for n in range(stay)}, [str(n) for n in range(come)]
    assert filling.later(staying, coming) == coming[:taken]


def test_a_batch_is_waited_for_but_not_for_ever() -> None:
    filling = Filling(rules(), batch=16)
    assert not filling.worth(0, 15)
    assert filling.worth(0, 16)
    assert filling.worth(1, 3)
    assert not filling.worth(0, 3, waited=True)
    assert filling.worth(0, 4, waited=True)


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supplier that drafts rosters of any size."""
    monkeypatch.setattr(Filling, "first", lambda _self, here: list(here))


@pytest.mark.usefixtures("careless")
def test_a_running_net_of_an_impossible_size_does_not_stall_in_silence() -> None:
    """66 members and d_min 12: every member says why and what would help, and the supplier does."""
    net = WholeNet(66, reading=lambda _slot, index: (index, 0), n_min=16, d_min=12, delta=0.05, **A_DAY)
    run(net.run(1))
    for gateway in net.gateways:
        (told,) = [event for event in gateway.events if event.kind is NetEventKind.REFUSED]
        assert "needed: 15 to 64 members, or at least 192 members" in told.reason
        assert not [resource for resource, _ in gateway.sent if "/submit/" in resource]
    assert [version for version, reason in _beacons(net) if "at least 192 members" in reason] == [1]


@pytest.mark.usefixtures("careless")
def test_redrawing_an_impossible_net_for_a_silent_member_does_not_hide_why_it_stalls() -> None:
    """A member goes silent after the roster is drafted; the next one, without it, is impossible as well."""
    net = WholeNet(
        66,
        reading=lambda _slot, index: (index, 0),
        n_min=16,
        d_min=12,
        delta=0.05,
        **A_DAY,
        patience_s=2 * 86400.0,
    )

    async def one_goes_silent() -> None:
        async with net:
            while not any(one["event"] == "roster" for one in net.emitted):  # noqa: ASYNC110 - no event
                await asyncio.sleep(60)
            net.gateways[-1].cut = True
            await net.until(6)

    run(one_goes_silent())
    assert [one["silent"] for one in net.emitted if one["event"] == "redrawn"] == [["gw66"]]
    assert [version for version, reason in _beacons(net) if "at least 192 members" in reason] == [2]
    for gateway in net.gateways[:-1]:
        told = [event.kind for event in gateway.events if "needed: 15 to 64 members" in event.reason]
        assert told == [NetEventKind.REFUSED]
        assert not [resource for resource, _ in gateway.sent if "/submit/" in resource]


def _beacons(net: WholeNet) -> list[tuple[int, str]]:
    """(version, reason) of each key graph that the supplier could not draw."""
    return [
        (one["version"], one["reason"])
        for one in net.emitted
        if one["event"] == "refused" and one["what"] == "beacon"
    ]
