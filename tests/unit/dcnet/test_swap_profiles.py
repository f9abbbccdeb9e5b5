"""The order by which a home changes its net: the one profile ends where the other begins."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import msgspec
import pytest
from msgspec.structs import replace

from firmware.profile.check import check
from firmware.profile.model import NetPolicy, ProfileSet
from tests.unit.firmware.profile_set import T0, at, bill, billing, group_total, household, net, series
from tests.unit.firmware.test_registry import World, order
from tools.counterparts.net_swap_profiles import enters, swapped
from wan.errors import OrderRefused

A, B, C = (f"{number:016x}" for number in (1, 2, 3))
EPOCH = 20_500
BOUNDARY = at(30 * 86400)
LONG_AGO = T0 - timedelta(days=1)


def policy(identity: str) -> NetPolicy:
    return net(net_id=identity)


def home() -> ProfileSet:
    """A bill in plain, and a group total in net A."""
    return household(communication=(billing(), group_total(net=policy(A))))


def test_a_home_is_in_the_one_net_until_the_boundary_and_in_the_other_from_it_on() -> None:
    before = home()
    after = swapped(before, A, policy(B), BOUNDARY, EPOCH, LONG_AGO)
    assert not check(after, small_nets_allowed=False)
    assert after.meters == before.meters
    plain, old, new = after.communication
    assert (plain, old) == before.communication
    assert new == replace(old, id="total.e20500", processing="series.e20500", net=policy(B))
    costs, ending, beginning = after.processing
    assert costs == before.processing[0]
    assert ending == replace(before.processing[1], valid_until=BOUNDARY)
    assert beginning == replace(before.processing[1], id="series.e20500", valid_from=BOUNDARY)
    assert enters(after, B, BOUNDARY)
    assert not enters(before, A, BOUNDARY)
    assert not enters(after, A, BOUNDARY)


def test_an_end_that_was_ordered_holds_in_the_other_net_too() -> None:
    end = BOUNDARY + timedelta(days=3)
    before = replace(home(), processing=(bill(), series(valid_until=end)))
    after = swapped(before, A, policy(B), BOUNDARY, EPOCH, LONG_AGO)
    assert [one.valid_until for one in after.processing] == [None, BOUNDARY, end]


def test_to_and_fro_names_do_not_grow_and_what_is_over_is_left_out() -> None:
    """A gateway has keys for four nets, and a net may be in a set once."""
    profiles, boundary, nets = home(), BOUNDARY, [A, B, C, A, B, A]
    for number, (origin, target) in enumerate(pairwise(nets)):
        ended_by = boundary - timedelta(days=2)
        profiles = swapped(profiles, origin, policy(target), boundary, EPOCH + number, ended_by)
        inside = [one for one in profiles.communication if one.net is not None]
        assert len(inside) == 2
        assert [one.net.net_id for one in inside if one.net is not None] == [origin, target]
        assert inside[1].id == f"total.e{EPOCH + number}"
        assert len(profiles.processing) == 3
        boundary += timedelta(days=31)


def test_back_at_once_is_refused() -> None:
    after = swapped(home(), A, policy(B), BOUNDARY, EPOCH, LONG_AGO)
    with pytest.raises(OrderRefused) as refused:
        swapped(after, B, policy(A), BOUNDARY + timedelta(days=1), EPOCH + 1, LONG_AGO)
    assert refused.value.code == "home"


@pytest.mark.parametrize(
    ("profiles", "boundary"),
    [
        (household(), BOUNDARY),  # in another net
        (household(communication=(billing(),)), BOUNDARY),
        (home(), T0),  # not in force then
        (home(), T0 - timedelta(days=1)),
        (replace(home(), processing=(bill(), series(valid_until=BOUNDARY))), BOUNDARY),
        (replace(home(), processing=(bill(), series(valid_until=at(86400)))), BOUNDARY),
        (replace(home(), processing=(bill(),)), BOUNDARY),
        (
            replace(home(), communication=(*home().communication, group_total("more", net=policy(C)))),
            BOUNDARY,
        ),
        (home(), BOUNDARY + timedelta(seconds=1)),  # no registration instant
    ],
)
def test_a_home_that_cannot_change_says_why(profiles: ProfileSet, boundary: datetime) -> None:
    with pytest.raises(OrderRefused) as refused:
        swapped(profiles, A, policy(B), boundary, EPOCH, LONG_AGO)
    assert refused.value.code == "home"


async def test_a_gateway_carries_the_orders_out() -> None:
    world = World()
    assert (await world.registry.apply(order(home()))).accepted
    profiles, boundary = home(), BOUNDARY
    for number, (origin, target) in enumerate(pairwise([A, B, A, B]), 2):
        world.now = boundary - timedelta(days=1, seconds=17)
        profiles = swapped(
            profiles, origin, policy(target), boundary, EPOCH + number, world.now - timedelta(days=2)
        )
        body = msgspec.json.encode(msgspec.to_builtins(profiles))  # as the administrator's spool has it
        receipt = await world.registry.apply(order(body, number))
        assert (receipt.accepted, receipt.code) == (True, "ok"), receipt.reason
        assert world.registry.active == profiles
        boundary += timedelta(days=31)


def test_a_home_whose_concealment_was_undone_stays() -> None:
    """Its gateway would refuse the order: what may be undone was said in another one."""
    undone = household(
        processing=(bill(), series(), series("plain")),
        communication=(billing(), group_total(net=policy(A)), billing("quarter", processing="plain")),
    )
    with pytest.raises(OrderRefused, match="undo total"):
        swapped(undone, A, policy(B), BOUNDARY, EPOCH, LONG_AGO)
