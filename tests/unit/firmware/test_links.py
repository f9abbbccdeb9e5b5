"""Who may be dialled, and which way what waits takes, while one set takes the place of another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from firmware.clock.clock import AdjustableClock
from firmware.profile.model import ProfileSet
from firmware.profile.registry import Registry
from firmware.wide_area.links import Links
from tests.unit.firmware.profile_set import at, peer
from tests.unit.firmware.test_pseudonym import GRID, OUT, a_set
from tests.unit.firmware.test_registry import MemoryProfiles, order
from wan.emp.client import EmpClient
from wan.emp.forward import Forwarder, queue
from wan.ports import Peer

GWA = Peer("gwa", "gwa.example", 443, "gwa.example", b"certificate")
HIDDEN, PLAIN = OUT, replace(OUT, id="plain", pseudonymised=False)
QUEUE = queue("gwa", PLAIN.recipient)


async def _ignore(_receipt: object) -> None:
    return None


class House:
    """A registry with links; `now` makes another set active."""

    def __init__(self) -> None:
        clock = AdjustableClock(at(0))
        self.registry = Registry(MemoryProfiles(), clock.now_utc, small_nets_allowed=False, report=_ignore)
        identity = cast("Any", SimpleNamespace(gateway_id="esgw0100000001"))
        self.links = Links(identity, GWA, self.registry, cast("Any", None), cast("Any", clock))
        self.version = 0

    async def now(self, *communication: Any) -> None:
        self.version += 1
        profiles = a_set(GRID, *communication) if communication else ProfileSet()
        receipt = await self.registry.apply(
            order(profiles, version=self.version, identity=f"o-{self.version}")
        )
        assert receipt.accepted, receipt.reason

    def ways(self) -> dict[str, type]:
        return {name: type(one) for name, one in self.links.suppliers().items()}


@pytest.fixture
def house() -> House:
    return House()


async def test_a_former_recipient_is_dialled_and_nothing_is_sealed_for_it(house: House) -> None:
    await house.now(PLAIN)
    await house.now()
    assert set(house.links.peers()) == {PLAIN.recipient, "gwa"}
    assert house.ways() == {PLAIN.recipient: EmpClient}
    assert not house.links.recipients()
    await house.now()
    assert set(house.links.peers()) == {"gwa"}
    assert house.ways() == {}


async def test_a_former_recipient_of_pseudonyms_is_reached_by_the_administrator_alone(house: House) -> None:
    await house.now(HIDDEN)
    assert set(house.links.recipients()) == {PLAIN.recipient}
    for _ in range(2):
        assert set(house.links.peers()) == {"gwa"}
        assert house.ways() == {QUEUE: Forwarder}
        await house.now()
    assert house.ways() == {}


async def test_what_waits_goes_the_way_it_was_released_for_when_the_way_changes(house: House) -> None:
    await house.now(PLAIN)
    await house.now(HIDDEN)
    assert house.ways() == {PLAIN.recipient: EmpClient, QUEUE: Forwarder}
    await house.now(HIDDEN)
    assert house.ways() == {QUEUE: Forwarder}
    await house.now(PLAIN)
    assert house.ways() == {PLAIN.recipient: EmpClient, QUEUE: Forwarder}
    await house.now(replace(PLAIN, peer=peer(PLAIN.recipient, port=1)))
    assert house.ways() == {PLAIN.recipient: EmpClient}
