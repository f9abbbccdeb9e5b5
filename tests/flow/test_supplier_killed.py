"""`smgw emp` as a process that is killed (SIGKILL) while a net of it runs over TLS, and started again."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from firmware.clock.clock import SystemClock
from firmware.enforcement.dcnet.events import NetEvent, NetEventKind
from firmware.enforcement.dcnet.machines import SlotState
from firmware.enforcement.dcnet.policy import NetRules
from firmware.enforcement.dcnet.service.driver import NetMember
from firmware.enforcement.dcnet.service.signatures import CmsSignatures
from hsm.api import KeySlot
from hsm.x509 import Certificate
from tests.support.pace import slot_s
from tests.support.whole_gateway import ROOT
from tests.unit.dcnet.support import MemoryStore
from tests.unit.wan.conftest import GATEWAY, Pki, enrol
from tests.unit.wan.doubles import Events, channel_for, peer_of
from tests.unit.wan.test_net_mount import NET, OTHERS, policy, profiles, settings
from tools.counterparts.gwa import Administrator, place_order
from tools.counterparts.net_mount import to_toml
from tools.counterparts.pki import make_pki

GATEWAYS = [GATEWAY, *OTHERS]


class Emp:
    """The supplier's process."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        self.events: list[dict[str, Any]] = []
        self.lives = 0

    async def __aenter__(self) -> Emp:
        self.lives += 1
        with (self._folder / "emp.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tools.cli", "emp", "--dir", str(self._folder), "--jsonl",
                "--listen", f"127.0.0.1:{self._port}", cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reader

    async def killed(self) -> None:
        """SIGKILL, at whatever it is doing."""
        assert self._process.returncode is None, (self._folder / "emp.log").read_text()
        await self.__aexit__()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.events.append(json.loads(line))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]


def member_of(pki: Pki, gateway: str, rules: NetRules, port: int, told: list[NetEvent]) -> Any:
    """A member with its own TLS connection."""
    party = enrol(pki, gateway)
    channel = channel_for(pki, party, peer_of(pki, "emp", port))

    async def report(event: NetEvent) -> None:
        told.append(event)

    peer = {
        name: Certificate.from_pem((pki.folder / f"{name}.pem").read_bytes())
        for name in ("emp/sig", "gwa/sig")
    }
    member = NetMember(
        rules,
        gateway,
        signatures=CmsSignatures(
            module=party.module,
            slot=KeySlot.WAN_SIG,
            certificate=party.sig,
            emp=peer["emp/sig"],
            gwa=peer["gwa/sig"],
            intermediates=[pki.sub_ca],
            anchors=[pki.root],
            now_utc=lambda: datetime.now(UTC),
        ),
        module=party.module,
        key_slot=KeySlot.DCNET_1,
        emp_key=Certificate.from_pem((pki.folder / "emp/enc.pem").read_bytes()).public_key,
        exchange=channel.exchange,
        store=MemoryStore(),
        clock=SystemClock(),
        report=report,
        insecure_small_nets_allowed=True,
    )
    return member, channel


