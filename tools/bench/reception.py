"""From bytes of a stick on a pty to sealed readings in a whole gateway: cost, a saturated channel, the stamp.

The gateway and the emulated lines share this process; what writing to them costs is counted to the gateway.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import tempfile
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from firmware import config
from firmware.boot import Gateway, open_gateway
from lmn.mbus.address import from_meter_id
from lmn.mbus.decoder import decode
from lmn.model import MeterId
from lmn.ports import MeterAccess, ReceptionMode
from lmn.serial_port import open_port
from lmn.sml.driver import HeadMeter, SmlHead
from lmn.wired_values import WiredRefusal, WiredValues
from lmn.wmbus.driver import WmbusStick
from lmn.wmbus.kinds import KINDS
from lmn.wmbus.link import ReceivedFrame
from lmn.wmbus.sticks.im871a import RADIO_INDICATION, Endpoint, build_message
from tools.bench.figure import Figure
from tools.cli.init import make_folder
from tools.counterparts.meter_sml import DEFAULT_METER as HEAD_METER
from tools.counterparts.meter_sml import SmlMeter, VirtualHead, server_id
from tools.counterparts.meter_wmbus import DEFAULT_KEY, DEFAULT_METER, ElectricityMeter
from tools.counterparts.stick_im871a import VirtualStick

COST_BAR_US: Final = 400.0
STAMP_BAR_MS: Final = 500.0
GROWTH_BAR_MB: Final = 4.0
CEILING: Final = 391
"""Telegrams of 20 bytes a second that one channel can carry at most (docs/lmn.md 1.2)."""
PUSHES: Final = 3
"""Frames of an infrared head in a second."""
MINUTES: Final = 10
_TELEGRAMS: Final = 3000
_BATCH: Final = 256
_NEIGHBOURS: Final = 8
_HELD_BYTES: Final = 3000
"""A pty holds four kilobytes; no more than this is on its way, so that nothing is lost before the gateway."""
_RATE: Final = 54
"""Telegrams of 100 bytes a second that the iM871A's line can carry."""
_LINE_MS: Final = 76 * 10 / 57600 * 1000
"""What a telegram of this meter takes on the iM871A's line, ten bits a byte."""
_STAMPED_S: Final = 6.0
_LOOK_S: Final = 0.0005
_GIVE_UP_S: Final = 20.0


class SimulatedClock:
    """The gateway's time, moved by hand; what waits for it looks again now and then."""

    def __init__(self) -> None:
        self._now_utc = datetime(2026, 1, 1, tzinfo=UTC)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now_utc += timedelta(seconds=seconds)

    def now_utc(self) -> datetime:
        """What the gateway takes for the time."""
        return self._now_utc

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return self._now_utc.timestamp()

    async def sleep(self, delay_s: float) -> None:
        """Wait in this time."""
        await self.sleep_until(self._now_utc + timedelta(seconds=delay_s))

    async def sleep_until(self, instant_utc: datetime) -> None:
        """Wait until this time has come."""
        while self._now_utc < instant_utc:  # noqa: ASYNC110  # moved from outside, without an event
            await asyncio.sleep(0.05)


class Wire:
    """The stick's end of the pty: never more bytes in it than it can hold."""

    def __init__(self, stick: VirtualStick, gateway: Gateway) -> None:
        self._stick, self._gateway = stick, gateway
        self.sent = 0
        """Messages given to the gateway on all lines."""

    async def send(self, messages: list[bytes]) -> None:
        """Write once there is room."""
        window = _HELD_BYTES // len(messages[0]) - len(messages)
        await self.settled(self.sent - window)
        self.sent += len(messages)
        await self._stick.write(b"".join(messages))

    async def settled(self, count: int) -> None:
        """Wait until so many messages have been dealt with, one way or another."""
        seen = self._gateway.telegrams
        async with asyncio.timeout(_GIVE_UP_S):
            # A counter has no event; a pause instead of a spin, because it is CPU time that is measured.
            while seen.accepted + seen.rejected_total + seen.dropped < count:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_S)


def indication(telegram: bytes) -> bytes:
    """A telegram as the iM871A tells it."""
    return build_message(Endpoint.RADIO, RADIO_INDICATION, telegram[1:], crc=True, timestamp=0, rssi=95)


def neighbour(number: int) -> MeterId:
    """One of the meters of the saturated channel."""
    return MeterId("SMG", f"{40000000 + number}", 1, 2)


