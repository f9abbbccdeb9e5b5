"""`smgw emp`: a supplier, as a counterpart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from tools.cli.serving import FolderOption, JsonlOption, ListenOption, serve

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def emp(
    directory: Annotated[Path, FolderOption],
    address: Annotated[str, ListenOption] = "127.0.0.1:0",
    jsonl: Annotated[bool, JsonlOption] = False,
) -> None:
    """Take sealed deliveries from gateways, check and open them, and run the DC-nets of DIR/emp.toml."""
    from tools.counterparts.emp import Supplier

    asyncio.run(serve(Supplier, directory, address, jsonl=jsonl))
