"""The end of a gateway's life: asked twice, then keys are deleted and stores wiped, for good.

A marker file comes first and stays: a gateway that was killed in between goes on where it stopped, and one
that is done never starts again. The certificates are revoked by the administrator, outside.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from firmware.clock.clock import Clock
from firmware.errors import AccessRefused, Decommissioned
from firmware.store.schema import sync_folder
from hsm.api import KeySlot, SecurityModule
from hsm.errors import CommandRefused, HsmError

_LOG = logging.getLogger("smgw.firmware")
MARKER: Final = "decommissioned"
KEYS_LEFT: Final = "keys-left"
"""Beside the marker while the module could not be reached to delete its keys: the next start tries again."""
CODE_LIFE_S: Final = 3600.0
_CODE_BYTES: Final = 4
_CHUNK: Final = 1 << 20


class Decommissioning:
    """Asks twice.

    Args:
        gateway: id, lower case.
        module: makes the code.
        clock: lets it expire.
        begin: called when it was asked the second time.
    """

    def __init__(
        self, gateway: str, module: SecurityModule, clock: Clock, begin: Callable[[], Awaitable[None]]
    ) -> None:
        self._gateway, self._module, self._clock, self._begin = gateway, module, clock, begin
        self._code, self._until_s = "", 0.0

    async def ask(self, gateway: str, code: str = "") -> str:
        """Return what to say: at first the code that the second asking must bring, within the hour.

        Raises:
            AccessRefused: another gateway's id, or no such code.
            HsmError: the module makes no code.
        """
        if gateway.lower() != self._gateway:
            raise AccessRefused("this is another gateway")
        if not code:
            self._code = (await self._module.random(_CODE_BYTES)).hex()
            self._until_s = self._clock.monotonic() + CODE_LIFE_S
            return f"nothing has happened yet; ask again with code {self._code} within the hour"
        if not self._code or code != self._code or self._clock.monotonic() > self._until_s:
            self._code = ""
            raise AccessRefused("not the code of the first asking, or too late; ask again without one")
        self._code = ""
        await self._begin()
        return "keys and data are being destroyed"


def is_marked(state: Path) -> bool:
    """Whether a gateway's folder says that its life is over."""
    return (state / MARKER).exists()


def is_unfinished(state: Path) -> bool:
    """Whether something but the marker is left."""
    return any(path.name != MARKER for path in state.iterdir())


def require_alive(state: Path) -> None:
    """Raise Decommissioned if a gateway's folder says that its life is over."""
    if is_marked(state):
        raise Decommissioned(
            "this gateway was decommissioned: its keys and data are gone; `smgw init` makes another one"
        )


def mark(state: Path, text: str) -> None:
    """Say so, durably, before anything is destroyed."""
    with (state / MARKER).open("w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(state)


async def delete_keys(module: SecurityModule) -> list[str]:
    """Delete every key pair of the gateway; return the slots that the module keeps all the same.

    A module in operation deletes WAN keys only for an administrator who has proved himself to it; the stores'
    content is unreadable all the same once their files are wiped.

    Raises:
        HsmError: the module could not be reached; it may hold any of them still.
    """
    kept = []
    for slot in KeySlot:
        try:
            await module.delete_key(slot)
        except CommandRefused as refused:
            _LOG.warning("the module keeps %s: %s", slot.name, refused)
            kept.append(slot.name)
    return kept


async def keys_are_gone(module: SecurityModule) -> bool:
    """Delete the keys as `delete_keys`; False: the module could not be reached."""
    try:
        await delete_keys(module)
    except HsmError as fault:
        _LOG.error("the module's keys could not be deleted, the next start tries again: %s", fault)
        return False
    return True


def wipe(state: Path, *, keys_left: bool = False) -> int:
    """Overwrite and remove every file of the stores' folder but the marker; return how many.

    With `keys_left` another marker stays, by which the next start knows that keys are still to be deleted.
    Flash and copy-on-write file systems keep old blocks; what protects then is that the key is gone.
    """
    gone = 0
    stays = {state / MARKER}
    if keys_left:
        stays.add(state / KEYS_LEFT)
        (state / KEYS_LEFT).touch(mode=0o600)
        sync_folder(state)
    for path in sorted(state.rglob("*"), reverse=True):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            path.unlink()
        elif path.is_dir():
            path.rmdir()
        elif path not in stays:
            left = path.stat().st_size
            with path.open("r+b", buffering=0) as file:
                while left > 0:
                    left -= file.write(bytes(min(left, _CHUNK)))
                os.fsync(file.fileno())
            path.unlink()
            gone += 1
    return gone
