"""Which receiver is there: the one that was named, or the ones below /dev/serial/by-id that may be asked."""

from __future__ import annotations

import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from lmn.wmbus.driver import probe
from lmn.wmbus.kinds import KINDS, Kind, Line, candidates

BY_ID: Final = Path("/dev/serial/by-id")


class NoReceiver(Exception):
    """No receiver was found; the text says what was tried."""


async def find(
    port: str | None,
    kind: str | None,
    *,
    folder: Path = BY_ID,
    ask: Callable[[str], Awaitable[Kind | None]] = probe,
) -> tuple[str, Kind]:
    """Return port and kind. A port that is named is asked only if its kind is not; others by their names.

    Raises:
        NoReceiver: nothing is there, or what is there answers to no kind.
    """
    if port is not None:
        if kind is not None:
            return port, KINDS[kind]
        found = await _kind_of(port, ask)
        if found is None:
            raise NoReceiver(
                f"{port} answers to no kind of stick; name it with --kind, or see docs/meters.md"
            )
        return port, found
    if kind is not None and KINDS[kind].line is not Line.SERIAL:
        raise NoReceiver(f"{kind} needs --port")
    names = _names(folder)
    allowed = candidates(names)
    for name in allowed:
        path = str(folder / name)
        found = KINDS[kind] if kind is not None and len(allowed) == 1 else await ask(path)
        if found is not None and kind in (None, found.name):
            return path, found
    left = f"; left alone by their names: {', '.join(sorted(set(names) - set(allowed)))}" if names else ""
    raise NoReceiver(f"no stick below {folder} ({len(allowed)} asked{left}); name it with --port")


async def _kind_of(port: str, ask: Callable[[str], Awaitable[Kind | None]]) -> Kind | None:
    if "://" not in port:
        mode = _mode(port)
        if stat.S_ISFIFO(mode):
            return KINDS["rtl_wmbus"]
        if stat.S_ISREG(mode):
            return KINDS["replay"]
    return await ask(port)


def _names(folder: Path) -> tuple[str, ...]:
    return tuple(entry.name for entry in folder.iterdir()) if folder.is_dir() else ()


def _mode(port: str) -> int:
    try:
        return Path(port).stat().st_mode
    except OSError as error:
        raise NoReceiver(f"{port}: {error.strerror}") from error
