"""`smgw log code`: gives a consumer the code that opens the own log on the gateway's machine."""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from firmware import config
from firmware.errors import AccessRefused, ConfigurationRefused
from firmware.life.callers import CODES, verifier_of, with_code

_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUPS, _EACH = 5, 4
"""Twenty of 31 characters: 99 bits."""
_SALT_BYTES: Final = 16
CodeOption = Annotated[
    Path | None,
    typer.Option("--code-file", metavar="FILE", help="holds the consumer's code; else it is asked for"),
]


def code(
    configuration: Annotated[Path, typer.Option("-c", "--config", metavar="DIR/gateway.toml")],
    name: Annotated[str, typer.Option("--consumer", help="whose code")],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output")] = False,
) -> None:
    """Make a new code for a consumer and show it, once; an older one is no longer taken.

    The gateway keeps what it can compare the code with, not the code. It takes the new one at once.
    """
    try:
        drawn = new_code(configuration, name)
    except FileNotFoundError as error:
        print(f"smgw log: {error.filename}: has this gateway ever run?", file=sys.stderr)
        raise typer.Exit(1) from None
    except (ConfigurationRefused, AccessRefused, OSError) as error:
        print(f"smgw log: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(json.dumps({"consumer": name, "code": drawn}))
    else:
        print(drawn)
        print(f"the code of {name}; it is kept nowhere and shown this once", file=sys.stderr)


def new_code(configuration: Path, name: str) -> str:
    """Make a new code for a consumer and return it; an older one is no longer taken.

    Raises:
        ConfigurationRefused: the gateway's configuration, or its file of codes.
        AccessRefused, OSError: the file cannot be used.
    """
    drawn = "-".join("".join(secrets.choice(_ALPHABET) for _ in range(_EACH)) for _ in range(_GROUPS))
    file = config.load(configuration).gateway.state / CODES
    before = config.read_optional_secret(file) or b""
    _write(file, with_code(before, name, verifier_of(drawn, secrets.token_bytes(_SALT_BYTES))))
    return drawn


def code_of(file: Path | None, consumer: str) -> str:
    """Return a consumer's code: from a file, else asked for on a terminal, else "".

    Raises:
        OSError: the file cannot be read.
    """
    if file is not None:
        return file.read_text(encoding="utf-8").strip()
    if not sys.stdin.isatty():
        return ""
    return str(typer.prompt(f"code of {consumer}", hide_input=True, default="", show_default=False))


def _write(file: Path, content: bytes) -> None:
    """Replace the file as a whole: a reader sees the old codes or the new ones."""
    part = file.with_name(file.name + ".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        owner = file.parent.stat()  # root may make a code for a gateway of another user, who must read it
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)
