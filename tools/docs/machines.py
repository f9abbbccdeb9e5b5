"""Composes docs/dcnet-states.md: the DC-net's state machines, drawn from their tables. No I/O."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from firmware.enforcement.dcnet.machines import ALL, Machine

_PREFACE: Final = """\
# State machines of the DC-net

Drawn from the tables in `firmware/enforcement/dcnet/machines.py` by `python -m tools.docs`; change those, not
this file. What a table does not list is an error in the product (`UnexpectedStep`)."""


def page() -> str:
    """Return the whole of docs/dcnet-states.md."""
    parts = [_PREFACE]
    for machine in ALL:
        parts += [f"## {machine.name.capitalize()}", f"```mermaid\n{diagram(machine)}```"]
    return "\n\n".join(parts) + "\n"


def diagram(machine: Machine[Any, Any]) -> str:
    """Return a machine as a Mermaid state diagram; steps between the same two states share an arrow."""
    arrows: dict[tuple[Enum, Enum], list[str]] = {}
    for (before, step), after in machine.next.items():
        arrows.setdefault((before, after), []).append(step.value)
    lines = ["stateDiagram-v2", f"    [*] --> {machine.start.name}"]
    lines += [f"    {a.name} --> {b.name}: {', '.join(steps)}" for (a, b), steps in arrows.items()]
    ends = {
        after for after in machine.next.values() if all(before is not after for before, _ in machine.next)
    }
    lines += [f"    {end.name} --> [*]" for end in sorted(ends, key=lambda state: str(state.name))]
    return "\n".join(lines) + "\n"
