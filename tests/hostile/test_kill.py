"""kill -9 of a whole gateway, again and again, while it activates profiles, serves slots and delivers.

Afterwards its disk is full for a while. It must come back by itself from both.
"""

from __future__ import annotations

import asyncio
import random
import resource
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from firmware.clock.clock import SystemClock
from firmware.log.journal import Logs
from firmware.profile.model import NetPolicy
from tests.hostile.killed import Killed
from tests.support.pace import slot_s
from tools.counterparts.gwa import place_order
from tools.counterparts.net_mount import NetSettings, to_toml
from tools.counterparts.pki import GWA_SERVER_NAME, make_pki
from tools.demo.plan import GROUP_TOTAL, GWA_POLL_S, METER_INTERVAL_S, SUPPLIER, Plan
from tools.homes.cards import Cards, Kind
from tools.homes.home import Home
from tools.homes.parties import Event, Party
from tools.homes.peers import peer_entry

TENTHS = 10


class Stage:
    """Administrator, supplier, three living homes and one that is killed."""

    def __init__(self, folder: Path) -> None:
        self.pki = folder / "pki"
        self.slot_s = slot_s(3)
        self.plan = Plan(folder, gateways=4, slots=2, slot_s=self.slot_s)
        homes = self.plan.households
        self.victim = Killed(homes[-1], folder / homes[-1].name)
        self.homes: list[Home] = [
            *(Home(one, folder / one.name, GROUP_TOTAL) for one in homes[:-1]),
            self.victim,
        ]
        self.suppliers: dict[str, dict[str, Any]] = {}
        self.gwa: Party
        self.emp: Party

    async def build(self, stack: AsyncExitStack) -> None:
        make_pki(self.pki, emp=SUPPLIER)
        self.gwa = await stack.enter_async_context(Party("gwa", self.pki / "gwa"))
        port = await self.gwa.port()
        for home in self.homes:
            await home.enrol(self.pki, port, Cards(Kind.EMULATOR, stack), GWA_POLL_S)
            await home.live_here(stack)
        for home in self.homes:
            stack.push_async_callback(home.switch_off)
            await home.switch_on()
        await asyncio.sleep(2)
        self.plan = replace(
            self.plan.starting(datetime.now(UTC), start_s=1.0, boot_s=self.slot_s / 6), slots=2
        )
        net = NetSettings(
            policy=msgspec.convert(self.plan.net_policy(), NetPolicy),
            members=[home.household.name for home in self.homes],
            gwa=f"127.0.0.1:{port}",
            gwa_server_name=GWA_SERVER_NAME,
        )
        with (self.pki / "emp" / "emp.toml").open("a", encoding="utf-8") as file:
            file.write(to_toml(net))
        self.emp = await stack.enter_async_context(Party("emp", self.pki / "emp"))
        self.suppliers = {SUPPLIER: peer_entry(SUPPLIER, self.pki / "emp", await self.emp.port())}
        for home in self.homes:
            self.order(home)

    def order(self, home: Home) -> str:
        household = home.household
        body = self.plan.profiles(household, self.suppliers | {"stranger": self.suppliers[SUPPLIER]})
        body["communication"] = [one for one in body["communication"] if one["id"] != "stranger"]
        return place_order(self.pki / "gwa", household.gateway_id, "profiles", body)

    def of_victim(self, kind: str) -> list[Event]:
        name = self.victim.household.name
        return [event for event in self.emp.of(kind) if event.get("gateway") == name]


def draws(seed: int) -> Callable[[], int]:
    source = random.Random(seed)
    return lambda: source.randrange(1, 40)


async def fill_the_disk(stage: Stage) -> None:
    """For some seconds the victim cannot write a byte; it must go on by itself as soon as it can again."""
    process = stage.victim.process
    assert process is not None
    unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, unlimited[1]))
    await asyncio.sleep(2.5 * stage.slot_s)
    assert process.returncode is None, stage.victim.last_words()
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
    slot = stage_slot(stage, datetime.now(UTC))
    await stage.emp.wait_for(_sum_with(stage, slot), 10 * stage.slot_s)
    assert process.returncode is None, stage.victim.last_words()


