"""FPT_TST.1: the program's files against the sealed manifest, at each start and in each self-test."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from firmware.clock.clock import AdjustableClock
from firmware.errors import StoreCorrupt
from firmware.life import manifest
from firmware.life.care import Care
from firmware.life.lifecycle import LifeCycle
from firmware.life.manifest import Changes, changes, decode, digest, encode, take
from firmware.life.states import Cause, Function, State
from firmware.log.entry import Event, Outcome
from firmware.log.journal import Logs
from firmware.log.notices import Notices
from firmware.store.stores import Stores
from tests.support.soft_module import SoftModule
from tests.unit.firmware.profile_set import at


@pytest.fixture
def program(tmp_path):
    root = tmp_path / "program"
    shutil.copytree(manifest.ROOT / "firmware" / "log", root / "firmware" / "log")
    return root


def test_every_kind_of_change_is_named_by_file(program):
    before = take(program)
    assert "firmware/log/entry.py" in before
    assert not changes(before, take(program))
    log = program / "firmware" / "log"
    entry = log / "entry.py"
    entry.write_bytes(entry.read_bytes() + b"#")
    (log / "export.py").unlink()
    (log / "native.so").write_bytes(b"\x7fELF")
    (log / "notes.txt").write_text("not executed")
    found = changes(before, take(program))
    assert found == Changes(
        ("firmware/log/entry.py",), ("firmware/log/native.so",), ("firmware/log/export.py",)
    )
    assert str(found) == (
        "changed: firmware/log/entry.py; added: firmware/log/native.so; missing: firmware/log/export.py"
    )
    assert digest(before) != digest(take(program))


def test_one_file_put_in_anothers_place_is_a_change(program):
    before, log = take(program), program / "firmware" / "log"
    (log / "entry.py").rename(log / "x")
    (log / "export.py").rename(log / "entry.py")
    (log / "x").rename(log / "export.py")
    assert changes(before, take(program)).changed == ("firmware/log/entry.py", "firmware/log/export.py")


def test_a_link_in_a_files_place_counts_by_what_it_leads_to(program, tmp_path):
    before, entry = take(program), program / "firmware" / "log" / "entry.py"
    (tmp_path / "elsewhere").write_bytes(entry.read_bytes() + b"import os\n")
    entry.unlink()
    entry.symlink_to(tmp_path / "elsewhere")
    assert changes(before, take(program)).changed == ("firmware/log/entry.py",)
    entry.unlink()
    entry.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match=r"nowhere|entry"):
        take(program)


def test_many_changes_are_counted():
    before = {f"firmware/{number}.py": "a" for number in range(9)}
    assert str(changes(before, {})).endswith("firmware/4.py and 4 more")


@pytest.mark.parametrize("kept", [b"", b"[]", b'{"a": 1}', b"\xff"])
def test_a_manifest_of_another_form_is_damage(kept):
    with pytest.raises(StoreCorrupt, match="manifest"):
        decode(kept)
    assert decode(encode({"b": "2", "a": "1"})) == {"a": "1", "b": "2"}


class World:
    def __init__(self, stores, policy):
        clock = AdjustableClock(at(0))
        logs = Logs(stores, clock)
        self.parts = SimpleNamespace(
            stores=stores,
            logs=logs,
            life=LifeCycle(logs, Notices(stores.system, clock), stores.system),
            config=SimpleNamespace(gateway=SimpleNamespace(program=policy)),
            notices=Notices(stores.system, clock),
        )

    async def start(self, files):
        await Care._compare_program(SimpleNamespace(program=files), self.parts)

    async def told(self):
        system = await self.parts.logs.system.entries()
        calibration = await self.parts.logs.calibration.entries()
        found = [
            [(one.outcome, one.text) for one in log if one.event is Event.FIRMWARE_UPDATE]
            for log in (system, calibration)
        ]
        assert found[0] == found[1]
        return found[0]


OLD, NEW = {"firmware/boot.py": "aa"}, {"firmware/boot.py": "bb"}


async def test_fpt_tst_1_another_program_is_logged_by_file_and_then_known(tmp_path):
    async with await Stores.open(tmp_path, SoftModule()) as stores:
        world = World(stores, "follow")
        for files in (OLD, OLD, NEW, NEW):
            await world.start(files)
        assert await world.told() == [(Outcome.SUCCESS, "changed: firmware/boot.py")]
        assert world.parts.life.state is State.NORMAL


async def test_fpt_tst_1_a_pinned_gateway_runs_no_other_program(tmp_path):
    async with await Stores.open(tmp_path, SoftModule()) as stores:
        await World(stores, "pinned").start(OLD)
        for _ in range(2):  # it does not become the known one by trying again
            world = World(stores, "pinned")
            await world.start(NEW)
            assert world.parts.life.causes.keys() == {Cause.CODE_CHANGED}
            assert not any(world.parts.life.allows(one) for one in Function)
            assert not await world.parts.life.leave(Cause.CODE_CHANGED)  # nor by a self-test that passes
        assert {outcome for outcome, _ in await world.told()} == {Outcome.FAILURE}
        world = World(stores, "pinned")
        await world.start(OLD)  # the known files again
        assert world.parts.life.state is State.NORMAL
        await World(stores, "follow").start(NEW)  # the operator takes the new ones
        world = World(stores, "pinned")
        await world.start(NEW)
        assert world.parts.life.state is State.NORMAL


@pytest.mark.parametrize("policy", ["follow", "pinned"])
async def test_a_store_from_before_there_were_manifests_takes_one_and_says_so(tmp_path, policy):
    async with await Stores.open(tmp_path, SoftModule()) as stores:
        await stores.system.put("program", "sha256", b"5e" * 32)
        world = World(stores, policy)
        await world.start(OLD)
        await world.start(OLD)
        ((outcome, text),) = await world.told()
        assert (outcome, "5e" * 32 in text) == (Outcome.SUCCESS, True)
        (alarm,) = await world.parts.notices.waiting()
        assert (alarm.event, alarm.subject) == (Event.FIRMWARE_UPDATE, "program")
        assert await stores.system.get("program", "sha256") is None
        await world.start(NEW)  # from now on files are compared
        assert (await world.told())[1][1] == "changed: firmware/boot.py"
        assert (world.parts.life.state is State.NORMAL) == (policy == "follow")


async def test_the_first_start_of_a_gateway_announces_nothing(tmp_path):
    async with await Stores.open(tmp_path, SoftModule()) as stores:
        world = World(stores, "follow")
        await world.start(OLD)
        assert await world.told() == []
        assert await world.parts.notices.waiting() == []


def test_gateways_of_one_process_share_the_texts_of_their_manifests(program):
    one, other = take(program), take(program)
    name = "firmware/log/entry.py"
    assert one[name] is other[name]
    assert all(mine is theirs for mine, theirs in zip(one, other, strict=True))
