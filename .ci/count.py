"""Count a JUnit report: fails on no tests, on a failure, and on a skip that is not on the written list."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from fnmatch import fnmatchcase
from pathlib import Path


def main(report: Path, allowed_list: Path) -> int:
    """Return 0 if every test ran and passed, or was allowed to be skipped."""
    allowed = {
        line.split("\t")[0]
        for line in allowed_list.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    }
    passed = failed = 0
    skipped = []
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it a moment ago
        name = f"{case.get('classname')}::{case.get('name')}"
        if case.find("skipped") is not None:
            skipped.append(name)
        elif case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        else:
            passed += 1
    strangers = [
        name
        for name in skipped
        if name not in allowed and not any(fnmatchcase(name, pattern) for pattern in allowed)
    ]
    for name in strangers:
        print(f"skipped and not on the list: {name}", file=sys.stderr)
    print(f"{passed} passed, {failed} failed, {len(skipped)} skipped")
    return int(failed > 0 or passed == 0 or bool(strangers))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
