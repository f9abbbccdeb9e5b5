"""`smgw gwa`: the administrator, as a counterpart."""

from __future__ import annotations

import asyncio
import json
import re
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
    outage: Annotated[str | None, typer.Option(help="note an outage in this DC-net, and end")] = None,
    slots: Annotated[str, typer.Option(help="with --outage: FIRST-LAST slot")] = "",
    members: Annotated[str, typer.Option(help="with --outage: indices in the roster, with commas")] = "",
    share: Annotated[float, typer.Option(help="with --outage: part of the others that may be missing")] = 0.0,
    export: Annotated[
        str | None,
        typer.Option(
            "--export-withdrawal", help="write what is withdrawn from this DC-net to --file, and end"
        ),
    ] = None,
    import_: Annotated[
        bool, typer.Option("--import-withdrawal", help="take another administrator's --file, and end")
    ] = False,
    file: Annotated[Path | None, typer.Option(help="with --export-withdrawal, --import-withdrawal")] = None,
    swaps: Annotated[
        bool, typer.Option("--swaps", help="list swaps between nets that suppliers propose, and end")
    ] = False,
    agree_swap: Annotated[
        str | None, typer.Option(metavar="ID", help="agree to a swap between nets, and end")
    ] = None,
    refuse_swap: Annotated[str | None, typer.Option(metavar="ID", help="refuse one, and end")] = None,
    faults: Annotated[
        str | None, typer.Option(help="say whom audits and V-mode of this DC-net have named, and end")
    ] = None,
) -> None:
    """Hand out the signed orders in DIR/spool to gateways that call in, and keep their receipts."""
    if outage is not None:
        _announce(directory, outage, slots, members, share)
        return
    if export is not None or import_:
        from tools.cli.gwa_nets import withdrawal

        withdrawal(directory, export, file)
        return
    if swaps or agree_swap or refuse_swap:
        from tools.cli.gwa_nets import swaps as about_swaps

        about_swaps(directory, agree_swap, refuse_swap, as_json=jsonl)
        return
    if faults is not None:
        _faults(directory, faults, jsonl=jsonl)
        return
    from tools.counterparts.gwa import Administrator

    asyncio.run(serve(Administrator, directory, address, jsonl=jsonl))


def _faults(directory: Path, net: str, *, jsonl: bool) -> None:
    """Say of each gateway what was found, and what follows: probation, a visit, no further roster."""
    from tools.counterparts.kept_files import KeptFiles
    from tools.counterparts.net_blame import COUNTED, standing_of

    if not re.fullmatch(r"[0-9a-f]{16}", net):
        raise typer.BadParameter("--faults is a net's id, 16 hexadecimal digits")
    found = standing_of(KeptFiles(directory / "dcnet"), net)
    for gateway, about in sorted(found.items()):
        if jsonl:
            typer.echo(json.dumps({"gateway": gateway, "net": net} | about, separators=(",", ":")))
            continue
        follows = "excluded" if about["excluded"] else "visit" if about.get("visit") else "probation"
        counts = "  ".join(f"{what}={about[what]}" for what in COUNTED if about.get(what))
        typer.echo(f"{follows:<10} {gateway}  {counts}  slots={about['slots']}")
    if not found and not jsonl:
        typer.echo(f"net {net}: nobody was named")


def _announce(directory: Path, net: str, slots: str, members: str, share: float) -> None:
    """Keep what the operator knows of an outage; a server that runs on DIR signs it when it is asked."""
    from firmware.enforcement.dcnet.messages.reports import MILLION
    from tools.counterparts.net_oversight import Outage
    from tools.counterparts.net_oversight_mount import oversight
    from tools.counterparts.server import emit_text

    form = re.fullmatch(r"([0-9]{1,10})-([0-9]{1,10})", slots)
    if form is None or int(form[1]) > int(form[2]) or not re.fullmatch(r"[0-9a-f]{16}", net):
        raise typer.BadParameter("--outage is 16 hexadecimal digits, --slots FIRST-LAST, e.g. 96-99")
    if not re.fullmatch(r"([0-9]{1,9}(,[0-9]{1,9})*)?", members) or not 0 <= share < 1:
        raise typer.BadParameter("--members is like 4,5,6 and --share in [0, 1)")
    indices = tuple(int(one) for one in members.split(",") if one)
    known = Outage(int(form[1]), int(form[2]), indices, round(share * MILLION))
    oversight(directory, emit_text).announce(net, known)
    typer.echo(f"net {net}: slots {slots}, missing by name: {members or 'nobody'}")
