"""Finding out what a port is: the owner's port only, no byte more than documented, settings put back."""

from __future__ import annotations

import asyncio
import os
import termios
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lmn.errors import PortClosed
from lmn.serial_port import borrowed, open_port, usb_devices
from lmn.wmbus import driver as driver_module
from lmn.wmbus.driver import UnknownStick, WmbusStick, opener, probe, recognise
from lmn.wmbus.kinds import KINDS, PROBE_ORDER, Kind
from lmn.wmbus.link import ReceivedFrame, StickStatistics
from lmn.wmbus.sticks import rc1180
from tools.counterparts.meter_wmbus import ElectricityMeter
from tools.counterparts.stick_rc1180 import VirtualRc1180
from tools.counterparts.sticks import EMULATED

ASKED = {
    57600: bytes.fromhex("a5010100"),
    115200: bytes.fromhex("c00103"),
    38400: b"\r\nV\r\n",
    9600: bytes.fromhex("ff0a02008077"),
    19200: b"\x00",
}
"""Rate -> what a device that is no stick gets to hear at it; docs/meters.md 3 has the same table."""


class Foreign:
    """A device that answers nothing (or only `answer`), and remembers bytes and line settings."""

    def __init__(self, answer: bytes = b"") -> None:
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        attributes = termios.tcgetattr(self.slave)
        attributes[4] = attributes[5] = termios.B2400
        attributes[2] |= termios.PARENB
        termios.tcsetattr(self.slave, termios.TCSANOW, attributes)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self.slave)
        self.heard = b""
        self._answer = answer
        asyncio.get_running_loop().add_reader(self.master, self._read)

    @property
    def settings(self) -> list[object]:
        return termios.tcgetattr(self.slave)

    def _read(self) -> None:
        self.heard += os.read(self.master, 4096)
        if self._answer:
            os.write(self.master, self._answer)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.master)
        os.close(self.master)
        os.close(self.slave)


@asynccontextmanager
async def foreign(answer: bytes = b"") -> AsyncIterator[Foreign]:
    device = Foreign(answer)
    try:
        yield device
    finally:
        device.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "PROBE_TIMEOUT_S", 0.1)


@pytest.mark.parametrize("answer", [b"", b"OK\r\n", bytes(range(256)), b"\xc0\xc0\xff\x8a\xa5", b"> "])
async def test_a_foreign_device_hears_five_questions_and_keeps_its_settings(answer: bytes) -> None:
    async with foreign(answer) as device:
        before = device.settings
        assert await probe(device.path) is None
        assert device.settings == before
        await asyncio.sleep(0.05)  # what was written last is on its way to the device
        heard = device.heard
    cores = [KINDS[name].make(StickStatistics(), KINDS[name].modes[0]) for name in PROBE_ORDER]
    assert {core.baudrate for core in cores} == set(ASKED)
    for core in cores:
        greeting = core.start()
        assert greeting.startswith(ASKED[core.baudrate])
        heard = heard.replace(greeting, b"", 1)
    # A device with a prompt like an RC1180's is asked for its memory, and the prompt is left.
    assert heard == (rc1180.LIST + rc1180.LEAVE if b">" in answer else b"")


@pytest.mark.parametrize("kind", PROBE_ORDER)
async def test_a_stick_that_was_asked_is_left_as_it_was(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "PROBE_TIMEOUT_S", 5.0)
    async with EMULATED[kind](tmp_path / "stick0") as stick:
        descriptor = os.open(stick.link, os.O_RDWR | os.O_NOCTTY)
        before = termios.tcgetattr(descriptor)
        found = await probe(str(stick.link), [kind])
        assert found is KINDS[kind]
        assert termios.tcgetattr(descriptor) == before
        os.close(descriptor)
        assert not stick.unheard


async def test_a_stick_with_a_prompt_is_not_left_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "PROBE_TIMEOUT_S", 5.0)
    async with VirtualRc1180(tmp_path / "stick0", baudrate=0) as stick:
        assert await probe(str(stick.link), ["rc1180"]) is KINDS["rc1180"]
        async with asyncio.timeout(5):
            await stick.listening()
        assert stick.heard == [rc1180.CALL, rc1180.LIST, rc1180.LEAVE]


async def test_a_port_that_somebody_has_is_not_asked() -> None:
    async with foreign() as device:
        port = await open_port(device.path, 9600)
        before = device.settings
        with pytest.raises(PortClosed):
            await probe(device.path)
        assert (device.heard, device.settings) == (b"", before)
        port.close()


async def test_a_borrowed_port_is_nobody_elses(tmp_path: Path) -> None:
    async with foreign() as device:
        with borrowed(device.path), pytest.raises(PortClosed):
            await open_port(device.path, 9600)
    with pytest.raises(PortClosed), borrowed(str(tmp_path)):
        pass
    with pytest.raises(PortClosed), borrowed("/dev/null"):
        pass


async def test_what_is_no_device_is_known_by_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    assert await recognise(str(tmp_path / "pipe")) is KINDS["rtl_wmbus"]
    assert await recognise(str(tmp_path / "file")) is KINDS["replay"]
    with pytest.raises(PortClosed):
        await recognise(str(tmp_path / "missing"))
    with pytest.raises(PortClosed):
        await opener(KINDS["rtl_433"], str(tmp_path / "file"))()


async def test_an_unknown_stick_is_found_and_found_again(tmp_path: Path) -> None:
    frames: asyncio.Queue[ReceivedFrame] = asyncio.Queue()
    made: list[str] = []
    link = tmp_path / "stick0"

    def of_kind(kind: Kind) -> WmbusStick:
        made.append(kind.name)
        return WmbusStick.of_kind(kind, str(link), frames.put_nowait, asyncio.get_running_loop().time)

    service = UnknownStick(str(link), of_kind)
    telegram = ElectricityMeter().telegram()
    for kind in ("im871a", "cul"):  # another stick in the same socket
        async with EMULATED[kind](link) as stick:
            running = asyncio.create_task(service.run())
            while (await asyncio.wait_for(_heard(stick, telegram, frames), 20)) != telegram:
                pass
            stick.vanish()
            with pytest.raises(PortClosed):
                await asyncio.wait_for(running, 20)
    assert made == ["im871a", "cul"]
    async with foreign() as device:
        with pytest.raises(PortClosed, match="no kind"):
            await UnknownStick(device.path, of_kind).run()
    assert made == ["im871a", "cul"]


async def _heard(stick: object, telegram: bytes, frames: asyncio.Queue[ReceivedFrame]) -> bytes:
    await stick.listening()  # type: ignore[attr-defined]
    await stick.transmit(telegram)  # type: ignore[attr-defined]
    return (await frames.get()).data


def test_the_usb_is_listed_without_opening_anything() -> None:
    assert all(each.device.startswith("/dev/") and each.vendor for each in usb_devices())
