"""Host software of others on the emulated sticks: it must find each, set it up and take its telegrams.

Judge: the receivers of the npm package iobroker.wireless-mbus (GPL-2.0-only), in a process of their own. They
know the sticks from the makers' descriptions and their users' hardware, and share no line with this project.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from lmn.wmbus.frame import to_format_a, to_format_b
from tests.support.npm_package import fetched, unpack
from tools.counterparts.meter_wmbus import ElectricityMeter
from tools.counterparts.stick_amb8465 import VirtualAmb8465
from tools.counterparts.stick_cul import VirtualCul
from tools.counterparts.stick_im871a import VirtualStick
from tools.counterparts.stick_iu891a import VirtualIu891a
from tools.counterparts.stick_pty import PtyStick

HOST: Final = ("iobroker.wireless-mbus", "0.13.1")
SHA512: Final = "CSmHDBVERnvgydp63qbSdNqNlqetVCg1ccBwr0yJRYrXe1LgSE0EvRuQwFMtnXGGkMGJi9odxFiX7WAJxem+yQ=="
ANSWER_S: Final = 30.0
NO_SIGNAL: Final = -1
"""What this host says where a stick sends none."""


class Host:
    """One receiver in its own process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def says(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), ANSWER_S)
        assert line, "the host ended"
        said: dict[str, Any] = json.loads(line)
        return said


@asynccontextmanager
async def host(receiver: str, mode: str, stick: PtyStick) -> AsyncIterator[Host]:
    script = Path(__file__).with_name("stick_host.js")
    node = shutil.which("node")
    package = fetched(*HOST, SHA512)
    assert node is not None
    process = await asyncio.create_subprocess_exec(
        *(node, str(script), str(package), receiver, mode, str(stick.link)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield Host(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


STICKS: Final = {
    "im871a": (VirtualStick, "ImstReceiver", "T", NO_SIGNAL),  # it does not ask for the signal
    "iu891a": (VirtualIu891a, "ImstV2Receiver", "CT", -60),
    "amb8465": (VirtualAmb8465, "AmberReceiver", "CT", -60),
    "cul": (VirtualCul, "CulReceiver", "T", -60),
}


async def on_the_air(stick: PtyStick, telegram: bytes, **signal: int) -> None:
    """Send a telegram once the stick listens: a host is ready when it has said how, not when that is done."""
    await asyncio.wait_for(stick.listening(), ANSWER_S)
    assert await stick.transmit(telegram, **signal)


@pytest.mark.parametrize("kind", STICKS)
async def test_a_host_of_others_takes_the_sticks_telegrams(kind: str, tmp_path: Path) -> None:
    make, receiver, mode, signal = STICKS[kind]
    meter = ElectricityMeter(seed=4)
    async with make(tmp_path / "stick0") as stick, host(receiver, mode, stick) as other:
        assert await other.says() == {"ready": True}
        for _ in range(3):
            meter.step()
            sent = meter.telegram()
            await on_the_air(stick, sent, dbm=-60)
            said = await other.says()
            heard = bytes.fromhex(said.pop("telegram"))
            # A CUL sends link checksums, and the link quality that this host leaves behind them.
            assert (
                (heard[:-1], heard[-1:]) == (to_format_a(sent), b"\x80") if kind == "cul" else heard == sent
            )
            assert said == {"frame": "A", "rssi": signal}


async def test_a_host_of_others_takes_format_b_of_a_cul(tmp_path: Path) -> None:
    meter = ElectricityMeter(seed=4)
    stick = VirtualCul(tmp_path / "stick0", b_format=True)
    async with stick, host("CulReceiver", "C", stick) as other:
        assert await other.says() == {"ready": True}
        sent = meter.telegram()
        await on_the_air(stick, sent)
        said = await other.says()
        assert bytes.fromhex(said["telegram"])[:-1] == to_format_b(sent)
        assert said["frame"] == "B"


async def test_a_bare_amb8465_is_told_to_send_commands(tmp_path: Path) -> None:
    """The host changes the stick's memory and starts it anew, as it would a real one's."""
    meter = ElectricityMeter(seed=4)
    stick = VirtualAmb8465(tmp_path / "stick0", commands=False, signal=False)
    async with stick, host("AmberReceiver", "T", stick) as other:
        assert await other.says() == {"ready": True}
        sent = meter.telegram()
        await on_the_air(stick, sent)
        assert await other.says() == {"telegram": sent.hex(), "frame": "A", "rssi": NO_SIGNAL}


def test_another_archive_than_the_one_looked_at_is_not_unpacked(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="sha512"):
        unpack(b"something else", SHA512, tmp_path / "package")
    assert not list(tmp_path.iterdir())


async def test_a_stick_that_is_none_is_refused(tmp_path: Path) -> None:
    """The judge can say no: a CUL is no iM871A."""
    async with VirtualCul(tmp_path / "stick0") as stick, host("ImstReceiver", "T", stick) as other:
        assert "failed" in await other.says()
