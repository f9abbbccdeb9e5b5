"""The self-test: algorithms, program, module, stores, logs, clock, memory; at boot, daily, on demand.

Rule: protection profile PP-0073, FPT_TST.1. Results go to the system log and to every consumer's log; what
fails puts the gateway into the state that `firmware.life.states` says.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from firmware.clock.clock import Clock
from firmware.errors import SelfTestFailed, StoreCorrupt, StoreUnavailable
from firmware.life.lifecycle import LifeCycle
from firmware.life.manifest import ROOT, Manifest, changes, digest, take
from firmware.life.states import Cause
from firmware.log.entry import Event, Level, Outcome
from firmware.log.journal import Logs, verify_chain
from firmware.store.stores import Stores
from hsm.api import KeySlot, SecurityModule
from hsm.errors import CommandRefused, HsmError
from hsm.x509 import verify

EVERY_S: Final = 86_400.0
_TAIL: Final = 100
_NO_SUCH_KEY: Final = 0x6A88


@dataclass(frozen=True, slots=True)
class Check:
    """One check and how it ended."""

    name: str
    ok: bool
    detail: str = ""


_CAUSES: Final = {
    "algorithms": Cause.SELF_TEST_FAILED,
    "program": Cause.CODE_CHANGED,
    "module": Cause.MODULE_LOST,
    "module answers": Cause.SELF_TEST_FAILED,
    "stores": Cause.STORE_CORRUPT,
    "logs": Cause.STORE_CORRUPT,
    "memory": Cause.MEMORY_CRITICAL,
}


def known_answers() -> None:
    """Hold hash, MAC and sealing against published answers; SelfTestFailed names the one that is wrong."""
    for name, found, expected in (
        ("SHA-256", hashlib.sha256(b"abc").hexdigest(), _SHA256_ABC),
        ("HMAC", hmac.digest(b"Jefe", b"what do ya want for nothing?", "sha256").hex(), _HMAC_JEFE),
        ("AES-GCM", AESGCM(bytes(32)).encrypt(bytes(12), bytes(16), b"").hex(), _GCM_ZERO),
    ):
        if found != expected:
            raise SelfTestFailed(f"{name} gives a wrong answer")


_SHA256_ABC: Final = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
_HMAC_JEFE: Final = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
_GCM_ZERO: Final = "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"


def free_bytes(folder: Path) -> int:
    """Return how much can still be written where `folder` lies."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


class SelfTest:
    """The checks of one gateway. A service: runs them each day.

    Args:
        module, stores, logs: are checked.
        clock: paces.
        life: gets what fails.
        time_state: what is said of the clock.
        memory: says what is critical of memory, "" for nothing.
        program: manifest of the program as it was started.
        root: where the program's files are.
    """

    name = "firmware.life.selftest"

    def __init__(
        self,
        module: SecurityModule,
        stores: Stores,
        logs: Logs,
        clock: Clock,
        life: LifeCycle,
        *,
        time_state: Callable[[], str],
        memory: Callable[[], Awaitable[str]],
        program: Manifest,
        root: Path = ROOT,
    ) -> None:
        self._module, self._stores, self._logs = module, stores, logs
        self._clock, self._life = clock, life
        self._time_state, self._critical = time_state, memory
        self._program, self._root = program, root
        self.last: tuple[Check, ...] = ()
        """Results of the last run."""

    async def run(self) -> None:
        """Test everything each day, until cancelled."""
        while True:
            await self._clock.sleep(EVERY_S)
            await self.test()

    async def test(self, *, quick: bool = False) -> tuple[Check, ...]:
        """Run the checks, log the result, and set the operating state.

        Args:
            quick: of the stores and logs only the newest part, as at boot.
        """
        checks = []
        for name, check in (
            ("algorithms", self._algorithms),
            ("program", self._files),
            ("module", self._answers),
            ("stores", self._no_damage if not quick else self._readable),
            ("logs", self._chains if not quick else self._tails),
            ("memory", self._memory),
        ):
            checks.append(await self._checked(name, check))
        checks.append(Check("clock", True, self._time_state()))
        self.last = tuple(checks)
        await self._tell()
        return self.last

    async def _checked(self, name: str, check: Callable[[], Awaitable[str]]) -> Check:
        try:
            done = Check(name, True, await check())
        except SelfTestFailed as failed:
            done = Check(name, False, str(failed))
            wrong = "module answers" if name == "module" else name
            await self._life.enter(_CAUSES[wrong], str(failed))
        except (StoreCorrupt, StoreUnavailable, HsmError, OSError) as fault:
            done = Check(name, False, str(fault))
            cause = Cause.STORE_UNAVAILABLE if isinstance(fault, StoreUnavailable) else _CAUSES[name]
            await self._life.enter(cause, str(fault))
        else:
            await self._life.leave(_CAUSES[name])
        return done

    async def _algorithms(self) -> str:
        known_answers()
        return ""

    async def _files(self) -> str:
        now = take(self._root)
        if found := changes(self._program, now):
            raise SelfTestFailed(f"files differ from those that were started: {found}")
        return digest(now)

    async def _answers(self) -> str:
        first, second = await self._module.random(16), await self._module.random(16)
        if first == second or first in (bytes(16), b"\xff" * 16):
            raise SelfTestFailed("the module's random numbers repeat")
        try:
            key = await self._module.public_key(KeySlot.WAN_SIG)
        except CommandRefused as refused:
            if refused.sw != _NO_SUCH_KEY:
                raise
            return "no SIG key"
        digest = hashlib.new(key.curve.hash_name, first + second).digest()
        if not verify(key, digest, await self._module.sign(KeySlot.WAN_SIG, digest)):
            raise SelfTestFailed("the module's signature does not hold")
        return ""

    async def _readable(self) -> str:
        for partition in (self._stores.system, self._stores.consumer, self._stores.calibration):
            await partition.kinds()
        return ""

    async def _no_damage(self) -> str:
        found: list[str] = []
        for partition in (self._stores.system, self._stores.consumer, self._stores.calibration):
            found += await partition.damage()
        if found:
            raise StoreCorrupt(f"{found[0]} ({len(found)} in all)")
        return ""

    async def _tails(self) -> str:
        """Follow the newest part of each chain: the whole of it takes long and has the day for it."""
        for journal in await self._logs.all():
            oldest, newest = await journal.span()
            if newest >= oldest:
                head = await journal.head(max(oldest - 1, newest - _TAIL))
                verify_chain(journal.name, await journal.records(head.number, _TAIL), head)
        return ""

    async def _chains(self) -> str:
        for journal in await self._logs.all():
            await journal.verify()
        return ""

    async def _memory(self) -> str:
        critical = await self._critical()
        if critical:
            raise SelfTestFailed(critical)
        return ""

    async def _tell(self) -> None:
        failed = [check for check in self.last if not check.ok]
        text = "; ".join(f"{check.name}: {check.detail}" for check in failed)
        for journal in (
            self._logs.system,
            *(self._logs.consumer(one) for one in await self._logs.consumers()),
        ):
            try:
                await journal.write(
                    Event.SELF_TEST,
                    Outcome.FAILURE if failed else Outcome.SUCCESS,
                    level=Level.ERROR if failed else Level.INFO,
                    subject="gateway",
                    text=text if journal is self._logs.system else ", ".join(one.name for one in failed),
                )
            except StoreUnavailable:
                return  # the state says so, and the health watch logs it once there is room
