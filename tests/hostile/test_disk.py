"""A whole gateway whose disk is full, worn out or damaged: a state, a log entry, and back without a hand."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from firmware.errors import StoreCorrupt
from firmware.life.states import Cause, State
from firmware.log.entry import Event, Outcome
from firmware.store.operations import Append
from tests.support.read_only import ReadOnly, by_modes, by_mount
from tests.support.whole_gateway import Life, Site, eventually, line_with

pytestmark = pytest.mark.timeout(180)


@contextmanager
def disk(folder: Path, size_mb: int) -> Iterator[bool]:
    """Mount a small file system on `folder`; yields whether that could be done (it takes root)."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


@asynccontextmanager
async def on_disk(tmp_path: Path, size_mb: int) -> AsyncIterator[tuple[Site, bool]]:
    """A site whose state lies on a small disk of its own, where that can be had."""
    site = Site(tmp_path / "gateway")
    text = site.configuration.read_text(encoding="utf-8")
    site.configuration.write_text(text + "\n[memory]\ncritical_bytes = 1000000\n", encoding="utf-8")
    with disk(site.folder / "state", size_mb) as real:
        async with site.stick:
            yield site, real


@contextmanager
def full(folder: Path, *, real: bool) -> Iterator[None]:
    """Take every byte that is left; without a disk of its own no file of this process may grow."""
    filler, unlimited = folder / "filler", resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if not real:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1, unlimited[1]))
        else:
            with filler.open("wb") as file:
                for size in (1 << 16, 1 << 12, 1):
                    with suppress(OSError):
                        while True:
                            os.write(file.fileno(), bytes(size))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        filler.unlink(missing_ok=True)


async def state_of(life: Life, wanted: State) -> Any:
    health = next(one for one in life.gateway.services if one.name == "firmware.life.health")

    async def look() -> bool:
        await health.look()  # type: ignore[attr-defined]
        return bool(life.gateway._parts.life.state is wanted)

    await eventually(look, f"state {wanted.name}")
    return life.gateway._parts.life.causes


async def test_fpt_fls_1_a_disk_without_a_byte_is_a_state_and_ends_by_itself(tmp_path: Path) -> None:
    async with on_disk(tmp_path, 12) as (site, real):
        async with site.running() as life:
            await life.entry(Event.SELF_TEST)
            await site.send()
            await life.accepted(1)
            with full(site.folder / "state", real=real):
                causes = await state_of(life, State.APPLICATION)
                assert causes.keys() & {Cause.MEMORY_CRITICAL, Cause.STORE_UNAVAILABLE}
                await asyncio.sleep(0.3)
                assert not life.serving.done()
            assert not await state_of(life, State.NORMAL)
            found = [
                entry.outcome
                for entry in await life.system.entries()
                if entry.event in (Event.MEMORY_CRITICAL, Event.STORE_UNAVAILABLE)
            ]
            assert {Outcome.FAILURE, Outcome.SUCCESS} <= set(found)
            await site.hears_again(life)
        assert (await site.log())[-1].event is Event.STOP


@pytest.mark.parametrize("how", [by_modes, by_mount])
async def test_fpt_fls_1_a_disk_that_turned_read_only_is_named_and_a_writable_one_goes_on(
    tmp_path: Path, how: ReadOnly
) -> None:
    """As a worn-out card does. The process ends with a clear word, which its supervisor starts again."""
    site = Site(tmp_path / "gateway")
    folder = site.folder / "state"
    async with site.stick:
        async with site.running() as life:
            await site.send()
            await life.accepted(1)
            kept = (await life._parts.stores.consumer.span("reading"))[1]
        before = {path.name: path.read_bytes() for path in folder.glob("*.db")}
        with how(folder) as within:
            for _ in range(2):
                async with site.process(*within) as process:
                    await line_with(process, b"StoreUnavailable")
                    assert await asyncio.wait_for(process.wait(), 30) == 1
        assert {path.name: path.read_bytes() for path in folder.glob("*.db")} == before
        async with site.running() as life:
            await life.entry(Event.SELF_TEST)
            assert (await life._parts.stores.consumer.span("reading"))[1] == kept
            assert life.gateway._parts.life.state is State.NORMAL
            await site.hears_again(life)


async def test_fpt_fls_1_a_page_damaged_under_a_running_gateway_is_a_state(tmp_path: Path) -> None:
    """A backup is a human's matter; until then nothing is measured on damaged ground, and the logs say so."""
    site = Site(tmp_path / "gateway")
    async with site.stick, site.running() as life:
        await life.entry(Event.SELF_TEST)
        await site.send()
        await life.accepted(1)
        stores = life._parts.stores
        big = [Append("filler", bytes(900)) for _ in range(2000)]  # more than the page cache holds
        await stores.consumer.commit(big)
        await stores.consumer._run(stores.consumer._file._truncate_log)
        file = site.folder / "state" / "consumer.db"
        size = file.stat().st_size
        with file.open("r+b") as raw:
            for page in range(4, size // 4096 - 4):
                raw.seek(4096 * page)
                raw.write(os.urandom(64))
        test = next(one for one in life.gateway.services if one.name == "firmware.life.selftest")
        await test.test()  # type: ignore[attr-defined]
        causes = life.gateway._parts.life.causes
        assert Cause.STORE_CORRUPT in causes
        assert life.gateway._parts.life.state is State.APPLICATION
        assert not life.serving.done()
        entry = await life.entry(Event.STORE_CORRUPT)
        assert "consumer" in entry.text
        told = [one.event for one in await life._parts.logs.calibration.entries()]
        assert Event.STORE_CORRUPT in told
        with pytest.raises(StoreCorrupt):
            await stores.consumer.append("filler", b"x")
    async with site.process() as process:  # and it does not start on it either
        await line_with(process, b"StoreCorrupt")
        assert await asyncio.wait_for(process.wait(), 30) == 1
