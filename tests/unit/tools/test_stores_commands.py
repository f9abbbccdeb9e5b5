"""`smgw backup` and `smgw restore`, as somebody at the keyboard uses them."""

from __future__ import annotations

import asyncio
import json
import shutil

import pytest
from typer.testing import CliRunner

from firmware.store.stores import Stores
from hsm.emulator import load_card
from hsm.emulator.transport import EmulatorTransport
from hsm.session import ModuleSession
from tools.cli import backup, restore
from tools.cli.init import make_folder


@pytest.fixture
def home(tmp_path):
    make_folder(tmp_path / "home", gateway_id="ESGW0100000001")
    asyncio.run(write(tmp_path / "home", b"first"))
    return tmp_path / "home"


async def write(home, text):
    card, pin = load_card(home / "module"), (home / "pin").read_bytes()
    async with (
        ModuleSession(lambda: EmulatorTransport(card), lambda: pin) as module,
        await Stores.open(home / "state", module) as stores,
    ):
        before = await stores.consumer.get("a", "b")
        if text is not None:
            await stores.consumer.put("a", "b", text)
        return before


def call(command, home, *words):
    result = CliRunner().invoke(command.app, ["-c", str(home / "gateway.toml"), *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def test_there_and_back(tmp_path, home):
    archive = tmp_path / "one.backup"
    code, out, _ = call(backup, home, archive)
    assert (code, "esgw0100000001" in out) == (0, True)
    asyncio.run(write(home, b"second"))
    code, out, err = call(restore, home, archive)
    assert code == 1
    assert "--replace" in err
    assert asyncio.run(write(home, None)) == b"second"
    code, out, _ = call(restore, home, archive, "--replace", "--json")
    answer = json.loads(out)
    assert (code, answer["ok"]) == (0, True)
    assert answer["rows"] >= 1
    assert asyncio.run(write(home, None)) == b"first"
    code, out, err = call(backup, home, archive, "--json")
    assert (code, json.loads(out)["error"]["code"]) == (1, "BackupRefused")


def test_a_new_card(tmp_path, home):
    archive = tmp_path / "one.backup"
    assert call(backup, home, archive)[0] == 0
    shutil.rmtree(home / "state")
    assert call(restore, home, "--look")[0] == 1
    assert call(restore, home, archive)[0] == 0
    assert asyncio.run(write(home, None)) == b"first"


def test_an_alarm_can_be_looked_at_and_answered(tmp_path, home):
    shutil.copytree(home / "state", tmp_path / "older")
    asyncio.run(write(home, b"second"))
    shutil.copy(tmp_path / "older" / "consumer.db", home / "state")
    code, out, _ = call(restore, home, "--look", "--json")
    partitions = {one["name"]: one for one in json.loads(out)["partitions"]}
    assert [name for name, one in partitions.items() if one["rolled_back"]] == ["consumer"]
    code, out, _ = call(restore, home, "--look")
    assert "not the newest" in out
    assert (
        call(backup, home, tmp_path / "alarmed.backup")[0] == 0
    )  # a copy of what is there; putting it back would be refused
    code, _, err = call(restore, home, tmp_path / "alarmed.backup", "--replace")
    assert code == 1
    assert "one time" in err
    code, out, _ = call(restore, home, "--keep-as-they-are")
    assert (code, "logs" in out) == (0, True)
    assert asyncio.run(write(home, None)) == b"first"


@pytest.mark.parametrize("words", [(), ("x", "--look"), ("--look", "--keep-as-they-are")])
def test_one_thing_at_a_time(home, words):
    assert call(restore, home, *words)[0] == 2


def test_a_running_gateway_and_a_broken_configuration_are_named(tmp_path, home):
    async def beside():
        card, pin = load_card(home / "module"), (home / "pin").read_bytes()
        async with (
            ModuleSession(lambda: EmulatorTransport(card), lambda: pin) as module,
            await Stores.open(home / "state", module),
        ):
            return await asyncio.to_thread(call, backup, home, tmp_path / "x")

    code, _, err = asyncio.run(beside())
    assert code == 1
    assert "stop the gateway first" in err
    (home / "gateway.toml").write_text("[gateway]\n")
    code, _, err = call(backup, home, tmp_path / "x")
    assert code == 3
    assert "gateway.toml" in err
