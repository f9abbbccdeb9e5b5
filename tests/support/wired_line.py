"""The gateway's end of an RS-485 line as a service, with virtual meters, no gateway around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from firmware.wired.certificate import OwnCertificate
from firmware.wired.credentials import WiredCredentials
from hsm.api import KeySlot
from hsm.tls import LMN, TlsContext
from hsm.x509 import Certificate
from lmn.model import ACTIVE_ENERGY_EXPORT, ACTIVE_ENERGY_IMPORT, MeterId
from lmn.ports import MeterAccess, ReceptionMode
from lmn.serial_port import open_port
from lmn.wired.driver import Rs485Line, Timing
from lmn.wired.meter import WiredMeter
from lmn.wired.sym import SymFormat
from lmn.wired_values import WiredRefusal, WiredValues
from tests.support.soft_module import SoftModule
from tools.counterparts.meter_sml import SmlMeter, server_id
from tools.counterparts.meter_wired import WiredMeterStation, make_identity
from tools.counterparts.rs485_hub import Rs485Hub

REGISTERS = (ACTIVE_ENERGY_IMPORT, ACTIVE_ENERGY_EXPORT)
TIMING = Timing(poll_s=0.05, answer_s=0.1, retries=3, exchange_s=8.0, pairing_pause_s=0.1)
MASTER = bytes(range(16))


class Killed(Exception):
    """The gateway loses its power."""


class DiskStore:
    """What a gateway has on its disk; `cut` is asked before and after each write and may raise `Killed`."""

    def __init__(self) -> None:
        self.disk: dict[tuple[str, str], bytes] = {}
        self.cut: Callable[[], None] = lambda: None

    async def put(self, kind: str, key: str, plaintext: bytes) -> None:
        self.cut()
        self.disk[kind, key] = plaintext
        self.cut()

    async def items(self, kind: str) -> list[tuple[str, bytes]]:
        return [(key, value) for (found, key), value in self.disk.items() if found == kind]


class Keys:
    """Master keys by meter."""

    def __init__(self) -> None:
        self.masters: dict[MeterId, bytes] = {}

    def access(self, meter: MeterId) -> MeterAccess | None:
        return MeterAccess(meter, self.masters.get(meter), ReceptionMode.STRICT)


class Bench:
    """A line, its gateway end as a service, and meters."""

    def __init__(self, folder: Path, hub: Rs485Hub) -> None:
        self.folder, self.hub = folder, hub
        self.module, self.store, self.keys = SoftModule(), DiskStore(), Keys()
        self.heard: asyncio.Queue[WiredValues | WiredRefusal] = asyncio.Queue()
        self.tasks: list[asyncio.Task[None]] = []
        self.offset = timedelta(0)
        """How far the gateway's clock is ahead of ours."""
        self.own: OwnCertificate
        self.port = str(hub.link)
        """What the gateway opens: a device or a URL."""
        self.patient = Timing(poll_s=0.05, answer_s=1.0, retries=5, exchange_s=20.0, idle_s=0.02)
        """For a line with detours."""

    def now_utc(self) -> datetime:
        return datetime.now(UTC) + self.offset

    async def open(self) -> None:
        """Start the gateway anew: what is not on its disk or in its module is gone."""
        self.own = await OwnCertificate.open(self.folder, self.module, "ESGW0100000001", self.now_utc())

    def meter(
        self, number: int = 3, *, master: bytes | None = None, days: int = 2000
    ) -> tuple[WiredMeterStation, WiredMeter]:
        """A meter with its maker's key pair, or, with a master key, one that is to be paired."""
        meter = MeterId("SMG", f"1000000{number}", 0, 2)
        home = self.folder / f"meter{number}"
        certificate = None
        if master is None:
            certificate = Certificate.from_pem(make_identity(home, meter, days=days).read_bytes()).der
        else:
            self.keys.masters[meter] = master
        station = WiredMeterStation(
            self.hub, home, None if master else self.folder / "lmn-tls.pem", master=master,
            registers=SmlMeter(meter, seed=number), seed=number,
        )  # fmt: skip
        return station, WiredMeter(meter, server_id(meter), certificate, REGISTERS)

    async def credentials(self, *meters: WiredMeter) -> WiredCredentials:
        found = WiredCredentials(
            self.store, self.module, self.keys, self.own, meters, self.now_utc,
            renew_before=timedelta(days=90), exclusive=asyncio.Lock(),
        )  # fmt: skip
        await found.load()
        return found

    async def start(
        self,
        *meters: WiredMeter,
        timing: Timing = TIMING,
        sym: SymFormat | None = None,
        ahead: Callable[[], float] = lambda: 0.0,
    ) -> Rs485Line:
        """Run the line; `ahead` moves its clock."""
        loop = asyncio.get_running_loop()
        credentials = await self.credentials(*meters)

        async def context(certificate: bytes) -> TlsContext:
            return TlsContext(
                LMN, self.module, loop, slot=KeySlot.LMN_TLS, chain=[credentials.own.current],
                anchors=[Certificate.from_der(certificate)], now_utc=self.now_utc,
            )  # fmt: skip

        line = Rs485Line(
            lambda: open_port(self.port, 921600), meters, credentials, context,
            self.heard.put_nowait, lambda: loop.time() + ahead(), timing=timing, sym=sym,
        )  # fmt: skip
        self.tasks.append(asyncio.create_task(line.run()))
        return line

    async def stop(self) -> None:
        """Kill the gateway."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()

    async def next(self) -> WiredValues | WiredRefusal:
        return await asyncio.wait_for(self.heard.get(), 20)

    async def values(self) -> WiredValues:
        while not isinstance(found := await self.next(), WiredValues):
            pass
        return found


@asynccontextmanager
async def bench(folder: Path, *, echo: bool = False) -> AsyncIterator[Bench]:
    async with Rs485Hub(folder / "line0", echo=echo) as hub:
        here = Bench(folder, hub)
        await here.open()
        try:
            yield here
        finally:
            await here.stop()
