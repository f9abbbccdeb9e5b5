"""`smgw hsm`: look at a security module, try it, talk to it, show an emulated one, make one ready."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from firmware.config import DEVICE_ID
from hsm.apdu import CommandApdu
from hsm.api import Curve, DataObject
from hsm.errors import CommandRefused, HsmError, MalformedCommand, ModuleUnavailable, PinRefused
from hsm.transport import WAYS, Emulator, Tcp, Way, is_loopback, opener, parse_way, split_address
from tools.cli.init import write_pin
from tools.module import probe
from tools.module.access import ModuleAccess, in_the_clear, masked, name_of, under_pace

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
T = TypeVar("T")

VPCD = "127.0.0.1:35963"
"""Where Debian's vpcd waits for a card."""

TransportOption = Annotated[
    str, typer.Option("--transport", metavar="WAY", help=WAYS.replace('"emulator"', '"emulator:DIR"'))
]
PinOption = Annotated[
    Path | None,
    typer.Option("--pin-file", help="file with the PACE-PIN; the emulator's is looked for beside its folder"),
]
RemoteOption = Annotated[
    bool, typer.Option("--insecure-remote", help="allow a TCP transport that leaves this machine")
]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON object on standard output")]


@app.callback()
def _root() -> None:
    """The security module: emulated, over TCP, or a card in a PC/SC reader."""


@app.command()
def info(
    transport: TransportOption,
    pin_file: PinOption = None,
    remote: RemoteOption = False,
    as_json: JsonOption = False,
) -> None:
    """What the card is: ATR, PACE, tries; with the PIN also keys, objects and certificates."""
    access = _access(transport, pin_file, remote)
    about = _run(probe.describe(access))
    about = {"transport": transport, **about}
    if as_json:
        print(json.dumps(about))
        return
    console = Console()
    for name in ("transport", "atr", "application", "card_access", "pin_tries"):
        console.print(f"{name.replace('_', ' '):<12} {about[name] or '(none)'}", markup=False)
    for suite, curves in about["pace"].items():
        console.print(f"{'PACE ' + suite:<12} {', '.join(curves) or '(lacks it)'}", markup=False)
    if "keys" not in about:
        console.print("keys and objects are shown with the PIN: --pin-file")
        return
    keys = Table("slot", "reference", "curve", "SHA-256 of the point", title="key pairs")
    for key in about["keys"]:
        keys.add_row(key["slot"], key["reference"], key["curve"], key["sha256"][:16] + "...")
    objects = Table("object", "file", "bytes", "content", title="objects")
    for entry in about["objects"]:
        objects.add_row(entry["object"], entry.get("file", ""), str(entry.get("bytes", "")), _content(entry))
    console.print(keys)
    console.print(objects)


def _content(entry: dict[str, Any]) -> str:
    if "refused" in entry:
        return f"refused: SW={entry['refused']}"
    if "certificates" in entry:
        return "\n".join(f"{one['subject']}, until {one['not_after_utc']}" for one in entry["certificates"])
    if "counter" in entry:
        return f"counter {entry['counter']}"
    return str(entry.get("content", ""))


