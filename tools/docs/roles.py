"""Composes docs/roles.md from the role table that the doors ask. Does no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from firmware.enforcement.roles import CONTROL, ORDERS, OWN, TABLE, Resource, Right, Role

_PROSE: Final = """\
# Roles

Printed from the code (`firmware/enforcement/roles.py`) by `python -m tools.docs`; change that, not this page.

Who may do what with what. What is not in the table is denied. Nothing here lets a measured value out of the
gateway: what a supplier gets, the administrator's profiles say and [the policy gate](stores.md) decides for
each data set. (own): a consumer gets what is about himself alone.

{table}

The doors for consumers and CLS devices come with the HAN (planned); their columns are what those doors will
ask.

## Doors

The control socket (mode 0600) answers the gateway's own user and root, as the kernel names them, in the
roles of `[control] roles` in `gateway.toml` (a technician's unless more is said there), and a consumer who
shows the own code (`smgw log code`). Everybody else is refused, which is logged:

{control}

Logs are read through one reader, which asks for the log's own row. Orders are the administrator's; the link
takes none that another key signed. An order of a kind without a row is carried out by nothing:

{orders}
"""


def page() -> str:
    """Return the whole of docs/roles.md."""
    return _PROSE.format(
        table=_table(
            ("resource", *(role.value for role in Role)),
            [(resource.value, *(_acts(resource, role) for role in Role)) for resource in Resource],
        ),
        control=_table(("operation", "takes"), [(f"`{op}`", _text(right)) for op, right in CONTROL.items()]),
        orders=_table(
            ("kind of order", "takes"),
            [(f"`{kind}`", ", ".join(map(_text, rights))) for kind, rights in ORDERS.items()],
        ),
    )


def _acts(resource: Resource, role: Role) -> str:
    acts = sorted(act.value for act in TABLE[resource].get(role, ()))
    own = " (own)" if acts and role is Role.CONSUMER and resource in OWN else ""
    return ", ".join(acts) + own


def _text(right: Right) -> str:
    return f"{right.act.value}: {right.resource.value}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
