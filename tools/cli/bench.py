"""`smgw bench`: measured figures, each beside a named reference in the same run."""

from __future__ import annotations

import asyncio
import importlib
import json
from enum import StrEnum
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from tools.bench.figure import Figure

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Subject(StrEnum):
    """What can be measured."""

    BOOT = "boot"
    HSM = "hsm"
    TLS = "tls"
    DCNET = "dcnet"
    LMN = "lmn"
    STREET = "street"
    CORE = "core"
    STORE = "store"


_PARTS: Final = {
    Subject.DCNET: (
        "dcnet",
        "dcnet_open",
        "dcnet_sums",
        "dcnet_commit",
        "dcnet_journal",
        "dcnet_memory",
        "dcnet_flower",
    ),
    Subject.HSM: ("hsm", "hsm_memory", "hsm_pcsc"),
    Subject.LMN: ("lmn", "sml", "reception"),
}
"""Subjects that are measured by more than the module of their name."""


def _measure(subject: Subject, rounds: int) -> list[Figure]:
    figures: list[Figure] = []
    for name in _PARTS.get(subject, (subject.value,)):
        module = importlib.import_module(f"tools.bench.{name}")
        figures += asyncio.run(module.run(rounds))
    return figures


def _table(subject: Subject, figures: list[Figure]) -> Table:
    table = Table("figure", "measured", "beside", "ratio", "bar", "met", title=f"smgw bench {subject.value}")
    for figure in figures:
        beside = "" if figure.reference is None else f"{figure.reference}: {figure.reference_value:.4g}"
        bar = "" if figure.bar is None else f"{'>=' if figure.at_least else '<='} {figure.bar:g}"
        met = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[figure.met]
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        table.add_row(figure.name, f"{figure.value:.4g} {figure.unit}", beside, ratio, bar, met)
    return table


@app.command()
def bench(
    subject: Annotated[Subject, typer.Argument(help="what to measure")],
    rounds: Annotated[int, typer.Option(min=1, help="how often; the median counts")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of a table")] = False,
) -> None:
    """Measure, print, and say whether the bars are met. A figure that misses its bar is no error."""
    figures = _measure(subject, rounds)
    if as_json:
        print(json.dumps({"subject": subject.value, "figures": [figure.to_dict() for figure in figures]}))
    else:
        Console().print(_table(subject, figures))
