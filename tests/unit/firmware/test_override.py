"""Undoing a concealed profile: only by an order that names it, and the consumer reads it (FDP_IFF.1/MTR)."""

from __future__ import annotations

import json

import pytest

from firmware.chronicle import Chronicle
from firmware.clock.clock import AdjustableClock
from firmware.errors import ConfigurationRefused
from firmware.log.entry import Event, Level
from firmware.log.journal import Logs
from firmware.profile import codec
from firmware.profile.registry import Registry, SealedProfiles
from firmware.store.stores import Stores
from firmware.store.wiping import EVER, Belongings
from tests.support.soft_module import SoftModule
from tests.unit.firmware.profile_set import at, bill, billing, group_total, household, meter_profile, series
from tests.unit.firmware.test_registry import World, order

PLAIN = household(
    processing=(bill(), series(), series("plain")),
    communication=(billing(), group_total(), billing("quarter", processing="plain")),
)
"""The recipient of the concealed total gets the very series in plain besides."""


def with_override(profiles, *names):
    return json.dumps({**json.loads(codec.to_json(profiles)), "undo_concealment": names}).encode()


async def test_without_the_field_the_refusal_stands():
    world = World()
    assert (await world.registry.apply(order(PLAIN))).code == "undoes-concealment"
    assert (world.registry.version, world.store.news) == (0, [])


async def test_the_order_that_names_the_profile_is_carried_out_and_the_consumer_is_told():
    world = World()
    receipt = await world.registry.apply(order(with_override(PLAIN, "total")))
    assert receipt.accepted
    assert "undo total" in receipt.reason
    assert world.registry.active == PLAIN
    changed, undone, assigned = world.store.news
    assert (assigned.consumer, assigned.event) == ("", Event.METER_ASSIGNMENT)
    assert (changed.consumer, changed.event) == ("household", Event.PROFILE_CHANGE)
    assert (undone.consumer, undone.event) == ("household", Event.CONCEALMENT_UNDONE)
    assert "undo total" in undone.text


@pytest.mark.parametrize("names", [(), ("billing",), ("quarter",), ("totals",)])
async def test_another_name_undoes_nothing(names):
    world = World()
    assert (await world.registry.apply(order(with_override(PLAIN, *names)))).code == "undoes-concealment"


@pytest.mark.parametrize("value", ["total", True, [1], {"total": 1}, [""]])
async def test_a_field_of_another_form_is_refused(value):
    world = World()
    body = json.dumps({**json.loads(codec.to_json(PLAIN)), "undo_concealment": value}).encode()
    assert (await world.registry.apply(order(body))).code == "invalid"
    assert world.registry.version == 0


async def test_an_override_is_of_one_order_and_not_of_the_set():
    """Staging keeps no override, and neither does the next order: each says it again or is refused."""
    world = World()
    assert (await world.registry.apply(order(PLAIN, kind="profiles.stage"))).code == "undoes-concealment"
    staged = order(with_override(PLAIN, "total"), version=2, kind="profiles.stage")
    assert (await world.registry.apply(staged)).accepted
    assert world.store.news == []  # nothing is undone by what only waits
    for version, body, code in (
        (3, b'{"version": 2}', "undoes-concealment"),
        (4, b'{"version": 2, "undo_concealment": ["total"]}', "ok"),
    ):
        answer = await world.registry.apply(order(body, version=version, kind="profiles.activate"))
        assert answer.code == code
    assert [one.event for one in world.store.news] == [
        Event.PROFILE_CHANGE,
        Event.CONCEALMENT_UNDONE,
        Event.METER_ASSIGNMENT,
    ]
    world.now = at(3600)
    assert (await world.registry.apply(order(PLAIN, version=5))).code == "undoes-concealment"
    again = await world.registry.apply(order(with_override(PLAIN, "total"), version=6))
    assert again.accepted
    back = order(b"{}", version=7, kind="profiles.rollback")
    assert (await world.registry.apply(back)).code == "undoes-concealment"
    body = b'{"undo_concealment": ["total"]}'
    assert (await world.registry.apply(order(body, version=8, kind="profiles.rollback"))).accepted


def test_no_profile_and_no_file_can_carry_it(tmp_path):
    with pytest.raises(ConfigurationRefused):
        codec.from_json(with_override(PLAIN, "total"), small_nets_allowed=False)
    file = tmp_path / "set.toml"
    file.write_text('undo_concealment = ["total"]\n')
    with pytest.raises(ConfigurationRefused):
        codec.from_toml(file, small_nets_allowed=False)
    for table in ("meters", "processing", "communication"):
        document = json.loads(codec.to_json(PLAIN))
        document[table][0]["undo_concealment"] = ["total"]
        with pytest.raises(ConfigurationRefused):
            codec.from_json(json.dumps(document).encode(), small_nets_allowed=False)


async def test_fau_gen_1_con_each_consumer_reads_of_his_own_profiles_alone(tmp_path):
    """The real stores: the order's commit, the consumers' logs, and no word of the neighbour."""
    other = "ELS-87654321-33-02"
    clock = AdjustableClock(at(0))
    async with await Stores.open(tmp_path, SoftModule()) as stores:
        logs = Logs(stores, clock)
        chronicle = Chronicle(logs, clock, stores.system)
        registry = Registry(
            SealedProfiles(stores.system, chronicle.receipt_entries),
            clock.now_utc,
            small_nets_allowed=False,
            report=chronicle.receipt,
        )
        both = household(
            meters=(meter_profile(), meter_profile(id="second", meter=other, consumer="neighbour")),
            processing=(
                bill(), series(), series("plain"),
                bill("second-bill", meter=other, consumer="neighbour"),
            ),
            communication=(
                billing(), group_total(), billing("quarter", processing="plain"),
                billing("second-billing", processing="second-bill"),
            ),
        )  # fmt: skip
        assert (await registry.apply(order(with_override(both, "total")))).accepted
        changed, undone = await logs.consumer("household").entries()
        assert (changed.event, undone.event) == (Event.PROFILE_CHANGE, Event.CONCEALMENT_UNDONE)
        assert (undone.level, undone.user, undone.subject) == (Level.WARNING, "gwa", "order-1")
        assert "second" not in changed.text + undone.text
        (told,) = await logs.consumer("neighbour").entries()
        assert "+processing/second-bill" in told.text
        assert "quarter" not in told.text
        his = Belongings(
            dict.fromkeys(("bill", "series", "plain"), (EVER,)), {meter_profile().meter: (EVER,)}
        )
        assert registry.belongings("household") == his
        later = household(meters=both.meters[1:], processing=both.processing[3:], communication=())
        assert (await registry.apply(order(later, version=2))).accepted
        assert registry.belongings("household") == his
        assert registry.belongings("nobody") == Belongings()
