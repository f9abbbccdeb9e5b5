"""PP-0073, requirement by requirement: docs/conformity.md names tests that exist, or says why not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
REQUIREMENTS = frozenset(
    [
        "FAU_ARP.1/SYS",
        "FAU_GEN.1/SYS",
        "FAU_GEN.1/CON",
        "FAU_GEN.1/CAL",
        "FAU_GEN.2",
        "FAU_SAA.1/SYS",
        "FAU_SAR.1/SYS",
        "FAU_SAR.1/CON",
        "FAU_SAR.1/CAL",
        "FAU_STG.2",
        "FAU_STG.4/SYS",
        "FAU_STG.4/CON",
        "FAU_STG.4/CAL",
        "FCO_NRO.2",
        "FCS_CKM.1/TLS",
        "FCS_CKM.1/CMS",
        "FCS_CKM.1/MTR",
        "FCS_CKM.4",
        "FCS_COP.1/TLS",
        "FCS_COP.1/CMS",
        "FCS_COP.1/MTR",
        "FCS_COP.1/HASH",
        "FCS_COP.1/MEM",
        "FDP_ACC.2",
        "FDP_ACF.1",
        "FDP_IFC.2/FW",
        "FDP_IFC.2/MTR",
        "FDP_IFF.1/FW",
        "FDP_IFF.1/MTR",
        "FDP_RIP.2",
        "FDP_SDI.2",
        "FIA_ATD.1",
        "FIA_AFL.1",
        "FIA_UAU.2",
        "FIA_UAU.5",
        "FIA_UAU.6",
        "FIA_UID.2",
        "FIA_USB.1",
        "FMT_MOF.1",
        "FMT_SMF.1",
        "FMT_SMR.1",
        "FMT_MSA.1/AC",
        "FMT_MSA.1/FW",
        "FMT_MSA.1/MTR",
        "FMT_MSA.3/AC",
        "FMT_MSA.3/FW",
        "FMT_MSA.3/MTR",
        "FPR_CON.1",
        "FPR_PSE.1",
        "FPT_FLS.1",
        "FPT_RPL.1",
        "FPT_STM.1",
        "FPT_TST.1",
        "FPT_PHP.1",
        "FTP_ITC.1/WAN",
        "FTP_ITC.1/MTR",
        "FTP_ITC.1/USR",
    ]
)
_ROW = re.compile(r"^\| (F[A-Z]{2}_[A-Z.0-9/]+) \| (\w+) \| (.*) \|$", re.MULTILINE)
_TEST = re.compile(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`")


def rows(text: str) -> list[tuple[str, str, str]]:
    """Return (requirement, built, tests or reason) of the page."""
    return _ROW.findall(text)


def faults(text: str) -> list[str]:
    """Return what is wrong with the page."""
    table = rows(text)
    names = [name for name, _, _ in table]
    found = [f"{name}: no row" for name in sorted(REQUIREMENTS - set(names))]
    found += [
        f"{name}: unknown or twice" for name in names if name not in REQUIREMENTS or names.count(name) > 1
    ]
    for name, built, cell in table:
        tests, reason = _TEST.findall(cell), _TEST.sub("", cell).strip(" ,;")
        found += [f"{name}: {path}::{test} is not there" for path, test in tests if not exists(path, test)]
        if built not in {"built", "partly", "no"}:
            found.append(f"{name}: {built}")
        if (built == "no") == bool(tests):
            found.append(f"{name}: what is built has tests, what is not has none")
        if built != "built" and not reason:
            found.append(f"{name}: no reason")
    return found


def exists(path: str, test: str) -> bool:
    """Tell whether a test file has a test of that name; of an empty one, whether the file is there."""
    file = ROOT / path
    if not file.is_file():
        return False
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return not test or any(isinstance(node, functions) and node.name == test for node in tree.body)


PAGE = (ROOT / "docs" / "conformity.md").read_text(encoding="utf-8")
_PSE_1 = next(line for line in PAGE.splitlines() if line.startswith("| FPR_PSE.1 | built |"))


def test_every_requirement_has_its_tests_or_its_reason():
    assert faults(PAGE) == []


def test_every_test_that_the_page_names_is_there():
    named = _TEST.findall(PAGE)
    assert len(named) > 100
    assert [f"{path}::{test}" for path, test in named if not exists(path, test)] == []


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("| FCO_NRO.2 |", "| FCO_NRO.3 |", "FCO_NRO.2: no row"),
        ("test_release.py::test_nobody_else_constructs_one", "test_release.py::test_gone", "is not there"),
        (_PSE_1, "| FPR_PSE.1 | built | surely |", "FPR_PSE.1: what is built has tests"),
        ("| FCO_NRO.2 | built |", "| FCO_NRO.2 | partly |", "FCO_NRO.2: no reason"),
        ("| FCO_NRO.2 | built |", "| FCO_NRO.2 | green |", "FCO_NRO.2: green"),
    ],
)
def test_what_is_wrong_with_the_table_is_found(before, after, complaint):
    assert before in PAGE
    assert any(complaint in fault for fault in faults(PAGE.replace(before, after)))
