"""What `smgw gwa` and `smgw emp` share: options, and a server that runs until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Protocol

import typer

from tools.counterparts.net_journal import JournalError
from tools.counterparts.server import Emit, Listening, emit_jsonl, emit_text, split_address

FolderOption = typer.Option("--dir", help="the party's folder, made by `smgw pki make`")
ListenOption = typer.Option("--listen", metavar="HOST:PORT", help="where to listen; port 0 takes a free one")
JsonlOption = typer.Option("--jsonl", help="one JSON object a line on standard output")


class Party(Protocol):
    """A counterpart that can be started."""

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Listening:
        """Listen."""


class PartyFactory(Protocol):
    """Makes a counterpart of a folder."""

    def __call__(self, folder: Path, emit: Emit) -> Party:
        """Read the folder."""


async def serve(factory: PartyFactory, folder: Path, address: str, *, jsonl: bool) -> None:
    """Run a counterpart until SIGINT or SIGTERM.

    Raises:
        typer.BadParameter: the folder or the address is not usable.
    """
    try:
        host, port = split_address(address)
        party = factory(folder, emit_jsonl if jsonl else emit_text)
    except FileNotFoundError as error:
        raise typer.BadParameter(f"{error.filename} is not there; `smgw pki make` makes it") from error
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        listening = await party.start(host, port)
    except JournalError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        await stop.wait()
    finally:
        await listening.close()
