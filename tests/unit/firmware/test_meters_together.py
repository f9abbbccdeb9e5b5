"""Meters of one gateway for one supplier are added inside: one value in the net, never one of a meter."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from msgspec.structs import replace

from firmware.clock.clock import AdjustableClock
from firmware.enforcement.determination import conflicts, grids
from firmware.enforcement.gate import Deny, Gate, Reason, Request, decide
from firmware.flow.pipeline import RegistrationPipeline
from firmware.metering.original import OriginalLists
from firmware.metering.register import Register
from firmware.metering.together import Energy
from firmware.profile.check import check
from firmware.profile.model import ProfileSet
from firmware.profile.registry import Registry
from firmware.store.partition import Partition
from lmn.model import ACTIVE_ENERGY_EXPORT, ACTIVE_ENERGY_IMPORT, MeterId, Reading
from tests.unit.firmware.fixed_module import module_of
from tests.unit.firmware.profile_set import (
    METER,
    NET_ID,
    at,
    billing,
    group_total,
    meter_profile,
    net,
    series,
)
from tests.unit.firmware.test_gate import Stage
from tests.unit.firmware.test_registry import MemoryProfiles, order

SECOND, THIRD = "ELS-87654321-33-02", "ELS-11111111-33-02"
EXPORT = "1-0:2.8.0"


def household(**changes) -> ProfileSet:
    """Two meters, one concealed profile."""
    profiles = ProfileSet(
        meters=(meter_profile(), meter_profile(id="second", meter=SECOND)),
        processing=(series(more_meters=(SECOND,)),),
        communication=(group_total(),),
    )
    return replace(profiles, **changes)


class Gateway:
    """The way of a value from the register to the net, and to whoever gets it in plain: nobody."""

    def __init__(self, street, partition):
        self.clock, self.stage, self.denials = street.clock, street.stage, []
        self.registry = Registry(
            street.profiles, self.clock.now_utc, small_nets_allowed=street.small_nets, report=self._ignore
        )
        self.register = Register(timedelta(hours=8))
        gate = Gate(
            "esgw0100000001", "gwa", lambda: self.registry.active, {NET_ID: self.stage}.get, self._denied
        )
        self._registering = RegistrationPipeline(
            self.registry, self.register, OriginalLists(partition), gate, self.clock, announce=lambda: None
        )

    async def _ignore(self, _receipt):
        return None

    async def _denied(self, denial):
        self.denials.append(denial)

    async def until(self, second):
        self.clock.set_utc(at(second))
        await self._registering.step()


class Street:
    """Starts the same gateway again and again."""

    def __init__(self, path):
        self.path, self.clock, self.small_nets = path, AdjustableClock(at(-60)), False
        self.profiles, self.stage, self.partition = MemoryProfiles(), Stage(), None

    async def start(self):
        await self.close()
        self.partition = await Partition.open(self.path / "consumer.db", "consumer", module_of())
        gateway = Gateway(self, self.partition)
        await gateway.registry.load()
        return gateway

    async def close(self):
        if self.partition is not None:
            await self.partition.close()


@pytest.fixture
async def two_meters(tmp_path):
    one = Street(tmp_path)
    yield one
    await one.close()


async def started(two_meters, profiles):
    gateway = await two_meters.start()
    assert (await gateway.registry.apply(order(profiles))).accepted
    return gateway


def hear(gateway, slot, first=None, second=None, obis=ACTIVE_ENERGY_IMPORT):
    for meter, value in ((METER, first), (SECOND, second)):
        if value is not None:
            gateway.register.add(
                Reading(MeterId.from_text(meter), obis, Decimal(value), "Wh", at(900 * slot))
            )


async def test_the_net_gets_one_value_and_it_is_the_sum(two_meters):
    gateway = await started(two_meters, household())
    for slot, (first, second) in enumerate(((1000, 50), (1100, 57), (1300, 58))):
        hear(gateway, slot, first, second)
    await gateway.until(1900)
    assert gateway.stage.taken == [(0, 107), (1, 201)]
    assert (gateway.denials, gateway.stage.exported) == ([], {})


async def test_three_meters_are_three(two_meters):
    three = household(
        meters=(*household().meters, meter_profile(id="third", meter=THIRD)),
        processing=(series(more_meters=(SECOND, THIRD)),),
    )
    gateway = await started(two_meters, three)
    for slot in (0, 1):
        hear(gateway, slot, 1000 + slot, 50 + 10 * slot)
        gateway.register.add(
            Reading(MeterId.from_text(THIRD), ACTIVE_ENERGY_IMPORT, Decimal(100 * slot), "Wh", at(900 * slot))
        )
    await gateway.until(1000)
    assert gateway.stage.taken == [(0, 111)]


async def test_without_one_of_the_meters_there_is_no_value_and_both_are_owed(two_meters):
    """Slots 1 and 2 are known of the first meter alone, which must not become the household's value."""
    gateway = await started(two_meters, household())
    hear(gateway, 0, 1000, 50)
    hear(gateway, 1, 1100, 57)
    hear(gateway, 2, 1300)
    hear(gateway, 3, 1600, 99)
    hear(gateway, 4, 2000, 100)
    await gateway.until(3700)
    assert gateway.stage.taken == [(0, 107), (1, None), (2, None), (3, 401)]
    assert gateway.stage.owed == [(1, 2, 500 + 42)]


