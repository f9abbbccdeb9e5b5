"""What `smgw backup` and `smgw restore` share: the gateway's configuration, its module, progress, errors."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress

from firmware.config import GatewayConfig, load, read_secret
from firmware.errors import ConfigurationRefused, FirmwareError, StoreUnavailable
from hsm.errors import HsmError
from hsm.session import FilePinGuard, ModuleSession
from hsm.transport import opener

FAILED: Final = 1
REFUSED_CONFIGURATION: Final = 3
ConfigOption = Annotated[
    Path, typer.Option("-c", "--config", metavar="DIR/gateway.toml", help="of the gateway")
]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON object on standard output")]
Step = Callable[[str, int, int], None]


@contextmanager
def shown_progress() -> Iterator[Step]:
    """Show bars on a terminal, nothing elsewhere; standard output stays free for results."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bars:
        tasks: dict[str, Any] = {}

        def step(name: str, done: int, of: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=of)
            bars.update(tasks[name], completed=done, total=of)

        yield step


@contextmanager
def told_errors(word: str, *, as_json: bool) -> Iterator[None]:
    """Turn what may go wrong into a line, or an object, and an exit code."""
    try:
        yield
    except ConfigurationRefused as refused:
        _fail(word, refused, REFUSED_CONFIGURATION, as_json=as_json)
    except (FirmwareError, HsmError, OSError) as error:
        _fail(word, error, FAILED, as_json=as_json)


def _fail(word: str, error: Exception, code: int, *, as_json: bool) -> NoReturn:
    hint = ""
    if isinstance(error, StoreUnavailable) and "another process" in str(error):
        hint = "; stop the gateway first"
    if as_json:
        print(json.dumps({"ok": False, "error": {"code": type(error).__name__, "message": f"{error}{hint}"}}))
    else:
        print(f"smgw {word}: {error}{hint}", file=sys.stderr)
    raise typer.Exit(code)


def configuration(path: Path) -> GatewayConfig:
    """Read gateway.toml; ConfigurationRefused lists what is wrong with it."""
    return load(path)


@asynccontextmanager
async def module_of(config: GatewayConfig) -> AsyncIterator[ModuleSession]:
    """Open a session with the gateway's security module; a PIN it refused once is not tried again."""
    guard = FilePinGuard(config.gateway.state / "refused-pins")
    connect = opener(config.module.way)
    async with ModuleSession(connect, partial(read_secret, config.module.pin_file), guard=guard) as module:
        yield module
