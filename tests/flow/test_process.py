"""`python -m firmware` as operators run it: started, refused, stopped in order, killed."""

from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime, timedelta

import pytest

from firmware.clock import SystemClock
from firmware.errors import StoreUnavailable
from firmware.log.entry import Event
from firmware.log.journal import Logs
from firmware.metering.original import OriginalLists
from firmware.metering.register import RegisteredValue
from tests.support.whole_gateway import BILLING, TIMEOUT_S, Road, Site, line_with, registering, whole_second


async def test_it_hears_its_meter_and_ctrl_c_stops_it_in_order(site: Site) -> None:
    async with site.process() as process:
        await line_with(process, b"is up")
        await site.send()
        await line_with(process, f"first telegram of {site.meter.meter}".encode())
        process.send_signal(signal.SIGINT)
        await line_with(process, b"is down")
        assert await asyncio.wait_for(process.wait(), TIMEOUT_S) == 0
    entries = await site.log()  # checks the chain
    assert [entry.event for entry in entries] == [Event.BOOT, Event.METER_OK, Event.STOP]
    async with site.opened() as stores:
        assert (await Logs(stores, SystemClock()).calibration.verify()).number >= 0
        assert len(await stores.consumer.records("reading")) == 2


async def test_a_second_process_on_the_same_folder_is_refused(site: Site) -> None:
    async with site.running() as life:
        async with site.process() as process:
            line = await line_with(process, b"the gateway stops")
            assert await asyncio.wait_for(process.wait(), TIMEOUT_S) == 1
        await site.send()
        await life.accepted(1)  # the first one has not noticed
    assert StoreUnavailable.__name__.encode() in line
    assert b"another process" in line


@pytest.mark.parametrize(
    ("old", "new", "place", "key", "expected"),
    [
        ('id = "ESGW0100000001"', 'id = "gateway"', 6, "gateway.id", "14 characters"),
        ("[dcnet]", "[dcnets]", None, "dcnets", "no such"),
        ('pin_file = "pin"', 'pin_file = "nowhere"', 17, "module.pin_file", "an existing file"),
        ('kind = "im871a"', "kind = im871a", 26, "(syntax)", "valid TOML"),
    ],
)
async def test_a_broken_configuration(
    site: Site, old: str, new: str, place: int | None, key: str, expected: str
) -> None:
    text = site.configuration.read_text()
    assert text.count(old) == 1
    site.configuration.write_text(text.replace(old, new))
    async with site.process() as process:
        _, said = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        assert process.returncode == 3
    words = said.decode()
    assert str(site.configuration) in words
    if place is not None:
        assert f"gateway.toml:{place}: " in words
    assert key in words
    assert expected in words
    assert "Traceback" not in words
    assert not (site.folder / "state").exists()  # nothing was touched


async def registered(road: Road) -> dict[datetime, RegisteredValue]:
    now_utc = datetime.now(UTC)
    async with road.site.opened() as stores:
        values = await OriginalLists(stores.consumer).between(BILLING, now_utc - timedelta(hours=1), now_utc)
        return {value.instant_utc: value for value in values if value.value is not None}


async def counter(road: Road) -> int:
    async with road.site.opened() as stores:
        [(_, value)] = await stores.consumer.items("counter")
        return int.from_bytes(value, "big")


async def test_killed_while_it_hears_telegrams(road: Road) -> None:
    site = road.site
    site.configuration.write_text(site.configuration.read_text().replace('"info"', '"debug"'))
    road.order(registering(site.meter, whole_second(ahead_s=-3)))
    telegrams = [site.next_telegram() for _ in range(400)]
    known: dict[datetime, RegisteredValue] = {}
    last = position = 0
    for _ in range(2):
        async with site.process() as process:
            await line_with(process, b"is active" if not known else b"is up")
            async with asyncio.timeout(TIMEOUT_S):
                await site.stick.listening()
                started = datetime.now(UTC)
                while datetime.now(UTC) < started + timedelta(seconds=2.2):
                    await site.stick.transmit(telegrams[position])
                    position += 1
                    await asyncio.sleep(0.03)
            process.kill()
            await process.communicate()
        site.stick.vanish()  # a stick that lost its host has to be configured again
        site.stick.plug()
        survived = await registered(road)
        assert survived
        assert known.items() <= survived.items()
        known = survived
        reached = await counter(road)
        assert reached > last
        assert reached <= position
        last = reached
    async with site.running() as life:
        await site.send(telegrams[0])
        await site.send(telegrams[last - 1])
        await life.rejected("counter", 2)
        await site.send(telegrams[last])
        await life.accepted(1)
        await life.system.verify()
        events = [entry.event for entry in await life.system.entries()]
    assert events.count(Event.BOOT) == 3
    assert Event.STOP not in events  # it never had the time
    assert Event.STORE_CORRUPT not in events


async def test_what_was_shown_as_registered_survives_a_kill(road: Road) -> None:
    """A value that the supplier has was acknowledged by the store: it is there after the kill."""
    site = road.site
    await road.open_emp()
    async with site.process() as process:
        await road.gwa_events.first("tls")
        road.order_bill()
        await line_with(process, b"is active")
        async with road.metering():
            bill = await road.emp_events.first("delivery")
        process.kill()
        await process.communicate()
    shown = bill["document"]["entries"][0]
    values = await registered(road)
    assert int(shown["value"]) in {int(value.value) for value in values.values() if value.value is not None}
    site.stick.vanish()
    site.stick.plug()
    async with site.running() as life:
        await road.delivered(life)
    assert len(road.emp_events.of("delivery")) == 1