async def test_meters_that_are_silent_in_turns_are_owed_from_the_last_instant_of_both(two_meters):
    gateway = await started(two_meters, household())
    hear(gateway, 0, 1000, 50)
    hear(gateway, 1, None, 51)
    hear(gateway, 2, 1010, None)
    hear(gateway, 3, 1015, 53)
    await gateway.until(2800)
    assert gateway.stage.taken == [(0, None), (1, None), (2, None)]
    assert gateway.stage.owed == [(0, 2, 15 + 3)]


async def test_a_restart_doubles_and_loses_no_meter(two_meters):
    gateway = await started(two_meters, household())
    hear(gateway, 0, 1000, 50)
    hear(gateway, 1, 1100, 57)
    await gateway.until(1000)
    again = await two_meters.start()
    hear(again, 2, 1300, 58)
    await again.until(1900)
    assert two_meters.stage.taken == [
        (0, 107),
        (0, 107),
        (1, 201),
    ]  # offered again, taken once


async def test_what_is_fed_in_goes_into_a_lane_of_its_own(two_meters):
    gateway = await started(
        two_meters, household(processing=(series(more_meters=(SECOND,), more_obis=(EXPORT,)),))
    )
    for slot in (0, 1, 3):
        hear(gateway, slot, 1000 + 100 * slot, 50 + slot)
        hear(gateway, slot, 7 * slot, 1000 * slot, obis=ACTIVE_ENERGY_EXPORT)
    await gateway.until(2800)
    assert gateway.stage.taken == [(0, 101), (1, None), (2, None)]
    assert gateway.stage.owed == [(1, 2, 202)]
    assert gateway.stage.exported == {0: 1007, (1, 2): 2014}


def test_energies_show_in_no_log():
    assert "107" not in repr(Energy(107, 107))


def faults(profiles):
    return [str(one) for one in check(profiles, small_nets_allowed=False)]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"processing": (series(more_meters=(THIRD,)),)},
            "more_meters[0]: a meter that a meter profile names",
        ),
        (
            {"meters": (meter_profile(), meter_profile(id="second", meter=SECOND, consumer="neighbour"))},
            "more_meters[0]: a meter of household",
        ),
        ({"processing": (series(more_meters=(METER,)),)}, "more_meters: each meter once"),
        ({"communication": (billing(processing="series"),)}, "more_meters: none: only what a net conceals"),
        (
            {"communication": (group_total(), billing(processing="series"))},
            "more_meters: none: only what a net conceals",
        ),
        ({"communication": ()}, "more_meters: none: only what a net conceals"),
        (
            {
                "processing": (series(more_meters=(SECOND,)), series("other", meter=SECOND)),
                "communication": (
                    group_total(),
                    group_total("more", processing="other", net=replace(group_total().net, net_id="a" * 16)),
                ),
            },
            "communication[1].processing: a measurand that is in no other net",
        ),
    ],
)
def test_what_is_no_sum_of_one_household_is_refused_by_name(changes, fault):
    assert faults(household()) == []
    assert any(fault in one for one in faults(household(**changes))), faults(household(**changes))


async def test_a_second_meter_in_plain_undoes_the_concealment_of_the_sum(two_meters):
    """Whoever gets one meter each slot would know the other's from a small sum: it counts as hidden, too."""
    gateway = await two_meters.start()
    plain = household(
        processing=(series(more_meters=(SECOND,)), series("plain", meter=SECOND)),
        communication=(group_total(), billing(processing="plain")),
    )
    assert [(one.concealed, one.plain) for one in conflicts(grids(plain))] == [("total", "billing")]
    receipt = await gateway.registry.apply(order(plain))
    assert not receipt.accepted
    assert conflicts(grids(household())) == []


def test_the_gate_asks_for_every_meters_owner():
    profiles = household(
        meters=(meter_profile(), meter_profile(id="second", meter=SECOND, consumer="neighbour"))
    )
    asked = Request("total", "emp", "household", at(0), at(900), "group-total")
    assert not isinstance(decide(household(), asked), Deny)
    answer = decide(profiles, asked)
    assert isinstance(answer, Deny)
    assert answer.reason is Reason.CONSUMER


@pytest.mark.parametrize(("n_min", "says"), [(16, False), (15, True)])
async def test_a_value_that_a_small_net_does_not_take_is_told_as_one_of_a_small_net(
    two_meters, caplog, n_min, says
):
    two_meters.small_nets = True
    small = net(n_min=n_min, d_min=4, insecure_small_nets=n_min < 16)
    gateway = await two_meters.start()
    assert (await gateway.registry.apply(order(household(communication=(group_total(net=small),))))).accepted
    hear(gateway, 0, 0, 0)
    hear(gateway, 1, 5000, 5000)  # more than the net takes
    await gateway.until(1000)
    lines = [one.getMessage() for one in caplog.records if "does not take" in one.getMessage()]
    assert [line.startswith("[INSECURE small net]") for line in lines] == [says]
