"""FDP_ACC.2, FDP_ACF.1, FMT_MOF.1, FMT_SMR.1: one table of role, resource and operation."""

from __future__ import annotations

from itertools import product

import pytest

from firmware.enforcement import roles
from firmware.enforcement.roles import CONTROL, ORDERS, OWN, TABLE, Act, Reader, Resource, Right, Role, may
from firmware.errors import AccessRefused
from firmware.life.control import Control
from firmware.orders.desk import Done, OrderDesk
from firmware.profile.orders import _KINDS
from firmware.store.partition import Partition
from tests.unit.firmware.fixed_module import module_of
from tests.unit.firmware.profile_set import household
from tests.unit.firmware.test_registry import World, order
from wan.ports import Receipt

R, A = Resource, Act
ALLOWED = {
    Role.GWA: {
        (R.SYSTEM_LOG, A.READ), (R.CALIBRATION_LOG, A.READ), (R.CONSUMER_LOG, A.DELETE), (R.VALUES, A.DELETE),
        (R.PROFILES, A.READ), (R.PROFILES, A.WRITE), (R.PROFILES, A.DELETE), (R.TARIFF, A.ORDER),
        (R.SELF_TEST, A.READ), (R.SELF_TEST, A.ORDER), (R.INFORMATION, A.READ), (R.TAMPER, A.ORDER),
        (R.MEMORY, A.WRITE), (R.GATEWAY, A.DELETE),
    },
    Role.SERVICE_TECH: {
        (R.SYSTEM_LOG, A.READ), (R.SELF_TEST, A.READ), (R.SELF_TEST, A.ORDER), (R.INFORMATION, A.READ),
    },
    Role.CONSUMER: {
        (R.CONSUMER_LOG, A.READ), (R.VALUES, A.READ), (R.PROFILES, A.READ), (R.SELF_TEST, A.READ),
        (R.SELF_TEST, A.ORDER), (R.INFORMATION, A.READ),
    },
    Role.EMP: set(),
    Role.CLS_DEVICE: set(),
}  # fmt: skip
"""Written out a second time on purpose: a change of the table is a change of this test."""


@pytest.mark.parametrize("role", Role)
def test_fdp_acf_1_the_table(role):
    for resource, act in product(Resource, Act):
        assert may(Reader(role, "anna"), Right(resource, act), "anna") == ((resource, act) in ALLOWED[role])


def test_fdp_acc_2_every_resource_has_a_row():
    assert set(TABLE) == set(Resource)


@pytest.mark.parametrize("resource", sorted(OWN, key=lambda one: one.value))
def test_fdp_acf_1_a_consumer_gets_what_is_his_own(resource):
    right = Right(resource, Act.READ)
    assert may(Reader(Role.CONSUMER, "anna"), right, "anna")
    assert not may(Reader(Role.CONSUMER, "anna"), right, "bert")
    assert not may(Reader(Role.CONSUMER), right, "")
    assert not may(Reader(Role.CONSUMER, "anna"), right)


def test_fmt_mof_1_only_the_administrator_configures():
    for rights in ORDERS.values():
        for right, role in product(rights, set(Role) - {Role.GWA}):
            shared = right == Right(Resource.SELF_TEST, Act.ORDER)
            assert shared or not may(Reader(role, "anna"), right, "anna")


def test_every_kind_of_order_has_a_row():
    assert set(_KINDS) <= set(ORDERS)
    assert all(may(Reader(Role.GWA), right) for rights in ORDERS.values() for right in rights)


async def test_a_door_without_a_row_is_not_built(tmp_path):
    async def anything(_request):
        raise AssertionError("never asked")

    with pytest.raises(ValueError, match="role table"):
        Control(tmp_path / "control.sock", None, {"other": anything})
    with pytest.raises(ValueError, match="role table"):
        OrderDesk(None, _Nothing(), entries=None, report=None).take({"other": anything})  # type: ignore[arg-type]


class _Nothing:
    """Stands for a partition that nobody asks."""


async def test_the_desk_asks_the_table(tmp_path, monkeypatch):
    """What the table does not give the administrator is not carried out, whoever has signed it."""
    partition = await Partition.open(tmp_path / "system.db", "system", module_of())
    world, done = World(), []

    async def carry(order):
        done.append(order.kind)
        return Done("ok", "done")

    async def told(_receipt: Receipt, _consumer: str) -> None:
        return None

    desk = OrderDesk(world.registry, partition, entries=lambda _receipt, _consumer: (), report=told)
    desk.take({"self-test": carry})
    monkeypatch.setitem(roles.TABLE, Resource.SELF_TEST, {})
    monkeypatch.setitem(roles.TABLE, Resource.PROFILES, {})
    assert (await desk.apply(order(b"{}", kind="self-test", identity="a"))).code == "access"
    assert (await desk.apply(order(household(), identity="b"))).code == "access"
    assert done == []
    assert world.registry.version == 0
    monkeypatch.undo()
    assert (await desk.apply(order(b"{}", kind="self-test", identity="a"))).accepted
    assert (await desk.apply(order(household(), identity="b"))).accepted
    await partition.close()


def test_a_refusal_names_who_may():
    with pytest.raises(AccessRefused, match="emp may not read the measured values; consumer may, a"):
        roles.require(Reader(Role.EMP), Right(Resource.VALUES, Act.READ))
    assert CONTROL.keys() == {"status", "dcnet", "self-test", "decommission"}
