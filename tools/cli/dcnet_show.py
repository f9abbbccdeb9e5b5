"""`smgw dcnet show`: the nets of a running gateway, asked through its control socket."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from firmware.enforcement.roles import Role
from tools.cli.consumer_code import CodeOption, code_of
from tools.cli.controlled import NotReached, ask


def show(
    configuration: Annotated[Path, typer.Option("-c", "--config", metavar="DIR/gateway.toml")],
    role: Annotated[Role, typer.Option(help="as whom; the gateway's role table decides")] = Role.SERVICE_TECH,
    consumer: Annotated[str, typer.Option(help="as which consumer; shows what is owed, too")] = "",
    code_file: CodeOption = None,
    net: Annotated[str, typer.Option(metavar="HEX", help="this net alone")] = "",
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="draw the key graph")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on one line")] = False,
) -> None:
    """Show the nets of a running gateway: keys, who is absent, anonymity sets, slots.

    Exit code 1 if the gateway does not answer or refuses.
    """
    from tools.dcnet.drawing import draw
    from tools.dcnet.terminal import view

    asker = Role.CONSUMER if consumer else role
    try:
        shown = {"consumer_code": code_of(code_file, consumer)} if consumer else {}
        found = ask(configuration, op="dcnet", role=asker.value, name=consumer, **shown)["nets"]
        found = [one for one in found if not net or one["net"] == net.lower()]
        if net and not found:
            raise NotReached(f"no net {net} for this role; without --net all that it may see are shown")
        if svg is not None:
            svg.write_text(draw(found), encoding="utf-8")
    except (NotReached, OSError) as error:
        print(f"smgw dcnet: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(json.dumps({"nets": found}))
        return
    console = Console()
    for one in found:
        console.print(view(one), highlight=False, soft_wrap=True)
    if not found:
        console.print(
            "this gateway is in no net" if asker is not Role.CONSUMER else "no net of this consumer"
        )
    if svg is not None:
        console.print(f"drawn: {svg}", highlight=False, markup=False)
