"""`smgw aggregate`: the sums a supplier may know, opened from what was sent to it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from tools.aggregate.slots import Slot

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_BAD_INPUT: Final = 2
_FAULT: Final = 1


@app.command()
def aggregate(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SOURCE...", help="folders of records, or JSON files of nets with y, r"),
    ],
    canary: Annotated[
        bool, typer.Option(help="the third lane is 1 for everybody and must count the members")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on one line")] = False,
) -> None:
    """Open the total of every net and slot; exit code 1 if a canary lane does not count its members."""
    slots = [slot for source in sources for slot in _opened(source)]
    from tools.aggregate.slots import canary_fault

    faults = [slot for slot in slots if canary and canary_fault(slot)]
    whole = [slot for slot in slots if slot.totals is not None]
    widths = {len(slot.totals) for slot in whole if slot.totals is not None}
    total = [sum(lane) % (1 << 64) for lane in zip(*(slot.totals or () for slot in whole), strict=True)]
    summary = {
        "slots": len(slots),
        "totalled": len(whole),
        "aborted": len(slots) - len(whole),
        "canary_faults": len(faults),
        "total": total if len(widths) == 1 else None,
    }
    if as_json:
        sys.stdout.write(json.dumps({**summary, "sums": [slot.to_dict() for slot in slots]}) + "\n")
    else:
        for slot in slots:
            found = slot.reason if slot.totals is None else " ".join(map(str, slot.totals))
            mark = "  CANARY" if slot in faults else ""
            sys.stdout.write(f"net {slot.net} slot {slot.slot} members {slot.members}: {found}{mark}\n")
        sys.stdout.write(", ".join(f"{name} {value}" for name, value in summary.items()) + "\n")
    if faults:
        raise typer.Exit(_FAULT)


def _opened(source: Path) -> list[Slot]:
    try:
        from tools.aggregate.slots import from_nets, from_record
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        sys.stderr.write("smgw aggregate: numpy is not installed\n  hint: install the extra `aggregate`\n")
        raise typer.Exit(_BAD_INPUT) from None
    from tools.dcnet.record import BadRecord, read

    try:
        if source.is_dir():
            return from_record(read(source)[0])
        document = json.loads(source.read_text(encoding="utf-8"))
        nets = document.get("net", [document]) if isinstance(document, dict) else document
        return from_nets(nets if isinstance(nets, list) else [document])
    except (BadRecord, OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        sys.stderr.write(
            f"smgw aggregate: {source}: {error}\n"
            "  hint: a record of `smgw dcnet simulate --record`, or what `smgw dcnet compute` prints\n"
        )
        raise typer.Exit(_BAD_INPUT) from None
