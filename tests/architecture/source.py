"""The project's own source as syntax trees: what the rules of this folder look at."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("firmware", "hsm", "lmn", "han", "wan")
PACKAGES = (*PRODUCT, "tools")


@dataclass(frozen=True, slots=True)
class Module:
    """One source file."""

    name: str
    """Dotted; a package is named as its folder."""
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @property
    def last(self) -> str:
        return self.name.rpartition(".")[2]

    def within(self, *prefixes: str) -> bool:
        """Is this module one of `prefixes` or inside one?"""
        return any(self.name == prefix or self.name.startswith(prefix + ".") for prefix in prefixes)


def module(name: str, text: str) -> Module:
    """Make a module of a text, as the tests of the rules do."""
    return Module(name, text, ast.parse(text))


@cache
def modules() -> tuple[Module, ...]:
    """Read every module of the six packages."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append(module(name, path.read_text(encoding="utf-8")))
    assert len(found) > 50, "the source was not found"
    return tuple(found)


def imports(source: Module) -> Iterator[tuple[str, int]]:
    """Yield (dotted name, line) of all that a module imports, also inside functions.

    `from a import b` yields both `a` and `a.b`: b may be a module or a name.
    """
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.name}: relative import"
            assert node.module is not None
            yield node.module, node.lineno
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def names(source: Module) -> Iterator[tuple[str, int]]:
    """Yield (name, line) of every name, attribute (dotted as written) and imported name that is used."""
    yield from imports(source)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute):
            yield dotted(node), node.lineno


def dotted(node: ast.expr) -> str:
    """Return `a.b.c` as written; what is not a plain name becomes `?`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return "?"
