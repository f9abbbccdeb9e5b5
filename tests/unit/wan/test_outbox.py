"""The outbox without a network: what it takes, in which order it tries, and how often."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm.api import KeySlot
from hsm.errors import CertificateRefused, ModuleUnavailable
from hsm.x509 import Certificate
from tests.unit.wan.conftest import GATEWAY, Party
from tests.unit.wan.doubles import FakeChannel, MemoryStore, Reports, TestRelease, fresh_module
from wan.client import Reply
from wan.cms import message
from wan.emp import payload
from wan.emp.client import EmpClient
from wan.emp.outbox import Outbox, Pace, SealingKeys
from wan.errors import DestinationRefused, MalformedMessage, PeerUnavailable, UnexpectedReply
from wan.ports import Peer

BODY = b'{"value_wh":4711}'


class Supplier(FakeChannel):
    """Takes what it is told to take."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.refuses: set[str] = set()
        self.taken: list[str] = []

    async def exchange(
        self, method: str, resource: str, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()
    ) -> Reply:
        name = resource.rpartition("/")[2]
        self.requests.append((method, resource, body))
        if self.down:
            raise PeerUnavailable("down")
        if name in self.refuses:
            return Reply(422, b"")
        self.taken.append(name)
        return Reply(201, b"")


class World:
    def __init__(self, party: Party, *names: str) -> None:
        self.store, self.reports = MemoryStore(), Reports()
        self.suppliers = {name: Supplier() for name in names}
        self.peers = {
            name: Peer(name, "127.0.0.1", 1, name, party.enc.der, enc_certificate=party.enc.der)
            for name in names
        }
        self.module, self.party = fresh_module(party), party
        self.refused: CertificateRefused | None = None
        self.outbox = Outbox(
            self.store,
            lambda: {name: EmpClient(channel, name, GATEWAY) for name, channel in self.suppliers.items()},
            lambda: self.peers,
            module=self.module,
            keys=lambda: SealingKeys(KeySlot.WAN_SIG, party.sig),
            check_recipient=self.check_recipient,
            gateway=GATEWAY,
            report=self.reports,
            pace=Pace(0.001, 2.0, 0.004),
        )

    def check_recipient(self, certificate: Certificate) -> None:
        if self.refused is not None:
            raise self.refused

    async def until(self, count: int) -> None:
        while len(self.store.done) < count:
            await self.store.changed.wait()
            self.store.changed.clear()


@pytest.fixture
async def world(party: Party) -> World:
    return World(party, "emp", "other")


async def run_until(world: World, condition: Any) -> None:
    task = asyncio.ensure_future(world.outbox.run())
    await condition
    task.cancel()
    await asyncio.wait([task])


async def test_sealed_for_the_recipient_and_bound(world: World) -> None:
    await world.outbox.send(TestRelease("emp", "m-1", BODY))
    ((name, sealed),) = await world.store.pending("emp")
    assert b"4711" not in sealed
    opened = await message.from_sender(
        sealed,
        module=world.module,
        enc_slot=KeySlot.WAN_ENC,
        enc_certificate=world.party.enc,
        signers=[world.party.sig],
    )
    delivery = payload.decode(opened.content)
    assert (name, delivery.message_id, delivery.gateway, delivery.recipient) == (
        "m-1",
        "m-1",
        GATEWAY,
        "emp",
    )
    assert bytes(delivery.document) == BODY


async def test_a_recipient_whose_certificate_is_refused_gets_nothing(world: World) -> None:
    world.refused = CertificateRefused("expired")
    with pytest.raises(CertificateRefused):
        await world.outbox.send(TestRelease("emp", "m-1", BODY))
    assert not list(await world.store.pending("emp"))


async def test_only_a_release_may_leave(world: World) -> None:
    class Lookalike:
        recipient, message_id, body = "emp", "m-1", BODY

    with pytest.raises(TypeError, match="only a Release"):
        await world.outbox.send(Lookalike())  # type: ignore[arg-type]
    client = EmpClient(world.suppliers["emp"], "emp", GATEWAY)
    with pytest.raises(TypeError, match="only a Release"):
        await client.exchange("PUT", "/dcnet/v1/x", b"plain")  # type: ignore[arg-type]
    assert not world.suppliers["emp"].requests


async def test_release_goes_to_its_recipient_alone(world: World) -> None:
    client = EmpClient(world.suppliers["emp"], "emp", GATEWAY)
    with pytest.raises(DestinationRefused):
        await client.exchange("PUT", "/dcnet/v1/x", TestRelease("other", "m-1", BODY))
    await client.exchange("PUT", "/dcnet/v1/x", TestRelease("emp", "m-1", b"frame"))
    await client.exchange("GET", "/dcnet/v1/x")
    assert world.suppliers["emp"].requests == [
        ("PUT", "/dcnet/v1/x", b"frame"),
        ("GET", "/dcnet/v1/x", b""),
    ]


