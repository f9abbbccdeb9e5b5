"""What a whole gateway does when its stores are damaged, older than its module says, or without a module."""

from __future__ import annotations

import shutil
import sqlite3

import pytest

from firmware.boot import open_gateway
from firmware.clock.clock import SystemClock
from firmware.config import load
from firmware.errors import StoreCorrupt, StoreRolledBack, StoreUnavailable
from firmware.log.entry import Event
from firmware.log.journal import Logs
from firmware.store.exchange import PARTITIONS
from firmware.store.stores import Stores
from hsm.emulator import load_card
from hsm.emulator.transport import EmulatorTransport
from hsm.errors import HsmError
from hsm.session import ModuleSession
from tools.cli.init import make_folder


@pytest.fixture
async def home(tmp_path):
    make_folder(tmp_path / "home", gateway_id="ESGW0100000001")
    async with open_gateway(load(tmp_path / "home" / "gateway.toml")) as gateway:
        for partition in gateway._parts.stores.partitions:
            await partition.put("a", "b", b"c")
            await partition.put("a", "d", b"e")
    return tmp_path / "home"


def opened(home):
    return open_gateway(load(home / "gateway.toml"))


def damage(home, name):
    """Change a row that nothing needs at the start: the tally alone tells."""
    with sqlite3.connect(home / "state" / f"{name}.db") as db:
        db.execute("UPDATE item SET sealed = zeroblob(60) WHERE id = (SELECT max(id) FROM item)")
    db.close()


@pytest.mark.parametrize("name", PARTITIONS)
async def test_a_damaged_partition_is_logged_and_the_gateway_does_not_start(home, name):
    damage(home, name)
    for _ in range(2):
        with pytest.raises(StoreCorrupt):
            async with opened(home):
                pass
    config, pin = load(home / "gateway.toml"), (home / "pin").read_bytes()
    card = load_card(home / "module")
    async with (
        ModuleSession(lambda: EmulatorTransport(card), lambda: pin) as module,
        await Stores.open(config.gateway.state, module) as stores,
    ):
        told = [
            one
            for one in await Logs(stores, SystemClock()).system.entries()
            if one.event is Event.STORE_CORRUPT
        ]
        assert [(one.subject, one.sub_event) for one in told] == [("stores", "StoreCorrupt")] * 2
        assert await stores.consumer.get("a", "b") == b"c"  # what is readable is read


async def test_older_files_stop_the_gateway_before_anything_is_served(home, tmp_path):
    shutil.copytree(home / "state", tmp_path / "older")
    async with opened(home):
        pass
    shutil.copy(tmp_path / "older" / "consumer.db", home / "state")
    with pytest.raises(StoreRolledBack):
        async with opened(home):
            pass


async def test_an_absent_module_changes_nothing_and_the_next_start_goes_on(home):
    (home / "module").rename(home / "away")
    with pytest.raises(HsmError):
        async with opened(home):
            pass
    (home / "away").rename(home / "module")
    async with opened(home) as gateway:
        assert await gateway._parts.stores.consumer.get("a", "b") == b"c"
        with pytest.raises(StoreUnavailable):  # a second gateway on the same folder
            async with opened(home):
                pass
        assert any(service.name == "firmware.housekeeping" for service in gateway.services)
