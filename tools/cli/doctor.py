"""`smgw doctor`: what to type when nothing works. Looks, says what is wrong, and what to do about it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from lmn.wmbus.kinds import KINDS
from tools.doctor import gateway, machine, ports
from tools.doctor.report import Finding, Severity

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

_MARKS: Final = {
    Severity.OK: ("ok", "green"),
    Severity.NOTE: ("note", "cyan"),
    Severity.WARNING: ("warn", "yellow"),
    Severity.ERROR: ("ERROR", "bold red"),
}


async def examine(
    configuration: Path | None, port: str | None, kind: str, seconds: float
) -> AsyncIterator[Finding]:
    """Look at the machine, then at what was named."""
    for finding in machine.examine():
        yield finding
    if port is not None:
        seen = list(ports.look("port", port))
        for finding in seen:
            yield finding
        if all(finding.severity is not Severity.ERROR for finding in seen):
            for finding in await ports.hear_stick("port", port, kind, None, seconds):
                yield finding
    if configuration is not None:
        async for finding in gateway.examine(configuration, seconds):
            yield finding


def show(finding: Finding, console: Console) -> None:
    """One finding, its hint below it."""
    mark, style = _MARKS[finding.severity]
    console.print(Text.assemble((f"{mark:<5} ", style), (f"{finding.subject}: ", "bold"), finding.text))
    if finding.hint:
        console.print(Text(f"      -> {finding.hint}", "dim"))


@app.command()
def doctor(
    config: Annotated[
        Path | None, typer.Option("-c", "--config", metavar="DIR/gateway.toml", help="a gateway to look at")
    ] = None,
    port: Annotated[
        str | None, typer.Option(help="a stick's port to look at; it is asked for its kind and listened to")
    ] = None,
    kind: Annotated[str, typer.Option(help=f"its kind: auto, {', '.join(KINDS)}")] = "auto",
    seconds: Annotated[float, typer.Option(min=0.1, help="how long to listen to each stick and head")] = 3.0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of lines")] = False,
) -> None:
    """Say why nothing works. Exit code 1 if something cannot work as it is.

    Without options only the machine is looked at, and nothing is opened. Sticks and heads of a configuration
    are opened, as the gateway would, unless it runs and has them. Other devices are never written to.
    """
    if kind not in ("auto", *KINDS):
        raise typer.BadParameter(f"one of auto, {', '.join(KINDS)}", param_hint="--kind")
    console = Console(highlight=False, soft_wrap=True)
    findings: list[Finding] = []

    async def run() -> None:
        with console.status("looking ..."):
            async for finding in examine(config, port, kind, seconds):
                findings.append(finding)
                if not as_json:
                    show(finding, console)

    asyncio.run(run())
    counts = Counter(finding.severity for finding in findings)
    errors = counts[Severity.ERROR]
    if as_json:
        print(json.dumps({"ok": not errors, "findings": [finding.to_json() for finding in findings]}))
    else:
        console.print(f"\n{errors} errors, {counts[Severity.WARNING]} warnings")
        if config is None and port is None:
            console.print("More: -c DIR/gateway.toml looks at a gateway, --port at one stick.")
    raise typer.Exit(1 if errors else 0)