def short_telegram(number: int, count: int) -> bytes:
    """20 bytes: an unprotected telegram with one register, another one each time."""
    body = bytes((0x7A, count & 0xFF, 0, 0, 0, 0x03, 0x03)) + count.to_bytes(3, "little")
    return bytes((19, 0x44)) + from_meter_id(neighbour(number)) + body


def _profiles() -> str:
    def block(name: str, meter: MeterId, key_hex: str, mode: str) -> str:
        what = f'id = "{name}"\nmeter = "{meter}"\nkey_hex = "{key_hex}"\nmode = "{mode}"'
        return f'[[meter]]\n{what}\nconsumer = "me"\n'

    blocks = [block("own", DEFAULT_METER, DEFAULT_KEY.hex(), "strict"), block("head", HEAD_METER, "", "open")]
    return "".join([*blocks, *(block(f"n{i}", neighbour(i), "", "open") for i in range(_NEIGHBOURS))])


@asynccontextmanager
async def _gateway(folder: Path, clock: SimulatedClock) -> AsyncIterator[tuple[Gateway, Wire, VirtualHead]]:
    make_folder(folder, gateway_id="ESGW0100000001")
    (folder / "meters.toml").write_text(_profiles(), encoding="utf-8")
    head = (
        f'[[lmn.head]]\nport = "head0"\nmeter = "{HEAD_METER}"\nserver_id = "{server_id(HEAD_METER).hex()}"\n'
    )
    path = folder / "gateway.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("[dcnet]", head + "[dcnet]"), encoding="utf-8")
    async with (
        VirtualStick(folder / "stick0", baudrate=0, chunk=4096) as stick,
        VirtualHead(folder / "head0", baudrate=0, chunk=4096) as infrared,
        open_gateway(config.load(path), clock) as gateway,
    ):
        life = asyncio.create_task(gateway.run())
        wire = Wire(stick, gateway)
        try:
            await stick.listening()
            yield gateway, wire, infrared
        finally:
            life.cancel()
            await asyncio.wait((life,))


async def cost(wire: Wire, telegrams: list[bytes]) -> tuple[float, float]:
    """CPU and wall microseconds of one telegram in mode 7, at the gateway's own speed."""
    messages = [indication(telegram) for telegram in telegrams]
    cpu, wall = process_time(), perf_counter()
    for at in range(0, len(messages), 8):
        await wire.send(messages[at : at + 8])
    await wire.settled(wire.sent)
    spent = (process_time() - cpu) / len(telegrams), (perf_counter() - wall) / len(telegrams)
    return spent[0] * 1e6, spent[1] * 1e6


def plain_cost(telegrams: list[bytes]) -> float:
    """CPU microseconds of what cannot be left out: pty, decoding, AES-GCM, one durable commit a batch."""
    access = MeterAccess(DEFAULT_METER, DEFAULT_KEY, ReceptionMode.STRICT)
    seal, nonce = AESGCM(bytes(16)), 0
    with tempfile.TemporaryDirectory(prefix="smgw-bench-") as folder, _pty() as (master, slave):
        store = sqlite3.connect(Path(folder) / "store")
        store.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE r(n INTEGER, b BLOB);"
        )
        began = process_time()
        for start in range(0, len(telegrams), _BATCH):
            rows = []
            for telegram in telegrams[start : start + _BATCH]:
                os.write(master, indication(telegram))
                heard = os.read(slave, 4096)
                found = decode(heard[3:4] + heard[4 : 4 + heard[3]], access, None)
                for record in found.records:
                    nonce += 1
                    text = f"{found.meter};{record.value_text}".encode()
                    rows.append((nonce, seal.encrypt(nonce.to_bytes(12, "big"), text, None)))
            store.executemany("INSERT INTO r VALUES (?, ?)", rows)
            store.commit()
        spent = process_time() - began
        store.close()
    return spent / len(telegrams) * 1e6


@contextmanager
def _pty() -> Iterator[tuple[int, int]]:
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        yield master, slave
    finally:
        os.close(master)
        os.close(slave)


