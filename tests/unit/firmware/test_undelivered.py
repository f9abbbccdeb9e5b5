"""What waits too long for its recipient: alarm, named state, end; the consumer's values stay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from firmware.clock.clock import AdjustableClock
from firmware.errors import StoreCorrupt, StoreUnavailable
from firmware.flow.undelivered import (
    CHANGES_LOOK_S,
    KIND,
    LOOK_S,
    Patience,
    Seen,
    State,
    Undelivered,
    judge,
    watched,
)
from firmware.log.entry import Event, Outcome
from firmware.log.journal import Logs
from firmware.log.notices import Notices
from firmware.store.outbox import SealedOutbox
from firmware.store.stores import Quotas, Stores
from tests.support.soft_module import SoftModule
from tests.support.whole_gateway import eventually
from tests.unit.firmware.profile_set import at

PATIENCE = Patience(timedelta(hours=24), timedelta(days=30))
HOUR, DAY = 3600, 86400


class World:
    """An outbox in real stores, and who may be delivered to."""

    def __init__(self, stores: Stores) -> None:
        self.clock, self.stores, self.ways, self.valid = AdjustableClock(at(0)), stores, {"emp"}, True
        self.logs, self.notices = Logs(stores, self.clock), Notices(stores.system, self.clock)
        self.outbox = SealedOutbox(stores.consumer)
        self.service = self.again()

    def again(self) -> Undelivered:
        """The service as after a restart."""
        return Undelivered(
            self.outbox,
            self.stores.consumer,
            self.logs,
            self.notices,
            lambda: self.ways,
            self.clock,
            lambda: self.valid,
            PATIENCE,
        )

    async def look(self, second: int) -> None:
        self.clock.set_utc(at(second))
        await self.service.step()

    async def told(self) -> list[tuple[str, str, Outcome]]:
        return [
            (one.sub_event, one.destination, one.outcome)
            for one in await self.logs.system.entries()
            if one.event is Event.DATA_UNDELIVERED
        ]

    async def alarms(self) -> list[str]:
        return [one.subject for one in await self.notices.waiting()]

    async def read_by(self, consumer: str) -> list[tuple[str, str]]:
        entries = await self.logs.consumer(consumer).entries()
        return [(one.sub_event, one.evidence["message_id"]) for one in entries]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with await Stores.open(tmp_path, SoftModule()) as stores:
        yield World(stores)


@pytest.mark.parametrize(
    ("seen", "named", "now_s", "becomes"),
    [
        (None, True, 0, (State.WAITING, 0)),
        ((State.WAITING, 0), True, DAY - 1, (State.WAITING, 0)),
        ((State.WAITING, 0), True, DAY, (State.OVERDUE, 0)),
        ((State.OVERDUE, 0), True, 9 * DAY, (State.OVERDUE, 0)),
        (None, False, 5, (State.STRANDED, 5)),
        ((State.WAITING, 0), False, DAY, (State.STRANDED, DAY)),
        ((State.OVERDUE, 0), False, 2 * DAY, (State.STRANDED, 2 * DAY)),
        ((State.STRANDED, 0), False, 30 * DAY - 1, (State.STRANDED, 0)),
        ((State.STRANDED, 0), False, 30 * DAY, (State.GIVEN_UP, 0)),
        ((State.STRANDED, 0), True, 30 * DAY, (State.WAITING, 30 * DAY)),
        ((State.OVERDUE, 400 * DAY), True, 5, (State.WAITING, 5)),  # noted at a false time
        ((State.STRANDED, 400 * DAY), False, 5, (State.STRANDED, 5)),
    ],
)
def test_what_a_message_becomes(seen, named, now_s, becomes) -> None:
    before = None if seen is None else Seen(seen[0], at(seen[1]))
    found = judge(before, named=named, now_utc=at(now_s), patience=PATIENCE)
    assert found == Seen(becomes[0], at(becomes[1]))


async def test_a_recipient_who_takes_nothing_is_one_alarm_until_all_of_it_has_arrived(world: World) -> None:
    await world.outbox.put("m-1", "emp", b"sealed", "anna")
    await world.look(0)
    await world.outbox.put("m-2", "emp", b"sealed", "anna")
    await world.look(HOUR)
    assert await world.told() == []
    await world.look(DAY)
    await world.look(DAY + HOUR)  # the second one is overdue as well
    assert await world.told() == [("overdue", "emp", Outcome.FAILURE)]
    assert await world.alarms() == ["emp"]
    assert {seen.state for seen in (await watched(world.stores.consumer)).values()} == {State.OVERDUE}
    for message_id in ("m-1", "m-2"):
        await world.outbox.delivered(message_id)
    await world.look(DAY + 2 * HOUR)
    assert await watched(world.stores.consumer) == {}
    await world.outbox.put("m-3", "emp", b"sealed", "anna")
    await world.look(2 * DAY)
    await world.look(3 * DAY)
    assert await world.alarms() == ["emp", "emp"]
    assert await world.read_by("anna") == []  # his data are on their way as before


async def test_what_nobody_will_fetch_is_named_told_kept_for_a_while_and_then_given_up(world: World) -> None:
    for number, (recipient, owner) in enumerate((("gone", "anna"), ("gone", "bert"), ("emp", "anna"))):
        await world.outbox.put(f"m-{number}", recipient, b"sealed", owner)
    await world.look(0)
    assert await world.told() == [("stranded", "gone", Outcome.FAILURE)]
    assert await world.alarms() == ["gone"]
    assert await world.read_by("anna") == [("stranded", "m-0")]
    assert await world.read_by("bert") == [("stranded", "m-1")]
    world.service = world.again()  # a restart neither repeats it nor begins anew
    await world.look(29 * DAY)
    assert [one.message_id for one in await world.outbox.waiting()] == ["m-0", "m-1", "m-2"]
    await world.look(30 * DAY)
    assert [one.message_id for one in await world.outbox.waiting()] == ["m-2"]
    assert [what for what, recipient, _ in await world.told() if recipient == "gone"] == [
        "stranded",
        "given-up",
    ]
    assert await world.read_by("anna") == [("stranded", "m-0"), ("given-up", "m-0")]
    assert (await world.notices.waiting())[-1].text.startswith("2 data set(s)")
    assert await watched(world.stores.consumer) == {"m-2": Seen(State.OVERDUE, at(0))}
    assert await world.stores.consumer.items("outbox.delivered") == []  # it did not arrive


async def test_a_recipient_who_is_named_again_gets_what_waited(world: World) -> None:
    await world.outbox.put("m-1", "gone", b"sealed", "anna")
    await world.look(0)
    world.ways = {"emp", "gone"}
    await world.look(29 * DAY)
    await world.look(30 * DAY)  # overdue by now, and kept
    assert [what for what, _, _ in await world.told()] == ["stranded", "waiting", "overdue"]
    assert (await world.told())[1][2] is Outcome.SUCCESS
    assert await world.read_by("anna") == [("stranded", "m-1"), ("waiting", "m-1")]
    assert await world.alarms() == ["gone", "gone"]
    assert list(await world.outbox.pending("gone")) == [("m-1", b"sealed")]


async def test_a_message_without_an_owner_gets_its_end_too(world: World) -> None:
    await world.outbox.put("m-1", "gone", b"sealed")
    for second in (0, 30 * DAY):
        await world.look(second)
    assert await world.outbox.waiting() == []
    assert await world.logs.consumers() == []


async def test_a_clock_that_cannot_be_trusted_gives_nothing_up(world: World) -> None:
    await world.outbox.put("m-1", "gone", b"sealed", "anna")
    await world.look(0)
    world.valid = False
    await world.look(4000 * DAY)
    assert len(await world.outbox.waiting()) == 1


async def test_a_partition_without_room_has_the_administrator_told_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.outbox.put("m-1", "gone", b"sealed", "anna")

    async def full(_operations: object) -> list[int]:
        raise StoreUnavailable("no room")

    with monkeypatch.context() as patched:
        patched.setattr(world.stores.consumer, "commit", full)
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await world.look(0)
    await world.look(60)
    assert await world.alarms() == ["gone"]
    assert await world.read_by("anna") == [("stranded", "m-1")]


async def test_what_is_given_up_makes_room_in_a_partition_that_takes_no_more(tmp_path: Path) -> None:
    quotas = Quotas(consumer_bytes=400_000)
    async with await Stores.open(tmp_path, SoftModule(), quotas=quotas) as stores:
        world = World(stores)
        for number in range(40):
            await world.outbox.put(f"m-{number}", "gone", bytes(5000), "anna")
        await world.look(0)
        with suppress(StoreUnavailable):
            while True:
                await stores.consumer.append("filler", bytes(900))
        await world.look(30 * DAY)
        assert await world.outbox.waiting() == []
        assert await stores.consumer.append("filler", bytes(900))


async def test_a_change_of_profiles_is_looked_at_soon_and_time_otherwise(world: World) -> None:
    await world.outbox.put("m-0", "emp", b"sealed", "anna")
    serving = asyncio.create_task(world.service.run())
    try:
        await eventually(lambda: watched(world.stores.consumer), "a first look")
        await world.outbox.put("m-1", "gone", b"sealed", "anna")
        world.service.look_again()

        async def soon() -> bool:
            world.clock.advance(CHANGES_LOOK_S / 10)
            return bool(await world.told())

        await eventually(soon, "what an order led to")
        assert world.clock.now_utc() <= at(5 * CHANGES_LOOK_S)
        await world.outbox.put("m-2", "lost", b"sealed", "anna")

        async def later() -> bool:
            world.clock.advance(LOOK_S)
            return len(await world.told()) == 2

        await eventually(later, "what time led to")
    finally:
        serving.cancel()
        await asyncio.wait((serving,))


async def test_what_is_known_of_a_message_and_cannot_be_read_is_damage(world: World) -> None:
    await world.stores.consumer.put(KIND, "m-1", b"\xc1")
    with pytest.raises(StoreCorrupt, match="waits"):
        await world.service.step()
