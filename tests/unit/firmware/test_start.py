from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.cli.init import make_folder

ROOT = Path(__file__).resolve().parents[3]
# Opens a gateway as `smgwd` does and tells what that has loaded.
CHILD = """
import asyncio, json, sys
from pathlib import Path
import firmware.__main__
from firmware import config

async def start(settings):
    from firmware.boot import open_gateway
    async with open_gateway(settings) as gateway:
        assert gateway.wide_area is None

asyncio.run(start(config.load(Path(sys.argv[1]))))
print(json.dumps(sorted(sys.modules)))
"""
NOT_WITHOUT_WAN = (
    "hsm.tls",
    "wan.client",
    "wan.cms",
    "wan.emp",
    "wan.gwa",
    "firmware.wide_area.opening",
    "firmware.enforcement.dcnet.service.driver",
    "httpcore",
    "aiohttp",
    "asn1crypto",
    "cbor2",
)
NEVER = ("typer", "rich", "smartcard", "tools", "pytest")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("start") / "gateway"
    make_folder(folder, gateway_id="ESGW0100000001")
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder / "gateway.toml")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    names: list[str] = json.loads(child.stdout)
    return names


@pytest.mark.parametrize("package", NOT_WITHOUT_WAN + NEVER)
def test_a_gateway_without_wan_does_not_load(package: str, loaded: list[str]) -> None:
    assert "firmware.boot" in loaded
    assert [name for name in loaded if name == package or name.startswith(f"{package}.")] == []
