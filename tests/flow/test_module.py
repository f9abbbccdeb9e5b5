"""The security module refuses its PIN, talks nonsense or vanishes: the gateway stops or recovers, named."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from firmware.log.entry import Event, Level
from hsm.emulator.state import encode_state
from hsm.emulator.storage import FileStorage
from hsm.errors import HsmError, PinRefused
from hsm.session import Priority
from tests.support.whole_gateway import TIMEOUT_S, CardLine, Life, Road, Site, line_with

_TRIES = 3


async def refused(site: Site, line: CardLine | None = None) -> None:
    with pytest.raises(PinRefused):
        async with site.running(line=line):
            pass


async def test_a_wrong_pin_costs_one_try_and_is_logged_later(site: Site) -> None:
    right = (site.folder / "pin").read_text()
    tries = site.card_state.pin_left
    assert tries == _TRIES
    site.write_secret("pin", "0" * 12)
    line = CardLine()
    for _ in range(3):  # a supervisor starts the gateway again and again
        await refused(site, line)
    assert site.card_state.pin_left == tries - 1
    assert line.connections == 1  # after that the card is not even connected
    site.write_secret("pin", right)
    async with site.running() as life:
        entry = await life.entry(Event.PIN_REFUSED)
        await site.send()
        await life.accepted(1)
    assert (entry.level, entry.repeated) == (Level.FATAL, 0)
    assert site.card_state.pin_left == tries
    assert [one.event for one in await site.log()].count(Event.PIN_REFUSED) == 1  # told once
    assert "0" * 12 not in str(await site.log())


async def test_a_wrong_pin_stops_the_process(site: Site) -> None:
    site.write_secret("pin", "1" * 12)
    for words in (b"PinRefused", b"not tried again"):
        async with site.process() as process:
            line = await line_with(process, words)
            assert b"CRITICAL" in line
            assert b"1" * 12 not in line
            assert await process.wait() == 1
    assert site.card_state.pin_left == _TRIES - 1


async def test_pace_is_not_started_with_one_try_left(site: Site) -> None:
    state = site.card_state
    state.pin_left = 1
    FileStorage(site.folder / "module").save(encode_state(state))
    await refused(site)
    assert site.card_state.pin_left == 1


async def test_a_pin_refused_while_running_stops_the_gateway_and_is_logged(site: Site) -> None:
    right, line = (site.folder / "pin").read_text(), CardLine()

    async def live() -> None:
        async with site.running(line=line) as life:
            site.write_secret("pin", "2" * 12)
            line.nonsense = 1
            await needed(life)
            await asyncio.wait((life.serving,), timeout=TIMEOUT_S)

    with pytest.raises(BaseExceptionGroup) as stopped:
        await live()
    assert stopped.group_contains(PinRefused)
    assert site.card_state.pin_left == _TRIES - 1
    site.write_secret("pin", right)
    entries = await site.log()
    assert [entry.level for entry in entries if entry.event is Event.PIN_REFUSED] == [Level.FATAL]
    assert entries[-1].event is Event.STOP


async def needed(life: Life) -> None:
    """Ask the module for something; whether it can answer is not this call's business."""
    with contextlib.suppress(HsmError):
        await life.gateway.module.at(Priority.HANDSHAKE, deadline_s=0.5).random(8)


@pytest.mark.parametrize("fault", ["pulled", "nonsense"])
async def test_a_card_that_vanishes_or_talks_nonsense(road: Road, fault: str) -> None:
    line = CardLine()
    await road.open_emp()
    async with road.site.running(line=line) as life:
        order = road.order_bill()
        await life.entry(Event.ORDER_APPLIED)
        before = line.connections
        async with road.metering():
            if fault == "pulled":
                line.pulled = True
            else:
                line.nonsense = 4
            await needed(life)
            entry = await life.entry(Event.MODULE_FAILED)
            await life.accepted(life.gateway.telegrams.accepted + 2)  # meters are heard all the while
            line.pulled, line.nonsense = False, 0
            event = await road.delivered(life)
    assert (entry.level, entry.subject) == (Level.ERROR, "hsm.session")
    assert line.connections > before
    assert event["verified"]
    assert road.delivered_once()
    assert order in {one.subject for one in await road.site.log()}


async def test_a_signature_whose_answer_was_lost(road: Road) -> None:
    """It may be made again on a new session; what leaves is one message with one signature."""
    line = CardLine()
    await road.open_emp()
    async with road.site.running(line=line) as life, road.metering():
        await road.gwa_events.first("tls")
        road.order_bill()
        await life.entry(Event.ORDER_APPLIED)
        before, line.lose_signatures = line.connections, 1
        await life.entry(Event.MODULE_FAILED, "ModuleUnavailable")
        event = await road.delivered(life)
    assert line.connections == before + 1
    assert event["verified"]
    assert road.delivered_once()
