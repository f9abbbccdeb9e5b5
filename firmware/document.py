"""TOML and JSON documents to msgspec values, with every fault of a document found at once and located.

msgspec stops at the first fault and knows no lines. This walks through a document along its type, so that the
answer to a broken one is the whole list: file, line, key, what was expected, and a hint where a name is near.
After MAX_FAULTS nobody reads on, and neither does this: a document of nothing but faults costs no more.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from firmware.errors import ConfigurationRefused, Fault
from firmware.toml_lines import KeyPath, key_lines

MAX_BYTES: Final = 4 * 1024 * 1024
"""A larger document is refused unread."""
MAX_FAULTS: Final = 100
_T = TypeVar("_T")

Check = Callable[[Any], str | None]
"""Looks at a converted value; returns what was expected instead, None if it is well."""


class PortUrl(str):
    """Where a serial line is: a device path, or a URL such as "socket://host:port"."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Document(Generic[_T]):
    """A value and where its parts stand."""

    value: _T
    file: str
    lines: Mapping[KeyPath, int] = field(repr=False)

    def fault(self, path: KeyPath, expected: str) -> Fault:
        """Make a fault of what stands at `path`; for checks that need more than the document."""
        return Fault(self.file, _line_of(self.lines, path), _key_text(path), expected)


def read_toml(path: Path, kind: type[_T], *, checks: Mapping[str, Check] | None = None) -> Document[_T]:
    """Read a TOML file; values of type `Path` and `PortUrl` are resolved relative to the file's folder.

    Args:
        path: the file, UTF-8.
        kind: a msgspec struct. A field typed `Annotated[X, msgspec.Meta(extra={"check": name})]` is also
            looked at by `checks[name]`; a `Meta(description=...)` words what the field expects.
        checks: by name.

    Raises:
        ConfigurationRefused: lists every fault of the document, the first MAX_FAULTS of them.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise _refused(str(path), "(file)", f"a readable file is expected here ({error.strerror})") from error
    if len(data) > MAX_BYTES:
        raise _refused(str(path), "(file)", f"at most {MAX_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationRefused([Fault(str(path), line, "(file)", "UTF-8 text")]) from error
    return read_toml_text(text, kind, file=str(path), folder=path.parent, checks=checks)


def read_toml_text(
    text: str, kind: type[_T], *, file: str, folder: Path, checks: Mapping[str, Check] | None = None
) -> Document[_T]:
    """Like `read_toml`, of a text that is already there; `file` is what faults call it."""
    try:
        raw = tomllib.loads(text)
        lines = {(): 1, **key_lines(text.replace("\r\n", "\n"))}
    except RecursionError as error:
        raise _refused(file, "(syntax)", "less deep nesting") from error
    except ValueError as error:  # TOMLDecodeError, and int() on thousands of digits
        message, _, place = str(error).partition(" (at line ")
        number = place.partition(",")[0]
        line = int(number) if number.isdecimal() else None
        raise ConfigurationRefused([Fault(file, line, "(syntax)", f"valid TOML: {message}")]) from error
    return _Walk(file, folder, lines, checks or {}).document(raw, kind)


def read_json(
    data: bytes, kind: type[_T], *, file: str, checks: Mapping[str, Check] | None = None
) -> Document[_T]:
    """Read a JSON document the same way; its faults have keys, no lines.

    Raises:
        ConfigurationRefused: lists every fault of the document, the first MAX_FAULTS of them.
    """
    if len(data) > MAX_BYTES:
        raise _refused(file, "(document)", f"at most {MAX_BYTES} bytes")
    try:
        raw = msgspec.json.decode(data)
    except RecursionError as error:
        raise _refused(file, "(syntax)", "less deep nesting") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise _refused(file, "(syntax)", f"valid JSON: {error}") from error
    return _Walk(file, Path(), {}, checks or {}).document(raw, kind)


class _Enough(Exception):
    """As many faults as anybody reads."""


class _Walk:
    def __init__(
        self, file: str, folder: Path, lines: Mapping[KeyPath, int], checks: Mapping[str, Check]
    ) -> None:
        self._file, self._folder, self._lines, self._checks = file, folder, lines, checks
        self._faults: list[Fault] = []

    def document(self, raw: object, kind: type[_T]) -> Document[_T]:
        with suppress(_Enough):
            self._look(raw, kind, ())
        if self._faults:
            raise ConfigurationRefused(sorted(self._faults, key=lambda fault: fault.line or 0))
        value = msgspec.convert(raw, kind, dec_hook=self._convert)
        return Document(value, self._file, self._lines)

    def _look(self, raw: object, kind: Any, path: KeyPath) -> None:
        """Note every fault of `raw` and of what is in it."""
        before = len(self._faults)
        inner, metas = _unwrap(kind)
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            if not isinstance(raw, dict):
                self._fault(path, f"a table, got {_kind_text(raw)}")
                return
            self._look_at_fields(raw, inner, path)
        elif isinstance(raw, list) and (element := _element_type(inner)) is not None:
            for position, part in enumerate(raw[: _most(metas)]):
                self._look(part, element, (*path, position))
        elif isinstance(raw, dict) and get_origin(inner) is dict:
            for key, part in raw.items():
                self._look(part, get_args(inner)[1], (*path, key))
        if len(self._faults) == before:  # the parts are well: so is the whole?
            self._look_at_whole(raw, kind, metas, path)

    def _look_at_fields(self, raw: dict[str, object], struct: type[msgspec.Struct], path: KeyPath) -> None:
        fields = _fields_of(struct)
        for key, part in raw.items():
            if key in fields:
                self._look(part, fields[key].type, (*path, key))
            else:
                self._fault((*path, key), f"no such key{_hint(key, fields)}; known: {', '.join(fields)}")
        for name, spec in fields.items():
            if spec.required and name not in raw:
                self._fault((*path, name), f"this key is missing: {_expected_text(spec.type)}")

    def _look_at_whole(self, raw: object, kind: Any, metas: list[msgspec.Meta], path: KeyPath) -> None:
        try:
            value = msgspec.convert(raw, kind, dec_hook=self._convert)
        except msgspec.ValidationError as error:
            choices = _choices(kind)
            if choices and isinstance(raw, str):
                self._fault(path, f"one of {', '.join(choices)}{_hint(raw, choices)}")
            elif described := _described(metas):
                self._fault(path, described)
            else:
                text = str(error).partition(" - at `$")[0]
                self._fault(path, text.removeprefix("Expected ") or "another value")
            return
        for meta in metas:
            check = self._checks.get((meta.extra or {}).get("check", ""))
            expected = check(value) if check is not None else None
            if expected is not None:
                self._fault(path, expected)

    def _convert(self, kind: type, raw: object) -> object:
        """Make what msgspec does not know of itself; a model's field of another type is our mistake."""
        assert kind in (Path, PortUrl), f"documents do not hold a {kind.__name__}"
        if not isinstance(raw, str) or not raw or "\0" in raw:
            raise ValueError("a path, as a string")
        if kind is Path:
            return self._folder / raw
        return PortUrl(raw if "://" in raw else self._folder / raw)

    def _fault(self, path: KeyPath, expected: str) -> None:
        self._faults.append(Fault(self._file, _line_of(self._lines, path), _key_text(path), expected))
        if len(self._faults) == MAX_FAULTS:
            raise _Enough


