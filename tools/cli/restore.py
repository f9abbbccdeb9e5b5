"""`smgw restore`: put a backup back, keep files that an alarm is about, or look at what can be read."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from firmware.config import GatewayConfig
from tools.cli.stores import (
    ConfigOption,
    JsonOption,
    Step,
    configuration,
    module_of,
    shown_progress,
    told_errors,
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def restore(
    config: ConfigOption,
    source: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="a backup")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="stores that are there are replaced, and kept beside")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep-as-they-are", help="no backup: take the files that are there for good")
    ] = False,
    look: Annotated[bool, typer.Option("--look", help="change nothing: say what can be read")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a backup to its last record, then put it in the place of the stores. The gateway must not run.

    The same security module must be there, with its PIN. What was acknowledged after the backup was made is
    lost; every log of the restored stores says so. --keep-as-they-are does the same for files that were put
    back without this command, or that are gone.
    """
    if (source is not None) + keep + look != 1:
        raise typer.BadParameter("one of FILE, --keep-as-they-are and --look")
    with told_errors("restore", as_json=as_json), shown_progress() as progress:
        settings = configuration(config)
        if look:
            answer = asyncio.run(_look(settings, progress))
        elif source is None:
            answer = asyncio.run(_keep(settings))
        else:
            answer = asyncio.run(_restore(settings, source, progress, replace=replace))
    if as_json:
        print(json.dumps({"ok": True, **answer}))
    elif look:
        _print_look(answer)
    elif source is None:
        print("the files are taken as they are; the logs say so")
    else:
        where = f"; what was there lies in {answer['kept']}" if answer["kept"] else ""
        print(f"restored: {answer['rows']} records, each of them checked{where}")


async def _restore(settings: GatewayConfig, source: Path, progress: Step, *, replace: bool) -> dict[str, Any]:
    from firmware.clock.clock import SystemClock
    from firmware.transfer import restore as put_back

    async with module_of(settings) as module:
        done = await put_back(
            settings.gateway.state,
            module,
            SystemClock(),
            settings.gateway.id,
            source,
            progress,
            replace=replace,
        )
    return {"rows": done.rows, "kept": None if done.kept is None else str(done.kept)}


async def _keep(settings: GatewayConfig) -> dict[str, Any]:
    from firmware.clock.clock import SystemClock
    from firmware.transfer import keep_as_they_are

    async with module_of(settings) as module:
        await keep_as_they_are(settings.gateway.state, module, SystemClock())
    return {}


async def _look(settings: GatewayConfig, progress: Step) -> dict[str, Any]:
    from firmware.transfer import look

    async with module_of(settings) as module:
        counter, found = await look(settings.gateway.state, module, progress)
    partitions = [
        {
            "name": one.name,
            "error": one.error or None,
            "epoch": one.epoch,
            "rolled_back": None if counter is None else one.epoch not in (counter, counter + 1),
            "kinds": [
                {"kind": kind.kind, "rows": kind.rows, "faults": list(kind.faults)} for kind in one.kinds
            ],
        }
        for one in found
    ]
    return {"counter": counter, "partitions": partitions}


def _print_look(answer: dict[str, Any]) -> None:
    print(f"counter of the security module: {answer['counter']}")
    for one in answer["partitions"]:
        state = one["error"] or "sound"
        older = ", not the newest" if one["rolled_back"] else ""
        rows = sum(kind["rows"] for kind in one["kinds"])
        print(f"{one['name']:<12} epoch {one['epoch']}{older}: {rows} records can be read; {state}")
        for kind in one["kinds"]:
            for fault in kind["faults"]:
                print(f"{'':<12} {fault}")
