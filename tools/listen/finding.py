"""Which receiver is there: the one that was named, or the ones below /dev/serial/by-id that may be asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from lmn.errors import PortClosed
from lmn.serial_port import usb_devices
from lmn.wmbus.driver import probe, recognise
from lmn.wmbus.kinds import KINDS, Kind, Line, candidates

BY_ID: Final = Path("/dev/serial/by-id")
UsbNumbers = tuple[int, int]


class NoReceiver(Exception):
    """No receiver was found; the text says what was tried."""


def serial_devices(folder: Path = BY_ID) -> dict[str, UsbNumbers | None]:
    """List stable names of serial devices with their USB vendor and product; nothing is opened."""
    usb = {each.device: (each.vendor, each.product) for each in usb_devices()}
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return {entry.name: usb.get(str(entry.resolve())) for entry in entries}


async def find(
    port: str | None,
    kind: str | None,
    *,
    folder: Path = BY_ID,
    ask: Callable[[str], Awaitable[Kind | None]] = probe,
    listed: Callable[[Path], Mapping[str, UsbNumbers | None]] = serial_devices,
) -> tuple[str, Kind]:
    """Return port and kind. A named port is asked only if its kind is not; others as `candidates` says.

    Raises:
        NoReceiver: nothing is there, or what is there answers to no kind.
    """
    if port is not None:
        if kind is not None:
            return port, KINDS[kind]
        try:
            found = await recognise(port)
        except PortClosed as error:
            raise NoReceiver(f"{error}; `smgw doctor --port {port}` looks closer") from error
        if found is None:
            raise NoReceiver(
                f"{port} answers to no kind of stick; name it with --kind, or see docs/meters.md"
            )
        return port, found
    if kind is not None and KINDS[kind].line is not Line.SERIAL:
        raise NoReceiver(f"{kind} needs --port")
    devices = listed(folder)
    allowed = candidates(devices)
    busy: list[str] = []
    for name in allowed:
        path = str(folder / name)
        try:
            found = KINDS[kind] if kind is not None and len(allowed) == 1 else await ask(path)
        except PortClosed as error:
            busy.append(str(error))
            continue
        if found is not None and kind in (None, found.name):
            return path, found
    tried = [f"{len(allowed)} asked", *busy]
    if alone := sorted(set(devices) - set(allowed)):
        tried.append(f"left alone by name or USB number: {', '.join(alone)}")
    raise NoReceiver(f"no stick below {folder} ({'; '.join(tried)}); name it with --port")
