"""`smgw listen`: what does my stick hear? Pick a meter, enter its key, see its values, keep its profile."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from firmware.errors import ConfigurationRefused
from lmn.errors import LmnError, UnexpectedMessage
from lmn.wmbus.driver import WmbusStick
from lmn.wmbus.kinds import KINDS, Kind
from lmn.wmbus.link import ReceivedFrame, StickStatistics
from tools.cli.decode import HINTS, show
from tools.cli.plain_words import Lang, language
from tools.cli.telegram_words import said
from tools.listen.finding import NoReceiver, find
from tools.listen.hearing import Heard, Hearing, open_last
from tools.listen.meter_profile import add, block

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

REFRESH_S: Final = 0.5
RETRY_S: Final = 3.0
"""Pause before a receiver that went away is opened again."""
_ROWS: Final = 40


class Session:
    """One run of the command: receiver, what it heard, and whom to tell."""

    def __init__(
        self, port: str, kind: Kind, mode: str | None, tell: Callable[[dict[str, Any]], None]
    ) -> None:
        self.port, self.kind, self.mode = port, kind, mode
        self.hearing = Hearing()
        self.statistics = StickStatistics()
        self.trouble = ""
        self._tell = tell

    async def run(self) -> None:
        """Listen until cancelled; a receiver that goes away is opened again."""
        now = asyncio.get_running_loop().time
        while True:
            stick = WmbusStick.of_kind(
                self.kind, self.port, self._take, now, mode=self.mode, statistics=self.statistics
            )
            try:
                await stick.run()
            except (LmnError, OSError) as error:
                self.trouble = str(error) or type(error).__name__
                if isinstance(error, TimeoutError | UnexpectedMessage):
                    self.trouble = self.trouble or "no answer"
                self._tell({"event": "trouble", "port": self.port, "message": self.trouble})
            await asyncio.sleep(RETRY_S)

    def _take(self, frame: ReceivedFrame) -> None:
        self.trouble = ""
        heard = self.hearing.take(frame)
        if heard is None:
            self._tell({"event": "refused", "codes": dict(self.hearing.refused)})
        else:
            self._tell({"event": "telegram", **heard.to_json(), "telegram_hex": frame.data.hex()})

    def summary(self) -> dict[str, Any]:
        """What the receiver did."""
        seen = self.statistics
        return {
            "event": "stick",
            "port": self.port,
            "kind": self.kind.name,
            "device": seen.device,
            "mode": seen.link_mode,
            "telegrams": seen.frames,
            "meters": len(self.hearing.meters()),
            "crc_failures": seen.crc_failures,
            "truncated": seen.truncated,
            "duplicates": seen.duplicates,
            "garbage_bytes": seen.garbage_bytes,
            "refused": dict(self.hearing.refused),
        }

    def advice(self, lang: Lang = Lang.EN) -> str:
        """What to look at when little or nothing comes."""
        seen, say = self.statistics, partial(said, lang=lang)
        if self.trouble:
            return say("trouble: {trouble}", trouble=say(self.trouble))
        if not seen.bytes:
            return say("no byte from the receiver yet: right kind? `smgw doctor --port ...` looks closer")
        if not seen.frames and seen.garbage_bytes:
            words = "{garbage} bytes that are no message: is it another kind? name it with --kind"
            return say(words, garbage=seen.garbage_bytes)
        if not seen.frames:
            words = "mode {mode}: nothing heard yet; some meters send every few minutes only"
            return say(words, mode=seen.link_mode)
        if seen.truncated > seen.frames:
            return say("most telegrams come cut off: this receiver is too small for them")
        if seen.crc_failures > seen.frames:
            return say("most messages have wrong checksums: weak signal, a bad cable, or a second program")
        if sum(self.hearing.refused.values()) > len(self.hearing.meters()):
            codes = ", ".join(f"{code} {count}" for code, count in self.hearing.refused.items())
            words = "telegrams that cannot be taken apart: {codes}; a number and Enter picks a meter"
            return say(words, codes=codes)
        return ""


def table(session: Session, now: float, lang: Lang = Lang.EN) -> Table:
    """What was heard, one row a meter."""
    seen, say = session.statistics, partial(said, lang=lang)
    title = say(
        "{kind} on {port}, mode {mode}: {frames} telegrams",
        kind=session.kind.title,
        port=session.port,
        mode=seen.link_mode or "?",
        frames=seen.frames,
    )
    heads = ("#", "maker", "number", "kind", "mode", "security", "every", "dBm", "last")
    view = Table(*(say(head) for head in heads), title=title)
    rows = sorted(session.hearing.meters(), key=lambda heard: -heard.last_at)[:_ROWS]
    for heard in sorted(rows, key=lambda heard: heard.number):
        every, signal_dbm = heard.interval_s, heard.rssi_dbm
        view.add_row(
            str(heard.number),
            heard.meter.manufacturer,
            heard.meter.identification,
            heard.medium,
            heard.link_mode,
            heard.security,
            "-" if every is None else f"{every:.0f} s",
            "-" if signal_dbm is None else str(signal_dbm),
            say("{seconds} s ago", seconds=f"{now - heard.last_at:.0f}"),
        )
    view.caption = session.advice(lang) or say("a number and Enter picks a meter, Ctrl-C ends")
    return view


def pick(
    heard: Heard,
    meters: Path,
    console: Console,
    ask: Callable[..., str] = typer.prompt,
    lang: Lang = Lang.EN,
) -> None:
    """Ask for a meter's key, show its values, and keep its profile if that is wanted."""
    say = partial(said, lang=lang)
    console.print(f"[bold]{heard.meter}[/], {heard.medium}, {say('security')} {heard.security}")
    what = say("key, 32 hex digits (empty: it has none)")
    text = ask(what, default="", hide_input=True, show_default=False)
    try:
        key = bytes.fromhex(text) or None
    except ValueError:
        console.print(say("that is no hexadecimal number"))
        return
    try:
        telegram = open_last(heard, key)
    except LmnError as error:
        console.print(f"{say('refused')} ({error.code}): {error}", markup=False)
        console.print(say(HINTS[error.code]), markup=False)
        return
    show(telegram, console, lang)
    name = ask(say("name of its profile (empty: do not keep it)"), default="", show_default=False)
    if not name:
        return
    consumer = ask(say("whose values are they"), default="consumer-1")
    try:
        add(meters, block(name, telegram, key, consumer))
    except ConfigurationRefused as refused:
        for fault in refused.faults:
            wrong = say("{key}: {expected} is expected", key=fault.key, expected=fault.expected)
            console.print(say("not written: {fault}", fault=wrong), markup=False)
    except OSError as error:
        console.print(say("not written: {fault}", fault=error), markup=False)
    else:
        console.print(say("written to {file}", file=meters))


