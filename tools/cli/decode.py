"""`smgw decode`: telegrams to values, for people (a table) and for programs (one JSON object a line)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from lmn.errors import LmnError
from lmn.mbus.compact import FormatCache
from lmn.mbus.decoder import Telegram, decode_layers, sender
from lmn.mbus.duplicates import RecentTelegrams
from lmn.mbus.fragments import Fragments
from lmn.mbus.profiles import Profile, profiles
from lmn.mbus.records import Record
from lmn.mbus.transport import Layers
from lmn.mbus.wired_frame import is_long_frame, layers_of
from lmn.model import MeterId
from lmn.ports import MeterAccess, ReceptionMode
from lmn.wmbus.frame import check_bare, from_format_a, from_format_b, size_of_format_a
from tools.cli.decode_sml import sml
from tools.cli.hex_text import digits_of, is_bare_line
from tools.cli.json_lines import BadLine, task_of, written
from tools.cli.plain_words import Lang, language
from tools.cli.telegram_words import said

app = typer.Typer(
    help="Telegrams to values.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)


@app.callback()
def _root() -> None:
    """Telegrams to values."""


app.command()(sml)


class FrameForm(Enum):
    """How a telegram is written down."""

    RAW = "raw"
    A = "a"
    B = "b"


_UNWRAP: Final[dict[FrameForm, Callable[[bytes], bytes]]] = {
    FrameForm.RAW: check_bare,
    FrameForm.A: from_format_a,
    FrameForm.B: from_format_b,
}
_FIELDS: Final = {
    "telegram_hex": FrameForm.RAW,
    "frame_a_hex": FrameForm.A,
    "frame_b_hex": FrameForm.B,
}
HINTS: Final = {
    "hex": "The input is not a whole number of hexadecimal bytes.",
    "crc": "A checksum is wrong: a damaged telegram, or another frame form than --frame says.",
    "length": "A length field does not match: bytes are cut off, left over, or link CRCs are still inside.",
    "mac": "Another key, or the telegram was altered. Nothing was decrypted.",
    "counter": "The message counter did not rise: an old telegram, sent again.",
    "key": "Give the meter's own key with --key; if you did, it is not this meter's key.",
    "unsupported": "A layer or mode that is not built, or not accepted in this --mode.",
    "downgrade": "Less protected than this profile allows; try without --key and with --mode open.",
    "malformed": "The bytes do not follow the standard's structure.",
    "unknown-meter": "The telegram is from another meter than the one expected.",
    "line": "Bytes from a stick that are no whole message.",
    "port": "The serial port is not there, or went away.",
    "unexpected": "The stick or station said something that its state does not allow.",
}
"""Error code -> what to look at."""


class _BadHex(LmnError):
    """The input is no hexadecimal number."""

    code = "hex"


def _bytes(text: Any) -> bytes:
    try:
        return bytes.fromhex(digits_of(text))
    except (ValueError, TypeError) as error:
        raise _BadHex("not a hexadecimal string of whole bytes") from error


def _form_of(data: bytes) -> FrameForm:
    """Form of a telegram that comes without a word about it: what its L field and its checksums prove.

    Bare and format A never have the same length for one L field. Format B is as long as a bare telegram, and
    is one only if all its checksums are right, which a bare telegram's bytes are once in 65 536.
    """
    if is_long_frame(data):
        return FrameForm.RAW
    if data and data[0] != len(data) - 1 and size_of_format_a(data[0]) == len(data):
        return FrameForm.A
    try:
        from_format_b(data)
    except LmnError:
        return FrameForm.RAW
    return FrameForm.B


class Decoder:
    """Decodes for one run of the command; knows the compact formats seen so far."""

    def __init__(self) -> None:
        self._formats = FormatCache()

    def one(self, data: bytes, form: FrameForm, key: bytes | None, mode: ReceptionMode) -> Telegram:
        """Decode a telegram on its own.

        Raises:
            LmnError: a check failed.
        """
        if form is FrameForm.RAW and is_long_frame(data):
            layers: Layers | None = layers_of(data)
        else:
            layers = Fragments().take(_UNWRAP[form](data), 0.0)
        if layers is None:
            raise _Piece("one piece of a message in fragments; give all of them as a sequence")
        return decode_layers(layers, MeterAccess(sender(layers, key), key, mode), None, self._formats)

    def sequence(
        self, telegrams: Iterable[bytes], form: FrameForm, key: bytes | None, mode: ReceptionMode
    ) -> Iterable[Telegram | LmnError]:
        """Decode telegrams of one meter in order: counters rise, nothing is taken twice."""
        last_counter: int | None = None
        fragments = Fragments()
        recent = RecentTelegrams()
        meter: MeterId | None = None
        for data in telegrams:
            try:
                bare = _UNWRAP[form](data)
                layers = fragments.take(bare, 0.0)
                if layers is None:
                    raise _Piece("one piece of a message in fragments; it comes with the last piece")
                access = MeterAccess(meter or sender(layers, key), key, mode)
                telegram = decode_layers(layers, access, last_counter, self._formats)
                if recent.accepted_at(bare) is not None:
                    raise _Repeated("telegram was received before")
            except LmnError as error:
                yield error
                continue
            recent.add(bare, 0.0)
            meter = telegram.meter
            if telegram.counter is not None:
                last_counter = telegram.counter
            yield telegram


class _Piece(LmnError):
    """A telegram that is only a part of a message."""

    code = "unsupported"


class _Repeated(LmnError):
    """The same telegram once more, in a mode that has no counter."""

    code = "counter"


def field_of(record: Record) -> dict[str, Any]:
    """One record as the command contract writes it."""
    information = record.header.information
    return {
        "function": information.function,
        "storage": information.storage,
        "tariff": information.tariff,
        "subunit": information.subunit,
        "quantity": record.quantity,
        "unit": record.unit,
        "value": record.value_text,
        "dib_vib": record.header.dib_vib.hex(),
        "raw": record.raw.hex(),
    }


def profile_of(profile: Profile) -> dict[str, Any]:
    """One compact profile, beside the fields: its record stays among them, raw."""
    register = profile.register
    return {
        "quantity": register.measurand.quantity,
        "unit": register.measurand.unit,
        "storage": register.information.storage,
        "tariff": register.information.tariff,
        "subunit": register.information.subunit,
        "dib_vib": profile.dib_vib.hex(),
        "values": [[each.day.isoformat(), each.value_text] for each in profile.values],
    }


def to_json(result: Telegram | LmnError) -> dict[str, Any]:
    """The outcome of one telegram as the command contract writes it; "profiles" only where there are any."""
    if isinstance(result, LmnError):
        return {"ok": False, "error": {"code": result.code, "message": str(result)}}
    rows = [profile_of(profile) for profile in profiles(result.records)]
    return {
        "ok": True,
        "manufacturer": result.meter.manufacturer,
        "id": result.meter.identification,
        "version": result.meter.version,
        "type": result.meter.device_type,
        "access_no": result.access_no,
        "status": result.status,
        "security": result.security.value,
        "fields": [field_of(record) for record in result.records],
        **({"profiles": rows} if rows else {}),
    }


def answer(decoder: Decoder, line: str) -> dict[str, Any]:
    """Carry out one line of a batch; whatever is wrong with it is in the answer."""
    name: Any = None
    try:
        task = task_of(line)
        name = task.get("name")
        key_hex = task.get("key_hex")
        key = None if key_hex in (None, "") else _bytes(key_hex)
        named = task.get("mode")
        try:
            mode = ReceptionMode("open" if named is None else named)
        except ValueError as error:
            raise BadLine("mode is strict or open") from error
        if "sequence" in task:
            return {"name": name, "results": _sequence(decoder, task["sequence"], key, mode)}
        for field, form in _FIELDS.items():
            if field in task:
                return {"name": name, **to_json(decoder.one(_bytes(task[field]), form, key, mode))}
        raise BadLine(f"one of {', '.join(_FIELDS)} or sequence is expected")
    except LmnError as error:
        return {"name": name, **to_json(error)}


def _sequence(decoder: Decoder, items: Any, key: bytes | None, mode: ReceptionMode) -> list[dict[str, Any]]:
    if not isinstance(items, list):
        raise BadLine("sequence is a list of hexadecimal strings")
    results: list[dict[str, Any]] = []
    telegrams: list[bytes] = []
    places: list[int] = []
    for item in items:
        try:
            telegrams.append(_bytes(item))
            places.append(len(results))
            results.append({})
        except LmnError as error:
            results.append(to_json(error))
    for place, result in zip(places, decoder.sequence(telegrams, FrameForm.RAW, key, mode), strict=True):
        results[place] = to_json(result)
    return results


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for a line that is a telegram alone, not a JSON object."""

    key: bytes | None = None
    mode: ReceptionMode = ReceptionMode.OPEN
    form: FrameForm | None = None
    """None: as the telegram's length and checksums prove."""


