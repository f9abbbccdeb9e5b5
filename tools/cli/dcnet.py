"""`smgw dcnet`: compute, simulate and judge whole nets, without a gateway."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

_BAD_INPUT: Final = 2
_DIFFERS: Final = 1

JsonOption = typer.Option("--json", help="one JSON object on one line")


@app.callback()
def _root() -> None:
    """DC-nets offline: what a net comes to, and what follows from what was seen of it."""


@app.command()
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
        sys.stderr.write(f"warning: {file}: {name} is no field of the form and had no effect\n")
    sys.stdout.write(json.dumps(results, indent=None if as_json else 1) + "\n")
    if check and (wrong := differences(document, results)):
        for place in wrong:
            sys.stderr.write(f"differs: {place}\n")
        raise typer.Exit(_DIFFERS)


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
