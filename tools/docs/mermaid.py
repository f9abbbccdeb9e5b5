"""Composes docs/dataflow.md: the model as Mermaid diagrams, with tables beside them. Does no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tools.docs import road
from tools.docs.model import Arrow, Edge, Model, Node, NodeKind, View, Zone

_HEADINGS: Final = {
    View.LEVEL0: "Level 0: the gateway and who is around it",
    View.LEVEL1: "Level 1: inside the gateway, with the trust boundaries",
    View.OT: "Medium and low voltage OT chain",
    View.PRODUCT: "What this project adds",
}
_TEXTS: Final = {
    View.LEVEL0: """\
Time source and technician are listed at level 0 in the founding note and drawn there only at level 1;
here they are drawn at both, because a level 1 may not have outside parties that its level 0 lacks.""",
    View.LEVEL1: """\
Each dashed frame is a trust boundary: whatever crosses it is checked on the inner side.""",
    View.OT: """\
The chain from the offices of a grid operator to the house, as the founding note draws it. Where the
product differs (a gateway speaks with its administrator and with market participants only, never with
a control centre) see [conformity](conformity.md).""",
    View.PRODUCT: """\
Flows that the note's diagrams do not have: the wake-up that only its tables name, what the DC-net
needs, and the files on the host's disk.""",
}
_PREFACE: Final = """\
Drawn from [model.toml](model.toml) by `python -m tools.docs`; change that file, not this one.
What threatens each flow, and what stands against it: [threat model](threat-model.md)."""
_ROAD: Final = """\
From the air to its recipient, module by module; each begins with what it does and what it must not. The parts
are opened and put together in `firmware/boot.py`."""
_STYLES: Final = {
    "wan": "fill:#cfe2ff,stroke:#3b7ddd",
    "carrier-wan": "fill:#cfe2ff,stroke:#3b7ddd",
    "lmn": "fill:#d1e7dd,stroke:#117a65",
    "han": "fill:#fff3cd,stroke:#bb8c0f",
    "gateway": "fill:#f8f9fa,stroke:#333333",
}
_PLAIN_STYLE: Final = "fill:#ffffff,stroke:#666666"
_FRAME: Final = "stroke-width:2px,stroke-dasharray:5 4,color:#111111"
_ARROWS: Final = {Arrow.FLOW: "-->", Arrow.BOTH: "<-->", Arrow.DASHED: "-.->"}
_SHAPES: Final = {
    NodeKind.PROCESS: ('("', '")'),
    NodeKind.STORE: ('[("', '")]'),
    NodeKind.EXTERNAL: ('["', '"]'),
    NodeKind.NETWORK: ('(["', '"])'),
}


def page(model: Model) -> str:
    """Return the whole of docs/dataflow.md."""
    parts = ["# Data flows", _PREFACE, "## Where a reading goes", _ROAD, road.section()]
    for view, heading in _HEADINGS.items():
        parts += [
            f"## {heading}",
            _TEXTS[view],
            f"```mermaid\n{diagram(model, view)}```",
            _edge_table(model, view),
        ]
    parts += [
        "## Nodes",
        _node_table(model),
        "## Zones",
        _zone_table(model),
        "## Stores",
        _store_table(model),
    ]
    parts += ["## Protocols", _protocol_table(model)]
    return "\n\n".join(parts) + "\n"


def diagram(model: Model, view: View) -> str:
    """Return one view as a Mermaid flow chart, ending in a newline."""
    zones = [zone for zone in model.zone if view in zone.views]
    shown = {zone.id for zone in zones}
    lines = ["flowchart TD"]
    for zone in zones:
        if zone.parent not in shown:
            lines += _zone_lines(model, view, zone, shown, depth=1)
    lines += [_edge_line(edge, label) for edge in model.edge if (label := edge.label(view)) is not None]
    lines += [f"    style {_name(zone.id)} {_STYLES.get(zone.id, _PLAIN_STYLE)},{_FRAME}" for zone in zones]
    return "\n".join(lines) + "\n"


def _zone_lines(model: Model, view: View, zone: Zone, shown: set[str], depth: int) -> list[str]:
    indent = "    " * depth
    lines = [f'{indent}subgraph {_name(zone.id)} ["{_text(zone.name)}"]']
    for inner in model.zone:
        if inner.parent == zone.id and inner.id in shown:
            lines += _zone_lines(model, view, inner, shown, depth + 1)
    lines += [
        f"{indent}    {_node(node)}" for node in model.node if node.zone == zone.id and view in node.views
    ]
    return [*lines, f"{indent}end"]


def _node(node: Node) -> str:
    before, after = _SHAPES[node.kind]
    return f"{_name(node.id)}{before}{_text(node.name)}{after}"


def _edge_line(edge: Edge, label: str) -> str:
    text = f'|"{_text(label)}"|' if label else ""
    return f"    {_name(edge.source)} {_ARROWS[edge.arrow]}{text} {_name(edge.target)}"


def _name(identifier: str) -> str:
    """Mermaid names: a hyphen before a word such as `end` would be read as an arrow."""
    return identifier.replace("-", "_")


def _text(text: str) -> str:
    return text.replace('"', "#quot;")


def _edge_table(model: Model, view: View) -> str:
    rows = [
        (f"`{edge.id}`", edge.source, edge.target, label or "(no label)", ", ".join(edge.protocols) or "-")
        for edge in model.edge
        if (label := edge.label(view)) is not None
    ]
    return _table(("edge", "from", "to", "label in the note", "protocols"), rows)


def _node_table(model: Model) -> str:
    rows = [
        (
            str(node.number or "-"),
            node.name,
            node.kind.value,
            node.zone,
            ", ".join(view.value for view in node.views),
            node.code if " " in node.code or node.code == "outside" else f"`{node.code}`",
            node.description,
        )
        for node in model.node
    ]
    return _table(("#", "node", "kind", "zone", "drawn in", "in the product", "what it is"), rows)


def _zone_table(model: Model) -> str:
    rows = [
        (
            str(zone.number or "-"),
            zone.name,
            zone.trust,
            "; ".join(zone.hardening),
            ", ".join(zone.protocols),
            zone.description,
        )
        for zone in model.zone
    ]
    return _table(("#", "zone", "trust", "hardening", "protocols", "what it is"), rows)


def _store_table(model: Model) -> str:
    rows = [
        (
            store.name,
            store.node,
            store.holds,
            store.protection,
            ", ".join(store.readers) or "the gateway alone",
        )
        for store in model.store
    ]
    return _table(("store", "node", "holds", "protection", "who may read it"), rows)


def _protocol_table(model: Model) -> str:
    return _table(("id", "protocol", "standard"), [(f"`{p.id}`", p.name, p.standard) for p in model.protocol])


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
