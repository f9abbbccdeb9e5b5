"""Administrator and supplier as processes of their own, watched by what they print."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

START_TIMEOUT_S: Final = 15.0
STOP_TIMEOUT_S: Final = 5.0
Event = dict[str, Any]


class PartyFailed(Exception):
    """A counterpart ended, or did not say in time what was waited for."""


class Party:
    """`smgw <word> --dir FOLDER --jsonl` as a child process; collects its events."""

    def __init__(self, word: str, folder: Path) -> None:
        self.word, self.events = word, list[Event]()
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()
        self._log = folder / f"{word}.log"

    async def __aenter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tools.cli", self.word, "--dir", str(self._folder), "--jsonl",
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self._reader = asyncio.create_task(self._read(), name=f"party.{self.word}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._reader is not None
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader

    async def port(self) -> int:
        """Wait until it listens; return where."""
        return int(
            (await self.wait_for(lambda event: event["event"] == "listening", START_TIMEOUT_S))["port"]
        )

    async def wait_for(self, wanted: Callable[[Event], bool], timeout_s: float) -> Event:
        """Return the first event that is wanted, also one that came before.

        Raises:
            PartyFailed: it did not come in time, or the process ended.
        """
        seen = 0
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._heard.clear()
                    for event in self.events[seen:]:
                        if wanted(event):
                            return event
                    seen = len(self.events)
                    if self._reader is not None and self._reader.done():
                        raise PartyFailed(f"{self.word} ended: {self._last_words()}")
                    await self._heard.wait()
        except TimeoutError:
            raise PartyFailed(f"{self.word} did not do in {timeout_s:g} s what was expected") from None

    def of(self, kind: str) -> list[Event]:
        """Return all events of a kind so far."""
        return [event for event in self.events if event["event"] == kind]

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.events.append(json.loads(line))
            self._heard.set()
        self._heard.set()

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "no message"
