"""The one canonical form of documents and records: deterministic CBOR arrays. Codec only.

Unsigned integers, byte strings, texts, nulls and arrays of them; no maps, floats or tags.
Decoding encodes again and compares the bytes. Spec: docs/dcnet.md, "Exact constructions".
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final, TypeVar

import cbor2

from firmware.enforcement.dcnet.errors import MalformedObject
from firmware.enforcement.dcnet.messages import shape
from firmware.enforcement.dcnet.primitives.arithmetic import MODULUS, Lanes

MAX_DOCUMENT_BYTES: Final = 1 << 22
_E = TypeVar("_E", bound=IntEnum)


def encode(value: Sequence[Any]) -> bytes:
    """Encode an array of unsigned integers, byte strings, texts, nulls and such arrays."""
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, most_items: int = shape.MAX_ITEMS) -> object:
    """Decode one canonical document.

    Args:
        data: from anywhere.
        most_items: more than the usual for what may be long by right: lists of a day's slots.

    Raises:
        MalformedObject: not CBOR, not canonical, too long, of too many items, or with types that no document
            has.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise MalformedObject(f"document of {len(data)} bytes")
    return _decode(data, most_items)


def decode_kept(data: bytes) -> object:
    """Decode a record of our own, as long as it was written: what was kept must be read again.

    Raises:
        MalformedObject: it is no such record.
    """
    return _decode(data, len(data))


def _decode(data: bytes, most_items: int) -> object:
    shape.check(data, most_items)
    try:
        value: object = cbor2.loads(data)
        again = cbor2.dumps(value, canonical=True)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, EOFError, RecursionError) as error:
        raise MalformedObject(f"not a document: {type(error).__name__}") from error
    if again != data:
        raise MalformedObject("a document is not in its canonical form")
    return value


def octets(item: object, *lengths: int) -> bytes:
    """Return a decoded byte string, of one of `lengths` if any are given; else `MalformedObject`."""
    if not isinstance(item, bytes) or (lengths and len(item) not in lengths):
        raise MalformedObject("a byte string of another length was expected")
    return item


class Fields:
    """Takes the fields of an array one by one, each with its type and range."""

    __slots__ = ("_items",)

    def __init__(self, item: object, count: int, kind: int | None = None) -> None:
        """Take an array of `count` fields; with a `kind`, its first field must be that number."""
        if not isinstance(item, list) or len(item) != count:
            raise MalformedObject(f"an array of {count} fields was expected")
        if kind is not None and item[0] != kind:
            raise MalformedObject(f"a document of kind {kind} was expected")
        self._items = item[::-1] if kind is None else item[:0:-1]

    def next(self) -> object:
        """Return the next field, whatever it is."""
        return self._items.pop()

    def number(self, limit: int) -> int:
        """Return a number in [0, limit)."""
        item = self._items.pop()
        if not isinstance(item, int) or not 0 <= item < limit:
            raise MalformedObject(f"a number below {limit} was expected")
        return item

    def member(self, kind: type[_E]) -> _E:
        """Return a member of an enumeration."""
        number = self.number(256)
        try:
            return kind(number)
        except ValueError as error:
            raise MalformedObject(f"{number} is no {kind.__name__}") from error

    def octets(self, *lengths: int) -> bytes:
        """Return a byte string, of one of `lengths` if any are given."""
        return octets(self._items.pop(), *lengths)

    def text(self, limit: int) -> str:
        """Return a text of at most `limit` characters."""
        item = self._items.pop()
        if not isinstance(item, str) or len(item) > limit:
            raise MalformedObject(f"a text of at most {limit} characters was expected")
        return item

    def array(self) -> list[Any]:
        """Return an array."""
        item = self._items.pop()
        if not isinstance(item, list):
            raise MalformedObject("an array was expected")
        return item

    def lanes_or_null(self) -> Lanes | None:
        """Return u64 numbers, or None."""
        item = self._items.pop()
        if item is None:
            return None
        if not isinstance(item, list) or any(not isinstance(x, int) or not 0 <= x < MODULUS for x in item):
            raise MalformedObject("lanes were expected")
        return tuple(item)
