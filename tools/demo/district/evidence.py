"""What the judge of a district reads: what the parties printed, and the files they kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.demo.district.play import Seen
from tools.demo.district.record import Flow
from tools.demo.district.stage import FLOWS, branch_folder, supplier_folder
from tools.homes.parties import Event


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the judge reads beside what the parties printed."""

    seen: Seen
    supplier_flows: tuple[Flow, ...]
    gwa_flows: Mapping[str, tuple[Flow, ...]]
    aggregated: Mapping[str, Mapping[str, Any]]
    """Supplier -> what `smgw aggregate --json` said of its folder."""


def collect(seen: Seen, aggregated: Mapping[str, Mapping[str, Any]]) -> Evidence:
    """Read the parties' files."""
    plan, cast = seen.plan, seen.plan.cast
    return Evidence(
        seen,
        tuple(flow for one in cast.suppliers for flow in _flows(supplier_folder(plan, one.name))),
        {one.name: tuple(_flows(branch_folder(plan, one.name) / "gwa")) for one in cast.administrators},
        aggregated,
    )


def _flows(folder: Path) -> Iterator[Flow]:
    path = folder / FLOWS
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        yield json.loads(line)


def totals(seen: Seen, net_id: str) -> dict[int, Event]:
    """Return a net's results by their slots."""
    return {
        event["slot"]: event
        for events in seen.emps.values()
        for event in events
        if event["event"] == "total" and event["net"] == net_id
    }


def rosters(seen: Seen, net_id: str) -> dict[int, tuple[str, ...]]:
    """Return the members of each roster of a net, in the order of their indices, by its version."""
    return {
        event["version"]: tuple(event["members"])
        for events in seen.emps.values()
        for event in events
        if event["event"] == "roster" and event["net"] == net_id
    }