@app.command()
def selftest(
    transport: TransportOption,
    pin_file: PinOption = None,
    remote: RemoteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Try each algorithm against the same one computed here: which the card has, lacks, or gets wrong.

    Exit code 1 if one is wrong; what a card lacks is no fault. Nothing that lasts is changed.
    """
    checks = _run(probe.selftest(_access(transport, pin_file, remote)))
    failed = sum(check.outcome == "failed" for check in checks)
    if as_json:
        lines = [{"name": c.name, "outcome": c.outcome, "detail": c.detail} for c in checks]
        print(json.dumps({"ok": not failed, "checks": lines}))
    else:
        colours = {"ok": "green", "lacks": "yellow", "failed": "red"}
        table = Table("check", "outcome", "")
        for check in checks:
            table.add_row(check.name, f"[{colours[check.outcome]}]{check.outcome}[/]", check.detail)
        Console().print(table)
    raise typer.Exit(1 if failed else 0)


@app.command()
def pace(
    transport: TransportOption,
    pin_file: PinOption = None,
    remote: RemoteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Set up one session and show each step with its time at the card; secrets are masked."""
    access = _access(transport, pin_file, remote)

    async def once() -> None:
        async with access.session():
            pass

    _run(once())
    lines: list[dict[str, Any]] = []
    for step in access.trace.steps:
        name = name_of(step.command)
        lines.append(
            {
                "step": name,
                "ms": round(1000 * step.seconds, 3),
                "command": masked(name, step.command[5:]),
                "header": step.command[:4].hex(),
                "answer": masked(name, step.answer[:-2]),
                "sw": step.answer[-2:].hex(),
            }
        )
    total = round(sum(line["ms"] for line in lines), 3)
    if as_json:
        print(json.dumps({"ms": total, "steps": lines}))
        return
    table = Table("step", "ms", "header", "command", "answer", "SW", title=f"PACE, {total:g} ms at the card")
    for line in lines:
        table.add_row(*(str(line[key]) for key in ("step", "ms", "header", "command", "answer", "sw")))
    Console().print(table)


@app.command()
def apdu(
    command: Annotated[str, typer.Argument(metavar="HEX", help="the command in the clear, e.g. 0084000008")],
    transport: TransportOption,
    pin_file: PinOption = None,
    plain: Annotated[bool, typer.Option("--plain", help="send it without a session")] = False,
    remote: RemoteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send one command, under PACE and secure messaging unless --plain is given; exit code 1 unless 9000."""
    try:
        parsed = CommandApdu.from_bytes(bytes.fromhex(command))
    except (ValueError, MalformedCommand) as error:
        raise typer.BadParameter(f"no command APDU: {error}", param_hint="HEX") from None
    access = _access(transport, pin_file, remote, wants_pin=not plain)

    async def once() -> Any:
        if not plain:
            return await under_pace(access, parsed)
        return (await in_the_clear(access, parsed))[1][0]

    answer = _run(once())
    seconds = access.trace.steps[-1].seconds
    if as_json:
        print(
            json.dumps({"data": answer.data.hex(), "sw": f"{answer.sw:04x}", "ms": round(1000 * seconds, 3)})
        )
    else:
        print(f"{answer.data.hex()} SW={answer.sw:04X} ({1000 * seconds:.2f} ms)".strip())
    raise typer.Exit(0 if answer.sw == probe.OK else 1)


@app.command()
def serve(
    transport: TransportOption,
    connect: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="call a vpcd that waits there; default: 127.0.0.1:35963"),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="wait there, and at PORT + 1, for a vpcd or gateway"),
    ] = None,
    pin_file: PinOption = None,
    insecure_listen: Annotated[
        bool, typer.Option("--insecure-listen", help="allow another address than loopback")
    ] = False,
) -> None:
    """Show the emulated card as one in a PC/SC reader, through vpcd; until Ctrl-C.

    A folder without a card gets a new one if --pin-file names its PIN.
    """
    way = _way(transport, remote=False)
    if not isinstance(way, Emulator) or way.folder is None:
        raise typer.BadParameter("only an emulated card can be shown: emulator:DIR", param_hint="--transport")
    if connect is not None and listen is not None:
        raise typer.BadParameter("one card has one reader: --connect or --listen", param_hint="--listen")
    try:
        host, port = split_address(listen or connect or VPCD)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--listen" if listen else "--connect") from None
    if not is_loopback(host) and not insecure_listen:
        raise typer.BadParameter(
            f"{host} can be reached from outside; who can reach a card can block its PIN "
            "(--insecure-listen allows it)",
            param_hint="--listen" if listen else "--connect",
        )
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if pin_file is not None:
        _new_emulator(way.folder, pin_file)
    _run(_serve(way.folder, host, port, waiting=listen is not None))


async def _serve(folder: Path, host: str, port: int, *, waiting: bool) -> None:
    from hsm.emulator import load_card
    from hsm.emulator.vpcd import call, shown

    card = load_card(folder)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        if waiting:
            port = await stack.enter_async_context(shown(card, host, port))
            print(f"listening {host}:{port}", flush=True)
        else:
            calling = asyncio.create_task(call(card, host, port))
            stack.callback(calling.cancel)
            print(f"calling {host}:{port}", flush=True)
        await stop.wait()


@app.command()
def personalise(
    transport: TransportOption,
    gateway_id: Annotated[str, typer.Option("--id", help="14 characters, DIN 43849")] = "ESGW0100000001",
    pin_file: PinOption = None,
    curve: Annotated[str, typer.Option(help="of the WAN key pairs")] = Curve.BRAINPOOL_P256.value,
    requests: Annotated[
        Path | None, typer.Option(help="folder for the three certificate requests, DER")
    ] = None,
    replace_keys: Annotated[
        bool, typer.Option("--replace-keys", help="also where the module has WAN keys: they are lost")
    ] = False,
    remote: RemoteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a module a gateway's own: TLS, SIG and ENC key pairs made inside it, its identifier written.

    An emulator's folder without a card gets a new one; without a PIN file, one is made beside the folder.
    """
    try:
        chosen = Curve(curve)
    except ValueError:
        known = ", ".join(one.value for one in Curve)
        raise typer.BadParameter(f"one of {known}", param_hint="--curve") from None
    if not re.fullmatch(DEVICE_ID, gateway_id):
        raise typer.BadParameter(
            f'14 characters such as "ESGW0100000001", not {gateway_id!r}', param_hint="--id"
        )
    way = _way(transport, remote=remote)
    if isinstance(way, Emulator) and way.folder is not None:
        pin_file = _new_emulator(way.folder, pin_file)
    done = _run(_personalise(_access(transport, pin_file, remote), gateway_id, chosen, replace=replace_keys))
    written = []
    if requests is not None:
        requests.mkdir(parents=True, exist_ok=True)
        for use, der in done.items():
            (requests / f"{use}.csr").write_bytes(der)
            written.append(str(requests / f"{use}.csr"))
    if as_json:
        print(json.dumps({"gateway": gateway_id, "curve": curve, "requests": written}))
    else:
        print(f"{gateway_id}: three key pairs on {curve} are in the module", *written, sep="\n")


def _new_emulator(folder: Path, pin_file: Path | None) -> Path:
    """Make the card if there is none; the file of its PIN."""
    from hsm.emulator.personalise import new_card
    from hsm.emulator.storage import FileStorage

    pin_file = pin_file or folder.parent / "pin"
    if not FileStorage(folder).exists():
        if not pin_file.exists():
            pin_file.parent.mkdir(parents=True, exist_ok=True)
            write_pin(pin_file)
        try:
            new_card(folder, _pin(pin_file))
        except HsmError as error:
            _fail(error)
    return pin_file


async def _personalise(
    access: ModuleAccess, gateway_id: str, curve: Curve, *, replace: bool
) -> dict[str, bytes]:
    from wan.pki.enrol import SLOTS, make_triple

    async with access.session() as session:
        if not replace:
            for slot in SLOTS.values():
                try:
                    await session.public_key(slot)
                except CommandRefused:
                    continue
                raise HsmError(f"there is a key pair in {slot.name} already; --replace-keys makes a new one")
        made = await make_triple(session, gateway_id, curve)
        await session.write_object(DataObject.IDENTIFIERS, gateway_id.encode())
    return {use.value: der for use, der in made.items()}


# --- what the commands share -------------------------------------------------------------------------------


def _way(transport: str, *, remote: bool) -> Way:
    try:
        way = parse_way(transport)
    except ValueError as expected:
        raise typer.BadParameter(f"expected {expected}", param_hint="--transport") from None
    if isinstance(way, Emulator) and way.folder is None:
        raise typer.BadParameter("emulator:DIR names the folder of the card", param_hint="--transport")
    if isinstance(way, Tcp) and way.remote and not remote:
        raise typer.BadParameter(
            f"{way.host} is not this machine (--insecure-remote allows it)", param_hint="--transport"
        )
    return way


def _access(transport: str, pin_file: Path | None, remote: bool, *, wants_pin: bool = True) -> ModuleAccess:
    way = _way(transport, remote=remote)
    if pin_file is None and isinstance(way, Emulator) and way.folder is not None:
        beside = way.folder.parent / "pin"
        pin_file = beside if beside.exists() else None
    try:
        return ModuleAccess(opener(way), _pin(pin_file) if pin_file is not None and wants_pin else None)
    except HsmError as error:
        _fail(error)


def _pin(path: Path) -> bytes:
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="--pin-file") from None


def _run(work: Awaitable[T]) -> T:
    async def run() -> T:
        return await work

    try:
        return asyncio.run(run())
    except (HsmError, OSError) as error:
        _fail(error)


_HINTS: tuple[tuple[Callable[[BaseException], bool], str], ...] = (
    (
        lambda error: isinstance(error, PinRefused) and error.tried,
        "check --pin-file; a wrong PIN costs a try",
    ),
    (
        lambda error: isinstance(error, PinRefused),
        "the last try is left to a human: reset the PIN's counter with its owner's means",
    ),
    (
        lambda error: isinstance(error, CommandRefused) and error.command == "SELECT",
        "this card has no application of this profile; smgw hsm apdu --plain still talks to it",
    ),
    (
        lambda error: isinstance(error, ModuleUnavailable) and "no emulated card" in str(error),
        "smgw hsm personalise makes one",
    ),
)


def _fail(error: BaseException) -> NoReturn:
    """Say what is wrong and what helps; exit code 1."""
    print(f"smgw hsm: {error}", file=sys.stderr)
    for fits, hint in _HINTS:
        if fits(error):
            print(f"  {hint}", file=sys.stderr)
            break
    raise typer.Exit(1) from None