def answer_bare(decoder: Decoder, line: str, defaults: Defaults) -> dict[str, Any]:
    """Decode a line that is a telegram in hexadecimal; its name is null."""
    try:
        data = _bytes(line)
        form = defaults.form or _form_of(data)
        return {"name": None, **to_json(decoder.one(data, form, defaults.key, defaults.mode))}
    except LmnError as error:
        return {"name": None, **to_json(error)}


def _batch(source: str, defaults: Defaults) -> None:
    decoder = Decoder()
    if source == "-":
        _answer_lines(decoder, sys.stdin.buffer, defaults)
        return
    try:
        with Path(source).open("rb") as lines:
            _answer_lines(decoder, lines, defaults)
    except OSError as error:
        raise typer.BadParameter(f"{source}: {error.strerror}", param_hint="--jsonl") from error


def _answer_lines(decoder: Decoder, lines: Iterable[bytes], defaults: Defaults) -> None:
    for line in lines:
        if line.strip():
            text = line.decode("utf-8", "replace").removeprefix("\ufeff")
            bare = is_bare_line(text)
            result = answer_bare(decoder, text, defaults) if bare else answer(decoder, text)
            sys.stdout.write(written(result))
            sys.stdout.flush()


def show(telegram: Telegram, console: Console, lang: Lang = Lang.EN) -> None:
    """Print a decoded telegram for people."""
    say = partial(said, lang=lang)
    access, status = f"{say('access')} {telegram.access_no}", f"{say('status')} {telegram.status}"
    console.print(f"[bold]{telegram.meter}[/]  {access}  {status}", highlight=False)
    counter = "" if telegram.counter is None else f", {say('counter')} {telegram.counter}"
    console.print(f"{say('security')}: {telegram.security.value}{counter}", highlight=False)
    parted = any(record.header.information.subunit for record in telegram.records)
    places = ("storage", "tariff", *(("subunit",) if parted else ()))
    heads = ("quantity", "value", "unit", "function", *places, "DIB VIB", "data")
    table = Table(*(say(head) for head in heads))
    for column in table.columns:
        column.overflow = "fold"
    for record in telegram.records:
        information = record.header.information
        table.add_row(
            say(record.quantity),
            record.value_text if record.value is not None else "-",
            record.unit,
            say(information.function),
            *(str(getattr(information, place)) for place in places),
            record.header.dib_vib.hex(),
            record.raw.hex(),
        )
    console.print(table)
    for profile in profiles(telegram.records):
        row = profile_of(profile)
        what = f"{say(row['quantity'])}, {say('storage')} {row['storage']}"
        console.print(f"{say('profile')} {row['dib_vib']}: {what}", highlight=False)
        values = Table(say("day"), say("value") + (f" ({row['unit']})" if row["unit"] else ""))
        for day, value in row["values"]:
            values.add_row(day, value if value is not None else "-")
        console.print(values)


