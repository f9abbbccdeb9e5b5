"""What was seen of a net, as JSON lines: `{"t_utc", "from", "to", "kind", "hex"}`. Reads and writes them.

Kinds: `net` (public: floors and key graph, of one roster or of all), `epoch`, `manifest`, `order`, and of
V-mode `orderv` and `commitv` (documents without signature), `submit`, `open`, `share` (frames with their
MAC), `openv` (with its MAC) and `plain` (a value that left without a net: first and last slot). A line may
name a `register` where a gateway has more than one. Spec: docs/dcnet.md, "smgw dcnet leak".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self, TextIO

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages.canonical import Fields, decode, encode
from firmware.enforcement.dcnet.primitives.graph import Edge
from firmware.enforcement.dcnet.primitives.kdf import NET_BYTES

FRAMES: Final = ("submit", "open", "share")
V_MODE: Final = ("orderv", "commitv", "openv")
KINDS: Final = ("net", "epoch", "manifest", "order", *FRAMES, *V_MODE, "plain")
MESSAGES: Final = "messages.jsonl"
CORRUPT: Final = "corrupt.json"
_U32: Final = 1 << 32
_MOST_SLOTS: Final = 3 * 366 * 96
_FIELDS: Final = 6
_DIGITS: Final = "a number of thousands of digits"
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_SLOT: Final = timedelta(minutes=15)


class BadRecord(ValueError):
    """A record cannot be read; says which file and line."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One message."""

    sender: str
    to: str
    kind: str
    data: bytes = field(repr=False)
    register: str = ""
    t_utc: str = ""

    def to_line(self) -> str:
        """Encode."""
        line = {"t_utc": self.t_utc, "from": self.sender, "to": self.to, "kind": self.kind}
        return json.dumps(
            line | {"hex": self.data.hex()} | ({"register": self.register} if self.register else {})
        )


@dataclass(frozen=True, slots=True)
class PublicNet:
    """What everybody knows of a net."""

    net: bytes
    n_min: int
    d_min: int
    threshold: int
    """t of the shares; 0 where nobody is recovered."""
    size: int
    edges: tuple[Edge, ...]
    version: int = 0
    """Of the roster; 0: of every roster of this net."""

    def to_bytes(self) -> bytes:
        """Encode."""
        edges = [list(edge) for edge in self.edges]
        fields = [self.net, self.n_min, self.d_min, self.threshold, self.size, edges]
        return encode([*fields, self.version] if self.version else fields)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode; `MalformedObject` if it is no such thing."""
        decoded = decode(data)
        versioned = isinstance(decoded, list) and len(decoded) == _FIELDS + 1
        fields = Fields(decoded, _FIELDS + versioned)
        net, n_min, d_min, threshold, size = (
            fields.octets(NET_BYTES),
            *(fields.number(_U32) for _ in range(4)),
        )
        edges = []
        for item in fields.array():
            edge = Fields(item, 2)
            edges.append((edge.number(_U32), edge.number(_U32)))
        version = fields.number(_U32) if versioned else 0
        return cls(net, n_min, d_min, threshold, size, tuple(edges), version)


def plain(first_slot: int, last_slot: int) -> bytes:
    """Encode a plain delivery: the sum of a register over some slots."""
    return encode([first_slot, last_slot])


def plain_slots(data: bytes) -> range:
    """Decode a plain delivery; `MalformedObject` if it is none, or of more than three years."""
    fields = Fields(decode(data), 2)
    first, last = fields.number(_U32), fields.number(_U32)
    if not 0 <= last - first < _MOST_SLOTS:
        raise MalformedObject(f"a plain delivery of slots {first} to {last}")
    return range(first, last + 1)


class Recorder:
    """Writes a record into a folder; a context manager."""

    def __init__(self, folder: Path) -> None:
        """Begin a new record in `folder`, which is made; one that is there is not overwritten."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = (folder / MESSAGES).open("x", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, slot: int, sender: str, to: str, kind: str, data: bytes) -> None:
        """Write a message with the simulated time of a slot."""
        t_utc = (_START + slot * _SLOT).isoformat().replace("+00:00", "Z")
        self._file.write(Seen(sender, to, kind, data, t_utc=t_utc).to_line() + "\n")


def read(folder: Path) -> tuple[list[Seen], frozenset[str]]:
    """Return every message in `*.jsonl` of a folder and who is corrupt.

    Raises:
        BadRecord: a line is no message, or there is none at all.
        OSError: a file cannot be read.
    """
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise BadRecord(f"{folder}: no *.jsonl with messages")
    seen, corrupt = [], set()
    for file in files:
        for number, document in _documents(file):
            if "corrupt" in document:
                corrupt |= _names(document, f"{file}:{number}")
            else:
                seen.append(_message(document, f"{file}:{number}"))
    if (file := folder / CORRUPT).is_file():
        try:
            named = json.loads(file.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise BadRecord(f"{file}: not JSON: {error}") from None
        except RecursionError:
            raise BadRecord(f"{file}: nested too deeply") from None
        except ValueError as error:
            raise BadRecord(f"{file}: {_DIGITS}") from error
        corrupt |= _names(named, str(file))
    return seen, frozenset(corrupt)


def _documents(file: Path) -> Iterator[tuple[int, dict[str, object]]]:
    try:
        lines: Iterable[str] = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise BadRecord(f"{file}: not UTF-8 text") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                document = json.loads(line)
            except json.JSONDecodeError as error:
                raise BadRecord(f"{file}:{number}: not JSON: {error.msg}") from None
            except RecursionError:
                raise BadRecord(f"{file}:{number}: nested too deeply") from None
            except ValueError as error:
                raise BadRecord(f"{file}:{number}: {_DIGITS}") from error
            if not isinstance(document, dict):
                raise BadRecord(f"{file}:{number}: an object was expected")
            yield number, document


def _message(document: dict[str, object], where: str) -> Seen:
    values = [document.get(name, "") for name in ("from", "to", "kind", "hex", "register", "t_utc")]
    if not all(isinstance(value, str) for value in values) or not values[0]:
        raise BadRecord(f"{where}: 'from', 'to', 'kind' and 'hex' are texts")
    sender, to, kind, data, register, t_utc = map(str, values)
    if kind not in KINDS:
        raise BadRecord(f"{where}: kind {kind!r} is none of {', '.join(KINDS)}")
    try:
        return Seen(sender, to, kind, bytes.fromhex(data), register, t_utc)
    except ValueError:
        raise BadRecord(f"{where}: 'hex' is not hex") from None


def _names(document: object, where: str) -> set[str]:
    names = document.get("corrupt") if isinstance(document, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, (str, int)) for name in names):
        raise BadRecord(f'{where}: {{"corrupt": [...]}} with names or member numbers was expected')
    return {str(name) for name in names}
