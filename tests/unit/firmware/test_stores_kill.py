"""kill -9 at random points of all that the stores do at once: nothing is lost, no nonce is used twice."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from firmware.log.entry import LogKind
from firmware.log.journal import Journal
from firmware.store.stores import MeterCounters, ProfileArchive, Stores
from hsm.emulator import load_card
from hsm.emulator.personalise import new_card
from hsm.emulator.transport import EmulatorTransport
from hsm.session import ModuleSession
from tests.support.chance import seed
from tests.unit.firmware.stores_child import ACCESS, CLOCK, PIN

ROOT = Path(__file__).resolve().parents[3]
MARK = 24
"""Bytes for each use of a nonce: 12 of a hash of its key, 12 of the nonce."""


def start(folder, nonces):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.unit.firmware.stores_child", str(folder), str(nonces)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


class Gateway:
    """A folder of stores and module, and all that was ever acknowledged there."""

    def __init__(self, folder):
        self.folder, self.nonces = folder, folder / "nonces"
        folder.mkdir()
        new_card(folder / "module", PIN)
        self.reading = self.counter = self.profile = self.keys = 0
        self.entries = {}

    def live_and_die(self, chance):
        """Kill after some of its words, or soon after the start of the process."""
        said = b""
        child = start(self.folder, self.nonces)
        if chance.random() < 0.15:  # in its opening
            time.sleep(chance.uniform(0.25, 0.6))
        else:
            # By what it has done, not by time: on a busy machine no change of keys would ever be finished.
            said = b"".join(child.stdout.readline() for _ in range(chance.randrange(1, 120)))
            time.sleep(chance.uniform(0, 0.03))
        child.send_signal(signal.SIGKILL)
        lines, errors = child.communicate()
        assert errors == b"", errors.decode()
        for line in (said + lines).decode().splitlines():
            what, *words = line.split()
            if what == "reading":
                self.reading, self.counter = int(words[0]), int(words[1])
            elif what == "profile":
                self.profile = int(words[0])
            elif what == "entry":
                self.entries[words[0]] = int(words[1])
            elif what == "keys":
                self.keys += 1

    async def check(self):
        """Every acknowledged record is there, no chain is broken, nothing raises an alarm."""
        card = load_card(self.folder / "module")
        async with (
            ModuleSession(lambda: EmulatorTransport(card), lambda: PIN) as module,
            await Stores.open(self.folder / "state", module) as stores,
        ):
            assert stores.faults() == []
            kept = await stores.consumer.records("reading")
            assert len(kept) >= self.reading
            # Five of each counter, in order: a transaction is whole or not there.
            assert [plaintext for _, plaintext in kept] == [
                b"counter %d" % (1 + position // 5) for position in range(len(kept))
            ]
            assert ((await MeterCounters.load(stores.consumer)).last(ACCESS) or 0) == len(kept) // 5
            assert len(kept) // 5 >= self.counter
            archive = ProfileArchive(stores.system)
            active = int(await archive.active() or b"0")
            assert active >= self.profile
            assert int(await archive.previous() or b"0") == max(active - 1, 0)
            for kind, partition, consumer in (
                (LogKind.SYSTEM, stores.system, None),
                (LogKind.CONSUMER, stores.consumer, "anna"),
                (LogKind.CALIBRATION, stores.calibration, None),
            ):
                journal = Journal(partition, kind, CLOCK, consumer=consumer)
                assert (await journal.verify()).number >= self.entries.get(journal.name, 0)
            for partition in stores.partitions:
                assert await partition.damage() == []

    def used(self):
        """Every (key, nonce) that was ever used, in order of use."""
        data = self.nonces.read_bytes()
        return [data[at : at + MARK] for at in range(0, len(data), MARK)]


@pytest.mark.parametrize(
    "turns",
    [
        pytest.param(50, marks=pytest.mark.timeout(300)),
        pytest.param(1000, marks=[pytest.mark.nightly, pytest.mark.timeout(7200)]),
    ],
)
def test_a_kill_at_any_moment_loses_nothing_and_repeats_no_nonce(tmp_path, turns):
    lanes = 5  # folders that live at the same time, most of which is waiting
    gateways = [Gateway(tmp_path / f"gateway {lane}") for lane in range(lanes)]

    drawn = seed()

    def lane(position):
        chance = random.Random(f"{drawn}/{position}")
        for turn in range(turns // lanes):
            gateways[position].live_and_die(chance)
            if turns < 100 or turn % 10 == 9 or turn == turns // lanes - 1:
                asyncio.run(gateways[position].check())

    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(lane, range(lanes)))
    used = [nonce for gateway in gateways for nonce in gateway.used()]
    assert len(used) > 20 * turns
    assert len(set(used)) == len(used)
    assert sum(gateway.reading for gateway in gateways) > turns
    assert (
        sum(gateway.keys for gateway in gateways) > turns / 50
    )  # longer ones are killed in the middle more often
    print(f"{turns} kills, {len(used)} nonces, {sum(g.reading for g in gateways)} readings")


def test_a_restored_copy_beside_its_original_repeats_no_nonce(tmp_path):
    """Both run at the same time from the same bytes, module included: the worst case."""
    original = Gateway(tmp_path / "original")
    chance = random.Random(3)
    for _ in range(3):
        original.live_and_die(chance)
    shutil.copytree(original.folder, tmp_path / "copy")
    copy = Gateway.__new__(Gateway)
    vars(copy).update(
        vars(original), folder=tmp_path / "copy", nonces=tmp_path / "copy" / "nonces", entries={}
    )
    copy.nonces.unlink()
    for _ in range(2):
        threads = [threading.Thread(target=each.live_and_die, args=(chance,)) for each in (original, copy)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    used = original.used() + copy.used()
    assert copy.used()
    assert len(set(used)) == len(used)
