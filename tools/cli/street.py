"""`smgw street`: many complete gateways in one process, in real or accelerated time."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from firmware.errors import FirmwareError
from firmware.log import diagnostics
from hsm.errors import HsmError
from tools.homes.parties import PartyFailed
from tools.street.plan import StreetPlan
from tools.street.resources import StreetTooLarge
from tools.street.run import live, summary

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def street(
    gateways: Annotated[int, typer.Option(min=1, max=5000, help="how many homes")] = 20,
    duration_s: Annotated[
        float, typer.Option("--duration-s", min=1, help="how long the meters send, in the street's time")
    ] = 60.0,
    rate: Annotated[float, typer.Option(min=0.1, max=3600, help="street seconds in a real one")] = 1.0,
    interval_s: Annotated[
        float, typer.Option("--interval-s", min=0.1, max=3600, help="between a meter's telegrams")
    ] = 1.0,
    period_s: Annotated[
        int, typer.Option("--period-s", min=2, max=86_400, help="registration period of each gateway")
    ] = 900,
    folder: Annotated[Path | None, typer.Option("--dir", help="keep everything in this new folder")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output")] = False,
) -> None:
    """Run complete gateways side by side on one event loop: module, stores, stick, administrator, supplier.

    Intervals and periods are in the street's time, which runs at --rate. Exit code 0 if every telegram that
    was heard was accepted, 1 if not, 2 for wrong usage.
    """
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise typer.BadParameter(f"{folder} is not empty; a street needs a fresh folder", param_hint="--dir")
    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smgw-street-")))
        place.mkdir(parents=True, exist_ok=True)
        log = stack.enter_context((place / "gateways.log").open("w", encoding="utf-8"))
        diagnostics.configure("warning", stream=log)
        plan = StreetPlan(place.resolve(), gateways, interval_s, period_s, rate, duration_s)
        result = _run(plan, quiet=as_json)
        logging.getLogger("smgw").handlers.clear()
    if as_json:
        print(json.dumps(result))
    else:
        Console().print(_table(result))
    raise typer.Exit(0 if result["ok"] else 1)


def _run(plan: StreetPlan, *, quiet: bool) -> dict[str, Any]:
    console = Console(stderr=True)
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        step = bar.add_task("starting", total=1.0)
        try:
            return summary(
                asyncio.run(
                    live(plan, lambda text, share: bar.update(step, description=text, completed=share))
                )
            )
        except StreetTooLarge as error:
            raise typer.BadParameter(str(error), param_hint="--gateways") from error
        except (PartyFailed, HsmError, FirmwareError, OSError) as error:
            print(f"smgw street: {error}", file=sys.stderr)
            raise typer.Exit(1) from error


def _table(result: dict[str, Any]) -> Table:
    telegrams = result["telegrams"]
    table = Table(show_header=False, title=f"a street of {result['gateways']} gateways in one process")
    for name, text in (
        ("time", f"{result['street_s']:g} s in {result['real_s']:g} real ones"),
        ("telegrams", f"{telegrams['sent']} heard, {telegrams['accepted']} accepted, {telegrams['per_s']}/s"),
        ("registered", f"{result['registered']} values, {result['missing']} of them missing in the air"),
        ("delivered", f"{result['delivered']} sealed messages opened and verified by the supplier"),
        ("processor", f"{100 * result['processor']:.0f} % of one core"),
        ("event loop", f"at most {result['loop_late_ms']} ms late"),
        ("memory", f"{result['memory_mb']} MB, {result['memory_mb_per_gateway']} MB a gateway"),
        ("open files", f"{result['files_per_gateway']} a gateway"),
    ):
        table.add_row(name, text)
    return table
