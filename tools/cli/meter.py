"""`smgw meter`: a virtual meter on a virtual radio stick, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import deque
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from lmn.errors import LmnError
from lmn.model import MeterId
from lmn.wmbus.frame import check_bare
from tools.counterparts.meter_wmbus import DEFAULT_KEY
from tools.counterparts.meter_wmbus_load import MeterKind
from tools.counterparts.meter_wmbus_virtual import Fault, Protection, VirtualMeter
from tools.counterparts.stick_pty import PtyStick
from tools.counterparts.stick_rtl import PipeReceiver
from tools.counterparts.sticks import EMULATED

SPEED: Final = 60
"""A second of the virtual meter's life lasts this long in its household: registers that move are nicer."""

app = typer.Typer(help="A virtual meter on a virtual stick.", add_completion=False, rich_markup_mode=None)


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
    stick: PtyStick | PipeReceiver,
    interval_ms: int,
    meter: VirtualMeter,
    replay: list[bytes],
    console: Console,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with stick:
        console.print(
            f"stick {stick.link}: waiting for a gateway; meter {meter.meter}, "
            f"one telegram per {interval_ms} ms"
        )
        heard = False
        queue = deque(replay)
        while not stop.is_set():
            if queue:
                telegrams = [queue[0]]
            else:
                meter.step(interval_ms / 1000 * SPEED)
                telegrams = meter.on_air()
            was_heard = False
            for telegram in telegrams:
                was_heard = await stick.transmit(telegram)
            if was_heard and queue:
                queue.popleft()  # what is replayed waits for its listener; a real meter does not
            if was_heard is not heard:
                heard = not heard
                console.print("a gateway is listening" if heard else "nobody is listening")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), interval_ms / 1000)


def _run_wired(
    link: Path, interval_ms: int, id_: str | None, seed: int, rs485: Path | None, master: bytes | None
) -> None:
    from tools.cli.meter_head import run_head, sml_meter  # most meters are radio meters
    from tools.cli.meter_wired import run_wired

    meter_id = None if id_ is None else _meter_id(id_)
    try:
        virtual = sml_meter(meter_id, seed)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--id") from error
    if link.exists() and not link.is_symlink():
        raise typer.BadParameter(f"{link} is there and no link", param_hint="--link")
    console = Console(stderr=True, highlight=False)
    if rs485 is not None:
        asyncio.run(run_wired(link, rs485, interval_ms, meter_id, seed, console, master=master))
    else:
        asyncio.run(run_head(link, interval_ms, virtual, console))


@app.command()
def meter(
    link: Annotated[Path, typer.Option(help="link that the gateway opens as its stick")],
    stick: Annotated[str, typer.Option(help=f"receiver to imitate: {', '.join(EMULATED)}")] = "im871a",
    kind: Annotated[MeterKind, typer.Option(help="what the meter measures")] = MeterKind.ELECTRICITY,
    mode: Annotated[Protection, typer.Option(help="security of its telegrams")] = Protection.MODE7,
    fault: Annotated[
        list[Fault] | None, typer.Option(help="what goes wrong; can be given several times")
    ] = None,
    fault_every: Annotated[int, typer.Option(min=1, help="faults strike each n-th telegram")] = 3,
    interval_ms: Annotated[int, typer.Option(min=10, help="time between two telegrams")] = 1000,
    key: Annotated[str, typer.Option(help="key of the meter, 32 hex digits")] = DEFAULT_KEY.hex(),
    id_: Annotated[
        str | None, typer.Option("--id", help="meter, e.g. SMG-10000001-01-02; one of its kind if left out")
    ] = None,
    seed: Annotated[int, typer.Option(help="of the load curve")] = 0,
    rs485: Annotated[
        Path | None,
        typer.Option(metavar="PEM", help="answer on an RS-485 line; the gateway's certificate lmn-tls.pem"),
    ] = None,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="with --rs485: no certificates yet, to be paired under --key")
    ] = False,
    head: Annotated[
        bool, typer.Option("--head", help="push SML through an infrared head instead of a stick")
    ] = False,
    counter: Annotated[int, typer.Option(min=0, help="message counter that was sent last")] = 0,
    replay: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="send these telegrams first")
    ] = None,
) -> None:
    """Send telegrams of a virtual meter through a virtual stick, until Ctrl-C."""
    if head or rs485 is not None:
        _run_wired(link, interval_ms, id_, seed, rs485, _key(key) if unpaired else None)
        return
    if stick not in EMULATED:
        raise typer.BadParameter(f"one of {', '.join(EMULATED)}", param_hint="--stick")
    virtual = VirtualMeter(
        kind,
        mode,
        meter=None if id_ is None else _meter_id(id_),
        key=_key(key),
        seed=seed,
        counter=counter,
        faults=fault or (),
        fault_every=fault_every,
    )
    recorded = _recorded(replay) if replay is not None else []
    if link.exists() and not link.is_symlink():
        raise typer.BadParameter(f"{link} is there and no link", param_hint="--link")
    console = Console(stderr=True, highlight=False)

    async def run() -> None:
        await _run(EMULATED[stick](link), interval_ms, virtual, recorded, console)

    asyncio.run(run())
