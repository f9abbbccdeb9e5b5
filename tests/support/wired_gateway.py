"""A whole gateway on lines of its own, with an order that registers one measurand each second."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from firmware.boot import Gateway, open_gateway
from firmware.config import load
from firmware.metering.register import RegisteredValue
from tools.cli.init import make_folder
from wan.ports import Order

PROCESSING = "series"


def profiles(meter: str, obis: str, mode: str = "open", key_hex: str = "") -> bytes:
    start = datetime.now(UTC).replace(microsecond=0)
    return json.dumps(
        {
            "meters": [
                {"id": "wired", "meter": meter, "mode": mode, "key_hex": key_hex, "consumer": "household"}
            ],
            "processing": [
                {
                    "id": PROCESSING, "taf": 7, "meter": meter, "obis": obis, "consumer": "household",
                    "registration_period_s": 1, "window_s": 0.45, "recipients": ["supplier"],
                    "valid_from": start.isoformat(),
                }
            ],
            "communication": [],
        }
    ).encode()  # fmt: skip


@asynccontextmanager
async def running(folder: Path, lmn: str, document: bytes) -> AsyncIterator[Gateway]:
    """Run a gateway whose [lmn] table goes on with `lmn`, under the profiles of `document`."""
    path = folder / "gateway.toml"
    if not path.exists():  # else the same gateway starts again
        make_folder(folder, gateway_id="ESGW0100000001")
        text = path.read_text()
        begin, end = text.index("[[lmn.stick]]"), text.index("[dcnet]")
        path.write_text(text[:begin] + lmn + "\n" + text[end:])
    async with open_gateway(load(path)) as gateway:
        order = Order("order-1", "profiles", datetime.now(UTC), 1, document)
        receipt = await gateway._parts.registry.apply(order)
        assert receipt.accepted, receipt
        task = asyncio.create_task(gateway.run())
        try:
            yield gateway
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def registered(gateway: Gateway, limit_s: float = 20.0, *, missing: bool = False) -> RegisteredValue:
    """Wait for the first registered value of the order's series, or for an instant without one."""
    async with asyncio.timeout(limit_s):
        while True:
            now = datetime.now(UTC)
            values = await gateway.originals.between(PROCESSING, now - timedelta(minutes=1), now)
            for value in values:
                if (value.value is None) is missing:
                    return value
            await asyncio.sleep(0.1)
