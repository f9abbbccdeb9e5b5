"""The demo with a card behind pcscd; and what it says where there is no such thing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.pace import slot_s
from tests.support.reader import needs_pcsc
from tools.cli.demo import app
from tools.homes.cards import Kind, missing

DEMO = (sys.executable, "-m", "tools.cli", "demo")
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.punctual
@needs_pcsc
@pytest.mark.timeout(240)
def test_one_gateway_runs_through_pcscd() -> None:
    """A process of its own: libpcsclite looks for its daemon once in a process."""
    done = subprocess.run(
        [*DEMO, "--hsm", "pcsc", "--gateways", "4", "--slots", "2", "--slot-s", str(slot_s(4)), "--json"],
        capture_output=True, text=True, cwd=ROOT, timeout=220, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["ok"]
    assert result["modules"]["esgw0100000001"] == "pcsc:smgw 00 00"
    assert any("through pcscd" in check for check in result["checks"])


def test_without_pcscd_it_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    result = CliRunner().invoke(app, ["--hsm", "pcsc"])
    assert result.exit_code == 2
    assert "vsmartcard-vpcd" in result.output


def test_without_the_applet_it_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    result = CliRunner().invoke(app, ["--hsm", "applet"])
    assert result.exit_code == 2
    assert "there is no Java here" in result.output
    assert missing(Kind.EMULATOR) is None
