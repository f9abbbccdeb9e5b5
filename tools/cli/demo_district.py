"""What `smgw demo` prints of a district."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from tools.demo.district.knowledge import Knowledge
from tools.demo.district.report import Report


def show(report: Report, console: Console) -> None:
    """Print graphs, sums, what became of the slots, who could learn what, and the checks."""
    plan, cast = report.plan, report.plan.cast
    console.print()
    console.print(
        f"[bold]{plan.gateways} gateways[/], each the real firmware with its own security module; "
        f"administrators {_joined(one.name for one in cast.administrators)}, "
        f"suppliers {_joined(one.name for one in cast.suppliers)}; slots of {plan.slot_s} s",
        soft_wrap=True,
    )
    console.print()
    graphs = Table(
        "net", "roster", "members", "keys shared", "across administrators", "least keys of a member"
    )
    for one in report.graphs:
        graphs.add_row(
            one.net,
            str(one.version),
            *(str(number) for number in (one.members, one.edges, one.across, one.lowest_degree)),
        )
    console.print(graphs)
    sums = Table("net", "slot", "in the sum", "left out", "true sum", "what the supplier opened")
    for slot in report.slots:
        sums.add_row(
            slot.net,
            str(slot.slot),
            str(len(slot.members)),
            ", ".join(slot.left_out) or "nobody",
            "" if slot.true_sum_wh is None else f"{slot.true_sum_wh} Wh",
            "no sum; owed"
            if slot.aborted
            else f"[{'green' if slot.right else 'red'}]{slot.opened_sum_wh} Wh[/]",
        )
    console.print(sums)
    for added in report.added:
        console.print(
            f"  {added.supplier}, slot {added.slot}: {added.nets} nets, {added.members} homes, "
            f"together {added.opened_sum_wh} Wh (true: {added.true_sum_wh} Wh)"
        )
    for owed in report.reconciled:
        if owed.homes:
            console.print(
                f"  {owed.net}, period {owed.period}: {owed.homes} homes owed {owed.opened_sum_wh} Wh "
                f"in one sum (true: {owed.true_sum_wh} Wh)"
            )
    for line in report.story:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    places = report.places
    console.print(
        f"  {places['slots']} slots of homes: {places['plain']} delivered in plain before the nets, "
        f"{places['total']} in a total, {places['reconciled']} in a reconcile sum, {places['owed']} owed"
    )
    console.print()
    console.print(_known(report.known))
    console.print()
    for name, held in report.checks.items():
        console.print(f"  [{'green' if held else 'red'}]{'ok  ' if held else 'FAIL'}[/] {name}")
    console.print()
    console.print("[bold green]every check held[/]" if report.ok else "[bold red]a check did not hold[/]")


def _known(parties: tuple[Knowledge, ...]) -> Table:
    table = Table(
        "who",
        "messages seen",
        "single slots known",
        "single slots in a net",
        "smallest sum in a net",
        "with what was owed",
        title="what each party could learn, and what not",
    )
    for one in parties:
        told = "none" if one.singles == 0 else str(one.singles)
        table.add_row(
            one.party,
            str(one.messages),
            f"{one.plain} before the nets" if one.plain else "none",
            f"[{'green' if one.nothing_small else 'red'}]{told} of {one.hidden}[/]",
            "none" if one.smallest is None else f"of {one.smallest} homes",
            "" if one.with_owed in (None, one.smallest) else f"{one.with_owed} slots of homes",
        )
    return table


def _joined(names: Iterable[str]) -> str:
    return " and ".join(names)
