"""docs/model.toml as values, checked as a whole: zones, nodes, stores, edges and protocols."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec


class ModelRefused(Exception):
    """The model contradicts itself; `faults` lists every contradiction found."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class View(Enum):
    """One diagram."""

    LEVEL0 = "level0"
    LEVEL1 = "level1"
    OT = "ot"
    PRODUCT = "product"


class NodeKind(Enum):
    """What a node is in a data-flow diagram."""

    PROCESS = "process"
    STORE = "store"
    EXTERNAL = "external"
    NETWORK = "network"


class Arrow(Enum):
    """How an edge is drawn."""

    FLOW = "flow"
    BOTH = "both"
    DASHED = "dashed"


class Zone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network or enclosure whose border is a trust boundary."""

    id: str
    name: str
    views: list[View]
    seed: dict[str, str] = {}
    trust: str
    description: str
    hardening: list[str]
    protocols: list[str]
    number: int | None = None
    parent: str | None = None


class Node(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A process, store or party."""

    id: str
    name: str
    kind: NodeKind
    zone: str
    views: list[View]
    code: str
    description: str
    protocols: list[str]
    seed: dict[str, str] = {}
    listed: list[View] = []
    number: int | None = None


class Store(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a node keeps, and how it is protected."""

    id: str
    node: str
    name: str
    holds: str
    protection: str
    readers: list[str]


class Edge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One logical flow, labelled for each view that shows it."""

    id: str
    source: str
    target: str
    arrow: Arrow
    protocols: list[str]
    labels: dict[str, str]
    listed: dict[str, str] = {}

    def label(self, view: View) -> str | None:
        """Return the label in `view`, None if the view does not show the edge."""
        return {**self.listed, **self.labels}.get(view.value)


class Protocol(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A protocol or mechanism and where it is written."""

    id: str
    name: str
    standard: str


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    title: str
    zone: list[Zone]
    node: list[Node]
    store: list[Store]
    edge: list[Edge]
    protocol: list[Protocol]


MODEL: Final = "model.toml"


def load(path: Path) -> Model:
    """Read and check a model.

    Raises:
        ModelRefused: it does not have the form of `Model`, or names something that is not there.
    """
    try:
        model = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Model)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ModelRefused([f"{path.name}: {error}"]) from error
    faults = contradictions(model)
    if faults:
        raise ModelRefused(faults)
    return model


def contradictions(model: Model) -> list[str]:
    """Return every name used twice, used but not declared, or drawn where its ends are not."""
    zones, nodes = {zone.id for zone in model.zone}, {node.id: node for node in model.node}
    protocols = {protocol.id for protocol in model.protocol}
    faults = [
        f"{kind} {name} is declared {count} times"
        for kind, ids in (
            ("zone", [zone.id for zone in model.zone]),
            ("node", [node.id for node in model.node]),
            ("store", [store.id for store in model.store]),
            ("edge", [edge.id for edge in model.edge]),
            ("protocol", [protocol.id for protocol in model.protocol]),
        )
        for name, count in Counter(ids).items()
        if count > 1
    ]
    for zone in model.zone:
        faults += _unknown(f"zone {zone.id}", "zone", [zone.parent] if zone.parent else [], zones)
        faults += _unknown(f"zone {zone.id}", "protocol", zone.protocols, protocols)
    for node in model.node:
        faults += _unknown(f"node {node.id}", "zone", [node.zone], zones)
        faults += _unknown(f"node {node.id}", "protocol", node.protocols, protocols)
        faults += _unknown(f"node {node.id}", "view", node.seed, {view.value for view in node.views})
    for store in model.store:
        faults += _unknown(f"store {store.id}", "node", [store.node, *store.readers], nodes)
    for edge in model.edge:
        ends = [edge.source, edge.target]
        faults += _unknown(f"edge {edge.id}", "node", ends, nodes)
        faults += _unknown(f"edge {edge.id}", "protocol", edge.protocols, protocols)
        faults += [
            f"edge {edge.id}: {end} is not in view {view.value}"
            for view in View
            if edge.label(view) is not None
            for end in ends
            if end in nodes and view not in nodes[end].views
        ]
        if not {**edge.labels, **edge.listed}:
            faults.append(f"edge {edge.id}: no view shows it")
    return faults


def _unknown(
    owner: str, kind: str, used: Iterable[str], known: Iterable[str] | Mapping[str, object]
) -> list[str]:
    return [f"{owner}: unknown {kind} {name}" for name in used if name not in set(known)]
