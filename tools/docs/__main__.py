"""`python -m tools.docs [--check]`: write the drawn documentation, or say what is out of date."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from tools.docs import logs, machines, mermaid, model, parts, roles, schema, states

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"


def drawn(docs: Path = DOCS) -> dict[str, str]:
    """Return what should stand in each drawn file, by its name in `docs`."""
    return {
        "dataflow.md": mermaid.page(model.load(docs / model.MODEL)),
        "schema/profiles.json": schema.profiles(),
        "logs.md": logs.page(),
        "roles.md": roles.page(),
        "states.svg": states.draw(),
        "dcnet-states.md": machines.page(),
        "parts.svg": parts.draw(parts.load(docs / "parts.toml")),
    }


def stale(docs: Path = DOCS) -> list[str]:
    """Return the names of drawn files that are missing or differ from their data."""
    return [
        name
        for name, text in drawn(docs).items()
        if not (docs / name).is_file() or (docs / name).read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str]) -> int:
    """Write the files, or with --check only compare; return the exit code."""
    outdated = stale()
    if arguments == ["--check"]:
        for name in outdated:
            print(f"docs/{name} is not what python -m tools.docs draws")
        return 1 if outdated else 0
    if arguments:
        print("usage: python -m tools.docs [--check]", file=sys.stderr)
        return 2
    texts = drawn()
    for name in outdated:
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(texts[name], encoding="utf-8")
        print(f"docs/{name} written")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
