"""`smgw demo`: the whole road once, on one machine, without root, network or hardware."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from firmware.errors import FirmwareError
from firmware.log import diagnostics
from hsm.errors import HsmError
from tools.cli.demo_district import show as show_district
from tools.dcnet.record import BadRecord
from tools.demo.district.plan import LEAST_SLOTS, DistrictPlan
from tools.demo.district.plan import MIN_GATEWAYS as DISTRICT
from tools.demo.district.report import Report as DistrictReport
from tools.demo.district.run import run as run_district
from tools.demo.plan import MIN_GATEWAYS, SHORTEST_SLOT_S, Plan
from tools.demo.report import Report, judge
from tools.demo.scenario import play
from tools.homes.cards import Kind, missing
from tools.homes.parties import PartyFailed

_T = TypeVar("_T")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def demo(
    gateways: Annotated[int, typer.Option(min=1, max=32, help="how many homes, at least 4")] = 5,
    slots: Annotated[int, typer.Option(min=1, max=1000, help="how many slots are summed")] = 3,
    slot_s: Annotated[
        int | None,
        typer.Option(
            min=SHORTEST_SLOT_S, max=900, help="length of a slot in seconds; default: as fast as we can"
        ),
    ] = None,
    hsm: Annotated[
        Kind, typer.Option(help="where the first home's security module is; the others are emulated")
    ] = Kind.EMULATOR,
    folder: Annotated[Path | None, typer.Option("--dir", help="keep everything in this new folder")] = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="DIR", help="write what left the gateways, for `smgw dcnet leak`"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output")] = False,
) -> None:
    """Drive the whole road: meters, gateways with their security modules, administrator, supplier, DC-net.

    From 16 gateways on it is a district: two administrators, two suppliers, three nets, a street on plain
    TAF 7 that is taken into them, and what each party could and could not learn.

    Exit code 0 only if every check held, 1 if one did not, 2 for wrong usage.
    """
    if gateways < MIN_GATEWAYS:
        raise typer.BadParameter(
            f"a net needs at least {MIN_GATEWAYS} gateways to survive a drop-out", param_hint="--gateways"
        )
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise typer.BadParameter(
            f"{folder} is not empty; each run starts in a fresh folder", param_hint="--dir"
        )
    if (lack := missing(hsm)) is not None:
        raise typer.BadParameter(lack, param_hint="--hsm")
    district = gateways >= DISTRICT
    if district and (hsm is not Kind.EMULATOR or slots < LEAST_SLOTS):
        raise typer.BadParameter(
            f"a district ({DISTRICT} gateways on) has emulated modules and at least {LEAST_SLOTS} slots",
            param_hint="--hsm" if hsm is not Kind.EMULATOR else "--slots",
        )
    if record is not None and not district:
        raise typer.BadParameter(f"a record is made from {DISTRICT} gateways on", param_hint="--record")
    with ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smgw-demo-")))
        place.mkdir(parents=True, exist_ok=True)
        log = stack.enter_context((place / "gateways.log").open("w", encoding="utf-8"))
        diagnostics.configure("info", stream=log)
        report: Report | DistrictReport
        if district:
            plan = DistrictPlan(place.resolve(), gateways, slots, slot_s or 0)
            report = _run(lambda progress: run_district(plan, record, progress), quiet=as_json)
        else:
            road = Plan(place.resolve(), gateways, slots, slot_s or 0, hsm)
            report = judge(_run(lambda progress: play(road, progress), quiet=as_json))
        logging.getLogger("smgw").handlers.clear()
    if as_json:
        print(json.dumps(report.to_dict()))
    elif isinstance(report, DistrictReport):
        show_district(report, Console())
    else:
        _show(report, Console())
    raise typer.Exit(0 if report.ok else 1)


def _run(playing: Callable[[Callable[[str], None]], Coroutine[Any, Any, _T]], *, quiet: bool) -> _T:
    """Play with progress on standard error."""
    console = Console(stderr=True)
    began = time.monotonic()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        step = bar.add_task("starting")

        def progress(text: str) -> None:
            bar.update(step, description=text)
            if not quiet:
                console.print(f"[dim]{time.monotonic() - began:5.1f} s[/]  {text}", soft_wrap=True)

        try:
            return asyncio.run(playing(progress))
        except (PartyFailed, BadRecord, HsmError, FirmwareError, OSError) as error:
            print(f"smgw demo: {error}", file=sys.stderr)
            raise typer.Exit(1) from error


def _show(report: Report, console: Console) -> None:
    result = report.to_dict()
    telegrams, pace, tls = result["telegrams"], result["pace"], result["tls"]
    console.print()
    console.print(
        f"[bold]{result['gateways']} gateways[/], each the real firmware with its own security module"
    )
    for name, way in report.modules.items():
        console.print(f"  the module of {name} is reached by way of {way}", markup=False)
    console.print(f"  PACE sessions {pace['sessions']}, APDUs {pace['apdus']}")
    console.print(
        f"  {tls['version']}, {tls['group']}, {tls['suite']}; client key and ephemeral key in the module",
        soft_wrap=True,
    )
    console.print(
        f"  telegrams: {telegrams['sent']} sent, {telegrams['accepted']} accepted, "
        f"{telegrams['rejected']} rejected"
    )
    console.print()
    table = Table(
        "slot", "in the sum", "left out", "true sum", "what the supplier opened", title="group total"
    )
    for slot in report.slots:
        table.add_row(
            str(slot.slot),
            str(len(slot.members)),
            ", ".join(slot.left_out) or "nobody",
            f"{slot.true_sum_wh} Wh",
            f"[{'green' if slot.right else 'red'}]{slot.opened_sum_wh} Wh[/]",
        )
    console.print(table)
    if report.share is not None:
        share = report.share
        console.print(
            f"  what the supplier got of {share.gateway} in slot {share.slot}: [yellow]{share.masked}[/]"
        )
        console.print(f"  the reading that it hides:                        [green]{share.reading_wh} Wh[/]")
    console.print()
    bills = Table("home", "register at the end of the period", title="billing: what the supplier may see")
    for bill in report.bills:
        for entry in bill["document"]["entries"]:
            bills.add_row(bill["gateway"], f"{entry['value']} {entry['unit']}")
    console.print(bills)
    console.print()
    for name, held in report.checks.items():
        console.print(f"  [{'green' if held else 'red'}]{'ok  ' if held else 'FAIL'}[/] {name}")
    console.print()
    console.print("[bold green]every check held[/]" if report.ok else "[bold red]a check did not hold[/]")
