"""FDP_RIP.2, FDP_IFF.1/MTR: a flat changes its tenant under the same profile and meter."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from msgspec.structs import replace

from firmware.flow.intake import KIND
from firmware.log.entry import Event
from firmware.metering.happenings import Happenings
from firmware.metering.register import RegisteredValue
from firmware.metering.running import RunningRegisters
from firmware.metering.tariff.task import Held, TariffEvent
from firmware.profile import orders
from firmware.profile.model import ProfileSet
from firmware.store.stores import Stores
from firmware.store.wiping import EVER, Span
from lmn.model import MeterId, Obis
from tests.unit.firmware.pipeline_street import Street, started
from tests.unit.firmware.profile_set import IMPORT, METER, at, household, plain_series
from tests.unit.firmware.test_registry import order
from tests.unit.firmware.test_store_orders import World, module, wipe

__all__ = ["module"]
HOUR = 3600


def tenant(name, profiles=None):
    profiles = profiles or plain_series()
    return replace(
        profiles,
        meters=tuple(replace(one, consumer=name) for one in profiles.meters),
        processing=tuple(replace(one, consumer=name) for one in profiles.processing),
    )


@pytest.fixture
async def world(tmp_path, module):
    async with await Stores.open(tmp_path, module) as stores:
        yield World(stores, module)


async def live(world, hour, name, version):
    """Give the flat to somebody, and measure for him for three hours."""
    world.clock.set_utc(at(HOUR * hour))
    profiles = ProfileSet() if name is None else tenant(name)
    receipt = await world.registry.apply(order(profiles, version=version, identity=f"o-{version}"))
    assert receipt.accepted
    if name is None:
        return
    for quarter in range(1, 12):
        instant = at(HOUR * hour + 900 * quarter)
        value = RegisteredValue(MeterId.from_text(METER), Obis.from_text(IMPORT), instant, None, "Wh", 0)
        await world.lists.add("series", [value], instant)
        text = json.dumps([METER, IMPORT, "5", "Wh", instant.isoformat(), 0, False]).encode()
        await world.stores.consumer.append(KIND, text)
    event = TariffEvent(at(HOUR * hour + 60), "top-up", 5)
    await Happenings(world.stores.consumer).tell("series", f"e-{version}", event)
    await world.logs.consumer(name).write(Event.DATA_SENT)


async def kept(world):
    """Whole hours from which anything is left: registered values, readings, tariff events."""
    values = await world.lists.between("series", at(0), at(HOUR * 100))
    readings = [json.loads(text)[4] for _, text in await world.stores.consumer.records(KIND)]
    events = await Happenings(world.stores.consumer).events("series")
    hours = [{(one.instant_utc - at(0)) // timedelta(hours=1) for one in values}]
    hours.append({(at(0).fromisoformat(one) - at(0)) // timedelta(hours=1) for one in readings})
    hours.append({(one.at_utc - at(0)) // timedelta(hours=1) for one in events})
    return hours


async def test_fdp_rip_2_what_a_former_tenant_used_goes_with_him_and_nothing_else(world):
    await live(world, 0, "anna", 1)
    await live(world, 20, "bert", 2)  # over midnight: the first day holds values of both, too
    await live(world, 30, None, 3)
    assert (await world.desk.apply(wipe("w-1", b'{"consumer": "anna"}'))).accepted
    values, readings, events = await kept(world)
    assert values == readings == {20, 21, 22}
    assert events == {20}
    assert await world.lists.registered_through("series") is not None  # bert's
    (entry,) = [one for one in await world.logs.consumer("bert").entries() if one.event is Event.DATA_SENT]
    assert entry
    assert Event.DATA_SENT not in [one.event for one in await world.logs.consumer("anna").entries()]
    assert (await world.desk.apply(wipe("w-2", b'{"consumer": "bert"}'))).accepted
    assert await kept(world) == [set(), set(), set()]


async def test_fdp_rip_2_the_new_tenant_goes_and_the_former_ones_values_stay(world):
    await live(world, 0, "anna", 1)
    await live(world, 4, "bert", 2)
    await live(world, 8, "anna", 3)  # and comes back
    await live(world, 12, None, 4)
    spans = world.registry.belongings("anna").processing["series"]
    assert spans == (Span(None, at(4 * HOUR)), Span(at(8 * HOUR), None))
    assert (await world.desk.apply(wipe("w-1", b'{"consumer": "bert"}'))).accepted
    assert await kept(world) == [{0, 1, 2, 8, 9, 10}] * 2 + [{0, 8}]
    assert (await world.desk.apply(wipe("w-2", b'{"consumer": "anna"}'))).accepted
    assert await kept(world) == [set(), set(), set()]


async def test_fdp_rip_2_running_registers_go_by_time_and_what_is_said_of_the_present_with_who_has_it(world):
    running, since = RunningRegisters(world.stores.consumer), at(0)
    for version, (hour, name) in enumerate(((0, "anna"), (4, "bert")), 1):
        await live(world, hour, name, version)
        await running.keep("series", since, at(HOUR * (hour + 2)), Held(((1, hour),), "Wh"))
    await world.stores.consumer.put("meter-state", METER, b"[true,0]")
    await world.stores.consumer.put("progress", "closed/series", at(6 * HOUR).isoformat().encode())
    assert (await world.desk.apply(wipe("w-1", b'{"consumer": "anna"}'))).accepted
    assert await running.at("series", since, at(2 * HOUR)) is None
    assert await running.at("series", since, at(6 * HOUR)) is not None
    assert await world.stores.consumer.get("meter-state", METER) is not None  # of bert's present
    assert await world.stores.consumer.get("progress", "closed/series") is not None
    await live(world, 8, None, 3)
    assert (await world.desk.apply(wipe("w-2", b'{"consumer": "bert"}'))).accepted
    assert await running.at("series", since, at(6 * HOUR)) is None
    assert await world.stores.consumer.get("meter-state", METER) is None


async def test_whose_a_thing_was_outlives_restarts_and_roll_backs(world, module):
    await live(world, 0, "anna", 1)
    await live(world, 4, "bert", 2)
    world.clock.set_utc(at(8 * HOUR))
    assert (
        await world.registry.apply(order(b"{}", version=3, identity="r", kind="profiles.rollback"))
    ).accepted
    again = World(world.stores, module)
    await again.registry.load()
    for one in (world, again):
        assert one.registry.belongings("bert").meters == {METER: (Span(at(4 * HOUR), at(8 * HOUR)),)}
        assert one.registry.belongings("anna").meters == {
            METER: (Span(None, at(4 * HOUR)), Span(at(8 * HOUR), None))
        }
    assert again.registry.belongings("nobody").processing == {}


async def test_changes_of_tenant_are_bounded(world, monkeypatch):
    monkeypatch.setattr(orders, "MAX_TENURES", 4)  # a meter and a profile each time
    for version, name in enumerate(("anna", "bert", "anna"), 1):
        await live(world, 4 * version, name, version)
    receipt = await world.registry.apply(order(tenant("bert"), version=9, identity="o-9"))
    assert (receipt.accepted, receipt.code) == (False, "tenants")
    assert world.registry.version == 3
    assert (await world.registry.apply(order(tenant("anna"), version=10, identity="o-10"))).accepted


async def test_what_nobody_else_ever_had_is_his_for_ever(world):
    assert (await world.registry.apply(order(household()))).accepted
    assert world.registry.belongings("household").processing == {"bill": (EVER,), "series": (EVER,)}


async def test_fdp_iff_1_the_new_tenants_supplier_never_sees_the_former_ones_values(tmp_path):
    """The change comes in the middle of a period and of a registration period."""
    street = Street(tmp_path)
    gateway = await started(street, tenant("anna"))
    for second in range(0, 4 * HOUR, 900):
        gateway.hear(second, 1000 + second)
    await gateway.until(2 * HOUR + 500)
    assert (await gateway.registry.apply(order(tenant("bert"), version=2, identity="o-2"))).accepted
    for second in range(4 * HOUR, 9 * HOUR, 900):
        gateway.hear(second, 1000 + second)
    await gateway.until(8 * HOUR + 500)
    changed = at(2 * HOUR + 500)
    for sent, document in zip(gateway.notes, gateway.documents(), strict=True):
        times = [at(0).fromisoformat(one["time_utc"].replace("Z", "+00:00")) for one in document["entries"]]
        assert times
        assert all((one > changed) == (sent.consumer == "bert") for one in times), sent
    assert {sent.consumer for sent in gateway.notes} == {"anna", "bert"}
    await street.partition.close()


async def test_a_slot_in_which_the_tenant_changed_goes_into_no_total(tmp_path):
    street = Street(tmp_path)
    profiles = household()
    gateway = await started(street, tenant("anna", profiles))
    for second in range(0, 2 * HOUR, 900):
        gateway.hear(second, 1000 + second)
    await gateway.until(1800 + 500)
    await gateway.registry.apply(order(tenant("bert", profiles), version=2, identity="o-2"))
    await gateway.until(2 * HOUR - 100)
    energies = dict(gateway.stage.taken)
    assert energies[1] == 900  # anna's
    assert energies[2] is None  # of both
    assert energies[3] == 900  # bert's
    assert gateway.stage.owed == []
    await street.partition.close()
