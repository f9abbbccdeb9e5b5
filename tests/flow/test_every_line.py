"""One `smgwd` with every kind of receiver and both wired paths at once: each line's value is registered.

Then every line is pulled and plugged in again, and each brings another one.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from firmware import config
from firmware.boot import open_gateway
from firmware.metering.original import OriginalLists
from lmn.model import MeterId
from tests.support.whole_gateway import TIMEOUT_S, Site, line_with, whole_second
from tools.cli.controlled import ask
from tools.cli.init import make_folder
from tools.counterparts.meter_sml import DEFAULT_METER as HEAD_METER
from tools.counterparts.meter_sml import SmlMeter, VirtualHead, server_id
from tools.counterparts.meter_wired import DEFAULT_METER as WIRED_METER
from tools.counterparts.meter_wired import WiredMeterStation, make_identity
from tools.counterparts.meter_wmbus import DEFAULT_KEY
from tools.counterparts.meter_wmbus_virtual import VirtualMeter
from tools.counterparts.rs485_hub import Rs485Hub
from tools.counterparts.sticks import EMULATED
from tools.doctor import gateway
from wan.ports import Order

pytestmark = pytest.mark.timeout(180)
IMPORT = "1-0:1.8.0"
PAUSE_S = 0.2
AUTO = "auto"
REGISTERED_S = 2.5
"""At each full second a value is registered, half a second later: so long at least one of ours is."""


@dataclass
class Way:
    """One way into the gateway."""

    name: str
    meter: MeterId
    toml: str
    plug: Callable[[], None]
    vanish: Callable[[], None]
    send: Callable[[], Coroutine[Any, Any, None]]
    """Let the meter say once what it measures."""
    protected: bool = True


class Lines:
    """Every line there is, in a gateway's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all: list[Way] = []

    def add_sticks(self) -> None:
        for number, kind in enumerate((*EMULATED, AUTO)):
            meter = VirtualMeter(meter=MeterId("SMG", f"{30000000 + number:08}", 1, 2), seed=number)
            stick = EMULATED["iu891a" if kind == AUTO else kind](self.folder / f"stick-{kind}")

            async def send(stick: Any = stick, meter: VirtualMeter = meter) -> None:
                meter.step()
                await stick.transmit(meter.telegram())

            toml = f'[[lmn.stick]]\nkind = "{kind}"\nport = "{stick.link.name}"\n'
            self.all.append(Way(kind, meter.meter, toml, stick.plug, stick.vanish, send))

    def add_replay(self) -> None:
        """A recording cannot be pulled: it goes on for as long as the test may take."""
        meter = VirtualMeter(meter=MeterId("SMG", "30000099", 1, 2))
        lines = []
        for at in range(600):
            meter.step()
            lines.append(f"{at * PAUSE_S:.1f};{meter.telegram().hex()}\n")
        (self.folder / "recording").write_text("".join(lines))

        async def send() -> None: ...

        toml = '[[lmn.stick]]\nkind = "replay"\nport = "recording"\n'
        self.all.append(Way("replay", meter.meter, toml, lambda: None, lambda: None, send))

    def add_head(self) -> None:
        meter, head = SmlMeter(), VirtualHead(self.folder / "head0", baudrate=115200)

        async def send() -> None:
            meter.step()
            await head.push(meter.frame())

        toml = f'[[lmn.head]]\nport = "head0"\nmeter = "{HEAD_METER}"\n'
        toml += f'server_id = "{server_id(HEAD_METER).hex()}"\n'
        self.all.append(Way("head", HEAD_METER, toml, head.plug, head.vanish, send, protected=False))

    def add_rs485(self) -> None:
        make_identity(self.folder / "meter", WIRED_METER)
        hub = Rs485Hub(self.folder / "line0", echo=True)
        station = WiredMeterStation(hub, self.folder / "meter", self.folder / "state" / "lmn-tls.pem")

        async def send() -> None:
            station.registers.step()

        toml = f'[[lmn.rs485]]\nport = "line0"\npoll_s = 0.3\n[[lmn.rs485.meter]]\nmeter = "{WIRED_METER}"\n'
        toml += f'server_id = "{server_id(WIRED_METER).hex()}"\ncertificate = "meter/meter.pem"\n'
        toml += f'registers = ["{IMPORT}"]\n'
        self._station = station
        self.all.append(Way("rs485", WIRED_METER, toml, hub.plug, hub.vanish, send))

    def order(self) -> bytes:
        start = whole_second().isoformat()
        meters = [
            {
                "id": line.name, "meter": str(line.meter), "consumer": "me",
                "mode": "strict" if line.protected else "open",
                "key_hex": DEFAULT_KEY.hex() if line.toml.startswith("[[lmn.stick]]") else "",
            }
            for line in self.all
        ]  # fmt: skip
        processing = [
            {
                "id": line.name, "taf": 7, "meter": str(line.meter), "obis": IMPORT, "consumer": "me",
                "registration_period_s": 1, "window_s": 0.45, "recipients": ["emp"], "valid_from": start,
            }
            for line in self.all
        ]  # fmt: skip
        return json.dumps({"meters": meters, "processing": processing, "communication": []}).encode()

    def ports(self) -> set[str]:
        """What can be pulled, as diagnostics name it."""
        return {f"stick-{kind}" for kind in (*EMULATED, AUTO)} | {"head0", "line0"}

    async def again(self) -> None:
        """Wait until the meter on RS-485 was read after a second handshake."""
        async with asyncio.timeout(TIMEOUT_S):
            while self._station.handshakes < 2:  # noqa: ASYNC110  # a counter has no event
                await asyncio.sleep(0.05)

    async def talk(self) -> None:
        """Every meter, again and again."""

        async def one(line: Way) -> None:
            while True:
                await line.send()
                await asyncio.sleep(PAUSE_S)

        async with asyncio.TaskGroup() as group:
            for line in self.all:
                group.create_task(one(line))


