"""What a start says of the end of the life before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firmware.clock.clock import SystemClock
from firmware.log.ending import NOT_STOPPED, last_end
from firmware.log.entry import Event, Level
from firmware.log.journal import Journal, Logs
from firmware.store.stores import Stores
from tests.support.soft_module import SoftModule


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[Journal]:
    async with await Stores.open(tmp_path, SoftModule()) as stores:
        yield Logs(stores, SystemClock()).system


@pytest.mark.parametrize(
    ("entries", "stopped"),
    [
        ([], True),
        ([Event.PIN_REFUSED], True),  # it never got as far as serving
        ([Event.BOOT], False),
        ([Event.BOOT, Event.SELF_TEST, Event.METER_OK], False),
        ([Event.BOOT, Event.STOP], True),
        ([Event.BOOT, Event.STOP, Event.STORE_RESTORED], True),
        ([Event.BOOT, Event.STOP, Event.BOOT], False),
        ([Event.BOOT, *[Event.METER_OK] * 99], False),
        ([Event.BOOT, *[Event.METER_OK] * 300], False),
    ],
)
async def test_a_kill_shows_at_the_next_start(system: Journal, entries: list[Event], stopped: bool) -> None:
    for event in entries:
        await system.write(event)
    said = await last_end(system)
    if stopped:
        assert said == {}
    else:
        assert (said["sub_event"], said["level"]) == (NOT_STOPPED, Level.WARNING)
        await system.write(Event.BOOT, **said)
        assert "checkpoint" in (await system.entries())[-1].text
