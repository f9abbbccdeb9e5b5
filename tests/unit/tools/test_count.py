"""The last step of CI: tests that did not run are no success."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.whole_gateway import ROOT

PASS = '<testcase classname="tests.a" name="test_a"/>'
SKIP = '<testcase classname="tests.a" name="test_s"><skipped message="no"/></testcase>'
FAIL = '<testcase classname="tests.a" name="test_f"><failure message="no"/></testcase>'
ERROR = '<testcase classname="tests.a" name="test_e"><error message="no"/></testcase>'


@pytest.mark.parametrize(
    ("cases", "allowed", "code", "said"),
    [
        ([PASS], "", 0, "1 passed, 0 failed, 0 skipped"),
        ([], "", 1, "0 passed, 0 failed, 0 skipped"),
        ([PASS, FAIL], "", 1, "1 passed, 1 failed"),
        ([PASS, ERROR], "", 1, "1 passed, 1 failed"),
        ([PASS, SKIP], "", 1, "skipped and not on the list: tests.a::test_s"),
        ([PASS, SKIP], "# tests.a::test_s\twhy\n", 1, "not on the list"),
        ([PASS, SKIP], "tests.a::test_s\tneeds a card reader\n", 0, "1 passed, 0 failed, 1 skipped"),
        ([PASS, SKIP], "tests.a::test_other\twhy\n", 1, "not on the list"),
        ([SKIP], "tests.a::test_s\twhy\n", 1, "0 passed"),
    ],
)
def test_count(tmp_path: Path, cases: list[str], allowed: str, code: int, said: str) -> None:
    report, listed = tmp_path / "report.xml", tmp_path / "allowed.txt"
    report.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    listed.write_text(allowed)
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "count.py", report, listed], capture_output=True, text=True
    )
    assert done.returncode == code
    assert said in done.stdout + done.stderr


def test_the_projects_own_list_gives_a_reason_for_each() -> None:
    for line in (ROOT / ".ci" / "allowed-skips.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            test, _, reason = line.partition("\t")
            assert "::" in test
            assert reason.strip()
