"""The security modules of a demo run: emulated cards, one of them behind pcscd, and a Java Card applet."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from hsm.emulator import Card, load_card
from hsm.emulator.card import PowerEvent
from hsm.emulator.vpcd import shown
from hsm.errors import HsmError, ModuleFailed, ModuleUnavailable
from hsm.pcsc import check_installed, list_readers
from tools.counterparts.applet_card import AppletBroken, AppletCard, AppletUnavailable, ensure_built
from tools.counterparts.pcscd import SOCKET_VARIABLE, Pcscd, PcscdMissing, find_pcscd

READER: Final = "smgw 00 00"
_READY_S: Final = 10.0
_POLL_S: Final = 0.02


class Kind(StrEnum):
    """Where the module of a home is."""

    EMULATOR = "emulator"
    PCSC = "pcsc"
    APPLET = "applet"


def missing(kind: Kind) -> str | None:
    """Say what is not there for a run with `kind`; None if all is."""
    if kind is Kind.PCSC:
        try:
            find_pcscd()
            check_installed()
        except (PcscdMissing, HsmError) as error:
            return f"{error} (./smgw demo --hsm pcsc sets it up in this folder)"
    if kind is Kind.APPLET and shutil.which("java") is None:
        return "there is no Java here (./smgw test installs a JDK and Maven where it may)"
    return None


@dataclass(slots=True)
class Counted:
    """An emulated card that counts the commands it gets."""

    card: Card
    commands: int = 0

    @property
    def atr(self) -> bytes:
        """Answer to reset."""
        return self.card.atr

    def power(self, event: PowerEvent) -> None:
        """Power on, off or reset."""
        self.card.power(event)

    def apdu(self, raw: bytes) -> bytes:
        """Answer a command."""
        self.commands += 1
        return self.card.apdu(raw)


@dataclass(slots=True)
class Cards:
    """Puts the modules where a run wants them; what it starts ends with `stack`."""

    kind: Kind
    stack: AsyncExitStack
    through_pcscd: Counted | None = None
    """The card that only pcscd reaches."""
    lacks: str = ""
    """Why there is no applet beside the card behind pcscd."""
    places: dict[int, str] = field(default_factory=dict)
    """Number of a home -> how its gateway reaches the module, where it is not the emulator."""

    async def place(self, number: int, folder: Path) -> str:
        """Make the module of home `number` reachable; the gateway's `module.transport`.

        The first home gets what was asked for, with pcscd the second one the applet if there is one here; the
        others have their emulated cards.

        Raises:
            HsmError: pcscd or the applet does not start.
        """
        if number == 1 and self.kind is Kind.PCSC:
            self.places[number] = await self._behind_pcscd(folder)
        elif number == 1 and self.kind is Kind.APPLET:
            self.places[number] = await self._applet(folder)
        elif number == 2 and self.kind is Kind.PCSC:
            try:
                self.places[number] = await self._applet(folder)
            except ModuleUnavailable as error:
                self.lacks = str(error)
        return self.places.get(number, "emulator")

    async def _behind_pcscd(self, folder: Path) -> str:
        self.through_pcscd = card = Counted(load_card(folder / "module"))
        port = await self.stack.enter_async_context(shown(card))
        # The path of a Unix socket is short; a demo's folder may be anywhere.
        place = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="smgw-"))
        daemon = Pcscd(Path(place), f"127.0.0.1:{port}")
        os.environ[SOCKET_VARIABLE] = str(daemon.socket)
        # In a thread: while it ends it still talks to the card, which lives on this loop.
        self.stack.push_async_callback(asyncio.to_thread, daemon.stop)
        await asyncio.to_thread(daemon.start)
        await _ready()
        return f"pcsc:{READER}"

    async def _applet(self, folder: Path) -> str:
        try:
            build = await asyncio.to_thread(ensure_built)
            pin = (folder / "pin").read_bytes().strip()
            card = AppletCard(build, folder / "applet", pin=pin)
            await asyncio.to_thread(card.start)
        except AppletUnavailable as error:
            raise ModuleUnavailable(f"no Java Card applet here: {error}") from error
        except AppletBroken as error:
            raise ModuleFailed(f"the Java Card applet does not work: {error}") from error
        self.stack.push_async_callback(asyncio.to_thread, card.stop)
        return f"tcp:127.0.0.1:{card.port}"


async def _ready() -> None:
    """Wait until pcscd has seen the card."""
    seen = "no reader"
    try:
        async with asyncio.timeout(_READY_S):
            while True:
                try:
                    readers = await list_readers()
                except HsmError as error:
                    seen = str(error)
                else:
                    if any(reader.name == READER and reader.atr for reader in readers):
                        return
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise ModuleUnavailable(f"pcscd does not show the card: {seen}") from None
