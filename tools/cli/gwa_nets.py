"""What an operator of `smgw gwa` does about DC-nets by hand: withdrawals as files, a word on swaps."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

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


def swaps(directory: Path, agree: str | None, refuse: str | None, *, as_json: bool) -> None:
    """Note the operator's word on a swap, or list those that he was asked about.

    Args:
        directory: the administrator's.
        agree: proposal to agree to.
        refuse: proposal to refuse.
        as_json: one JSON object a line.

    Raises:
        typer.BadParameter: no such proposal.
    """
    from tools.counterparts.net_swap_mount import answer_swap, swaps_asked
    from wan.errors import OrderRefused

    try:
        said = [answer_swap(directory, one.lower(), agree=one is agree) for one in (agree, refuse) if one]
    except (OSError, OrderRefused) as error:
        raise typer.BadParameter(f"{directory}: {error}") from error
    for one in said or swaps_asked(directory):
        typer.echo(json.dumps(one) if as_json else _sentence(one))
    if not said and not as_json and not swaps_asked(directory):
        typer.echo("nobody has proposed a swap")


def _sentence(asked: dict[str, Any]) -> str:
    (one, two), (there, back) = asked["nets"], asked["move"]
    own = ", ".join(f"{gateway} to {net}" for gateway, net in sorted(asked["own"].items()))
    word = {"agree": "agreed", "refuse": "refused"}.get(asked["answer"], "waits for a word")
    return (
        f"{asked['proposal']}  {word}: from epoch {asked['first_epoch']} on {there} of net {one} and {back} "
        f"of net {two} change places; {own or 'none of ours'}"
    )
