"""A proxy profile on the road: signed, carried out, shown as it is, kept at a restart, rolled back."""

from __future__ import annotations

import asyncio
import importlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from firmware.profile.codec import from_toml
from tests.support.whole_gateway import NAME, Road, eventually
from tools.counterparts.gwa import place_order, receipt_of
from wan.ports import Receipt

pytestmark = pytest.mark.timeout(120)
EXAMPLE = Path(__file__).resolve().parents[2] / "tools" / "examples" / "profiles" / "proxy.toml"


async def shown(road: Road, *words: str) -> str:
    app = importlib.import_module("tools.cli.status").app
    arguments = ["-c", str(road.site.configuration), *words]
    return (await asyncio.to_thread(CliRunner().invoke, app, arguments)).stdout


async def proxies(road: Road) -> list[dict[str, Any]]:
    async def told() -> str | None:
        return await shown(road, "--json") or None  # right after its start nobody answers yet

    status = json.loads(await eventually(told, "the status"))
    found: list[dict[str, Any]] = status["profiles"]["proxy"]
    return found


async def answered(road: Road, order: str) -> Receipt:
    async def look() -> Receipt | None:
        return receipt_of(road.pki / "gwa", NAME, order)

    receipt = await eventually(look, "the receipt")
    assert receipt.accepted
    return receipt


async def test_a_proxy_profile_is_kept_over_a_restart_and_nothing_says_that_it_is_served(road: Road) -> None:
    kept = [{"id": "heat-pump-control", "state": "kept, not served"}]
    async with road.site.running():
        order = road.order(msgspec.to_builtins(from_toml(EXAMPLE, small_nets_allowed=False)))
        receipt = await answered(road, order)
        assert "(proxy profiles: kept, not served): +proxy/heat-pump-control" in receipt.reason
        assert await proxies(road) == kept
        assert "heat-pump-control (kept, not served)" in await shown(road)
    async with road.site.running():
        assert await proxies(road) == kept
        await answered(road, place_order(road.pki / "gwa", NAME, "profiles.rollback", {}))
        assert await proxies(road) == []
