"""An RS-485 line is opened, called, and listened to: emulated, or by `--hardware --rs485 PORT`.

Only the call for new meters is sent, whose form is assumed; a meter that knows it not stays silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lmn.errors import LmnError
from lmn.serial_port import open_port
from lmn.wired.discovery import Addresses, Discovery
from lmn.wired.hdlc import HdlcDeframer
from tests.hardware.parts import there
from tools.counterparts.meter_sml import server_id
from tools.counterparts.meter_wired import DEFAULT_METER, WiredMeterStation, make_identity
from tools.counterparts.rs485_hub import Rs485Hub

LISTEN_S = 2.0
CALLS = 3


@dataclass(frozen=True)
class Line:
    port: str
    rate: int
    real: bool


@pytest.fixture(params=["silent adapter", "adapter with echo"])
async def line(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Line]:
    option = request.config.getoption
    if option("--rs485"):
        yield Line(option("--rs485"), option("--rs485-rate"), real=True)
        return
    make_identity(tmp_path / "meter", DEFAULT_METER)
    async with Rs485Hub(tmp_path / "line0", echo="echo" in request.param) as hub:
        WiredMeterStation(hub, tmp_path / "meter", tmp_path / "unused.pem")
        yield Line(str(hub.link), 921600, real=False)


async def test_who_answers_on_the_line(line: Line, record_property: Callable[[str, object], None]) -> None:
    discovery, deframer = Discovery(Addresses()), HdlcDeframer()
    port = await open_port(line.port, line.rate)
    answered, arrived, broken, echoed = set[str](), 0, 0, False
    try:
        for _ in range(CALLS):
            call = discovery.call(8).to_bytes()
            await port.write(call)
            try:
                async with asyncio.timeout(LISTEN_S / CALLS):
                    while data := await port.read():
                        arrived += len(data)
                        echoed = echoed or call in data
                        for frame in deframer.receive(data):
                            if (name := discovery.heard(frame)) is not None:
                                answered.add(name.hex())
            except TimeoutError:
                continue
            except LmnError:
                broken += 1
    finally:
        port.close()
    seen = {"bytes": arrived, "adapter hears itself": echoed, "broken": broken, "answered": sorted(answered)}
    record_property("there", there("rs485", line.port, real=line.real, **seen))
    if not line.real:
        assert answered == {server_id(DEFAULT_METER).hex()}
