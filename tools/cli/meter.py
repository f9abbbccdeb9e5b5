"""`smgw meter`: a virtual electricity meter on a virtual radio stick, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import deque
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lmn.errors import LmnError
from lmn.model import MeterId
from lmn.wmbus.frame import check_bare
from tools.counterparts.meter_wmbus import DEFAULT_KEY, DEFAULT_METER, ElectricityMeter
from tools.counterparts.stick_im871a import VirtualStick

app = typer.Typer(help="A virtual meter on a virtual stick.", rich_markup_mode=None)


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError as error:
        raise typer.BadParameter("no hexadecimal number", param_hint="--key") from error
    if len(key) != 16:
        raise typer.BadParameter(f"a key has 16 bytes, not {len(key)}", param_hint="--key")
    return key


def _meter_id(text: str) -> MeterId:
    try:
        return MeterId.from_text(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--id") from error


def _recorded(path: Path) -> list[bytes]:
    """Telegrams of a file: one in hex a line, without link CRCs; # starts a comment."""
    telegrams = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.split("#")[0].strip()
        if not text:
            continue
        try:
            telegrams.append(check_bare(bytes.fromhex(text)))
        except (ValueError, LmnError) as error:
            raise typer.BadParameter(f"{path}, line {number}: {error}", param_hint="--replay") from error
    return telegrams


async def _run(
    link: Path, interval_ms: int, meter: ElectricityMeter, replay: list[bytes], console: Console
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with VirtualStick(link) as stick:
        console.print(
            f"stick {link}: waiting for a gateway; meter {meter.meter}, one telegram per {interval_ms} ms"
        )
        heard = False
        queue = deque(replay)
        while not stop.is_set():
            if queue:
                telegram = queue[0]
            else:
                meter.step()
                telegram = meter.telegram()
            was_heard = await stick.transmit(telegram)
            if was_heard and queue:
                queue.popleft()  # what is replayed waits for its listener; a real meter does not
            if was_heard is not heard:
                heard = not heard
                console.print("a gateway is listening" if heard else "nobody is listening")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), interval_ms / 1000)


def _run_wired(link: Path, interval_ms: int, id_: str | None, seed: int, rs485: Path | None) -> None:
    from tools.cli.meter_head import run_head, sml_meter  # most meters are radio meters
    from tools.cli.meter_wired import run_wired

    meter_id = None if id_ is None or id_ == str(DEFAULT_METER) else _meter_id(id_)
    try:
        virtual = sml_meter(meter_id, seed)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--id") from error
    if link.exists() and not link.is_symlink():
        raise typer.BadParameter(f"{link} is there and no link", param_hint="--link")
    console = Console(stderr=True, highlight=False)
    if rs485 is not None:
        asyncio.run(run_wired(link, rs485, interval_ms, meter_id, seed, console))
    else:
        asyncio.run(run_head(link, interval_ms, virtual, console))


@app.callback(invoke_without_command=True)
def meter(
    link: Annotated[Path, typer.Option(help="link that the gateway opens as its stick")],
    interval_ms: Annotated[int, typer.Option(min=10, help="time between two telegrams")] = 1000,
    key: Annotated[str, typer.Option(help="master key of the meter, 32 hex digits")] = DEFAULT_KEY.hex(),
    id_: Annotated[str, typer.Option("--id", help="meter, e.g. SMG-10000001-01-02")] = str(DEFAULT_METER),
    seed: Annotated[int, typer.Option(help="of the load curve")] = 0,
    rs485: Annotated[
        Path | None,
        typer.Option(metavar="PEM", help="answer on an RS-485 line; the gateway's certificate lmn-tls.pem"),
    ] = None,
    head: Annotated[
        bool, typer.Option("--head", help="push SML through an infrared head instead of a stick")
    ] = False,
    counter: Annotated[int, typer.Option(min=0, help="message counter that was sent last")] = 0,
    replay: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="send these telegrams first")
    ] = None,
) -> None:
    """Send telegrams of a virtual electricity meter (security mode 7) through a virtual iM871A stick."""
    virtual = ElectricityMeter(_meter_id(id_), _key(key), seed=seed, counter=counter)
    recorded = _recorded(replay) if replay is not None else []
    if head or rs485 is not None:
        _run_wired(link, interval_ms, id_, seed, rs485)
        return
    if link.exists() and not link.is_symlink():
        raise typer.BadParameter(f"{link} is there and no link", param_hint="--link")
    asyncio.run(_run(link, interval_ms, virtual, recorded, Console(stderr=True, highlight=False)))