async def test_unknown_recipients(world: World) -> None:
    with pytest.raises(DestinationRefused):
        await world.outbox.send(TestRelease("nobody", "m-1", BODY))
    world.peers["emp"] = Peer("emp", "127.0.0.1", 1, "emp", b"")
    with pytest.raises(DestinationRefused):
        await world.outbox.send(TestRelease("emp", "m-1", BODY))
    assert not world.store.waiting


async def test_nothing_is_kept_when_the_module_fails(world: World) -> None:
    world.module.faults["sign"] = ModuleUnavailable("gone")
    with pytest.raises(ModuleUnavailable):
        await world.outbox.send(TestRelease("emp", "m-1", BODY))
    assert not world.store.waiting
    assert not world.module.ephemerals


async def test_oldest_first_and_each_once(world: World) -> None:
    for number in range(5):
        await world.outbox.send(TestRelease("emp", f"m-{number}", BODY))
        await world.outbox.send(TestRelease("emp", "m-0", BODY))
    await run_until(world, world.until(5))
    assert world.suppliers["emp"].taken == [f"m-{number}" for number in range(5)]


async def test_one_supplier_down_does_not_hold_up_another(world: World) -> None:
    world.suppliers["emp"].down = True
    await world.outbox.send(TestRelease("emp", "m-1", BODY))
    await world.outbox.send(TestRelease("other", "m-2", BODY))
    await run_until(world, world.until(1))
    assert world.store.done == ["m-2"]
    assert list(world.store.waiting) == ["m-1"]
    world.suppliers["emp"].down = False
    await run_until(world, world.until(2))
    assert world.suppliers["emp"].taken == ["m-1"]


async def test_one_refused_message_does_not_hold_up_those_behind(world: World) -> None:
    world.suppliers["emp"].refuses = {"m-0"}
    for number in range(3):
        await world.outbox.send(TestRelease("emp", f"m-{number}", BODY))
    await run_until(world, world.until(2))
    assert world.store.done == ["m-1", "m-2"]
    assert "UnexpectedReply" in world.reports.kinds
    world.suppliers["emp"].refuses = set()
    await run_until(world, world.until(3))
    assert world.suppliers["emp"].taken.count("m-0") == 1


async def test_new_messages_do_not_wait_for_a_refused_one(world: World) -> None:
    world.outbox._pace = Pace(3600.0, 1.0, 3600.0)
    world.suppliers["emp"].refuses = {"m-0"}
    await world.outbox.send(TestRelease("emp", "m-0", BODY))

    async def more() -> None:
        while not world.reports:
            await world.reports.changed.wait()
        await asyncio.sleep(0)
        await world.outbox.send(TestRelease("emp", "m-1", BODY))
        await world.until(1)

    await run_until(world, more())
    assert world.store.done == ["m-1"]


async def test_a_recipient_that_comes_later_is_served(world: World) -> None:
    late = world.suppliers.pop("other")
    await world.outbox.send(TestRelease("other", "m-1", BODY))

    async def configure() -> None:
        await asyncio.sleep(0)
        world.suppliers["other"] = late
        world.outbox.wake()
        await world.until(1)

    await run_until(world, configure())
    assert late.taken == ["m-1"]


async def test_a_store_that_fails_ends_the_service(world: World) -> None:
    class Broken(MemoryStore):
        async def pending(self, recipient: str) -> Iterable[tuple[str, bytes]]:
            raise OSError("disk")

    world.outbox._store = Broken()
    with pytest.raises(ExceptionGroup) as caught:
        await world.outbox.run()
    assert all(isinstance(error, OSError) for error in caught.value.exceptions)


def test_pace() -> None:
    pace = Pace(5.0, 2.0, 600.0)
    assert [pace.after(count) for count in (1, 2, 3, 8, 9, 10**6)] == [5.0, 10.0, 20.0, 600.0, 600.0, 600.0]


@pytest.mark.parametrize("status", [200, 201])
async def test_known_counts_as_delivered(status: int) -> None:
    channel = FakeChannel(Reply(status, b""))
    await EmpClient(channel, "emp", GATEWAY).deliver("a/../b", b"sealed")
    assert channel.requests == [("PUT", f"/emp/v1/gateways/{GATEWAY}/deliveries/a%2F..%2Fb", b"sealed")]


@pytest.mark.parametrize("status", [202, 204, 301, 403, 404, 500])
async def test_anything_else_does_not(status: int) -> None:
    with pytest.raises(UnexpectedReply):
        await EmpClient(FakeChannel(Reply(status, b"")), "emp", GATEWAY).deliver("m-1", b"")


@given(st.binary(max_size=100))
def test_payload_any_bytes(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        payload.decode(data)


@pytest.mark.parametrize("change", [{"extra": 1}, {"recipient": None}, {"message_id": 1}])
def test_payload_fields(change: dict[str, Any]) -> None:
    text = json.loads(payload.encode("m-1", GATEWAY, "emp", BODY))
    with pytest.raises(MalformedMessage):
        payload.decode(json.dumps(text | change).encode())
    with pytest.raises(MalformedMessage):
        payload.encode("m-1", GATEWAY, "emp", b"not json")
