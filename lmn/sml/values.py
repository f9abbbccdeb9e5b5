"""Values inside SML messages: times, list entries, parameter trees; both ways. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

from lmn.errors import MalformedRecords
from lmn.sml.codec import (
    ABSENT,
    MAX_DEPTH,
    Field,
    Kind,
    decode,
    header,
    octets,
    sequence,
    signed,
    unsigned,
)

_ENTRY_FIELDS: Final = 7
_ENTRY_HEADER: Final = bytes((Kind.LIST | _ENTRY_FIELDS,))
_NAME_BYTES: Final = 7
_NAME_HEADER: Final = bytes((_NAME_BYTES,))
_ALL_ABSENT: Final = ABSENT * 4
_NARROW_SIGNED: Final = (0x53, 0x54)


class TimeKind(IntEnum):
    """What a time counts."""

    SECONDS_INDEX = 1
    """Seconds since some start of the meter's own."""
    TIMESTAMP = 2
    """Seconds since 1970, UTC."""
    LOCAL = 3
    """The same with offset and season in minutes beside it."""


@dataclass(frozen=True, slots=True)
class SmlTime:
    """A time as a meter says it."""

    kind: TimeKind
    seconds: int
    offset_min: int = 0
    season_min: int = 0

    def to_bytes(self) -> bytes:
        """Encode."""
        inner = unsigned(self.seconds, 4)
        if self.kind is TimeKind.LOCAL:
            inner = sequence(inner, signed(self.offset_min, 2), signed(self.season_min, 2))
        return sequence(unsigned(self.kind, 1), inner)


def to_time(field: Field) -> SmlTime | None:
    """Read a time; None if it is absent.

    A bare number (Holley DTZ541) is a seconds index. A list of three under any choice (Froetec ZG22 sends it
    under choice 2) is a local time.

    Raises:
        MalformedRecords: it has another shape.
    """
    match field:
        case None:
            return None
        case bool():
            pass
        case int(seconds) if seconds >= 0:
            return SmlTime(TimeKind.SECONDS_INDEX, seconds)
        case [int(choice), int(seconds)] if choice in (1, 2) and seconds >= 0:
            return SmlTime(TimeKind(choice), seconds)
        case [int(), [int(seconds), int(offset), int(season)]] if seconds >= 0:
            return SmlTime(TimeKind.LOCAL, seconds, offset, season)
        case [None, None] | [int(), None]:
            return None
    raise MalformedRecords("a time of unknown shape")


def any_time(field: Field) -> SmlTime | None:
    """Read a time that nothing depends on: None also for one of unknown shape."""
    try:
        return to_time(field)
    except MalformedRecords:
        return None


def is_octets(field: Field) -> bytes | None:
    """Read an octet string.

    Raises:
        MalformedRecords: it is something else.
    """
    if field is None or isinstance(field, bytes):
        return field
    raise MalformedRecords("an octet string is expected")


def is_number(field: Field) -> int | None:
    """Read an integer.

    Raises:
        MalformedRecords: it is something else.
    """
    if field is None or (isinstance(field, int) and not isinstance(field, bool)):
        return field
    raise MalformedRecords("an integer is expected")


def is_list(field: Field, *lengths: int) -> list[Field]:
    """Read a list, of one of the given lengths if any are given; typed as absent if it is.

    Raises:
        MalformedRecords: it is something else, or of another length.
    """
    if not isinstance(field, list) or (lengths and len(field) not in lengths):
        raise MalformedRecords("a list of another length is expected")
    return field


