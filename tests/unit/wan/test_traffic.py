"""FPR_CON.1: what leaves has one size whatever was used, and leaves when nobody outside can foretell."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from firmware.enforcement.uniform import offset
from tests.unit.firmware.pipeline_street import Street, started
from tests.unit.firmware.profile_set import at, plain_series
from tests.unit.wan.conftest import Party
from tests.unit.wan.test_outbox import World, run_until
from wan.ports import Release

KEY = bytes(range(32))
SIGNATURE_SPREAD = 8
"""DER writes r and s of an ECDSA signature with up to a few bytes less; they are random, not measured."""
PERIOD = 3600


class Traffic:
    """What an observer of the line sees: times and sizes of requests to one supplier."""

    def __init__(self, world: World, street: Street) -> None:
        self.world, self.street = world, street
        self.plain: list[int] = []
        self.times: list[float] = []

    async def send(self, release: Release) -> None:
        self.plain.append(len(release.body))
        self.times.append((self.street.clock.now_utc() - at(0)).total_seconds())
        await self.world.outbox.send(release)

    async def sizes(self) -> list[int]:
        await run_until(self.world, self.world.until(len(self.plain)))
        return [len(body) for _, _, body in self.world.suppliers["emp"].requests]


@pytest.fixture
async def street(tmp_path: Path) -> AsyncIterator[Street]:
    one = Street(tmp_path)
    yield one
    if one.partition is not None:
        await one.partition.close()


def steady(_hour: int) -> int:
    return 0


def heavy(hour: int) -> int:
    return 10**11 + 12_345 * hour


def wild(hour: int) -> int | None:
    return random.Random(hour).choice([None, hour, 10**12 + hour])


def silent(_hour: int) -> None:
    return None


async def observed(street: Street, party: Party, value: Any, *, spread_s: int, hours: int = 6) -> Traffic:
    (communication,) = plain_series().communication
    profiles = plain_series(900)
    profiles = replace(profiles, communication=(replace(communication, spread_s=spread_s),))
    gateway = await started(street, profiles)
    traffic = Traffic(World(party, "emp"), street)
    gateway.deliver.due._delivery._outbox = traffic
    gateway.deliver.due._wait_for = partial(offset, KEY)
    for second in range(0, hours * PERIOD + PERIOD, 60):
        if not second % 900 and (found := value(second // 900)) is not None:
            gateway.hear(second, found)
        await gateway.until(second + 20)
    return traffic


@pytest.mark.parametrize("consumption", [heavy, wild, silent])
async def test_fpr_con_1_one_size_whatever_was_used(tmp_path: Path, party: Party, consumption: Any) -> None:
    """Nothing used is the measure; nothing heard, much and gaps must look the same on the real sender."""
    seen = []
    for name, value in (("steady", steady), ("other", consumption)):
        (tmp_path / name).mkdir()
        street = Street(tmp_path / name)
        traffic = await observed(street, party, value, spread_s=0)
        assert len(traffic.plain) == 6
        seen.append((set(traffic.plain), await traffic.sizes()))
        await street.partition.close()
    (first_plain, first), (other_plain, other) = seen
    assert first_plain == other_plain
    assert len(first_plain) == 1
    assert max(first + other) - min(first + other) <= SIGNATURE_SPREAD


async def test_fpr_con_1_deliveries_are_spread_inside_their_window(street: Street, party: Party) -> None:
    spread = 1800
    traffic = await observed(street, party, steady, spread_s=spread, hours=12)
    late = [time - PERIOD * (1 + number) for number, time in enumerate(traffic.times)]
    assert len(late) == 12
    assert all(9 <= one <= 9 + spread + 60 for one in late), late  # 9 s: acceptance window; 60 s: our steps
    assert len(set(late)) >= 6, "they are not sent at one and the same offset"
    assert traffic.times == sorted(traffic.times)


async def test_fpr_con_1_times_do_not_depend_on_what_was_used(tmp_path: Path, party: Party) -> None:
    times = []
    for value in (steady, wild, silent):
        (tmp_path / value.__name__).mkdir()
        street = Street(tmp_path / value.__name__)
        times.append((await observed(street, party, value, spread_s=1800)).times)
        await street.partition.close()
    assert times[0] == times[1] == times[2]


async def test_fpr_con_1_a_delivery_that_waits_is_sent_without_another_announcement(
    street: Street, party: Party
) -> None:
    """The service itself looks again when the offset is over."""
    (communication,) = plain_series().communication
    profiles = replace(plain_series(900), communication=(replace(communication, spread_s=3000),))
    gateway = await started(street, profiles)
    gateway.deliver.due._wait_for = partial(offset, KEY)
    for second in range(0, PERIOD + 1, 900):
        gateway.hear(second, 5)
    await gateway.until(PERIOD + 20)
    assert gateway.outbox.sent == []
    assert gateway.deliver.due.next_utc is not None
    due = PERIOD + 9 + offset(KEY, profiles.communication[0], at(PERIOD)).total_seconds()
    assert gateway.deliver.due.next_utc == at(due)
    street.clock.set_utc(at(due))
    await gateway.deliver.step()
    assert len(gateway.outbox.sent) == 1
