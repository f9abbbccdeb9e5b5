"""kill -9 at random points of intake, staging, activation and roll-back, log rotation and key change.

FPT_FLS.1: every acknowledged thing is there, no chain is broken, nothing was told twice, no nonce repeats.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from firmware.clock.clock import AdjustableClock
from firmware.flow.intake import KIND
from firmware.log.entry import Event
from firmware.log.seal import Seal
from firmware.store.stores import Stores
from hsm.emulator import load_card
from hsm.emulator.personalise import new_card
from hsm.emulator.transport import EmulatorTransport
from hsm.session import ModuleSession
from tests.support.chance import seed
from tests.unit.firmware.core_child import CONSUMER, KINDS, Core, spread_of
from tests.unit.firmware.profile_set import at
from tests.unit.firmware.stores_child import PIN

ROOT = Path(__file__).resolve().parents[3]
MARK = 24
"""Bytes for each use of a nonce: 12 of a hash of its key, 12 of the nonce."""


class Gateway:
    """A folder, and all that was ever acknowledged there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lives = folder, 0
        folder.mkdir()
        new_card(folder / "module", PIN)
        self.heard = self.ordered = 0
        self.released: set[str] = set()
        self.entries: dict[str, int] = {}
        self.seen: Counter[str] = Counter()

    def live_and_die(self, nursery: subprocess.Popen[str], chance: random.Random) -> None:
        """One life in a fork of `nursery`, killed after some of its words, or in its opening."""
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        self.lives += 1
        nursery.stdin.write(f"{self.lives} {self.folder}\n")
        nursery.stdin.flush()
        lines: list[str] = []
        while not lines or not lines[-1].startswith("born"):
            lines.append(nursery.stdout.readline())
        child = int(lines.pop().split()[1])
        if chance.random() < 0.1:
            time.sleep(chance.uniform(0, 0.4))
        else:  # by what it has done, not by time: machines differ
            for _ in range(chance.randrange(1, 80)):
                lines.append(nursery.stdout.readline())
                assert lines[-1] not in ("", "died\n"), "it died by itself"
            time.sleep(chance.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        while (line := nursery.stdout.readline()) != "died\n":
            lines.append(line)
        for what, *words in map(str.split, lines):
            self.seen[what] += 1
            if what == "heard":
                self.heard = int(words[0])
            elif what == "ordered":
                self.ordered = int(words[0])
            elif what == "released":
                self.released.add(words[0])
            elif what == "entry":
                self.entries[words[0]] = int(words[1])

    async def check(self) -> None:
        card = load_card(self.folder / "module")
        async with (
            ModuleSession(lambda: EmulatorTransport(card), lambda: PIN) as module,
            await Stores.open(self.folder / "state", module) as stores,
        ):
            assert stores.faults() == []
            core = Core(stores, module, AdjustableClock(at(3600 * self.lives)))
            await core.begin()
            await self._intake(stores)
            await self._orders(core, stores)
            await self._logs(core)
            delivered = Counter(key for key, _ in await stores.consumer.items("outbox"))
            assert self.released <= delivered.keys()
            for partition in stores.partitions:
                assert await partition.damage() == []

    async def _intake(self, stores: Stores) -> None:
        """Telegrams come in fives, and a transaction is whole or not there: so do readings, in order."""
        energies = [int(json.loads(text)[2]) for _, text in await stores.consumer.records(KIND)]
        assert energies == sorted(set(energies))
        assert not energies or energies[-1] >= self.heard
        assert bool(energies) or not self.heard

    async def _orders(self, core: Core, stores: Stores) -> None:
        version = core.newest()
        assert version >= self.ordered
        # Ordered at once, staged, activated, rolled back, in turns: whichever was the last, it is whole.
        turn = (version - 1) % len(KINDS)
        of_version = version - (0, 1, 1, 3)[turn]
        for communication in core.registry.active.communication:
            assert communication.spread_s == spread_of(of_version)
        staged = core.registry._record.staged
        assert (None if staged is None else staged.version) == (version if turn == 1 else None)
        receipts = [key for key, _ in await stores.system.items("receipt")]
        assert Counter(receipts) == Counter(f"order-{number}" for number in range(1, version + 1))
        told = Counter(
            entry.subject
            for entry in await core.logs.calibration.entries()
            if entry.event is Event.PROFILE_CHANGE
        )
        assert told == Counter(receipts)  # each order once: the kill between the two logs was made good
        assert not await stores.system.items("untold")
        news = [
            (entry.subject, entry.text)
            for entry in await core.logs.consumer(CONSUMER).entries()
            if entry.event is Event.PROFILE_CHANGE
        ]
        assert len(set(news)) == len(news)

    async def _logs(self, core: Core) -> None:
        for journal in (core.logs.system, core.logs.calibration, core.logs.consumer(CONSUMER)):
            head = await journal.verify()
            known = self.entries.get(CONSUMER if journal.consumer else journal.name, 0)
            assert head.number >= known
            oldest, newest = await journal.span()
            assert newest == head.number
            if journal.name != "calibration":
                assert newest - oldest < 400  # it rotates
            seals = [Seal.from_bytes(data) for _, data in await journal.seals()]
            assert [one.number for one in seals] == sorted({one.number for one in seals})
            assert all(one.last <= head.number for one in seals)
        assert await core.sealer.seal() >= 0

    def used(self) -> list[bytes]:
        data = (self.folder / "nonces").read_bytes()
        return [data[start : start + MARK] for start in range(0, len(data), MARK)]


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(50, marks=pytest.mark.timeout(600)),
        pytest.param(1000, marks=[pytest.mark.nightly, pytest.mark.timeout(10800)]),
    ],
)
def test_fpt_fls_1_a_core_that_is_killed_at_any_moment_loses_nothing(tmp_path: Path, kills: int) -> None:
    lanes = 5
    gateways = [Gateway(tmp_path / f"gateway {lane}") for lane in range(lanes)]

    drawn = seed()

    def lane(position: int) -> None:
        chance = random.Random(f"{drawn}/{position}")
        errors = tmp_path / f"errors {position}"
        with (
            errors.open("wb") as said,
            subprocess.Popen(
                [sys.executable, "-m", "tests.unit.firmware.core_child"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            ) as nursery,
        ):
            for turn in range(kills // lanes):
                gateways[position].live_and_die(nursery, chance)
                if turn % 10 == 9:  # the child's own opening looks at much of it each time
                    asyncio.run(gateways[position].check())
            assert nursery.stdin is not None
            nursery.stdin.close()
        assert errors.read_bytes() == b""

    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(lane, range(lanes)))
    used = [nonce for gateway in gateways for nonce in gateway.used()]
    assert len(set(used)) == len(used)
    seen = sum((gateway.seen for gateway in gateways), Counter())
    print(f"{kills} kills, {len(used)} nonces, {dict(seen)}")
    for what in ("heard", "entry", "sealed", "released"):
        assert seen[what] > kills / 10, seen
    for what in ("ordered", "keys"):  # longer ones are killed in the middle more often
        assert seen[what] > kills / 50, seen
