"""`smgw init DIR`: a gateway's own folder, ready to run."""

from __future__ import annotations

import json
import re
import secrets
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from firmware.config import DEVICE_ID
from lmn.wmbus.kinds import KINDS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

PIN_DIGITS = 12
"""BSI TR-03116-3, 10 asks for at least ten."""


def write_pin(file: Path) -> bytes:
    """Draw a PIN, keep it in a new file of mode 0600, and return it."""
    pin = "".join(secrets.choice("0123456789") for _ in range(PIN_DIGITS)).encode()
    file.touch(mode=0o600)
    file.write_bytes(pin)
    return pin


def make_folder(folder: Path, *, gateway_id: str, port: str = "stick0", kind: str = "im871a") -> None:
    """Write configuration, PIN and a new emulated security module into `folder`.

    Raises:
        FileExistsError: there is a configuration already; nothing was changed.
    """
    from hsm.emulator.personalise import new_card  # imported late: `--help` needs no libcrypto

    configuration = folder / "gateway.toml"
    if configuration.exists():
        raise FileExistsError(configuration)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    new_card(folder / "module", write_pin(folder / "pin"))
    examples = files("tools") / "examples"
    text = (examples / "gateway.toml").read_text(encoding="utf-8")
    text = text.replace("ESGW0100000001", gateway_id).replace('"stick0"', json.dumps(port))
    text = text.replace('kind = "im871a"', f"kind = {json.dumps(kind)}")
    (folder / "meters.toml").write_text(
        (examples / "meters.toml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    (folder / "meters.toml").chmod(0o600)
    configuration.write_text(text, encoding="utf-8")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="a new or empty folder")],
    gateway_id: Annotated[str, typer.Option("--id", help="14 characters, DIN 43849")] = "ESGW0100000001",
    port: Annotated[
        str, typer.Option(help="serial port of the stick, relative to DIR or absolute")
    ] = "stick0",
    kind: Annotated[
        str | None, typer.Option(help=f"kind of stick: auto (ask the port), {', '.join(KINDS)}")
    ] = None,
) -> None:
    """Make a gateway's own folder with a commented configuration, a PIN and an emulated security module."""
    if kind not in (None, "auto", *KINDS):
        raise typer.BadParameter(f"one of auto, {', '.join(KINDS)}", param_hint="--kind")
    if not re.fullmatch(DEVICE_ID, gateway_id):
        raise typer.BadParameter(
            f'14 characters such as "ESGW0100000001", not {gateway_id!r}', param_hint="--id"
        )
    chosen = kind or ("im871a" if port == "stick0" else "auto")  # what a virtual stick is, is known
    try:
        make_folder(folder, gateway_id=gateway_id, port=port, kind=chosen)
    except FileExistsError:
        typer.echo(f"smgw init: {folder} holds a gateway already; choose another folder", err=True)
        raise typer.Exit(1) from None
    typer.echo(
        f"{folder} is ready. Next:\n"
        f"  1. name your meters and their keys in {folder / 'meters.toml'}\n"
        f"  2. a virtual stick to try it:  smgw meter --link {folder / 'stick0'}\n"
        f"  3. the gateway:                smgw run -c {folder / 'gateway.toml'}   (Ctrl-C stops it)\n"
        f"  4. what it does:               smgw status -c {folder / 'gateway.toml'}"
    )
