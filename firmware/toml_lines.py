"""Where the keys of a TOML text stand: lines only. tomllib, which has the values, must have accepted it."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from typing import Final

KeyPath = tuple[str | int, ...]
"""Keys from the root of the document; an int is a position in an array, from 0."""

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_BASIC: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_LITERAL: Final = re.compile(r"'[^']*'")
_LONG_BASIC: Final = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}(?!")', re.DOTALL)
_LONG_LITERAL: Final = re.compile(r"'''.*?'{3,5}(?!')", re.DOTALL)
_SCALAR: Final = re.compile(r"[^,\]}#\r\n]*")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line (from 1) of each key and each array element of a TOML text that tomllib accepts."""
    return _Scan(text).document()


class _Scan:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._line_ends = [match.start() for match in re.finditer("\n", text)]
        self._lines: dict[KeyPath, int] = {}
        self._tables: dict[KeyPath, int] = {}
        """Arrays of tables: how many elements so far."""

    def document(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._skip(_BLANK) < len(self._text):
            if self._text.startswith("[[", self._at):
                table = self._array_header()
            elif self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _array_header(self) -> KeyPath:
        line = self._line()
        self._at += 2
        *parents, last = self._keys()
        self._at += 2
        path = (*self._resolve(parents, line), last)
        position = self._tables.get(path, 0)
        self._tables[path] = position + 1
        self._note(path, line)
        self._note((*path, position), line)
        return (*path, position)

    def _header(self) -> KeyPath:
        line = self._line()
        self._at += 1
        keys = self._keys()
        self._at += 1
        return self._resolve(keys, line)

    def _resolve(self, keys: list[str], line: int) -> KeyPath:
        """Follow a header's keys; the name of an array of tables stands for its newest element."""
        path: KeyPath = ()
        for key in keys:
            path = (*path, key)
            self._note(path, line)
            if path in self._tables:
                path = (*path, self._tables[path] - 1)
        return path

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for key in self._keys():
            path = (*path, key)
            self._note(path, line)
        self._at += 1  # the equals sign
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        self._skip(_SPACE)
        text, at = self._text, self._at
        if text.startswith('"""', at):
            self._skip(_LONG_BASIC)
        elif text.startswith("'''", at):
            self._skip(_LONG_LITERAL)
        elif text.startswith('"', at):
            self._skip(_BASIC)
        elif text.startswith("'", at):
            self._skip(_LITERAL)
        elif text.startswith("[", at):
            self._array(path)
        elif text.startswith("{", at):
            self._inline_table(path)
        else:
            self._skip(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        position = 0
        while not self._ends("]"):
            self._note((*path, position), self._line())
            self._value((*path, position))
            position += 1
            self._comma()

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while not self._ends("}"):
            self._pair(path)
            self._comma()

    def _ends(self, bracket: str) -> bool:
        self._skip(_BLANK)
        if self._text.startswith(bracket, self._at):
            self._at += 1
            return True
        return False

    def _comma(self) -> None:
        self._skip(_BLANK)
        if self._text.startswith(",", self._at):
            self._at += 1

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while True:
            self._skip(_SPACE)
            start = self._at
            if self._text.startswith(('"', "'"), start):
                self._skip(_BASIC if self._text[start] == '"' else _LITERAL)
                keys.extend(tomllib.loads(f"{self._text[start : self._at]} = 0"))
            else:
                self._skip(_BARE_KEY)
                keys.append(self._text[start : self._at])
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._at)
        assert match is not None, "tomllib accepted what this does not"
        self._at = match.end()
        return self._at

    def _line(self) -> int:
        return bisect_right(self._line_ends, self._at - 1) + 1

    def _note(self, path: KeyPath, line: int) -> None:
        self._lines.setdefault(path, line)
