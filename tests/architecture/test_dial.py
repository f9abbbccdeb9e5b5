"""One place opens connections, none listens: the gateway is a TLS client in the WAN and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPENERS = {"connect", "serve"}
LOCAL = {"firmware/life/systemd/client.py": {"socket"}}
"""Speaks to the service manager of this machine: AF_UNIX alone, see the test below."""
RAW = {"open_connection", "start_server", "create_connection", "create_server", "sock_connect", "socket"}


def _product(package: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def _tls_names(tree: ast.Module) -> set[str]:
    """What a module takes out of `hsm.tls`, and whether it takes the whole."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hsm.tls"):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("hsm.tls")}
        elif isinstance(node, ast.ImportFrom) and node.module == "hsm":
            names |= {alias.name for alias in node.names if alias.name == "tls"}
    return names


@pytest.mark.parametrize("package", ["firmware", "wan", "han", "lmn"])
def test_wan_dial_alone_opens_connections(package: str) -> None:
    for name, tree in _product(package):
        opened = {one for one in _tls_names(tree) if one in OPENERS or one.startswith(("hsm.tls", "tls"))}
        assert opened <= ({"connect"} if name == "wan/dial.py" else set()), name


@pytest.mark.parametrize("package", ["firmware", "wan"])
def test_no_socket_without_tls(package: str) -> None:
    for name, tree in _product(package):
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & RAW
        assert used <= LOCAL.get(name, set()), f"{name}: {used}"


def test_the_socket_to_the_service_manager_is_local() -> None:
    for name in LOCAL:
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
        families = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert {one for one in families if one.startswith("AF_")} == {"AF_UNIX"}
