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
TOTALS: Final = "totals.jsonl"
LANES: Final = ("import 0.1 Wh", "export 0.1 Wh", "canary")


@app.command(epilog="Example: smgw dcnet simulate --gateways 600 --record r; smgw aggregate r")
def aggregate(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="a supplier's folder or events (*.jsonl), folders of records, JSON of nets with y, r",
        ),
    ],
    canary: Annotated[
        bool, typer.Option(help="the third lane is 1 for everybody and must count the members")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on one line")] = False,
) -> None:
    """Open the total of every net and slot; exit code 1 if a canary lane does not count its members."""
    slots = [slot for source in sources for slot in _opened(source)]
    from tools.aggregate.slots import canary_fault, together

    faults = [slot for slot in slots if canary and canary_fault(slot)]
    whole = [slot for slot in slots if slot.totals is not None]
    widths = {len(slot.totals) for slot in whole if slot.totals is not None}
    lanes = zip(*(slot.totals or () for slot in whole), strict=True) if len(widths) == 1 else ()
    total = [sum(lane) % (1 << 64) for lane in lanes]
    summary = {
        "slots": len(slots),
        "totalled": len(whole),
        "aborted": len(slots) - len(whole),
        "canary_faults": len(faults),
        "total": total if len(widths) == 1 else None,
    }
    if as_json:
        added = [one.to_dict() for one in together(slots)]
        sums = [slot.to_dict() for slot in slots]
        sys.stdout.write(json.dumps({**summary, "sums": sums, "together": added}) + "\n")
    else:
        sys.stdout.write(_columns(slots, faults))
        sys.stdout.write(", ".join(f"{name} {value}" for name, value in summary.items()) + "\n")
    if faults:
        raise typer.Exit(_FAULT)


def _columns(slots: list[Slot], faults: list[Slot]) -> str:
    """Return a table: a row for each slot, a column for each lane."""
    width = max((len(slot.totals) for slot in slots if slot.totals is not None), default=0)
    names = LANES if width == len(LANES) else tuple(f"lane {lane}" for lane in range(width))
    rows = [("net", "slot", "members", *names)]
    for slot in slots:
        lanes = () if slot.totals is None else tuple(map(str, slot.totals))
        rows.append((slot.net, str(slot.slot), str(slot.members), *lanes, *[""] * (width - len(lanes))))
    widths = [max(len(row[column]) for row in rows) for column in range(3 + width)]
    notes = ["", *(", ".join(filter(None, _notes(slot, faults))) for slot in slots)]
    return "".join(
        "  ".join([*map(str.rjust, row, widths), note]).rstrip() + "\n"
        for row, note in zip(rows, notes, strict=True)
    )


def _notes(slot: Slot, faults: list[Slot]) -> tuple[str, ...]:
    reconcile = f"reconcile of {slot.reconciles}" if slot.reconciles else ""
    return reconcile, slot.reason or ("CANARY" if slot in faults else "")


def _opened(source: Path) -> list[Slot]:
    try:
        from tools.aggregate.slots import from_nets, from_record
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        sys.stderr.write("smgw aggregate: numpy is not installed\n  hint: install the extra `aggregate`\n")
        raise typer.Exit(_BAD_INPUT) from None
    from tools.aggregate.supplier import from_events
    from tools.dcnet.record import BadRecord, read

    try:
        if source.is_dir() and (source / "emp.toml").is_file():
            totals = source / TOTALS  # not there until the first slot has a result
            return from_events(_lines(totals)) if totals.exists() else []
        if source.suffix == ".jsonl" and source.is_file():
            return from_events(_lines(source))
        if source.is_dir():
            return from_record(read(source)[0])
        try:
            document = json.loads(text := source.read_text(encoding="utf-8"))
        except ValueError as error:
            if isinstance(error, (UnicodeDecodeError, json.JSONDecodeError)):
                raise
            raise BadRecord(f"a number of thousands of digits in {len(text)} characters") from error
        nets = document.get("net", [document]) if isinstance(document, dict) else document
        return from_nets(nets if isinstance(nets, list) else [document])
    except (BadRecord, OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        sys.stderr.write(
            f"smgw aggregate: {source}: {problem}\n"
            "  hint: the folder of `smgw emp`, a record of `smgw dcnet simulate --record`, or what "
            "`smgw dcnet compute` prints\n"
        )
        raise typer.Exit(_BAD_INPUT) from None


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines(keepends=True)
