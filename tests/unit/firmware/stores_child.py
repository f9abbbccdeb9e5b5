"""Child process of the kill tests: a whole set of stores under load, until it is killed.

usage: python -m tests.unit.firmware.stores_child FOLDER NONCES
Does at once what a gateway does: intake, activation of profiles, logs that trim themselves, changes of keys,
checkpoints, retention. Prints one line per acknowledged write. Into the file NONCES goes, before it is used,
each nonce with a hash of its key: appended by the operating system, so a kill loses none.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from firmware.clock.clock import AdjustableClock
from firmware.housekeeping import Housekeeping, Upkeep
from firmware.log.entry import Event, LogKind
from firmware.log.journal import Journal, Logs
from firmware.store import seal
from firmware.store.operations import Append
from firmware.store.stores import MeterCounters, ProfileArchive, Stores
from hsm.emulator import load_card
from hsm.emulator.transport import EmulatorTransport
from hsm.session import ModuleSession
from lmn.model import MeterId
from lmn.ports import MeterAccess, ReceptionMode

CLOCK = AdjustableClock(datetime(2026, 1, 1, tzinfo=UTC))
PIN = b"1234567890"
CAPACITY = 60
ACCESS = MeterAccess(MeterId.from_text("ELS-12345678-33-03"), bytes(16), ReceptionMode.STRICT)


def acknowledge(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def record_nonces(path: Path) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    original = seal.AESGCM

    class Recording:
        def __init__(self, key: bytes) -> None:
            self._cipher, self._mark = original(key), hashlib.sha256(key).digest()[:12]

        def encrypt(self, nonce: bytes, plaintext: bytes, place: bytes) -> bytes:
            os.write(file, self._mark + nonce)
            return self._cipher.encrypt(nonce, plaintext, place)

        def decrypt(self, nonce: bytes, sealed: bytes, place: bytes) -> bytes:
            return self._cipher.decrypt(nonce, sealed, place)

    seal.AESGCM = Recording  # type: ignore[misc, assignment]


async def load(stores: Stores) -> None:
    counters = await MeterCounters.load(stores.consumer)
    archive = ProfileArchive(stores.system)
    keeper = Housekeeping(stores, Logs(stores, CLOCK), CLOCK, Upkeep())

    async def intake() -> None:
        while True:
            counter = (counters.last(ACCESS) or 0) + 1
            counters.advance(ACCESS, counter)
            numbers = await counters.commit([Append("reading", b"counter %d" % counter) for _ in range(5)])
            acknowledge("reading", numbers[-1], counter)

    async def activation() -> None:
        version = int(await archive.active() or b"0")
        while True:
            version += 1
            await archive.replace(b"%d" % version)
            acknowledge("profile", version)

    async def log(journal: Journal) -> None:
        while True:
            acknowledge("entry", journal.name, await journal.write(Event.BOOT, text="x" * 40))

    async def keys() -> None:
        while True:
            acknowledge("keys", await keeper.change_keys())
            await stores.checkpoint()
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        group.create_task(intake())
        group.create_task(activation())
        group.create_task(log(Journal(stores.system, LogKind.SYSTEM, CLOCK, capacity=CAPACITY)))
        consumer = Journal(stores.consumer, LogKind.CONSUMER, CLOCK, consumer="anna", capacity=CAPACITY)
        group.create_task(log(consumer))
        group.create_task(log(Journal(stores.calibration, LogKind.CALIBRATION, CLOCK)))
        group.create_task(keys())


async def main(folder: Path) -> None:
    card = load_card(folder / "module")
    async with (
        ModuleSession(lambda: EmulatorTransport(card), lambda: PIN) as module,
        await Stores.open(folder / "state", module) as stores,
    ):
        acknowledge("open")
        await load(stores)


if __name__ == "__main__":
    record_nonces(Path(sys.argv[2]))
    asyncio.run(main(Path(sys.argv[1])))
