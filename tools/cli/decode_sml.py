"""`smgw decode sml`: SML transport frames to values, for people (a table) and for programs (JSON lines)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from lmn.errors import LmnError
from lmn.sml.messages import read_frame
from lmn.sml.readings import PushedList, Quirk, number, obis_text, pushed_list, to_text, unit_name, value_of
from lmn.sml.transport import ANY_CHECKSUM, ReceivedSml, SmlDeframer, one_frame
from lmn.sml.values import ListEntry
from tools.cli.json_lines import BadLine, task_of, written

_NO_QUIRKS: Final[frozenset[Quirk]] = frozenset()
_HINTS: Final = {
    "hex": "The input is not a whole number of hexadecimal bytes.",
    "crc": "A checksum is wrong: the frame or a message in it was damaged on the line.",
    "length": "Bytes are cut off or left over; a recording of a line goes into a stream_hex of --jsonl.",
    "malformed": "The bytes do not follow the standard's structure.",
}


class _BadHex(LmnError):
    """The input is no hexadecimal number."""

    code = "hex"


def _bytes(text: Any) -> bytes:
    try:
        return bytes.fromhex(text)
    except (ValueError, TypeError) as error:
        raise _BadHex("not a hexadecimal string of whole bytes") from error


def entry_of(entry: ListEntry, quirks: frozenset[Quirk] = _NO_QUIRKS) -> dict[str, Any]:
    """One value as the command contract writes it."""
    value = entry.value
    if isinstance(value, bytes):
        raw: Any = value.hex()
    elif value is None or isinstance(value, bool):
        raw = value
    elif (raw := number(entry, quirks)) is None:
        raw = entry.encoded.hex()
    return {
        "obis": obis_text(entry.name),
        "raw": raw,
        "scaler": entry.scaler,
        "unit": entry.unit,
        "unit_name": unit_name(entry.unit),
        "value": to_text(value_of(entry, quirks)),
        "status": entry.status.hex() if isinstance(entry.status, bytes) else entry.status,
    }


def entries_of(pushed: PushedList, quirks: frozenset[Quirk] = _NO_QUIRKS) -> list[dict[str, Any]]:
    """All values of a frame."""
    return [entry_of(entry, quirks) for entry in pushed.entries]


def decode_one(data: bytes) -> PushedList:
    """Decode exactly one frame.

    Raises:
        LmnError: a check failed.
    """
    frame = one_frame(data, ANY_CHECKSUM)
    return pushed_list(read_frame(frame.data, frame.checksum))


def decode_stream(data: bytes) -> tuple[list[PushedList], list[LmnError]]:
    """Decode all frames of a recording; what is damaged is told beside them."""
    deframer = SmlDeframer(checksums=ANY_CHECKSUM)
    found: list[ReceivedSml | LmnError] = deframer.receive(data)
    found += deframer.finish()
    frames: list[PushedList] = []
    refused: list[LmnError] = []
    for each in found:
        if isinstance(each, LmnError):
            refused.append(each)
            continue
        try:
            frames.append(pushed_list(read_frame(each.data, each.checksum)))
        except LmnError as error:
            refused.append(error)
    return frames, refused


def _error(error: LmnError) -> dict[str, Any]:
    return {"ok": False, "error": {"code": error.code, "message": str(error)}}


def to_json(pushed: PushedList, quirks: frozenset[Quirk] = _NO_QUIRKS) -> dict[str, Any]:
    """The outcome of one frame as the command contract writes it."""
    server_id = None if pushed.server_id is None else pushed.server_id.hex()
    return {"ok": True, "server_id": server_id, "entries": entries_of(pushed, quirks)}


def answer(line: str, quirks: frozenset[Quirk] = _NO_QUIRKS) -> dict[str, Any]:
    """Carry out one line of a batch; whatever is wrong with it is in the answer."""
    name: Any = None
    try:
        task = task_of(line)
        name = task.get("name")
        if "sml_hex" in task:
            return {"name": name, **to_json(decode_one(_bytes(task["sml_hex"])), quirks)}
        if "stream_hex" in task:
            frames, refused = decode_stream(_bytes(task["stream_hex"]))
            return {
                "name": name,
                "frames": len(frames),
                "rejected": len(refused),
                "entries": [entries_of(frame, quirks) for frame in frames],
            }
        raise BadLine("sml_hex or stream_hex is expected")
    except LmnError as error:
        return {"name": name, **_error(error)}


def _answer_lines(lines: Iterable[bytes], quirks: frozenset[Quirk]) -> None:
    for line in lines:
        if line.strip():
            sys.stdout.write(written(answer(line.decode("utf-8", "replace"), quirks)))
            sys.stdout.flush()


def _batch(source: str, quirks: frozenset[Quirk]) -> None:
    if source == "-":
        _answer_lines(sys.stdin.buffer, quirks)
        return
    try:
        with Path(source).open("rb") as lines:
            _answer_lines(lines, quirks)
    except OSError as error:
        raise typer.BadParameter(f"{source}: {error.strerror}", param_hint="--jsonl") from error


def _readable(data: bytes) -> str:
    """Octets as hex, and as text where they are one."""
    text = data.decode("ascii", "replace")
    return f"{data.hex()} ({text})" if text.isprintable() and text.isascii() and text else data.hex()


def _show(pushed: PushedList, quirks: frozenset[Quirk], console: Console) -> None:
    server_id = "-" if pushed.server_id is None else pushed.server_id.hex()
    console.print(f"meter {server_id}", highlight=False, markup=False)
    table = Table("OBIS", "value", "unit", "raw", "scaler", "status")
    for column in table.columns:
        column.overflow = "fold"
    for entry in pushed.entries:
        fields = entry_of(entry, quirks)
        raw = _readable(entry.value) if isinstance(entry.value, bytes) else str(fields["raw"])
        table.add_row(
            fields["obis"],
            "-" if fields["value"] is None else fields["value"],
            fields["unit_name"] or ("" if entry.unit is None else f"unit {entry.unit}"),
            raw,
            "" if entry.scaler is None else str(entry.scaler),
            "" if fields["status"] is None else str(fields["status"]),
        )
    console.print(table, markup=False)


def _complain(error: LmnError) -> None:
    complaint = Console(stderr=True, highlight=False)
    complaint.print(f"refused ({error.code}): {error}", markup=False)
    complaint.print(_HINTS[error.code], markup=False)


def sml(
    frames: Annotated[str | None, typer.Argument(metavar="[HEX]", help="transport frame(s)")] = None,
    jsonl: Annotated[
        str | None, typer.Option(metavar="FILE", help="batch of JSON lines, - for standard input")
    ] = None,
    quirk: Annotated[list[Quirk] | None, typer.Option(help="what this meter does in its own way")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of tables")] = False,
) -> None:
    """Decode SML transport frames of wired meters. Exit code 1: something was refused; 2: wrong usage."""
    if (frames is None) == (jsonl is None):
        raise typer.BadParameter("give either frames or --jsonl")
    quirks = frozenset(quirk or ())
    if jsonl is not None:
        _batch(jsonl, quirks)
        return
    try:
        data = _bytes(frames)
        decoded, refused = decode_stream(data)
        if not decoded and not refused:
            one_frame(data, ANY_CHECKSUM)  # says what is wrong
    except LmnError as error:
        decoded, refused = [], [error]
    if as_json:
        what = "sml_hex" if len(decoded) + len(refused) == 1 else "stream_hex"
        print(json.dumps(answer(json.dumps({"name": "", what: frames}), quirks)))
        raise typer.Exit(1 if refused else 0)
    console = Console()
    for pushed in decoded:
        _show(pushed, quirks, console)
    for each in refused:
        _complain(each)
    if refused:
        raise typer.Exit(1)