@asynccontextmanager
async def made(folder: Path) -> AsyncIterator[Lines]:
    """A gateway's folder with all lines, its meters in order; nothing runs yet."""
    make_folder(folder, gateway_id="ESGW0100000001")
    lines = Lines(folder)
    lines.add_sticks()
    lines.add_replay()
    lines.add_head()
    lines.add_rs485()
    path = folder / "gateway.toml"
    text = path.read_text(encoding="utf-8")
    begin, end = text.index("[[lmn.stick]]"), text.index("[dcnet]")
    path.write_text(text[:begin] + "[dcnet]" + text[end + 7 :], encoding="utf-8")
    (folder / "meters.toml").write_text("", encoding="utf-8")
    async with open_gateway(config.load(path)) as one:  # takes the order, as from an administrator
        receipt = await one._parts.registry.apply(Order("1", "profiles", datetime.now(UTC), 1, lines.order()))
        assert receipt.accepted, receipt
    described = "".join(way.toml for way in lines.all)
    path.write_text(text[:begin] + described + text[end:], encoding="utf-8")
    async with AsyncExitStack() as stack:
        for way in lines.all:
            way.plug()
            stack.callback(way.vanish)
        yield lines


async def values(site: Site, way: Way) -> dict[datetime, Decimal]:
    now_utc = datetime.now(UTC)
    async with site.opened() as stores:
        kept = await OriginalLists(stores.consumer).between(way.name, now_utc - timedelta(hours=1), now_utc)
    return {each.instant_utc: each.value for each in kept if each.value is not None}


async def said_by_all(process: asyncio.subprocess.Process, words: str, subjects: set[str]) -> None:
    """Read diagnostics until `words` were said of each subject."""
    while subjects:
        line = (await line_with(process, words.encode())).decode()
        subjects -= {subject for subject in subjects if subject in line}


async def counted(site: Site, lines: Lines) -> None:
    """`smgw status` knows of each line what came and that it was pulled; `smgw doctor` says the same."""
    told = (await asyncio.to_thread(ask, site.configuration, op="status"))["status"]["lines"]
    known = {Path(one["port"]).name: one for one in told}
    assert len(known) == len(lines.all)
    for name, one in known.items():
        assert (one["open"], one["frames"] > 0, one["bytes"] > 0) == (True, True, True), one
        assert 0 <= one["last_byte_s"] < TIMEOUT_S
        assert (one["restarts"] > 0) == (name in lines.ports()), one
        assert one["mode"]
    assert {one["what"] for one in told} == {"stick", "head", "line"}
    said = [each async for each in gateway.examine(site.configuration, 0.1)]
    healthy = [each for each in said if "in the running gateway" in each.text and each.severity.value == "ok"]
    assert len(healthy) == len(lines.all)


async def test_every_line_registers_values_and_does_so_again_after_it_was_pulled(tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    async with made(folder) as lines:
        site = Site(folder, made=True)
        site.write_secret("meters.toml", "")
        async with site.process() as process:
            await line_with(process, b"is up")
            talking = asyncio.create_task(lines.talk())
            await said_by_all(process, "first telegram of", {str(way.meter) for way in lines.all})
            await asyncio.sleep(REGISTERED_S)
            for way in lines.all:
                way.vanish()
            await said_by_all(process, ": port: ", lines.ports())
            pulled_utc = datetime.now(UTC)
            for way in lines.all:
                way.plug()
            await said_by_all(process, "listening", lines.ports() - {"line0"})
            await lines.again()
            back_utc = datetime.now(UTC)
            await asyncio.sleep(REGISTERED_S)
            await counted(site, lines)
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
            process.send_signal(signal.SIGINT)
            await line_with(process, b"is down")
            assert await asyncio.wait_for(process.wait(), TIMEOUT_S) == 0
        for way in lines.all:
            known = await values(site, way)
            before = [value for at_utc, value in known.items() if at_utc < pulled_utc]
            after = [value for at_utc, value in known.items() if at_utc > back_utc]
            assert before, f"{way.name}: nothing registered"
            assert after, f"{way.name}: nothing registered after it was pulled"
            assert before[0] <= before[-1] <= after[0] <= after[-1]