async def lived(folder: Path, port: int, kills: int, seed: int, calm: int) -> None:
    make_pki(folder)
    root, sub_ca = (
        Certificate.from_pem((folder / f"{name}.pem").read_bytes()) for name in ("root", "sub-ca")
    )
    pki, length_s, chance = Pki(folder, root, sub_ca), slot_s(2, starts=1.5), random.Random(seed)
    changes: dict[str, Any] = {
        "t0_utc": datetime.now(UTC) - timedelta(seconds=10 * length_s),
        "slot_s": length_s,
        "poll_s": 0.05 * length_s,
        "submit_s": 0.4 * length_s,
        "manifest_s": 0.7 * length_s,
        "open_s": 0.95 * length_s,
        "d_min": 1,
    }
    for gateway in GATEWAYS:
        place_order(folder / "gwa", gateway, "profiles", profiles(folder, **changes))
    rules = NetRules.from_profile(policy(**changes))
    told: list[list[NetEvent]] = [[] for _ in GATEWAYS]
    async with AsyncExitStack() as stack:
        gwa = await Administrator(folder / "gwa", Events()).start()
        stack.push_async_callback(gwa.close)
        net = msgspec.structs.replace(settings(gwa.port, GATEWAYS), policy=policy(**changes))
        with (folder / "emp/emp.toml").open("a", encoding="utf-8") as file:
            file.write(to_toml(net))
        emp = await stack.enter_async_context(Emp(folder / "emp", port))
        members = []
        for gateway, events in zip(GATEWAYS, told, strict=True):
            member, channel = member_of(pki, gateway, rules, port, events)
            stack.push_async_callback(channel.close)
            members.append(member)
        tasks = [asyncio.create_task(member.run()) for member in members]
        async with asyncio.timeout(60 + 20 * length_s):
            while not all(any(e.kind is NetEventKind.JOINED for e in one) for one in told):  # noqa: ASYNC110 - what is seen is no event
                await asyncio.sleep(0.05)
        first = slot = rules.slot_at(datetime.now(UTC)) + 1
        left, well = kills, 0
        while well < calm:
            assert slot < first + 6 * (kills + 2), emp.events[-20:]
            await asyncio.sleep((rules.slot_end(slot) - datetime.now(UTC)).total_seconds())
            for number, member in enumerate(members, start=1):
                await member.contribute(slot, 1000 * (slot - first + 1) + number)
            if left:
                await asyncio.sleep(chance.uniform(0, 0.6) * length_s)
                await emp.killed()
                await emp.__aenter__()
                left -= 1
            else:
                await asyncio.sleep((rules.open_until(slot) - datetime.now(UTC)).total_seconds())
                well += any(one["slot"] == slot and one["lanes"] for one in emp.of("total"))
            slot += 1
        await asyncio.sleep(length_s)
        for task in tasks:
            assert not task.done(), task
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        states = [{entry.slot: entry.state for entry in await member.slots()} for member in members]
    assert [event["version"] for event in emp.of("roster")] == [1], "the same roster carries on"
    assert not emp.of("failed"), emp.of("failed")
    assert [one.kind for events in told for one in events].count(NetEventKind.QUARANTINE) == 0
    lines = [json.loads(line) for line in (folder / "emp/totals.jsonl").read_text().splitlines()]
    slots = [line["slot"] for line in lines]
    assert slots == sorted(set(slots)), "no total is missing its place or told twice"
    for line in lines:
        numbers = [GATEWAYS.index(name) + 1 for name in line["members"]]
        if line["verdict"] == "totalled":
            energy = sum(1000 * (line["slot"] - first + 1) + number for number in numbers)
            assert line["lanes"] == [energy * 10, 0, len(numbers)], line
    totalled = {line["slot"]: set(line["members"]) for line in lines if line["verdict"] == "totalled"}
    for gateway, entries in zip(GATEWAYS, states, strict=True):
        for one, state in entries.items():
            if one < slot - 1:
                is_in = gateway in totalled.get(one, set())
                assert state is (SlotState.TOTALLED if is_in else SlotState.OWED), (gateway, one, state)


@pytest.mark.punctual
@pytest.mark.timeout(300)
async def test_the_same_roster_carries_on_after_sigkill(tmp_path: Path, unused_tcp_port: int) -> None:
    await lived(tmp_path / "pki", unused_tcp_port, 1, 1, 1)
    journal = tmp_path / "pki/emp/dcnet" / f"{NET}.journal"
    assert journal.stat().st_mode & 0o777 == 0o600


@pytest.mark.punctual
@pytest.mark.nightly
@pytest.mark.timeout(900)
async def test_twelve_kills(tmp_path: Path, unused_tcp_port: int) -> None:
    await lived(tmp_path / "pki", unused_tcp_port, 12, 2, 3)
