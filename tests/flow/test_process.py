"""`python -m firmware` as operators run it: started, refused, stopped in order, killed."""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from firmware.clock.clock import SystemClock
from firmware.errors import StoreUnavailable
from firmware.log.entry import Event
from firmware.log.journal import Logs
from firmware.metering.original import OriginalLists
from tests.support.whole_gateway import (
    BILLING,
    ROOT,
    SUPPLIER,
    TIMEOUT_S,
    Road,
    Site,
    bill_for,
    line_with,
    registering,
    whole_second,
)
from tools.homes.peers import peer_entry

pytestmark = pytest.mark.timeout(120)


def core_limits_of(process: int) -> list[str]:
    limits = Path(f"/proc/{process}/limits").read_text(encoding="ascii").splitlines()
    (core,) = (line.split()[4:6] for line in limits if line.startswith("Max core file size"))
    return core


@pytest.fixture
def cores_wanted() -> Iterator[None]:
    """Whatever this machine allows, its processes may leave cores."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, before)


@pytest.mark.usefixtures("cores_wanted")
async def test_init_then_hears_its_meter_and_ctrl_c_stops_it_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    words = (sys.executable, "-m", "tools.cli", "init", str(folder))
    init = await asyncio.create_subprocess_exec(*words, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL)
    assert await asyncio.wait_for(init.wait(), TIMEOUT_S) == 0
    site = Site(folder, made=True)
    async with site.stick, site.process() as process:
        await line_with(process, b"is up")
        assert set(core_limits_of(process.pid)) <= {"0", "1"}  # a crash would write PIN and keys to the disk
        await site.send()
        await line_with(process, f"first telegram of {site.meter.meter}".encode())
        process.send_signal(signal.SIGINT)
        await line_with(process, b"is down")
        assert await asyncio.wait_for(process.wait(), TIMEOUT_S) == 0
    entries = await site.log()  # checks the chain
    started = [Event.BOOT, Event.TIME_SYNCHRONISED, Event.SELF_TEST]
    assert [entry.event for entry in entries] == [*started, Event.MODULE_SESSION, Event.METER_OK, Event.STOP]
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
    ("old", "new", "key", "expected"),
    [
        ('id = "ESGW0100000001"', 'id = "gateway"', "gateway.id", "14 characters"),
        ("[dcnet]", "[dcnets]", "dcnets", "no such"),
        ('pin_file = "pin"', 'pin_file = "nowhere"', "module.pin_file", "an existing file"),
        ('kind = "im871a"', "kind = im871a", "(syntax)", "valid TOML"),
    ],
)
async def test_a_broken_configuration(site: Site, old: str, new: str, key: str, expected: str) -> None:
    text = site.configuration.read_text()
    assert text.count(old) == 1
    place = text[: text.index(old)].count("\n") + 1
    site.configuration.write_text(text.replace(old, new))
    async with site.process() as process:
        _, said = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        assert process.returncode == 3
    words = said.decode()
    assert str(site.configuration) in words
    assert f"gateway.toml:{place}: " in words
    assert key in words
    assert expected in words
    assert "Traceback" not in words
    assert not (site.folder / "state").exists()  # nothing was touched


async def registered(road: Road) -> dict[datetime, int]:
    now_utc = datetime.now(UTC)
    async with road.site.opened() as stores:
        values = await OriginalLists(stores.consumer).between(BILLING, now_utc - timedelta(hours=1), now_utc)
        return {value.instant_utc: int(value.value) for value in values if value.value is not None}


async def counter(road: Road) -> int:
    async with road.site.opened() as stores:
        [(_, value)] = await stores.consumer.items("counter")
        return int.from_bytes(value, "big")


async def test_killed_while_it_hears_telegrams(road: Road) -> None:
    """What the supplier has, the store had acknowledged: all of it is there after `kill -9`."""
    site, telegrams, last = road.site, list[bytes](), 0
    await road.open_emp()
    body = registering(site.meter, whole_second())
    body["communication"] = [bill_for(peer_entry(SUPPLIER, road.pki / "emp", road.emp_port))]
    road.order(body)
    for life in (1, 2):
        async with site.process() as process:
            await line_with(process, b"is up")
            async with asyncio.timeout(TIMEOUT_S):
                while len(road.emp_events.of("delivery")) < 2 * life:
                    telegrams.append(site.next_telegram())
                    await site.stick.transmit(telegrams[-1])
                    await asyncio.sleep(0.03)
            process.kill()
            await process.communicate()
        site.stick.vanish()  # the next host has to configure it again
        site.stick.plug()
        kept = await registered(road)
        for event in road.emp_events.of("delivery"):
            for entry in event["document"]["entries"]:
                if entry["value"] is not None:
                    assert kept[datetime.fromisoformat(entry["time_utc"])] == int(entry["value"])
        reached = await counter(road)
        assert last < reached <= len(telegrams)
        last = reached
    async with site.running() as life_3:
        await site.send(telegrams[0])
        await site.send(telegrams[last - 1])
        await life_3.rejected("counter", 2)
        await site.send()
        await life_3.accepted(1)
        await life_3.system.verify()
        events = [entry.event for entry in await life_3.system.entries()]
    assert events.count(Event.BOOT) == 3
    assert Event.STOP not in events  # it never had the time
    assert Event.STORE_CORRUPT not in events
    ids = [event["message_id"] for event in road.emp_events.of("delivery")]
    assert len(ids) == len(set(ids))
