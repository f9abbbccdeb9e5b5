"""`smgw demo` as its users run it: a process of its own."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from firmware.metering.original import OriginalLists
from firmware.store.stores import Stores
from hsm.emulator import load_card
from hsm.emulator.transport import EmulatorTransport
from hsm.session import ModuleSession
from tests.support.pace import slot_s
from tests.support.whole_gateway import ROOT
from tools.demo.plan import BILLING, GROUP_TOTAL, published_telegrams
from tools.homes.household import Household

_GATEWAYS, _SLOTS = 4, 2
pytestmark = [pytest.mark.punctual, pytest.mark.timeout(240)]


@dataclass(frozen=True)
class Run:
    folder: Path
    code: int
    printed: str
    result: dict[str, Any]


def smgw(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.cli", *words], cwd=ROOT, capture_output=True, text=True, timeout=200
    )


def test_the_demo(tmp_path: Path) -> None:
    """One run for everything: it takes a while."""
    folder = tmp_path / "run"
    size = ("--gateways", str(_GATEWAYS), "--slots", str(_SLOTS), "--slot-s", str(slot_s(3)))
    done = smgw("demo", "--json", *size, "--dir", str(folder))
    assert done.stdout, done.stderr
    run = Run(folder, done.returncode, done.stdout, json.loads(done.stdout))
    every_check_held(run)
    it_prints_the_documented_object(run)
    no_log_tells_a_key_a_pin_or_a_reading(run)


def every_check_held(run: Run) -> None:
    assert run.result["checks"] == dict.fromkeys(run.result["checks"], True)
    assert run.result["ok"] is True
    assert run.code == 0
    assert len(run.printed.splitlines()) == 1


def it_prints_the_documented_object(run: Run) -> None:
    result = run.result
    shape = {
        "gateways": int,
        "pace": {"sessions": int, "apdus": int},
        "telegrams": {"sent": int, "accepted": int, "rejected": int},
        "slots": list,
        "billing": {"sent": int, "verified": int},
        "denied": int,
        "tls": {"version": str, "group": str, "suite": str},
        "checks": dict,
        "hsm": str,
        "modules": dict,
        "ok": bool,
    }
    assert set(result) == set(shape)
    for key, kind in shape.items():
        if isinstance(kind, dict):
            assert {name: type(value) for name, value in result[key].items()} == kind
        else:
            assert type(result[key]) is kind
    assert [slot["slot"] for slot in result["slots"]] == [1, 2]
    for slot in result["slots"]:
        assert set(slot) == {"slot", "members", "left_out", "true_sum_wh", "opened_sum_wh"}
        assert slot["true_sum_wh"] == slot["opened_sum_wh"] > 0
    names = [Household(number).name for number in range(1, _GATEWAYS + 1)]
    assert sorted(result["slots"][0]["members"]) == names
    assert result["slots"][1]["left_out"] == names[-1:]  # it dropped out, and the sum is still right
    assert result["gateways"] == _GATEWAYS
    assert result["billing"] == {"sent": _GATEWAYS, "verified": _GATEWAYS}
    assert result["telegrams"]["rejected"] == 2  # each of two sticks repeats one published telegram
    assert result["denied"] >= 1
    assert result["pace"]["sessions"] >= 2 * _GATEWAYS
    assert result["tls"]["group"].startswith("brainpool")


async def values_of(home: Path) -> set[int]:
    """What a home's gateway registered and received, from its own sealed stores."""
    card, pin = load_card(home / "module"), (home / "pin").read_bytes()
    now_utc = datetime.now(UTC)
    async with (
        ModuleSession(lambda: EmulatorTransport(card), lambda: pin) as module,
        await Stores.open(home / "state", module) as stores,
    ):
        found = set()
        for profile in (BILLING, GROUP_TOTAL):
            originals = OriginalLists(stores.consumer)
            for one in await originals.between(profile, now_utc - timedelta(hours=1), now_utc):
                if one.value is not None:
                    found.add(int(one.value))
        for _, text in await stores.consumer.records("reading"):
            number = json.loads(text)[2]
            if number is not None and re.fullmatch(r"[0-9]{6,}", number):
                found.add(int(number))
    return found


def no_log_tells_a_key_a_pin_or_a_reading(run: Run) -> None:
    homes = [Household(number) for number in range(1, _GATEWAYS + 1)]
    logs = {path.name: path.read_text(encoding="utf-8").lower() for path in run.folder.rglob("*.log")}
    assert set(logs) == {"gateways.log", "emp.log", "gwa.log"}
    assert all(home.name in logs["gateways.log"] for home in homes[:1])  # it is the log, and not empty
    secrets = {home.meter_key.hex() for home in homes}
    secrets |= {one.key_hex.lower() for one in published_telegrams()}
    pins = {(run.folder / home.name / "pin").read_text() for home in homes}
    readings: set[int] = set()
    for home in homes:
        readings |= asyncio.run(values_of(run.folder / home.name))
    assert len(pins) == _GATEWAYS
    assert len(readings) > _GATEWAYS * (_SLOTS + 1)
    numbers = {int(text) for text in re.findall(r"(?<![0-9a-f-])[0-9]+(?![0-9a-f-])", logs["gateways.log"])}
    assert not numbers & readings
    for name, text in logs.items():
        for secret in secrets | pins:
            assert secret not in text, name
        for reading in readings:
            assert not re.search(rf"(?<![0-9a-f]){reading}(?![0-9a-f])", text), name


@pytest.mark.parametrize("words", [("--gateways", "3"), ("--gateways", "33"), ("--slots", "0"), ("--slot",)])
def test_wrong_usage(words: tuple[str, ...]) -> None:
    from typer.testing import CliRunner

    from tools.cli.demo import app

    assert CliRunner().invoke(app, [*words]).exit_code == 2


def test_three_gateways_are_too_few() -> None:
    done = smgw("demo", "--json", "--gateways", "3")
    assert (done.returncode, done.stdout) == (2, "")
    assert "at least 4 gateways" in " ".join(done.stderr.split())


def test_a_folder_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from tools.cli.demo import app

    (tmp_path / "mine").write_text("kept")
    assert CliRunner().invoke(app, ["--dir", str(tmp_path)]).exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