@cache
def _fields_of(struct: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """Return a model's fields by name; finding them out takes longer than all else of a large document."""
    return {field.encode_name: field for field in msgspec.structs.fields(struct)}


def _refused(file: str, key: str, expected: str) -> ConfigurationRefused:
    return ConfigurationRefused([Fault(file, None, key, expected)])


def _unwrap(kind: Any) -> tuple[Any, list[msgspec.Meta]]:
    """Take Annotated and Optional off a type; return what remains and the Meta found on the way."""
    metas: list[msgspec.Meta] = []
    while True:
        if get_origin(kind) is Annotated:
            kind, *notes = get_args(kind)
            metas.extend(note for note in notes if isinstance(note, msgspec.Meta))
        elif get_origin(kind) in (Union, UnionType):
            parts = [part for part in get_args(kind) if part is not NoneType]
            if len(parts) != 1:
                return kind, metas
            kind = parts[0]
        else:
            return kind, metas


def _most(metas: Iterable[msgspec.Meta]) -> int | None:
    """How many parts of a list are looked at: some more than it may have, as that is a fault by itself."""
    limits = [meta.max_length for meta in metas if meta.max_length is not None]
    return min(limits) + MAX_FAULTS if limits else None


def _element_type(kind: Any) -> Any:
    """Element type of list[X], tuple[X, ...] and the like; None where there is no single one."""
    arguments = get_args(kind)
    if get_origin(kind) is tuple:
        return arguments[0] if len(arguments) == 2 and arguments[1] is Ellipsis else None
    return arguments[0] if get_origin(kind) in (list, set, frozenset) else None


def _choices(kind: Any) -> list[str]:
    inner, _ = _unwrap(kind)
    if get_origin(inner) is Literal:
        return [repr(choice) for choice in get_args(inner)]
    if isinstance(inner, type) and issubclass(inner, Enum):
        return [repr(choice.value) for choice in inner]
    return []


def _described(metas: Iterable[msgspec.Meta]) -> str | None:
    return next((meta.description for meta in metas if meta.description), None)


def _expected_text(kind: Any) -> str:
    inner, metas = _unwrap(kind)
    if described := _described(metas):
        return described
    if choices := _choices(kind):
        return f"one of {', '.join(choices)}"
    if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
        return "a table"
    return str(getattr(inner, "__name__", inner))


def _kind_text(raw: object) -> str:
    if isinstance(raw, dict):
        return "a table"
    return "an array" if isinstance(raw, list) else type(raw).__name__


def _hint(word: str, known: Iterable[str]) -> str:
    import difflib  # needed for broken documents only

    near = difflib.get_close_matches(word, [name.strip("'") for name in known], n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def _line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """Line of a path, or of what is nearest around it and has one; None in a document without lines."""
    return next((lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in lines), None)


def _key_text(path: KeyPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "(document)"