async def saturate(
    gateway: Gateway, wire: Wire, head: VirtualHead, clock: SimulatedClock, minutes: float
) -> tuple[int, int, float, float]:
    """Let a full channel and a head talk for so many minutes of the gateway's time.

    Returns:
        What was sent; what was lost or refused; megabytes that the second half added; CPU seconds.
    """
    infrared, sent, start = SmlMeter(), 0, gateway.telegrams.accepted
    seconds, half_mb, began = round(minutes * 60), 0.0, process_time()
    for second in range(seconds):
        if second == seconds // 2:
            half_mb = _resident_mb()
        numbers = range(second * CEILING, (second + 1) * CEILING)
        messages = [indication(short_telegram(n % _NEIGHBOURS, n & 0xFFFFFF)) for n in numbers]
        for part in range(PUSHES):
            infrared.step()
            wire.sent += 1
            await head.push(infrared.frame())
            share = messages[part * CEILING // PUSHES : (part + 1) * CEILING // PUSHES]
            for at in range(0, len(share), 16):
                await wire.send(share[at : at + 16])
            clock.advance(1 / PUSHES)
        sent += CEILING + PUSHES
        await wire.settled(wire.sent)
        if sys.stderr.isatty():
            print(f"\r{second // 60 + 1} of {minutes:g} simulated minutes", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    lost = sent - (gateway.telegrams.accepted - start)
    return sent, lost, _resident_mb() - half_mb, process_time() - began


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def stamps(seconds: float) -> tuple[float, int]:
    """Worst error of the receive time, in ms, on a paced line at its rate, beside a head; telegrams heard."""
    loop = asyncio.get_running_loop()
    errors: list[float] = []
    due: list[float] = []
    access = MeterAccess(DEFAULT_METER, DEFAULT_KEY, ReceptionMode.STRICT)
    meter, infrared = ElectricityMeter(), SmlMeter()

    def take(frame: ReceivedFrame) -> None:
        decode(frame.data, access, None)
        errors.append(abs(frame.first_byte_at - due[len(errors)]))

    def pushed(_values: WiredValues | WiredRefusal) -> None: ...

    with tempfile.TemporaryDirectory(prefix="smgw-bench-") as name:
        folder = Path(name)
        async with VirtualStick(folder / "stick0") as stick, VirtualHead(folder / "head0") as head:
            service = WmbusStick.of_kind(KINDS["im871a"], str(stick.link), take, loop.time)
            front = HeadMeter(HEAD_METER, server_id(HEAD_METER))
            reader = SmlHead(lambda: open_port(str(head.link), 9600), front, pushed, loop.time)
            running = [asyncio.create_task(each.run()) for each in (service, reader)]
            await stick.listening()

            async def push() -> None:
                while True:
                    await head.push(infrared.frame())
                    await asyncio.sleep(1 / PUSHES)

            running.append(asyncio.create_task(push()))
            start = loop.time()
            for number in range(round(seconds * _RATE)):
                await asyncio.sleep(max(start + number / _RATE - loop.time(), 0))
                telegram = meter.telegram()
                due.append(loop.time())
                await stick.transmit(telegram)
            await asyncio.sleep(0.2)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
    return max(errors) * 1000, len(errors)


async def run(rounds: int, minutes: float = MINUTES) -> list[Figure]:
    """Measure the cost `rounds` times, the saturated channel and the stamps once."""
    meter, clock = ElectricityMeter(), SimulatedClock()
    ours, walls, plain = [], [], []
    with tempfile.TemporaryDirectory(prefix="smgw-bench-") as name:
        async with _gateway(Path(name) / "gateway", clock) as (gateway, wire, head):
            for _ in range(rounds):
                telegrams = []
                for _ in range(_TELEGRAMS):
                    meter.step()
                    telegrams.append(meter.telegram())
                cpu_us, wall_us = await cost(wire, telegrams)
                ours.append(cpu_us)
                walls.append(wall_us)
                plain.append(plain_cost(telegrams))
            sent, lost, growth_mb, spent_s = await saturate(gateway, wire, head, clock, minutes)
    worst_ms, heard = await stamps(_STAMPED_S)
    channel = f"{CEILING} telegrams and {PUSHES} SML frames a second"
    return [
        Figure(
            "stick bytes on a pty to sealed, registered reading, mean CPU",
            median(ours), "us", bar=COST_BAR_US,
            reference="plain loop: pty, decoding, AES-GCM, SQLite", reference_value=median(plain),
        ),
        Figure("the same, time on the wall", median(walls), "us"),
        Figure(
            f"{minutes:g} simulated minutes of {channel}: lost",
            lost, "", bar=0, reference="sent", reference_value=sent,
        ),
        Figure("the same, CPU of one telegram", spent_s / sent * 1e6, "us", bar=COST_BAR_US),
        Figure("the same, memory that the second half added", growth_mb, "MB", bar=GROWTH_BAR_MB),
        Figure(
            f"receive time at {_RATE} telegrams a second beside an infrared head, worst error of {heard}",
            worst_ms, "ms", bar=STAMP_BAR_MS,
            reference="one telegram on this line", reference_value=_LINE_MS,
        ),
    ]  # fmt: skip
