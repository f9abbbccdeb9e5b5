"""Driver, serial port and emulated stick together, on a real pseudo terminal."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from lmn.errors import LineDisturbed, PortClosed, UnexpectedMessage
from lmn.mbus.decoder import decode
from lmn.ports import MeterAccess, ReceptionMode
from lmn.serial_port import SerialPort, open_port
from lmn.wmbus import driver as driver_module
from lmn.wmbus.driver import WmbusStick
from lmn.wmbus.link import ReceivedFrame, StickStatistics
from lmn.wmbus.sticks.im871a import BAUDRATE, Im871a
from tools.counterparts.meter_wmbus import DEFAULT_KEY, ElectricityMeter
from tools.counterparts.stick_im871a import VirtualStick


class Listener:
    """A driver on a stick, and what it heard."""

    def __init__(self, link: Path) -> None:
        self.frames: asyncio.Queue[ReceivedFrame] = asyncio.Queue()
        self.statistics = StickStatistics()
        self.driver = WmbusStick(
            lambda: open_port(str(link), BAUDRATE),
            lambda: Im871a(self.statistics),
            self.frames.put_nowait,
            asyncio.get_running_loop().time,
        )
        self.task = asyncio.create_task(self.driver.run())

    async def next(self) -> bytes:
        return (await asyncio.wait_for(self.frames.get(), 10)).data


@asynccontextmanager
async def listener(stick: VirtualStick) -> AsyncIterator[Listener]:
    heard = Listener(stick.link)
    try:
        await asyncio.wait_for(stick.listening(), 10)
        yield heard
    finally:
        heard.task.cancel()
        await asyncio.gather(heard.task, return_exceptions=True)


async def test_meter_to_driver(tmp_path: Path) -> None:
    meter = ElectricityMeter(seed=5)
    access = MeterAccess(meter.meter, DEFAULT_KEY, ReceptionMode.STRICT)
    async with VirtualStick(tmp_path / "stick0") as stick, listener(stick) as heard:
        last = None
        for _ in range(5):
            meter.step()
            assert await stick.transmit(meter.telegram())
            telegram = decode(await heard.next(), access, last)
            last = telegram.counter
            assert telegram.records[0].value_text == str(meter.import_wh)
    assert heard.statistics.frames == 5
    assert heard.statistics.crc_failures == 0
    assert heard.statistics.device
    assert meter.counter == last == 5


async def test_byte_by_byte_and_garbage_between(tmp_path: Path) -> None:
    meter = ElectricityMeter(seed=6)
    async with VirtualStick(tmp_path / "stick0", chunk=1, baudrate=0) as stick, listener(stick) as heard:
        for _ in range(3):
            await stick.write(b"\x00\xa5\xff\x17")
            sent = meter.telegram()
            await stick.transmit(sent)
            assert await heard.next() == sent
    assert heard.statistics.garbage_bytes >= 12


async def test_a_stick_that_vanishes_and_comes_back(tmp_path: Path) -> None:
    async with VirtualStick(tmp_path / "stick0") as stick:
        first = Listener(stick.link)
        await asyncio.wait_for(stick.listening(), 10)
        stick.vanish()
        with pytest.raises(PortClosed):
            await asyncio.wait_for(first.task, 10)
        missing = Listener(stick.link)
        with pytest.raises(PortClosed):
            await asyncio.wait_for(missing.task, 10)
        stick.plug()
        async with listener(stick) as heard:
            sent = ElectricityMeter().telegram()
            await stick.transmit(sent)
            assert await heard.next() == sent


async def test_nobody_hears_an_unconfigured_stick(tmp_path: Path) -> None:
    async with VirtualStick(tmp_path / "stick0") as stick:
        assert not await stick.transmit(ElectricityMeter().telegram())
        assert stick.unheard == 1


async def test_a_port_belongs_to_one_process(tmp_path: Path) -> None:
    async with VirtualStick(tmp_path / "stick0") as stick:
        port = await open_port(str(stick.link), BAUDRATE)
        with pytest.raises(PortClosed):
            await open_port(str(stick.link), BAUDRATE)
        port.close()
        port.close()
        assert await port.read() == b""
        with pytest.raises(PortClosed):
            await port.write(b"x")


async def test_what_is_no_port(tmp_path: Path) -> None:
    plain = tmp_path / "file"
    plain.write_bytes(b"")
    for path in (plain, tmp_path, tmp_path / "missing"):
        with pytest.raises(PortClosed):
            await open_port(str(path), BAUDRATE)


async def test_a_stick_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "CONFIGURE_TIMEOUT_S", 0.05)
    stick = VirtualStick(tmp_path / "stick0")
    stick.plug()
    asyncio.get_running_loop().remove_reader(stick._master)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(Listener(stick.link).task, 10)
    await stick.aclose()


async def test_a_stick_that_answers_what_nobody_asked(tmp_path: Path) -> None:
    async with VirtualStick(tmp_path / "stick0") as stick, listener(stick) as heard:
        await stick.write(bytes.fromhex("A58102004CA3"))
        with pytest.raises(UnexpectedMessage):
            await asyncio.wait_for(asyncio.shield(heard.task), 10)


async def test_a_flood_is_bounded_and_loses_no_order(tmp_path: Path) -> None:
    async with VirtualStick(tmp_path / "stick0") as stick:
        port = await open_port(str(stick.link), BAUDRATE)
        sent = 0
        block = bytes(range(256)) * 8
        os.set_blocking(stick._master, False)
        for _ in range(200):
            with suppress(BlockingIOError):
                sent += os.write(stick._master, block)
            await asyncio.sleep(0)
        assert len(port._unread) <= 65536 + 4096
        got = bytearray()
        while len(got) < sent:
            got += await asyncio.wait_for(port.read(), 10)
        assert len(got) == sent
        port.close()


async def test_writes_wait_for_a_slow_line(tmp_path: Path) -> None:
    master, slave = os.openpty()
    import tty

    tty.setraw(master)
    tty.setraw(slave)
    port: SerialPort = await open_port(os.ttyname(slave), BAUDRATE)
    data = bytes(range(256)) * 256
    writing = asyncio.create_task(port.write(data))
    got = bytearray()
    os.set_blocking(master, False)
    while len(got) < len(data):
        try:
            got += os.read(master, 4096)
        except BlockingIOError:
            await asyncio.sleep(0.001)
    await writing
    assert bytes(got) == data
    port.close()
    os.close(master)
    os.close(slave)


async def test_a_disturbed_line_is_told_once_a_minute() -> None:
    statistics, told, now = StickStatistics(), list[tuple[str, LineDisturbed]](), [0.0]

    class Port:
        def __init__(self) -> None:
            noise = [(0.0, b"noise!"), (1.0, b"more"), (59.0, b"x"), (61.0, b"yz")]
            self.reads = [*noise, (200.0, b"\xa5"), (201.0, b"")]

        async def read(self) -> bytes:
            now[0], data = self.reads.pop(0)
            return data

        async def write(self, data: bytes) -> None: ...

        def close(self) -> None: ...

    async def opened() -> Port:
        return Port()

    stick = WmbusStick(
        opened,
        lambda: Im871a(statistics),
        lambda frame: None,
        lambda: now[0],
        name="stick",
        statistics=statistics,
        report=lambda name, error: told.append((name, error)),
    )
    with pytest.raises(PortClosed):
        await stick.run()
    assert [(name, str(error).split()[0]) for name, error in told] == [("stick", "6"), ("stick", "7")]
