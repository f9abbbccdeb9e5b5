"""`smgw decommission`: the end of a running gateway's life, asked twice."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from tools.cli.controlled import NotReached, ask

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def decommission(
    configuration: Annotated[Path, typer.Option("-c", "--config", metavar="DIR/gateway.toml")],
    gateway: Annotated[str, typer.Option("--id", help="the gateway's id, typed out")],
    code: Annotated[
        str, typer.Option(help="the code of the first asking; without it nothing happens yet")
    ] = "",
) -> None:
    """Destroy a running gateway's keys and data, for good: the first call only gives a code for the second.

    An administrator does the same by two orders of kind "decommission".
    """
    try:
        said = ask(configuration, op="decommission", role="gwa", gateway=gateway, code=code)["said"]
    except NotReached as error:
        print(f"smgw decommission: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    print(said)
    found = re.search(r"code ([0-9a-f]+)", said)
    if found:
        print(f"smgw decommission -c {configuration} --id {gateway} --code {found[1]}")