async def run(folder: Path, *, kills: int, seed: int) -> None:
    source, stage = random.Random(seed), Stage(folder)
    victim = stage.victim
    async with AsyncExitStack() as stack:
        await stage.build(stack)
        async with asyncio.TaskGroup() as meters:
            for home in stage.homes:
                meters.create_task(home.meter_runs(draws(home.household.number), METER_INTERVAL_S))
            try:
                for number in range(kills):
                    # From the middle of the boot to well inside the slots.
                    await asyncio.sleep(source.uniform(0.03, 0.83) * stage.slot_s)
                    if number % 3 == 0:
                        stage.order(victim)
                        await asyncio.sleep(source.uniform(0, 0.6))
                    await victim.kill()
                    await victim.switch_on()
                last = stage.order(victim)
                await stage.gwa.wait_for(
                    lambda event: event["event"] == "receipt" and event["message_id"] == last,
                    7 * stage.slot_s,
                )
                now_utc = datetime.now(UTC)
                # It must find back into the net by itself, and be billed for a whole period.
                await stage.emp.wait_for(_sum_with(stage, stage_slot(stage, now_utc)), 10 * stage.slot_s)
                await fill_the_disk(stage)
                await asyncio.sleep(stage.plan.billing_period_s + stage.slot_s)
            finally:
                for home in stage.homes:
                    home.meter_stops()
        for home in stage.homes:
            await home.switch_off()
        assert victim.process is not None
        assert victim.process.returncode == 0, victim.last_words()
        await judge(stage)


def stage_slot(stage: Stage, instant_utc: datetime) -> int:
    return (instant_utc - stage.plan.t0_utc) // timedelta(seconds=stage.slot_s)


def _sum_with(stage: Stage, slot: int) -> Callable[[Event], bool]:
    name = stage.victim.household.name
    return lambda event: (
        event["event"] == "total"
        and event["slot"] >= slot
        and event["verdict"] == "totalled"
        and name in event["members"]
    )


async def judge(stage: Stage) -> None:
    victim = stage.victim
    assert max(Counter(event["slot"] for event in stage.of_victim("submit")).values()) == 1
    assert not [e for e in stage.of_victim("refused") if e["reason"] == "conflict"]
    delivered = Counter(event["message_id"] for event in stage.of_victim("delivery"))
    assert delivered
    assert max(delivered.values()) == 1
    receipts = Counter(e["message_id"] for e in stage.gwa.of("receipt") if e["accepted"])
    spool = stage.pki / "gwa" / "spool" / victim.household.name
    assert receipts.keys() >= {path.stem for path in spool.glob("*.order")}
    assert all(event["accepted"] for event in stage.gwa.of("receipt")), stage.gwa.of("receipt")
    async with victim.stores() as stores:
        values = await victim.autopsy(stores)
        entries = await Logs(stores, SystemClock()).system.entries()
        assert any("StoreUnavailable" in repr(entry) or "store" in entry.sub_event for entry in entries)
        assert not await stores.consumer.items("outbox")
    assert len({value.instant_utc for value in values}) == len(values)
    registers = [value.value for value in values if value.value is not None]
    assert registers == sorted(registers)
    victim.tally.registered = {v.instant_utc: None if v.value is None else int(v.value) for v in values}
    _totals_are_true(stage)


def _totals_are_true(stage: Stage) -> None:
    """Each sum that was opened is the sum of what the members' own stores say."""
    plan, with_victim = stage.plan, 0
    for total in stage.emp.of("total"):
        if total["verdict"] != "totalled":
            continue
        energy = 0
        for home in stage.homes:
            if home.household.name in total["members"]:
                ends = [home.tally.registered[plan.slot_start(total["slot"] + k)] for k in (0, 1)]
                assert None not in ends
                energy += ends[1] - ends[0]  # type: ignore[operator]  # None was ruled out
                with_victim += home is stage.victim
        assert total["lanes"] == [energy * TENTHS, 0, len(total["members"])], total
    assert with_victim, GROUP_TOTAL


@pytest.mark.punctual
@pytest.mark.timeout(600)
async def test_killed_ten_times_and_then_the_disk_is_full(tmp_path: Path) -> None:
    await run(tmp_path, kills=10, seed=1)


@pytest.mark.punctual
@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(2, 8))
async def test_killed_often(tmp_path: Path, seed: int) -> None:
    await run(tmp_path, kills=40, seed=seed)