@app.command()
def wmbus(
    telegram: Annotated[str | None, typer.Argument(metavar="[HEX]", help="one telegram")] = None,
    key: Annotated[str | None, typer.Option(help="the meter's key, 32 hex digits")] = None,
    mode: Annotated[ReceptionMode, typer.Option(help="what the meter profile accepts")] = ReceptionMode.OPEN,
    frame: Annotated[
        FrameForm | None,
        typer.Option(
            help="raw: no link CRCs; a, b: with the CRCs of that format; left out: as length and CRCs prove"
        ),
    ] = None,
    jsonl: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="batch of JSON lines or bare telegrams, - for standard input"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of a table")] = False,
    lang: Annotated[Lang | None, typer.Option(help="of the table; else that of LANG")] = None,
) -> None:
    """Decode wireless M-Bus telegrams. Exit code 1: refused; 2: wrong usage."""
    if (telegram is None) == (jsonl is None):
        raise typer.BadParameter("give either one telegram or --jsonl")
    try:
        key_bytes = _bytes(key) if key is not None else None
    except LmnError as error:
        raise typer.BadParameter(str(error), param_hint="--key") from error
    if jsonl is not None:
        _batch(jsonl, Defaults(key_bytes, mode, frame))
        return
    console = Console()
    try:
        data = _bytes(telegram)
        result = Decoder().one(data, frame or _form_of(data), key_bytes, mode)
    except LmnError as error:
        if as_json:
            print(json.dumps({"name": "", **to_json(error)}))
            raise typer.Exit(1) from error
        complaint = Console(stderr=True, highlight=False)
        chosen = lang or language(os.environ)
        complaint.print(f"{said('refused', chosen)} ({error.code}): {error}", markup=False)
        complaint.print(said(HINTS[error.code], chosen), markup=False)
        raise typer.Exit(1) from error
    if as_json:
        print(json.dumps({"name": "", **to_json(result)}))
    else:
        show(result, console, lang or language(os.environ))
