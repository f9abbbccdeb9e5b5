"""`smgw gwa`: the administrator, as a counterpart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from tools.cli.serving import FolderOption, JsonlOption, ListenOption, serve

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def gwa(
    directory: Annotated[Path, FolderOption],
    address: Annotated[str, ListenOption] = "127.0.0.1:0",
    jsonl: Annotated[bool, JsonlOption] = False,
) -> None:
    """Hand out the signed orders in DIR/spool to gateways that call in, and keep their receipts."""
    from tools.counterparts.gwa import Administrator

    asyncio.run(serve(Administrator, directory, address, jsonl=jsonl))
