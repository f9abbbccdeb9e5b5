"""`smgw dcnet`: compute, simulate and judge whole nets without a gateway, and show those of a running one."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from tools.cli.dcnet_show import show

if TYPE_CHECKING:
    from tools.dcnet.leak import Known

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

_BAD_INPUT: Final = 2
_DIFFERS: Final = 1
_INCOMPLETE: Final = 3
"""The leak check found nothing, and did not look at everything."""
_MOST_RECORDED: Final = 20_000
_MOST: Final = 10_000_000
"""Gateways and slots of a simulation: more than fit into memory, or into a life."""


class Recovery(StrEnum):
    """What becomes of members that are lost after the manifest."""

    WITNESS = "witness"
    NONE = "none"


JsonOption = typer.Option("--json", help="one JSON object on one line")


@app.callback()
def _root() -> None:
    """DC-nets: what one comes to, what follows from what was seen, how a running gateway stands."""


app.command(epilog="Example: smgw dcnet show -c home/gateway.toml --svg net.svg")(show)


@app.command(epilog="Example: smgw dcnet compute nets.json --check")
def compute(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="nets as JSON, `-` for standard input")],
    check: Annotated[
        bool, typer.Option("--check", help="compare the results in the file; exit code 1 if one differs")
    ] = False,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Add y, r and total to nets in the form of the known answers, by the product's own core."""
    from tools.dcnet.compute import BadNets, computed, differences, load, unknown

    try:
        document = load(_read(file))
        results = computed(document)
    except BadNets as error:
        _stop(f"{file}: {error}", 'the form is in docs/dcnet.md, "smgw dcnet compute"')
    for name in unknown(document):
        shown = name if name.isprintable() else repr(name)
        sys.stderr.write(f"warning: {file}: {shown} is no field of the form and had no effect\n")
    sys.stdout.write(json.dumps(results, indent=None if as_json else 1) + "\n")
    if check and (wrong := differences(document, results)):
        for place in wrong:
            sys.stderr.write(f"differs: {place}\n")
        raise typer.Exit(_DIFFERS)


@app.command(epilog="Example: smgw dcnet simulate --gateways 2560 --slots 4 --dropout 0.01 --record r")
def simulate(
    gateways: Annotated[int, typer.Option(min=3, max=_MOST, help="how many take part")] = 1000,
    slots: Annotated[int, typer.Option(min=1, max=_MOST, help="how many slots, one after the other")] = 4,
    dropout: Annotated[float, typer.Option(min=0, max=1, help="chance to fail in a slot")] = 0.01,
    late: Annotated[
        float, typer.Option(min=0, max=1, help="which part of the drop-outs comes after the manifest")
    ] = 0.5,
    recovery: Annotated[Recovery, typer.Option(help="what becomes of members lost after the manifest")] = (
        Recovery.WITNESS
    ),
    nets: Annotated[int, typer.Option(min=0, help="how many nets; 0: of about 256 members each")] = 0,
    bridges: Annotated[int, typer.Option(min=0, help="edges between each net and the next")] = 0,
    degree: Annotated[int, typer.Option(min=2, help="k of the key graphs")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="names the random numbers")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="processes; 0: one for each processor")] = 0,
    record: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write every message, for `leak`")
    ] = None,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Run whole slots of many nets and check every total against the plain sum."""
    try:
        from tools.dcnet.simulate import NET_SIZE, Plan, run
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        _stop("numpy is not installed", "install the extra `aggregate`; from a checkout ./smgw does it")
    from tools.dcnet.record import Recorder

    if record is not None and gateways > _MOST_RECORDED:
        _stop(f"--record writes at most {_MOST_RECORDED} gateways", "take fewer gateways")
    begun = time.perf_counter()
    try:
        count = nets or max(1, round(gateways / NET_SIZE))
        witness = recovery is Recovery.WITNESS
        plan = Plan(gateways, count, slots, dropout, witness, bridges, degree, seed=seed, late=late)
        with ExitStack() as stack:
            recorder = None if record is None else stack.enter_context(Recorder(record))
            tally = run(plan, workers or None, stack.enter_context(_progress(as_json=as_json)), recorder)
    except FileExistsError as error:
        _stop(f"{error.filename} exists", "give a new folder: a record is not overwritten")
    except (OSError, ValueError) as error:
        _stop(str(error), "see `smgw dcnet simulate --help`")
    result = {
        "gateways": gateways,
        "nets": count,
        "bridges": bridges,
        "slots": slots,
        "dropout": dropout,
        "late": late,
        "recovery": recovery.value,
        "degree": degree,
        **asdict(tally),
        "seconds": round(time.perf_counter() - begun, 3),
    }
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for name, value in result.items():
            sys.stdout.write(f"{name:>10}  {value}\n")
    if not tally.exact:
        sys.stderr.write("smgw dcnet: a total is not the plain sum\n")
        raise typer.Exit(_DIFFERS)


@app.command(epilog="Example: smgw dcnet simulate --gateways 60 --record r; smgw dcnet leak r")
def leak(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a record: *.jsonl, corrupt.json")],
    corrupt: Annotated[
        str, typer.Option(metavar="A,B,...", help="more corrupt gateways or member numbers")
    ] = "",
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Say which sums of readings follow from all that was seen, V-mode's messages included.

    Exit code 0: all was looked at, nothing is outside the limits. 1: a sum is too small. 2: the record
    cannot be judged. 3: nothing was found, but the search was too long to be carried to its end.
    """
    from tools.dcnet.leak import Verdict, known
    from tools.dcnet.record import BadRecord, read

    try:
        seen, named = read(folder)
        found = known(seen, named | frozenset(filter(None, corrupt.split(","))))
    except (BadRecord, OSError) as error:
        _stop(
            str(error), "a record is what `smgw dcnet simulate --record` writes; docs/dcnet.md has the form"
        )
    if as_json:
        sys.stdout.write(json.dumps(found.to_dict()) + "\n")
    else:
        sys.stdout.write(_told(found))
    codes = {Verdict.LEAK: _DIFFERS, Verdict.INCOMPLETE: _INCOMPLETE}
    if found.verdict in codes:
        raise typer.Exit(codes[found.verdict])


def _told(found: Known) -> str:
    sizes = Counter(len(row) for row in found.basis)
    beside = f", {found.committed} commitments" if found.committed else ""
    lines = [f"{found.messages} messages, {found.readings} readings in them{beside}"]
    lines += [f"determined: {count} sums of {size} readings" for size, count in sorted(sizes.items())]
    lines += [f"too small: {', '.join(sorted(map(str, one)))}" for one in found.too_small]
    if not found.complete:
        lines.append("not searched to the end: other sums that are too small may be there")
    said = {"leak": "LEAK", "incomplete": 'INCOMPLETE: this is no "nothing found"'}
    return "\n".join([*lines, said.get(found.verdict, "nothing outside the limits")]) + "\n"


@contextmanager
def _progress(*, as_json: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show how far a long run is, on standard error and only to a human."""
    if as_json or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("slots")
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        _stop(f"{file}: {error.strerror}", "give the path of a file that can be read")
    except UnicodeDecodeError:
        _stop(f"{file}: not UTF-8 text", "nets are JSON")


def _stop(problem: str, hint: str) -> NoReturn:
    sys.stderr.write(f"smgw dcnet: {problem}\n  hint: {hint}\n")
    raise typer.Exit(_BAD_INPUT)
