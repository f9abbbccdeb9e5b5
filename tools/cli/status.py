"""`smgw status`: what a running gateway does, asked through its control socket."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tools.cli.controlled import NotReached, ask

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_COLOURS = {"normal": "green", "measurement": "yellow", "starting": "yellow"}


@app.command()
def status(
    configuration: Annotated[Path, typer.Option("-c", "--config", metavar="DIR/gateway.toml")],
    self_test: Annotated[bool, typer.Option("--self-test", help="test everything now, then show")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output")] = False,
) -> None:
    """Show state and causes, time, profiles, telegrams, lines, logs and self-test of a running gateway.

    Exit code 0 in the normal state, 1 if it is in another one or does not answer.
    """
    try:
        if self_test:
            ask(configuration, op="self-test")
        found = ask(configuration, op="status")["status"]
    except NotReached as error:
        print(f"smgw status: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(json.dumps(found))
    else:
        _show(found, Console())
    raise typer.Exit(0 if found["state"] == "normal" else 1)


def _lines(lines: list[dict[str, Any]]) -> Table:
    table = Table("line", "mode", "last byte", "frames", "wrong sums", "doubled", "restarts")
    for one in lines:
        last = "never" if one["last_byte_s"] is None else f"{one['last_byte_s']} s ago"
        table.add_row(
            Text(f"{one['what']} {one['port']}"),
            Text(one["mode"] or one["kind"]),
            last if one["open"] else f"[red]not open[/], {last}",
            str(one["frames"]),
            str(one["crc_failures"]),
            "-" if one["duplicates"] is None else str(one["duplicates"]),
            str(one["restarts"]),
        )
    return table


def _profiles(profiles: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    names = ", ".join((*profiles["processing"], *profiles["communication"])) or "none"
    proxies = ", ".join(f"{one['id']} ({one['state']})" for one in profiles.get("proxy", ())) or "none"
    return ("profiles", f"version {profiles['version']}: {names}"), ("proxies", proxies)


def _show(found: dict[str, Any], console: Console) -> None:
    state = found["state"]
    console.print(f"gateway   {found['gateway']}", highlight=False)
    console.print(f"state     [{_COLOURS.get(state, 'red')}]{state}[/]", highlight=False)
    for cause in found["causes"]:
        text = cause["text"] + (f" ({cause['detail']})" if cause.get("detail") else "")
        console.print(f"          {text}", markup=False, highlight=False)
        if cause.get("ends_by"):
            console.print(f"          ends by: {cause['ends_by']}", markup=False, highlight=False)
    if "time" not in found:
        return
    clock, profiles, telegrams = found["time"], found["profiles"], found["telegrams"]
    waiting = found["undelivered"]
    rejected = ", ".join(f"{count} {code}" for code, count in telegrams["rejected"].items()) or "none"
    error = "unknown" if clock["error_s"] is None else f"{clock['error_s']} s"
    for name, text in (
        ("runs", ", ".join(found["runs"]) or "nothing"),
        ("time", f"{clock['now_utc']}, {clock['state']}, error at most {error} of {clock['limit_s']} s"),
        ("program", found["program_sha256"][:16] + "..."),
        ("module", f"{found['module']['sessions']} sessions, {found['module']['apdus']} APDUs"),
        *_profiles(profiles),
        ("telegrams", f"{telegrams['accepted']} accepted, rejected: {rejected}"),
        ("copies", f"{telegrams['duplicates']} telegrams that repeaters brought again"),
        ("sent", f"{found['counts']['released']} data sets, {found['counts']['denied']} denied"),
        ("waiting", f"{waiting['overdue']} data sets overdue, {waiting['stranded']} without a recipient"),
        ("alarms", f"{found['alarms_waiting']} wait for the administrator"),
    ):
        console.print(f"{name:<9} {text}", markup=False, highlight=False)
    if found["lines"]:
        console.print(_lines(found["lines"]))
    logs = Table("log", "oldest", "newest")
    for name, span in found["logs"].items():
        if isinstance(span, dict):
            logs.add_row(name, str(span["oldest"]), str(span["newest"]))
    console.print(logs)
    if not found["logs"]["sealing"]:
        console.print("the logs are chained, not sealed: the module has no SIG key yet")
    checks = Table("self-test", "", "")
    for check in found["self_test"]:
        checks.add_row(check["name"], "[green]ok[/]" if check["ok"] else "[red]failed[/]", check["detail"])
    console.print(checks)
