"""From a stick to a registered value: on emulated sticks, or on the one of `--hardware --stick PORT`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from firmware import config
from firmware.boot import Gateway, open_gateway
from lmn.wmbus.driver import WmbusStick
from lmn.wmbus.kinds import KINDS
from lmn.wmbus.link import ReceivedFrame, StickStatistics
from tests.hardware.parts import Stick, emulated_stick, real_stick, there
from tools.cli.init import make_folder
from tools.counterparts.meter_wmbus import DEFAULT_KEY
from tools.counterparts.meter_wmbus_virtual import VirtualMeter
from tools.counterparts.sticks import EMULATED
from tools.listen.hearing import Hearing
from wan.ports import Order

IMPORT = "1-0:1.8.0"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        real = metafunc.config.getoption("--stick")
        kinds = [metafunc.config.getoption("--stick-kind")] if real else list(EMULATED)
        metafunc.parametrize("kind", kinds, ids=lambda kind: kind or "asked")


@pytest.fixture
def meter() -> VirtualMeter:
    return VirtualMeter(seed=11)


@pytest.fixture
async def stick(
    kind: str | None, meter: VirtualMeter, tmp_path: Path, pytestconfig: pytest.Config
) -> AsyncIterator[Stick]:
    option = pytestconfig.getoption
    async with AsyncExitStack() as stack:
        if option("--stick"):
            part = real_stick(option("--stick"), kind, option("--stick-wait"), option("--stick-meters"))
            yield await stack.enter_async_context(part)
        else:
            assert kind is not None
            yield await stack.enter_async_context(emulated_stick(kind, tmp_path, meter))


@pytest.mark.timeout(1200)
async def test_the_stick_is_configured_and_hears(
    stick: Stick, record_property: Callable[[str, object], None]
) -> None:
    statistics, hearing = StickStatistics(), Hearing()
    frames: asyncio.Queue[ReceivedFrame] = asyncio.Queue()
    service = WmbusStick.of_kind(
        KINDS[stick.kind],
        stick.port,
        frames.put_nowait,
        asyncio.get_running_loop().time,
        statistics=statistics,
    )
    running = asyncio.create_task(service.run())
    try:
        frame = await asyncio.wait_for(frames.get(), stick.wait_s)
        while hearing.take(frame) is None:
            frame = await asyncio.wait_for(frames.get(), stick.wait_s)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    (heard,) = hearing.meters()
    record_property(
        "there",
        there(
            "stick", stick.port, real=stick.real, kind=stick.kind, device=statistics.device,
            mode=statistics.link_mode, heard=heard.to_json(),
        ),
    )  # fmt: skip
    assert statistics.device
    assert statistics.link_mode
    assert statistics.frames >= 1


def settings(folder: Path, stick: Stick) -> config.GatewayConfig:
    make_folder(folder, gateway_id="ESGW0100000001", port=stick.port)
    path = folder / "gateway.toml"
    text = path.read_text(encoding="utf-8").replace('kind = "im871a"', f'kind = "{stick.kind}"')
    meters = "" if stick.meters is None else stick.meters.read_text(encoding="utf-8")
    (folder / "meters.toml").write_text(meters, encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    return config.load(path)


@asynccontextmanager
async def running(folder: Path, stick: Stick) -> AsyncIterator[Gateway]:
    async with open_gateway(settings(folder, stick)) as gateway:
        life = asyncio.create_task(gateway.run())
        try:
            yield gateway
        finally:
            life.cancel()
            await asyncio.wait((life,))


async def until_accepted(gateway: Gateway, count: int, wait_s: float) -> None:
    async with asyncio.timeout(wait_s):
        while gateway.telegrams.accepted < count:  # noqa: ASYNC110  # a counter has no event
            await asyncio.sleep(0.05)


@pytest.mark.timeout(1200)
async def test_from_the_stick_to_the_register(stick: Stick, meter: VirtualMeter, tmp_path: Path) -> None:
    async with running(tmp_path / "gateway", stick) as gateway:
        if stick.real:
            if stick.meters is not None:  # without a key nothing can be accepted; hearing is tested above
                await until_accepted(gateway, 1, stick.wait_s)
            return
        now_utc = datetime.now(UTC).replace(microsecond=0)
        profiles = {
            "meters": [
                {"id": "m", "meter": str(meter.meter), "key_hex": DEFAULT_KEY.hex(), "consumer": "me"}
            ],
            "processing": [
                {
                    "id": "series",
                    "taf": 7,
                    "meter": str(meter.meter),
                    "obis": IMPORT,
                    "consumer": "me",
                    "registration_period_s": 1,
                    "window_s": 0.45,
                    "recipients": ["emp"],
                    "valid_from": now_utc.isoformat(),
                }
            ],
            "communication": [],
        }
        order = Order("one", "profiles", now_utc, 1, json.dumps(profiles).encode())
        receipt = await gateway._parts.registry.apply(order)
        assert receipt.accepted, receipt
        await until_accepted(gateway, 3, stick.wait_s)
        values: list[Decimal] = []
        async with asyncio.timeout(stick.wait_s):
            while len(values) < 2:
                await asyncio.sleep(0.1)
                kept = await gateway.originals.between("series", now_utc, now_utc + timedelta(minutes=5))
                values = [value.value for value in kept if value.value is not None]
        assert values == sorted(values)
        assert values[-1] <= meter.registers.main_value()
        assert values[0] > 1_000_000
