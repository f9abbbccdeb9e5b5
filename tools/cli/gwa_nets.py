"""What an operator of `smgw gwa` does about DC-nets by hand: withdrawals as files."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import typer


def withdrawal(directory: Path, net: str | None, file: Path | None) -> None:
    """Write the statement about a net to a file, or with None take one from it; says what was done.

    Raises:
        typer.BadParameter: no file, or what is refused by its name.
    """
    from firmware.enforcement.dcnet.errors import DcNetError
    from tools.counterparts.gwa import read_settings
    from wan.errors import MalformedMessage, OrderRefused

    if file is None:
        raise typer.BadParameter("--file names the file")
    try:
        name = read_settings(directory).roster_name
        typer.echo(_taken(directory, name, file) if net is None else _written(directory, name, net, file))
    except (OSError, ValueError, OrderRefused, DcNetError, MalformedMessage) as error:
        raise typer.BadParameter(f"{file}: {error}") from error


def _written(directory: Path, name: str, net: str, file: Path) -> str:
    from tools.counterparts.net_withdrawal_mount import teller
    from tools.counterparts.server import emit_text

    file.write_bytes(asyncio.run(teller(directory, name, emit_text).export(net)))
    return f"net {net}: what {name} has withdrawn is in {file}"


def _taken(directory: Path, name: str, file: Path) -> str:
    from firmware.enforcement.dcnet.messages.roster import Attestation
    from tools.counterparts.gwa import place_order
    from tools.counterparts.net_withdrawal import WithdrawalStatement
    from tools.counterparts.net_withdrawal_mount import taker
    from tools.counterparts.server import emit_text
    from wan.cms import signed

    body = file.read_bytes()
    # Which net it is about; whether it is to be believed is judged next.
    said = WithdrawalStatement.from_bytes(signed.parse(Attestation.from_bytes(body).signed).content)
    judge = taker(directory, name, emit_text, partial(place_order, directory))
    gone = asyncio.run(judge.take(said.net.hex(), body))
    return f"net {said.net.hex()}: withdrawn by {said.administrator}: {', '.join(gone) or 'nobody'}"