class ListEntry(NamedTuple):
    """One value of a pushed list; a tuple, because a frame makes many."""

    name: bytes
    """Mostly the six groups of an OBIS code."""
    status: int | bytes | None
    time: SmlTime | None
    unit: int | None
    """Unit code of DLMS; None: none was sent."""
    scaler: int | None
    """Power of ten that the number counts; None: none was sent."""
    value: Any
    """int, bool, bytes, None (absent), or a list (a time in a value's place)."""
    encoded: bytes
    """The value's field as it was sent."""
    signature: bytes | None = None

    def to_bytes(self) -> bytes:
        """Encode; a status in as many bytes as it needs."""
        if isinstance(self.status, int):
            status = unsigned(self.status, max(1, (self.status.bit_length() + 7) // 8))
        else:
            status = octets(self.status)
        return sequence(
            octets(self.name),
            status,
            self.time.to_bytes() if self.time is not None else ABSENT,
            unsigned(self.unit, 1),
            signed(self.scaler, 1),
            self.encoded,
            octets(self.signature),
        )

    @property
    def sign_suspect(self) -> bool:
        """Whether the value was sent as a signed integer of two or three bytes."""
        return bool(self.encoded) and self.encoded[0] in _NARROW_SIGNED

    @property
    def unsigned_value(self) -> int:
        """The value's bytes read without a sign."""
        return int.from_bytes(self.encoded[1:], "big")


def read_entries(data: bytes, place: int) -> tuple[tuple[ListEntry, ...], int]:
    """Decode the list of values at `place`; return it and the place behind it.

    Raises:
        MalformedRecords: an entry has another shape.
    """
    kind, count, place = header(data, place)
    if kind == Kind.OCTETS and count == 0:
        return (), place
    if kind != Kind.LIST or count > len(data) - place:
        raise MalformedRecords("a list of values is expected")
    entries = []
    for _ in range(count):
        if data[place : place + 1] == _ENTRY_HEADER:
            place += 1
        elif header(data, place)[:2] == (Kind.LIST, _ENTRY_FIELDS):
            place = header(data, place)[2]
        else:
            raise MalformedRecords("a value has seven fields")
        name: Field = data[place + 1 : place + _NAME_BYTES]
        if data[place : place + 1] == _NAME_HEADER and len(data) >= place + _NAME_BYTES:
            place += _NAME_BYTES  # six groups of an OBIS code, as nearly always
        else:
            name, place = decode(data, place)
        status: Field = None
        time: Field = None
        unit: Field = None
        scaler: Field = None
        signature: Field = None
        # Most fields of most values are absent: that is looked for before anything is called.
        ahead = data[place : place + 4]
        if ahead == _ALL_ABSENT:
            place += 4
        else:
            status, place = decode(data, place)
            time, place = decode(data, place)
            unit, place = decode(data, place)
            scaler, place = decode(data, place)
        start = place
        value, place = decode(data, place)
        encoded = data[start:place]
        if data[place : place + 1] == ABSENT:
            place += 1
        else:
            signature, place = decode(data, place)
        if type(name) is not bytes:
            raise MalformedRecords("a value has a name")
        if status is not None and type(status) is not int and type(status) is not bytes:
            raise MalformedRecords("a status is a number")
        if (unit is not None and type(unit) is not int) or (scaler is not None and type(scaler) is not int):
            raise MalformedRecords("unit and scaler are numbers")
        entries.append(
            ListEntry(
                name,
                status,
                any_time(time) if time is not None else None,
                unit,
                scaler,
                value,
                encoded,
                is_octets(signature) if signature is not None else None,
            )
        )
    return tuple(entries), place


class ParameterKind(IntEnum):
    """What the value of a parameter is."""

    VALUE = 1
    PERIOD = 2
    TUPLE = 3
    TIME = 4
    LIST_ENTRY = 5


@dataclass(frozen=True, slots=True)
class Parameter:
    """A node of a parameter tree: a name, perhaps a value, perhaps further nodes."""

    name: bytes
    value: Any = None
    """int, bool, bytes or SmlTime; a list for the kinds that are only carried; None: none."""
    kind: ParameterKind | None = None
    encoded: bytes = ABSENT
    """The value's field, without its choice."""
    children: tuple[Parameter, ...] = ()

    def child(self, name: bytes) -> Parameter | None:
        """Return the first node below of that name."""
        return next((each for each in self.children if each.name == name), None)

    def to_bytes(self) -> bytes:
        """Encode."""
        value = sequence(unsigned(self.kind, 1), self.encoded) if self.kind is not None else ABSENT
        children = sequence(*(each.to_bytes() for each in self.children)) if self.children else ABSENT
        return sequence(octets(self.name), value, children)


def parameter(name: bytes, encoded: bytes) -> Parameter:
    """Make a node with an encoded simple value."""
    value, end = decode(encoded)
    if end != len(encoded):
        raise ValueError("one field is expected")
    return Parameter(name, value, ParameterKind.VALUE, encoded)


def read_tree(data: bytes, place: int, depth: int = MAX_DEPTH) -> tuple[Parameter | None, int]:
    """Decode a parameter tree at `place`; None if it is absent.

    Raises:
        MalformedRecords: it has another shape, or is nested deeper than `depth`.
    """
    kind, count, inner = header(data, place)
    if kind == Kind.OCTETS and count == 0:
        return None, inner
    if kind != Kind.LIST or count != 3:
        raise MalformedRecords("a parameter tree has three fields")
    if depth <= 0:
        raise MalformedRecords("a parameter tree nested too deeply")
    name, place = decode(data, inner)
    choice, value, encoded, place = _tree_value(data, place)
    children = []
    kind, count, inner = header(data, place)
    if kind == Kind.LIST:
        if count > len(data) - inner:
            raise MalformedRecords("a list longer than its message")
        place = inner
        for _ in range(count):
            node, place = read_tree(data, place, depth - 1)
            if node is not None:
                children.append(node)
    elif kind == Kind.OCTETS and count == 0:
        place = inner
    else:
        raise MalformedRecords("a list of parameters is expected")
    return Parameter(is_octets(name) or b"", value, choice, encoded, tuple(children)), place


def _tree_value(data: bytes, place: int) -> tuple[ParameterKind | None, Any, bytes, int]:
    kind, count, inner = header(data, place)
    if kind == Kind.OCTETS and count == 0:
        return None, None, ABSENT, inner
    if kind != Kind.LIST or count != 2:
        raise MalformedRecords("a parameter's value is a choice and a field")
    number, place = decode(data, inner)
    try:
        choice = ParameterKind(is_number(number) or 0)
    except ValueError:
        raise MalformedRecords("a parameter's value of unknown kind") from None
    start = place
    value: Any
    value, place = decode(data, place)
    if choice is ParameterKind.TIME:
        value = to_time(value)
    return choice, value, data[start:place], place