def tell_json(event: dict[str, Any]) -> None:
    """One JSON object a line."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def tell_new(session: Session, named: int, console: Console) -> int:
    """Name the meters numbered above `named`, a line each; how many are named then."""
    for heard in session.hearing.meters():
        if heard.number > named:
            console.print(f"{heard.number}: {heard.meter}, {heard.medium}, {heard.security}", markup=False)
            named = heard.number
    return named


async def _run(session: Session, seconds: float | None, meters: Path, *, as_json: bool, lang: Lang) -> None:
    loop = asyncio.get_running_loop()
    stop, typed = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    listening = asyncio.create_task(session.run())
    deadline = None if seconds is None else loop.time() + seconds
    console = Console()
    named = 0
    try:
        if as_json:
            async with asyncio.timeout(seconds):
                await stop.wait()
            return
        if sys.stdin.isatty():
            loop.add_reader(sys.stdin.fileno(), typed.set)
        while not stop.is_set() and (deadline is None or loop.time() < deadline):
            with Live(table(session, loop.time(), lang), console=console, auto_refresh=False) as live:
                while not stop.is_set() and not typed.is_set():
                    if deadline is not None and loop.time() >= deadline:
                        break
                    await asyncio.sleep(REFRESH_S)
                    live.update(table(session, loop.time(), lang), refresh=True)
                    if console.is_dumb_terminal:  # it cannot redraw: each meter is told once
                        named = tell_new(session, named, console)
            if typed.is_set():
                typed.clear()
                if not select.select([sys.stdin], [], [], 0)[0]:
                    continue  # told twice of one line
                line = sys.stdin.readline()
                if not line:
                    loop.remove_reader(sys.stdin.fileno())
                    continue
                heard = session.hearing.numbered(int(line)) if line.strip().isdecimal() else None
                if heard is not None:
                    loop.remove_signal_handler(signal.SIGINT)  # a prompt ends by Ctrl-C as everywhere
                    try:
                        pick(heard, meters, console, lang=lang)
                    except (typer.Abort, KeyboardInterrupt):
                        console.print()
                    loop.add_signal_handler(signal.SIGINT, stop.set)
    except TimeoutError:
        pass
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        if as_json:
            tell_json(session.summary())


@app.command()
def listen(
    port: Annotated[
        str | None,
        typer.Option(help="serial device, named pipe (rtl_433: with --kind), or file; found if left out"),
    ] = None,
    kind: Annotated[str | None, typer.Option(help=f"receiver: {', '.join(KINDS)}; asked if left out")] = None,
    mode: Annotated[str | None, typer.Option(help="radio mode: T1, C1, S1 or C1+T1")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a telegram")] = False,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="stop after this time")] = None,
    meters: Annotated[Path, typer.Option(help="where profiles of picked meters are kept")] = Path(
        "meters.toml"
    ),
    lang: Annotated[Lang | None, typer.Option(help="of what is shown; else that of LANG")] = None,
) -> None:
    """Show what a receiver hears. Exit code 1: no receiver; 2: wrong usage."""
    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(f"one of {', '.join(KINDS)}", param_hint="--kind")

    async def run() -> None:
        where, what = await find(port, kind)
        if mode is not None and mode not in what.modes:
            raise typer.BadParameter(f"{what.title}: one of {', '.join(what.modes)}", param_hint="--mode")
        session = Session(where, what, mode, tell_json if as_json else lambda _event: None)
        await _run(session, seconds, meters, as_json=as_json, lang=lang or language(os.environ))

    try:
        asyncio.run(run())
    except NoReceiver as error:
        typer.echo(f"smgw listen: {error}", err=True)
        raise typer.Exit(1) from error
