"""`smgw backup`: the sealed stores of a gateway as one file, for another memory card or another day."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tools.cli.stores import ConfigOption, JsonOption, configuration, shown_progress, told_errors

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="is made; never overwrites")],
    config: ConfigOption,
    as_json: JsonOption = False,
) -> None:
    """Write the three partitions, sealed as they are, into one file. The gateway must not run meanwhile.

    Needs neither PIN nor security module; the file is of use only with that module. Its keys are not in it.
    """
    from firmware.transfer import backup as make  # imported late: `--help` needs no store

    with told_errors("backup", as_json=as_json), shown_progress() as progress:
        settings = configuration(config)
        manifest = make(settings.gateway.state, settings.gateway.id, target, progress)
    size = sum(member.size_bytes for member in manifest.partitions.values())
    if as_json:
        print(json.dumps({"ok": True, "file": str(target), "gateway": manifest.gateway, "bytes": size}))
    else:
        print(f"{target}: the stores of {manifest.gateway}, {size} bytes")
