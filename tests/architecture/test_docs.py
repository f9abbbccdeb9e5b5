"""The documentation says what is there: drawn files, model, threat model, references, links."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.architecture.source import ROOT, modules
from tests.support.vectors import load, vectors
from tools.docs import __main__ as drawing
from tools.docs import mermaid, parts, road, schema
from tools.docs.model import Model, ModelRefused, Node, View, contradictions
from tools.docs.model import load as load_model

DOCS = ROOT / "docs"
MODEL = load_model(DOCS / "model.toml")
NOT_BUILT = "not built yet"


# ------------------------------------------------------------------ drawn files


def test_drawn_files_are_up_to_date() -> None:
    assert drawing.stale() == [], "run python -m tools.docs"


def test_a_stale_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "schema").mkdir()
    names = "model.toml", "parts.toml", "parts.svg", "schema/profiles.json", "states.svg", "logs.md"
    for name in (*names, "dcnet-states.md", "roles.md"):
        (tmp_path / name).write_bytes((DOCS / name).read_bytes())
    (tmp_path / "dataflow.md").write_text("old")
    assert drawing.stale(tmp_path) == ["dataflow.md"]


def test_the_schema_is_that_of_the_code() -> None:
    text = schema.profiles()
    document = json.loads(text)
    assert document["$defs"]["ProcessingProfile"]["properties"]["taf"]["enum"] == list(range(1, 15))
    assert {"MeterProfile", "CommunicationProfile", "TimeVariable", "Prepaid"} <= set(document["$defs"])
    patterns = re.findall(r'"pattern": (".*")', text)
    assert patterns
    for pattern in patterns:
        assert json.loads(pattern).endswith("$"), "Python's own end of text is none in JSON Schema"


def test_a_picture_with_a_loose_arrow_is_refused(tmp_path: Path) -> None:
    text = (DOCS / "parts.toml").read_text(encoding="utf-8")
    (tmp_path / "parts.toml").write_text(text.replace('target = "emp"', 'target = "nobody"'))
    with pytest.raises(ModelRefused, match="nobody"):
        parts.load(tmp_path / "parts.toml")


# ------------------------------------------------------------------ the model holds the founding note


def _node(view: str, seed: str) -> Node:
    return next(node for node in MODEL.node if node.seed.get(view) == seed)


@vectors("docs/seed_edges.json")
def test_every_edge_of_the_note_is_in_the_model(case: dict[str, str]) -> None:
    source, target = _node(case["view"], case["source"]).id, _node(case["view"], case["target"]).id
    found = [
        edge
        for edge in MODEL.edge
        if (edge.source, edge.target) == (source, target) and edge.labels.get(case["view"]) == case["label"]
    ]
    assert [edge.arrow.value for edge in found] == [case["arrow"]]


def test_the_model_has_no_edge_that_the_note_lacks() -> None:
    drawn = sum(1 for edge in MODEL.edge for view in edge.labels if view != View.PRODUCT.value)
    assert drawn == len(load("docs/seed_edges.json")["cases"])


@vectors("docs/seed_nodes.json")
def test_every_node_of_the_note_is_in_the_model(case: dict[str, str]) -> None:
    node = _node(case["view"], case["seed"])
    assert View(case["view"]) in node.views
    zone = next(zone for zone in MODEL.zone if zone.id == node.zone)
    assert zone.seed[case["view"]] == case["zone"]


@vectors("docs/seed_components.json")
def test_every_component_of_the_note_is_in_the_model(case: dict[str, Any]) -> None:
    found = [thing for thing in (*MODEL.node, *MODEL.zone) if thing.number == int(case["id"])]
    assert [thing.name.split(" (")[0].lower() for thing in found] == [
        case["component"].split(" (")[0].lower()
    ]
    (thing,) = found
    if case["level0"]:
        assert View.LEVEL0 in thing.views
    if case["level1"]:
        assert View.LEVEL1 in thing.views


def test_every_zone_of_the_note_has_its_nodes() -> None:
    inner = {zone.id: zone.parent for zone in MODEL.zone}
    for case in load("docs/seed_components.json")["zones"]:
        here = {
            node.name.split(" (")[0] for node in MODEL.node if case["id"] in (node.zone, inner[node.zone])
        }
        assert {name.split(" (")[0] for name in case["nodes"]} <= here


def test_code_of_the_model_exists() -> None:
    for node in MODEL.node:
        if node.code != "outside" and not node.code.startswith("planned: "):
            assert (ROOT / node.code).exists(), f"{node.id}: {node.code}"


@pytest.mark.parametrize(
    ("table", "field", "value", "complaint"),
    [
        ("edge", "source", "nobody", "unknown node nobody"),
        ("edge", "protocols", ["smoke"], "unknown protocol smoke"),
        ("edge", "id", "firmware-emp", "declared 2 times"),
        ("edge", "labels", {"ot": "x", "product": "y"}, "is not in view"),
        ("edge", "labels", {}, "no view shows it"),
        ("node", "zone", "moon", "unknown zone moon"),
        ("store", "node", "nobody", "unknown node nobody"),
        ("zone", "parent", "moon", "unknown zone moon"),
    ],
)
def test_a_contradiction_in_the_model_is_found(table: str, field: str, value: Any, complaint: str) -> None:
    rows = getattr(MODEL, table)
    changed = msgspec.structs.replace(rows[0], **{field: value})
    model: Model = msgspec.structs.replace(MODEL, **{table: [changed, *rows[1:]]})
    assert any(complaint in fault for fault in contradictions(model))


@pytest.mark.parametrize("text", ["title = 1", "title = ", 'colour = "red"'])
def test_a_broken_model_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.toml").write_text(text)
    with pytest.raises(ModelRefused, match=r"model\.toml"):
        load_model(tmp_path / "model.toml")


@pytest.mark.parametrize("view", View)
def test_a_diagram_declares_each_node_once_and_balances(view: View) -> None:
    text = mermaid.diagram(MODEL, view)
    for node in MODEL.node:
        declared = len(re.findall(rf"^ *{node.id.replace('-', '_')}[(\[]", text, re.MULTILINE))
        assert declared == (1 if view in node.views else 0), node.id
    assert len(re.findall(r"^ *subgraph ", text, re.MULTILINE)) == len(
        re.findall(r"^ *end$", text, re.MULTILINE)
    )


# ------------------------------------------------------------------ threat model


def rows(text: str) -> dict[str, list[list[str]]]:
    """Return {edge id: its rows} of all tables whose first cell is a code word."""
    found: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        if match := re.match(r"\| `([a-z0-9-]+)` \|", line):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            found.setdefault(match[1], []).append(cells)
    return found


def threat_faults(text: str, model: Model, root: Path) -> list[str]:
    """Return what is wrong: rows missing, doubled, unknown, or without a test that exists."""
    found, table = [], rows(text)
    for edge in model.edge:
        if len(table.get(edge.id, [])) != 1:
            found.append(f"{edge.id}: {len(table.get(edge.id, []))} rows")
    for name, lines in table.items():
        if name not in {edge.id for edge in model.edge}:
            found.append(f"{name}: not an edge of the model")
        for cells in lines:
            if len(cells) != 4 or not all(cells):
                found.append(f"{name}: not four filled cells")
                continue
            tests = re.findall(r"`(tests/[^`]+)`", cells[3])
            if not tests and NOT_BUILT not in cells[3]:
                found.append(f"{name}: neither a test nor '{NOT_BUILT}'")
            found += [f"{name}: {test} does not exist" for test in tests if not _test_exists(root, test)]
    return found


def _test_exists(root: Path, test: str) -> bool:
    name, _, function = test.partition("::")
    if not (root / name).is_file():
        return False
    tree = ast.parse((root / name).read_text(encoding="utf-8"))
    defined = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return any(each.startswith("test") for each in defined) and (not function or function in defined)


def test_every_edge_has_one_row_in_the_threat_model() -> None:
    assert threat_faults((DOCS / "threat-model.md").read_text(encoding="utf-8"), MODEL, ROOT) == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "0 rows"),
        ("| `x` | t | c | not built yet |\n| `x` | t | c | not built yet |", "2 rows"),
        ("| `y` | t | c | not built yet |", "not an edge"),
        ("| `x` | t |  | not built yet |", "four filled"),
        ("| `x` | t | c | soon |", "neither a test"),
        ("| `x` | t | c | `tests/unit/test_nothing.py` |", "does not exist"),
        ("| `x` | t | c | `tests/architecture/test_docs.py::test_of_nothing` |", "does not exist"),
        ("| `x` | t | c | `tests/conftest.py` |", "does not exist"),
    ],
)
def test_a_bad_row_is_found(line: str, complaint: str) -> None:
    edge = msgspec.structs.replace(MODEL.edge[0], id="x")
    model = msgspec.structs.replace(MODEL, edge=[edge])
    assert any(complaint in fault for fault in threat_faults(line, model, ROOT))


def test_a_good_row_is_accepted() -> None:
    edge = msgspec.structs.replace(MODEL.edge[0], id="x")
    model = msgspec.structs.replace(MODEL, edge=[edge])
    test = "tests/architecture/test_docs.py::test_a_good_row_is_accepted"
    assert threat_faults(f"| `x` | t | c | `{test}` |", model, ROOT) == []


# ------------------------------------------------------------------ references

CITATION = re.compile(
    r"TR-\d{5}(?:-(?:TS-)?\d)?|\bRFCs? ?\d{3,5}\b|ICAO (?:Doc )?9303(?:-\d+)?|\bEN 13757(?:-\d)?"
    r"|SP 800-\d+\w?|FIPS \d+|ISO(?:/IEC)? 7816(?:-\d+)?|\bX9\.6[23]\b|\bSEC ?1\b|\bOMS\b"
    r"|\bPP-00\d\d\b|CEN/TR 17167|\bDIN \d{5}"
)


def citations(text: str) -> set[str]:
    """Return the documents that a text cites, in one spelling each."""
    found = set()
    for word in CITATION.findall(text):
        word = re.sub(r"ICAO (?:Doc )?9303(?:-\d+)?", "ICAO Doc 9303", word)
        word = re.sub(r"ISO(?:/IEC)? 7816", "ISO/IEC 7816", word)
        word = re.sub(r"RFCs? ?(\d+)", r"RFC \1", word)
        found.add(re.sub(r"SEC ?1", "SEC 1", word))
    return found


def listed() -> set[str]:
    """Return the documents of the first column of docs/references.md."""
    text = (DOCS / "references.md").read_text(encoding="utf-8")
    first = "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("|"))
    return citations(first)


def unlisted(cited: set[str], known: set[str]) -> set[str]:
    """A document is listed if it, or the family it is a part of, stands in the list."""
    return {
        name for name in cited if name not in known and not any(name == family for family in _families(known))
    }


def _families(known: set[str]) -> set[str]:
    """`TR-03109-1` listed also answers for a citation of `TR-03109` as a whole."""
    return {re.sub(r"-\d+$", "", name) for name in known if name.startswith(("TR-", "EN ", "ISO"))}


def test_every_cited_document_is_listed() -> None:
    known, missing = listed(), []
    for source in modules():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                missing += [
                    f"{source.name}:{node.lineno} {name}" for name in unlisted(citations(node.value), known)
                ]
        comments = "\n".join(re.findall(r"#.*", source.text))
        missing += [f"{source.name} {name}" for name in unlisted(citations(comments), known)]
    for path in [*DOCS.rglob("*.md"), DOCS / "model.toml", ROOT / "README.md"]:
        text = path.read_text(encoding="utf-8")
        missing += [f"{path.name} {name}" for name in unlisted(citations(text), known)]
    assert sorted(set(missing)) == []


def test_an_unlisted_document_is_found() -> None:
    assert unlisted(citations("see RFC 1149, section 3"), listed()) == {"RFC 1149"}
    assert unlisted(citations("BSI TR-03109-9"), listed()) == {"TR-03109-9"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("BSI TR-03111 v2.1, 5.1.2", {"TR-03111"}),
        ("TR-03109-TS-1", {"TR-03109-TS-1"}),
        ("ICAO 9303-11 G.1 and ICAO Doc 9303", {"ICAO Doc 9303"}),
        ("RFC4493", {"RFC 4493"}),
        ("NIST SP 800-90A", {"SP 800-90A"}),
        ("ISO 7816-4", {"ISO/IEC 7816-4"}),
    ],
)
def test_citations_are_recognised(text: str, names: set[str]) -> None:
    assert citations(text) == names


# ------------------------------------------------------------------ the rest


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if not target.startswith(("http:", "https:")) and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert broken == []


def test_every_step_of_a_reading_s_road_is_a_module() -> None:
    assert [path for path, _ in road.STEPS if not (ROOT / path).exists()] == []


def loose_citations(text: str) -> list[str]:
    """Return the documents of ours that a source text names and that are not there."""
    named = set(re.findall(r"(?<![\w/.-])((?:[\w-]+/)*[\w-]+\.md)\b", text))
    return sorted(name for name in named if not (ROOT / name).is_file())


def test_documents_named_in_the_source_exist() -> None:
    missing = [f"{each.name}: {name}" for each in modules() for name in loose_citations(each.text)]
    assert [fault for fault in missing if not fault.startswith("tools.docs")] == []


def test_a_document_that_is_not_there_is_found() -> None:
    assert loose_citations("Spec: docs/nothing.md, 3; lmn.md 1.6; docs/dcnet.md") == [
        "docs/nothing.md",
        "lmn.md",
    ]


def test_glossary_identifiers_exist() -> None:
    """An identifier that the glossary does not call planned stands somewhere in the source."""
    source = "\n".join(each.text for each in modules()) + "\n".join(each.name for each in modules())
    missing = []
    for line in (DOCS / "glossary.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and "planned" not in cells[2]:
            missing += [
                f"{cells[0]}: {name}"
                for name in re.findall(r"`([^`]+)`", cells[2])
                if not _stands(name, source)
            ]
    assert missing == []


def _stands(name: str, source: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", source) is not None


def test_an_identifier_that_is_nowhere_is_found() -> None:
    assert not _stands("MeterFoo", "class MeterFooBar: ...")
    assert _stands("MeterFoo", "class MeterFoo: ...")
